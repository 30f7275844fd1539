/**
 * A SPIFFE agent in a process, FOR TESTS AND LAPTOPS ONLY: an authority in memory per trust domain, and a Workload API
 * on one socket per identity. Whoever may open the socket gets the identity. All trust domains believe each other.
 */
import { Effect, Stream, SubscriptionRef } from "effect"
import type { Scope } from "effect"
import { SpiffeWorkloadAPIDefinition } from "../../../proto/gen/workload.ts"
import type { X509SVIDResponse } from "../../../proto/gen/workload.ts"
import * as GrpcError from "../../grpc/Error.ts"
import * as Server from "../../grpc/Server.ts"
import type * as SpiffeId from "../SpiffeId.ts"
import * as Authority from "./Authority.ts"

/** An identity and where it is given. */
export interface Identity {
  readonly id: SpiffeId.SpiffeId
  /** `unix:///path`. */
  readonly address: string
}

/** Whom to serve. */
export interface Options {
  readonly identities: ReadonlyArray<Identity>
  /** Life of a certificate; a third of it later comes the next. */
  readonly ttlMs: number
}

/** Agents that serve. */
export interface Running {
  /** Gives everybody a new certificate now. */
  readonly rotate: Effect.Effect<void>
}

/** Serves until the scope closes. */
export const serve = (options: Options): Effect.Effect<Running, GrpcError.GrpcError, Scope.Scope> =>
  Effect.gen(function*() {
    const now = Date.now()
    const domains = new Map(
      options.identities.map(({ id: { trustDomain } }) => [
        trustDomain,
        Authority.make(trustDomain, now - clockSkewMs, now + authorityMs)
      ])
    )
    const served = yield* Effect.forEach(options.identities, ({ address, id }) =>
      Effect.gen(function*() {
        const issue = Effect.sync(() => answer(id, domains, options.ttlMs))
        const answers = yield* SubscriptionRef.make(yield* issue)
        yield* Server.serve({ address, services: [service(answers)], graceMs: 100 })
        return Effect.flatMap(issue, (next) => SubscriptionRef.set(answers, next))
      }))
    const rotate = Effect.all(served, { discard: true })
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(options.ttlMs / 3), rotate)))
    return { rotate }
  })

const clockSkewMs = 60_000
const authorityMs = 365 * 24 * 3_600_000

const answer = (
  id: SpiffeId.SpiffeId,
  domains: ReadonlyMap<string, Authority.Authority>,
  ttlMs: number
): X509SVIDResponse => {
  const now = Date.now()
  const own = domains.get(id.trustDomain)
  if (own === undefined) return { svids: [], crl: [], federatedBundles: {} }
  const issued = Authority.issue(own, { uris: [id.text], notBefore: now - clockSkewMs, notAfter: now + ttlMs })
  const others = [...domains].filter(([domain]) => domain !== id.trustDomain)
  return {
    svids: [{ spiffeId: id.text, x509Svid: issued.chain, x509SvidKey: issued.key, bundle: own.certificate, hint: "" }],
    crl: [],
    federatedBundles: Object.fromEntries(others.map(([domain, { certificate }]) => [`spiffe://${domain}`, certificate]))
  }
}

/** The Workload API over answers that change. */
export const service = (answers: SubscriptionRef.SubscriptionRef<X509SVIDResponse>) =>
  Server.service(SpiffeWorkloadAPIDefinition, {
    fetchX509SVID: (_request, call) => Stream.unwrap(Effect.as(fromWorkload(call), SubscriptionRef.changes(answers))),
    fetchX509Bundles: (_request, call) =>
      Stream.unwrap(Effect.as(fromWorkload(call), Stream.map(SubscriptionRef.changes(answers), bundlesOf))),
    fetchJWTSVID: () => Effect.fail(notHere),
    fetchJWTBundles: () => Stream.fail(notHere),
    validateJWTSVID: () => Effect.fail(notHere)
  })

/** Keeps out requests that a browser or a proxy was tricked into. */
const fromWorkload = ({ metadata }: Server.Call): Effect.Effect<void, GrpcError.GrpcError> =>
  metadata["workload.spiffe.io"] === "true"
    ? Effect.void
    : Effect.fail(GrpcError.error("InvalidArgument", "the metadata workload.spiffe.io: true is missing"))

const bundlesOf = ({ federatedBundles, svids }: X509SVIDResponse) => ({
  crl: [],
  bundles: {
    ...federatedBundles,
    ...Object.fromEntries(svids.map(({ bundle, spiffeId }) => [spiffeId.split("/").slice(0, 3).join("/"), bundle]))
  }
})

const notHere = GrpcError.error("Unimplemented", "the development agent has X.509 identities only")
