/**
 * The tokens of Network Service Mesh: each hop proves by a JWT who it is and to whom it speaks, and each server judges
 * the tokens of the path so far. Signing and verifying need keys: `shells/spiffe/Tokens.ts` does them.
 *
 * 1. `sub` is the SPIFFE id of the hop, `aud` an array with that of its TLS peer, `exp` in whole seconds.
 * 2. A token never outlives the certificate that signed it; what is told about its end never outlives the peer's.
 * 3. In a good path each token is addressed to the hop that made the next one.
 *
 * Source: sdk `pkg/tools/token`, `pkg/tools/spiffejwt`, `pkg/tools/opa/policies`.
 */
import { DateTime, Option, Result, Schema } from "effect"
import { Base64Url } from "effect/encoding"
import type { Millis } from "../Machine.ts"

/** The metadata of a call that carries a token. */
export const keys = { token: "nsm-client-token", expires: "nsm-client-token-expires" } as const

/** Who speaks to whom, until when (whole seconds since the Unix epoch). */
export const Claims = Schema.Struct({
  sub: Schema.String,
  aud: Schema.optionalKey(Schema.Array(Schema.String)),
  exp: Schema.Finite
})
export type Claims = typeof Claims.Type

/** A token that was read, not verified. */
export interface Decoded {
  readonly algorithm: string
  readonly claims: Claims
  /** What the signature covers, and the signature (IEEE P1363 for ES256). */
  readonly signed: string
  readonly signature: Uint8Array
}

/** Ends of a token: in the token, whole seconds; and as told beside it. */
export interface Ends {
  readonly exp: number
  readonly expiresAt: Millis
}

/** When a token made now ends. Certificates end at `...NotAfter`; without TLS peer there is no such end. */
export const ends = (limits: {
  readonly now: Millis
  readonly maxLifetimeMs: number
  readonly ownNotAfter: Millis
  readonly peerNotAfter?: Millis
}): Ends => {
  const until = Math.min(limits.now + limits.maxLifetimeMs, limits.ownNotAfter)
  return { exp: Math.floor(until / 1000), expiresAt: Math.min(until, limits.peerNotAfter ?? until) }
}

/** The text that an ES256 signature has to cover. */
export const toSign = (claims: Claims): string =>
  `${header}.${Base64Url.encode(JSON.stringify(Schema.encodeSync(Claims)(claims)))}`

/** The token out of the covered text and its signature. */
export const join = (signed: string, signature: Uint8Array): string => `${signed}.${Base64Url.encode(signature)}`

/** Reads a token; the failure tells what is wrong with it. Nothing is verified. */
export const decode = (token: string): Result.Result<Decoded, string> => {
  const [head = "", body = "", tail = "", ...more] = token.split(".")
  if (more.length > 0 || head === "" || body === "" || tail === "") {
    return Result.fail("a token has three parts with dots between them")
  }
  const signature = Base64Url.decode(tail)
  return Result.isFailure(signature)
    ? Result.fail("the signature of the token is not base64url")
    : Result.flatMap(json(head, Header), ({ alg }) =>
      Result.map(json(body, Wire), ({ aud, exp, sub }): Decoded => ({
        algorithm: alg,
        // A single audience as text is legal in a JWT, but no policy of NSM accepts it.
        claims: { sub: sub ?? "", exp: exp ?? 0, ...(Array.isArray(aud) ? { aud } : {}) },
        signed: `${head}.${body}`,
        signature: signature.success
      })))
}

/** What a policy says: nothing, or why not. */
export type Verdict = Result.Result<void, string>

/** Whether one token was signed by somebody, for example the TLS peer. */
export type IsSigned = (token: string) => boolean

/** Every token can be read. */
export const valid = (tokens: ReadonlyArray<string>): Verdict => Result.map(decodeAll(tokens), () => undefined)

/** Every token ends in the future. */
export const unexpired = (tokens: ReadonlyArray<string>, now: Millis): Verdict =>
  Result.flatMap(decodeAll(tokens), (decoded) => {
    const index = decoded.findIndex(({ claims }) => claims.exp * 1000 <= now)
    return index === -1 ? pass : Result.fail(`the token of segment ${index} has expired`)
  })

