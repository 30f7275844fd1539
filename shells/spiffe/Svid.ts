/**
 * X.509-SVIDs: certificates that say which SPIFFE id their holder has, and whether one is to be believed.
 *
 * 1. A leaf has exactly one URI, a SPIFFE id with a path, may sign data, and is no CA and signs no certificates.
 * 2. It is believed only by a way to the bundle of its own trust domain: other domains cannot speak for it.
 * 3. Names of hosts play no role.
 *
 * Source: X509-SVID standard; go-spiffe `svid/x509svid/verify.go`. Ours: the own key must be EC P-256, since NSM's
 * tokens are ES256.
 */
import { Result, Schema } from "effect"
import { createPrivateKey, X509Certificate } from "node:crypto"
import type { KeyObject } from "node:crypto"
import type { X509SVIDResponse } from "../../proto/gen/workload.ts"
import * as Der from "./Der.ts"
import * as SpiffeId from "./SpiffeId.ts"

/** CA certificates by trust domain, without `spiffe://`. */
export type Bundles = { readonly [trustDomain: string]: ReadonlyArray<X509Certificate> }

/** Somebody whose certificate was believed. */
export interface Peer {
  readonly id: SpiffeId.SpiffeId
  readonly certificate: X509Certificate
  /** When the certificate ends, in milliseconds since the Unix epoch. */
  readonly notAfter: number
}

/** What this process is, and whom it believes. */
export interface Svid extends Peer {
  /** The leaf, then its intermediates. */
  readonly chain: ReadonlyArray<X509Certificate>
  readonly key: KeyObject
  readonly bundles: Bundles
}

/**
 * Why a certificate is not believed, or an identity not usable:
 * - `Unreadable`, `Missing`: no certificate, key or bundle where one should be.
 * - `NoUri`, `SeveralUris`, `NotSpiffe`, `NoPath`: about the SPIFFE id.
 * - `IsCa`, `SignsCertificates`, `SignsNothing`: about what the leaf may do.
 * - `NotP256`, `WrongKey`: about the own key.
 * - `NotYetValid`, `Expired`: about time; check the clocks.
 * - `UnknownTrustDomain`: no bundle for the domain of the id; federation is missing.
 * - `Untrusted`: no way to the bundle of that domain.
 */
export const Problem = Schema.Literals([
  "Unreadable",
  "Missing",
  "NoUri",
  "SeveralUris",
  "NotSpiffe",
  "NoPath",
  "IsCa",
  "SignsCertificates",
  "SignsNothing",
  "NotP256",
  "WrongKey",
  "NotYetValid",
  "Expired",
  "UnknownTrustDomain",
  "Untrusted"
])
export type Problem = typeof Problem.Type

