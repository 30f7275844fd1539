/**
 * The path of a registration: the tokens of the hops that it went through, as JSON in the metadata `path` of Register
 * and Unregister, and in the header `path` of the answer. Find has none.
 *
 * Source: sdk `pkg/registry/common/{grpcmetadata,updatepath,updatetoken}`.
 */
import { Result, Schema } from "effect"

/** The metadata key of the request and the header key of the answer. */
export const key = "path"

/** The tokens from the first caller on; `index` tells whose view this is. */
export interface RegistryPath {
  readonly index: number
  readonly tokens: ReadonlyArray<string>
}

/** What the first caller sends. */
export const empty: RegistryPath = { index: 0, tokens: [] }

/** The JSON of a path. */
export const encode = ({ index, tokens }: RegistryPath): string =>
  JSON.stringify({ Index: index, PathSegments: tokens.length === 0 ? null : tokens.map((token) => ({ token })) })

/** Reads the JSON of a path; the failure tells what is wrong. A server goes on with the empty path then. */
export const decode = (text: string): Result.Result<RegistryPath, string> =>
  Result.mapBoth(Schema.decodeUnknownResult(Json)(text), {
    onSuccess: ({ Index, PathSegments }) => ({
      index: Index ?? 0,
      tokens: (PathSegments ?? []).map(({ token }) => token ?? "")
    }),
    onFailure: () => `the metadata "path" is not {"Index": n, "PathSegments": [{"token": "..."}]}`
  })

/** The path as a server sees it: the token of its caller noted, its own after it, nothing behind. */
export const enter = (path: RegistryPath, callerToken: string, ownToken: string): RegistryPath => {
  const index = Math.min(path.index, path.tokens.length)
  return { index: index + 1, tokens: [...path.tokens.slice(0, index), callerToken, ownToken] }
}

/** The path of the answer as the caller sees it. */
export const giveBack = (caller: RegistryPath, answer: RegistryPath): RegistryPath => ({
  index: caller.index,
  tokens: answer.tokens
})

const Json = Schema.fromJsonString(Schema.Struct({
  Index: Schema.optionalKey(Schema.Natural),
  PathSegments: Schema.optionalKey(
    Schema.NullOr(Schema.Array(Schema.Struct({ token: Schema.optionalKey(Schema.String) })))
  )
}))