/** Each token is addressed to the one who made the next. */
export const chained = (tokens: ReadonlyArray<string>): Verdict =>
  tokens.length < 2 ? pass : Result.flatMap(decodeAll(tokens), (decoded) => {
    const index = decoded.findIndex(({ claims }, i) => {
      const next = decoded[i + 1]
      return next !== undefined && claims.aud?.includes(next.claims.sub) !== true
    })
    return index === -1 ? pass : Result.fail(`the token of segment ${index} is not addressed to the next one`)
  })

/** The token before the segment `index` was signed by the peer that sent it: a server asks that of its caller. */
export const previousSigned = (tokens: ReadonlyArray<string>, index: number, isSigned: IsSigned): Verdict =>
  signed(tokens, index - 1, isSigned)

/** The token after the segment `index` was signed by the peer that answered: a client asks that of its server. */
export const nextSigned = (tokens: ReadonlyArray<string>, index: number, isSigned: IsSigned): Verdict =>
  signed(tokens, index + 1, isSigned)

/**
 * What a server asks of the path of a request: all of the above about the segments up to its own, `index`. A failure
 * becomes PERMISSION_DENIED. Without TLS there is nothing to judge.
 */
export const server = (
  tokens: ReadonlyArray<string>,
  index: number,
  now: Millis,
  isSigned: IsSigned
): Verdict => {
  const left = tokens.slice(0, index + 1)
  return firstFailure([
    () => valid(left),
    () => unexpired(left, now),
    () => chained(left),
    () => previousSigned(left, index, isSigned)
  ])
}

/** What a client that is as strict as `cmd-nsc` asks of the path of an answer; its own segment is `index`. */
export const client = (
  tokens: ReadonlyArray<string>,
  index: number,
  now: Millis,
  isSigned: IsSigned
): Verdict =>
  firstFailure([
    () => valid(tokens),
    () => unexpired(tokens, now),
    () => chained(tokens),
    () => nextSigned(tokens, index, isSigned)
  ])

/** What the client sends with each call. */
export const toMetadata = (token: string, expiresAt: Millis): { readonly [key: string]: string } => ({
  [keys.token]: token,
  [keys.expires]: DateTime.formatIso(DateTime.makeUnsafe(expiresAt))
})

/** What a caller sent about itself; none if it sent nothing usable: its segment then stays as it is. */
export const fromMetadata = (
  metadata: { readonly [key: string]: string }
): { readonly token: string; readonly expiresAt: Millis } | undefined => {
  const token = metadata[keys.token] ?? ""
  const expires = metadata[keys.expires] ?? ""
  const at = rfc3339.test(expires) ? DateTime.make(expires) : Option.none()
  return token === "" || Option.isNone(at) ? undefined : { token, expiresAt: DateTime.toEpochMillis(at.value) }
}

const pass: Verdict = Result.succeed(undefined)

const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/

const Header = Schema.Struct({ alg: Schema.String })
const Wire = Schema.Struct({
  sub: Schema.optionalKey(Schema.String),
  aud: Schema.optionalKey(Schema.Union([Schema.String, Schema.Array(Schema.String)])),
  exp: Schema.optionalKey(Schema.Finite)
})

const header = Base64Url.encode(JSON.stringify({ alg: "ES256", typ: "JWT" }))

const json = <T>(part: string, schema: Schema.Codec<T, unknown>): Result.Result<T, string> =>
  Result.flatMap(
    Result.mapError(Base64Url.decodeString(part), () => "a part of the token is not base64url"),
    (text) =>
      Result.mapError(
        Schema.decodeUnknownResult(Schema.fromJsonString(schema))(text),
        () => "a part of the token is not the JSON of a JWT"
      )
  )

const decodeAll = (tokens: ReadonlyArray<string>): Result.Result<ReadonlyArray<Decoded>, string> => {
  const decoded: Array<Decoded> = []
  for (const [index, token] of tokens.entries()) {
    const one = decode(token)
    if (Result.isFailure(one)) return Result.fail(`segment ${index}: ${one.failure}`)
    decoded.push(one.success)
  }
  return Result.succeed(decoded)
}

const signed = (tokens: ReadonlyArray<string>, index: number, isSigned: IsSigned): Verdict => {
  const token = tokens[index]
  if (token === undefined) return Result.fail(`there is no segment ${index}`)
  return isSigned(token) ? pass : Result.fail(`the token of segment ${index} was not signed by the peer`)
}

const firstFailure = (policies: ReadonlyArray<() => Verdict>): Verdict => {
  for (const policy of policies) {
    const verdict = policy()
    if (Result.isFailure(verdict)) return verdict
  }
  return pass
}
