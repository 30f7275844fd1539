/** A target of the lab: what its application would do through the TAPA. */
import { Effect, type Scope, Stream, SubscriptionRef } from "effect"
import * as Ambassador from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as Client from "../grpc/Client.ts"
import * as Host from "./Host.ts"
import type * as Pods from "./Pods.ts"
import type { Program } from "./Program.ts"

export type Status = "open" | "pending" | "unavailable" | "undefined"

export interface StreamName {
  readonly trench: string
  readonly conduit: string
  readonly stream: string
}

export interface Target {
  readonly name: string
  readonly pod: Pods.Pod
  readonly tapa: Program
  readonly open: (stream: StreamName) => Effect.Effect<void, Host.HostError>
  readonly close: (stream: StreamName) => Effect.Effect<void, Host.HostError>
  /** The status of each stream, keyed `conduit/stream`, as the TAPA reports it; empty while it is not there. */
  readonly statuses: Effect.Effect<Readonly<Record<string, Status>>>
}

const callTimeoutMs = 30_000
const rewatchMs = 500

export const key = ({ conduit, stream }: Omit<StreamName, "trench">): string => `${conduit}/${stream}`

/** Connects to the TAPA of a target and watches its streams. */
export const make = (
  name: string,
  pod: Pods.Pod,
  tapa: Program,
  socket: string
): Effect.Effect<Target, Host.HostError, Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* Client.make({ target: `unix://${socket}`, waitForReady: true, maxBackoffMs: 500 }).pipe(
      Effect.mapError(said(name))
    )
    const statuses = yield* SubscriptionRef.make<Readonly<Record<string, Status>>>({})
    const watch = client.stream(Ambassador.TapDefinition, "watch", Ambassador.Stream.create()).pipe(
      Stream.runForEach(({ streamStatus }) =>
        SubscriptionRef.set(
          statuses,
          Object.fromEntries(streamStatus.map(({ status, stream }) => [
            key({ conduit: stream?.conduit?.name ?? "", stream: stream?.name ?? "" }),
            statusOf(status)
          ]))
        )
      ),
      Effect.ignore,
      Effect.andThen(SubscriptionRef.set(statuses, {})),
      Effect.andThen(Effect.sleep(rewatchMs))
    )
    yield* Effect.forkScoped(Effect.forever(watch))
    const call = (method: "open" | "close") => ({ conduit, stream, trench }: StreamName) =>
      client.call(
        Ambassador.TapDefinition,
        method,
        Ambassador.Stream.fromPartial({ name: stream, conduit: { name: conduit, trench: { name: trench } } }),
        { timeoutMs: callTimeoutMs }
      ).pipe(Effect.asVoid, Effect.mapError(said(name)))
    return { name, pod, tapa, open: call("open"), close: call("close"), statuses: SubscriptionRef.get(statuses) }
  })

const said = (name: string) => (error: { readonly message: string }) =>
  new Host.HostError({ command: `TAPA of ${name}`, detail: error.message })

const statusOf = (status: Ambassador.StreamStatus_Status): Status => {
  switch (status) {
    case Ambassador.StreamStatus_Status.OPEN:
      return "open"
    case Ambassador.StreamStatus_Status.PENDING:
      return "pending"
    case Ambassador.StreamStatus_Status.UNAVAILABLE:
      return "unavailable"
    default:
      return "undefined"
  }
}