/** A certificate or an identity is not good. */
export class SvidError extends Schema.TaggedError<SvidError>()("SvidError", {
  problem: Problem,
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.problem}: ${this.detail}`
  }
}

type Judged<A> = Result.Result<A, SvidError>

/** The identity out of the default entry of an answer of the Workload API. */
export const fromResponse = (response: X509SVIDResponse, now: number): Judged<Svid> =>
  Result.gen(function*() {
    const [entry] = response.svids
    if (entry === undefined) return yield* fail("Missing", "the agent knows no identity for this workload")
    const chain = yield* certificates(entry.x509Svid, "the certificate of this workload")
    const [leaf] = chain
    if (leaf === undefined) return yield* fail("Missing", "the agent sent no certificate")
    const key = yield* privateKey(entry.x509SvidKey)
    if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") {
      return yield* fail("NotP256", "the key of this workload is not EC P-256, which the tokens of NSM need")
    }
    if (!leaf.checkPrivateKey(key)) return yield* fail("WrongKey", "the key does not belong to the certificate")
    const { text, trustDomain } = yield* leafId(leaf)
    if (text !== entry.spiffeId) {
      return yield* fail("NotSpiffe", `the agent says ${entry.spiffeId}, the certificate ${text}`)
    }
    const bundles: { [trustDomain: string]: ReadonlyArray<X509Certificate> } = {
      [trustDomain]: yield* certificates(entry.bundle, `the bundle of ${trustDomain}`)
    }
    for (const [domain, bytes] of Object.entries(response.federatedBundles)) {
      bundles[domain.replace(/^spiffe:\/\//, "")] = yield* certificates(bytes, `the bundle of ${domain}`)
    }
    const peer = yield* verify(chain, bundles, now)
    return { ...peer, chain, key, bundles }
  })

/** The id of a leaf, when it is made as a leaf has to be. Whom to believe is not looked at. */
export const leafId = (leaf: X509Certificate): Judged<SpiffeId.SpiffeId> =>
  Result.gen(function*() {
    const extensions = Der.extensions(leaf.raw)
    const uris = (Der.elements(extensions.get(subjectAltName) ?? Buffer.alloc(0)) ?? [])
      .flatMap(({ content }) => Der.elements(content) ?? [])
      .flatMap(({ content, tag }) => tag === uriTag ? [content.toString("latin1")] : [])
    const [uri] = uris
    if (uri === undefined) return yield* fail("NoUri", "the certificate has no URI, so no SPIFFE id")
    if (uris.length > 1) return yield* fail("SeveralUris", `the certificate has ${uris.length} URIs instead of one`)
    const id = yield* Result.mapError(SpiffeId.parse(uri), (detail) => new SvidError({ problem: "NotSpiffe", detail }))
    if (id.path === "") return yield* fail("NoPath", `${uri} names a trust domain, not a workload`)
    if (leaf.ca) return yield* fail("IsCa", `the certificate of ${uri} is that of a CA`)
    const usage = usageOf(extensions)
    if ((usage & (certificateSigning | revocationSigning)) !== 0) {
      return yield* fail("SignsCertificates", `the certificate of ${uri} may sign certificates or revocations`)
    }
    if ((usage & digitalSignature) === 0) {
      return yield* fail("SignsNothing", `the certificate of ${uri} may not sign data`)
    }
    return id
  })

/** Believes a chain, leaf first, if it is in time and leads to the bundle of its trust domain. */
export const verify = (chain: ReadonlyArray<X509Certificate>, bundles: Bundles, now: number): Judged<Peer> =>
  Result.gen(function*() {
    const [leaf, ...intermediates] = chain
    if (leaf === undefined) return yield* fail("Missing", "the peer showed no certificate")
    const id = yield* leafId(leaf)
    if (leaf.validFromDate.getTime() > now) {
      return yield* fail("NotYetValid", `${id.text} begins at ${leaf.validFromDate.toISOString()}`)
    }
    if (leaf.validToDate.getTime() <= now) {
      return yield* fail("Expired", `${id.text} ended at ${leaf.validToDate.toISOString()}`)
    }
    const anchors = Object.hasOwn(bundles, id.trustDomain) ? bundles[id.trustDomain] : undefined
    if (anchors === undefined) {
      return yield* fail("UnknownTrustDomain", `there is no bundle for ${id.trustDomain}, the domain of ${id.text}`)
    }
    if (!leads(leaf, intermediates, anchors, now)) {
      return yield* fail("Untrusted", `${id.text} was not issued by its trust domain ${id.trustDomain}`)
    }
    return { id, certificate: leaf, notAfter: leaf.validToDate.getTime() }
  })

/** Certificates in DER, one after the other. */
const certificates = (bytes: Uint8Array, what: string): Judged<ReadonlyArray<X509Certificate>> => {
  const found = Der.elements(Buffer.from(bytes))
  if (found === undefined || found.length === 0) return fail("Unreadable", `${what} is not DER`)
  return Result.try({
    try: () => found.map(({ whole }) => new X509Certificate(whole)),
    catch: () => new SvidError({ problem: "Unreadable", detail: `${what} is not a certificate` })
  })
}

const privateKey = (bytes: Uint8Array): Judged<KeyObject> =>
  Result.try({
    try: () => createPrivateKey({ key: Buffer.from(bytes), format: "der", type: "pkcs8" }),
    catch: () => new SvidError({ problem: "Unreadable", detail: "the key of this workload is not PKCS#8" })
  })

const fail = (problem: Problem, detail: string) => Result.fail(new SvidError({ problem, detail }))

/** Whether a way of certificates in time leads from one to an anchor. Each step uses up an intermediate, so it ends. */
const leads = (
  from: X509Certificate,
  intermediates: ReadonlyArray<X509Certificate>,
  anchors: ReadonlyArray<X509Certificate>,
  now: number
): boolean => {
  const issuers = (candidates: ReadonlyArray<X509Certificate>) =>
    candidates.filter((candidate) => candidate.ca && isInTime(candidate, now) && isIssuer(candidate, from))
  return issuers(anchors).length > 0
    || issuers(intermediates).some((issuer) =>
      leads(issuer, intermediates.filter((each) => each !== issuer), anchors, now)
    )
}

const isInTime = ({ validFromDate, validToDate }: X509Certificate, now: number): boolean =>
  validFromDate.getTime() <= now && now < validToDate.getTime()

const isIssuer = (issuer: X509Certificate, issued: X509Certificate): boolean =>
  issued.checkIssued(issuer) && issued.verify(issuer.publicKey)

const subjectAltName = "551d11"
const keyUsage = "551d0f"
const uriTag = 0x86
const digitalSignature = 0x80
const certificateSigning = 0x04
const revocationSigning = 0x02

const usageOf = (extensions: ReadonlyMap<string, Buffer>): number => {
  const [bits] = Der.elements(extensions.get(keyUsage) ?? Buffer.alloc(0)) ?? []
  return bits?.content[1] ?? 0
}
