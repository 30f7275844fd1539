/**
 * Who this process is: the client of the SPIFFE Workload API.
 *
 *     Waiting ─ first identity ─▶ Known ─ new identity ─▶ Known        (agent away: stays Known, asks again)
 *        └────────── INVALID_ARGUMENT ──┴──▶ Refused     (for ever: asking again cannot help; keeps what it knows)
 *
 * 1. The stream is opened again after 1 s, 2 s, ... 30 s; an answer starts the count anew.
 * 2. The last good identity stays while the agent is away, or sends something bad; it may expire meanwhile.
 * 3. The same identity sent again is no change.
 *
 * Source: SPIFFE Workload API standard; go-spiffe `workloadapi/{client,backoff}.go`.
 */
import { Context, Effect, Option, Result, Schema, Stream, SubscriptionRef } from "effect"
import type { Scope } from "effect"
import { SpiffeWorkloadAPIDefinition, X509SVIDResponse } from "../../proto/gen/workload.ts"
import * as Client from "../grpc/Client.ts"
import * as GrpcError from "../grpc/Error.ts"
import { endpointVariable } from "./Identity.ts"
import * as Svid from "./Svid.ts"

/** There is no identity and there will be none: the address of the agent is wrong, or it refuses to answer. */
export class SpiffeError extends Schema.TaggedError<SpiffeError>()("SpiffeError", {
  reason: Schema.Literals(["BadEndpoint", "Refused"]),
  detail: Schema.String
}) {
  override get message(): string {
    return `no SPIFFE identity: ${this.detail}`
  }
}

/** The identity of this process, kept fresh. */
export class Spiffe extends Context.Service<Spiffe, {
  /** The newest identity; waits for the first. Fails only when there never was one and never will be. */
  readonly current: Effect.Effect<Svid.Svid, SpiffeError>
  /** The newest identity, then each new one. Fails when there will be none any more. */
  readonly changes: Stream.Stream<Svid.Svid, SpiffeError>
}>()("sluice/spiffe/Spiffe") {}

/** Where the agent is. */
export interface Options {
  /** As in `SPIFFE_ENDPOINT_SOCKET`. */
  readonly endpoint: string
  /** Unit of the pauses of rule 1. Default: 1000 ms. */
  readonly backoffMs?: number
}

/** Asks the agent until the scope closes. Fails at once only when the address is wrong. */
export const make = (options: Options): Effect.Effect<Spiffe["Service"], SpiffeError, Scope.Scope> =>
  Effect.gen(function*() {
    if (options.endpoint === "") {
      const detail = `${endpointVariable} is not set; write the address of the agent, like unix:///run/spire/agent.sock`
      return yield* new SpiffeError({ reason: "BadEndpoint", detail })
    }
    const client = yield* Client.make({ target: options.endpoint, keepaliveMs: never }).pipe(
      Effect.mapError(({ details }) =>
        new SpiffeError({ reason: "BadEndpoint", detail: `${endpointVariable}: ${details}` })
      )
    )
    const state = yield* SubscriptionRef.make<State>({ _tag: "Waiting" })
    yield* Effect.forkScoped(follow(client, state, options.backoffMs ?? 1000))
    const changes = SubscriptionRef.changes(state).pipe(
      Stream.filter((state) => state._tag !== "Waiting"),
      Stream.mapEffect((state) => state._tag === "Known" ? Effect.succeed(state.svid) : Effect.fail(state.error))
    )
    const first = Effect.flatMap(
      Stream.runHead(changes),
      Option.match({ onNone: () => Effect.never, onSome: Effect.succeed })
    )
    return Spiffe.of({
      changes,
      current: Effect.flatMap(
        SubscriptionRef.get(state),
        (state) => state._tag === "Refused" && state.last !== undefined ? Effect.succeed(state.last) : first
      )
    })
  })

type State =
  | { readonly _tag: "Waiting" }
  | { readonly _tag: "Known"; readonly svid: Svid.Svid; readonly bytes: Uint8Array }
  | { readonly _tag: "Refused"; readonly error: SpiffeError; readonly last: Svid.Svid | undefined }

// Agents end connections that are pinged too often, and a local socket tells by itself when the other end dies.
const never = 2_147_483_647

const longestPause = 30

const follow = (
  client: Client.Client,
  state: SubscriptionRef.SubscriptionRef<State>,
  backoffMs: number
): Effect.Effect<void> =>
  Effect.gen(function*() {
    let pause = 1
    const request = client.stream(SpiffeWorkloadAPIDefinition, "fetchX509SVID", {}, { metadata })
    while (true) {
      const ended = yield* Effect.result(Stream.runForEach(request, (response) => {
        pause = 1
        return accept(state, response)
      }))
      if (Result.isFailure(ended) && ended.failure.code === GrpcError.Code.InvalidArgument) {
        const detail = `the agent at ${client.target} refuses: ${ended.failure.details}`
        yield* Effect.logError(detail)
        return yield* SubscriptionRef.update(state, (before): State => ({
          _tag: "Refused",
          error: new SpiffeError({ reason: "Refused", detail }),
          last: before._tag === "Known" ? before.svid : undefined
        }))
      }
      const reason = Result.isFailure(ended) ? ended.failure.message : "the stream ended"
      const log = pause === 1 ? Effect.logWarning : Effect.logDebug
      yield* log(`No word from the SPIFFE agent at ${client.target}, asking again: ${reason}`)
      yield* Effect.sleep(pause * backoffMs)
      pause = Math.min(pause + 1, longestPause)
    }
  })

const metadata = { "workload.spiffe.io": "true" }

const accept = (
  state: SubscriptionRef.SubscriptionRef<State>,
  response: X509SVIDResponse
): Effect.Effect<void> =>
  Effect.gen(function*() {
    const bytes = X509SVIDResponse.encode(response).finish()
    const before = yield* SubscriptionRef.get(state)
    if (before._tag === "Known" && Buffer.compare(before.bytes, bytes) === 0) return
    const svid = Svid.fromResponse(response, Date.now())
    if (Result.isFailure(svid)) {
      return yield* Effect.logWarning(`The SPIFFE agent sent an identity that is not usable: ${svid.failure.message}`)
    }
    const { id, notAfter } = svid.success
    yield* Effect.logInfo(`SPIFFE identity ${id.text} until ${new Date(notAfter).toISOString()}`)
    yield* SubscriptionRef.set(state, { _tag: "Known", svid: svid.success, bytes })
  })
