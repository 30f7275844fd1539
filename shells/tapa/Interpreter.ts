/**
 * Performs the commands of the ambassador: calls to the NSP of the trench and to the manager of NSM, and answers to
 * applications. Calls wait for a connection; the machine sets the deadlines and interrupts them.
 */
import { Effect, Option, RcMap, Stream } from "effect"
import type { Scope } from "effect"
import type { Target } from "../../core/config/index.ts"
import type { Ambassador, Model } from "../../core/tapa/index.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import { TargetRegistryDefinition } from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import type * as Client from "../grpc/Client.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as TargetWire from "../nsp/TargetWire.ts"
import * as Wire from "../nsp/Wire.ts"
import type * as Replies from "../runtime/Replies.ts"
import type { Perform } from "../runtime/Runner.ts"
import { NsmClient } from "../sdk/Client.ts"
import type { NsmError } from "../sdk/Error.ts"
import * as Identity from "../spiffe/Identity.ts"
import * as Config from "./Config.ts"

type Command = Ambassador.Command
type Event = Ambassador.Event

/** The interpreter of one process. It holds the channels to NSPs, each until its trench is left. */
export const make = (
  settings: Config.Settings,
  replies: Replies.Replies<Ambassador.Answer>
): Effect.Effect<Perform<Event, Command, never>, never, NsmClient | Scope.Scope> =>
  Effect.gen(function*() {
    const nsm = yield* NsmClient
    const channels = yield* RcMap.make({
      lookup: (trench: string) =>
        Identity.client({
          target: Config.nspTarget(settings, trench),
          maxBackoffMs: settings.maxBackoffMs,
          waitForReady: true
        }),
      idleTimeToLive: Infinity
    })

    /** Uses the channel to the NSP of a trench. */
    const nsp = <A>(trench: string, use: (client: Client.Client) => Effect.Effect<A, GrpcError.GrpcError>) =>
      Effect.scoped(Effect.flatMap(RcMap.get(channels, trench), use))

    return (command, send) => {
      switch (command._tag) {
        case "Reply":
          return replies.answer(command.reply, command.answer)
        case "ConnectNsp":
          return Effect.ignore(nsp(command.trench, () => Effect.void))
        case "DisconnectNsp":
          return RcMap.invalidate(channels, command.trench)
        case "Cancel":
          // The runner interrupts the command with this call.
          return Effect.void
        case "ListTargets": {
          const { at, call } = command
          return nsp(at.trench, (client) => list(client, at)).pipe(
            outcome("list targets", at, {
              onSuccess: (targets) => send({ _tag: "ListSucceeded", at, call, targets }),
              onFailure: (reason) => send({ _tag: "ListFailed", at, call, reason })
            })
          )
        }
        case "RegisterTarget": {
          const { at, call } = command
          const request = TargetWire.toTarget(targetOf(command))
          return nsp(at.trench, (client) => client.call(TargetRegistryDefinition, "register", request)).pipe(
            outcome("register", at, {
              onSuccess: () => send({ _tag: "RegisterSucceeded", at, call }),
              onFailure: (reason) => send({ _tag: "RegisterFailed", at, call, reason })
            })
          )
        }
        case "UnregisterTarget": {
          const { at, call } = command
          const request = TargetWire.toTarget(targetOf(command))
          return nsp(at.trench, (client) => client.call(TargetRegistryDefinition, "unregister", request)).pipe(
            outcome("unregister", at, {
              onSuccess: () => send({ _tag: "UnregisterSucceeded", at, call }),
              onFailure: (reason) => send({ _tag: "UnregisterFailed", at, call, reason })
            })
          )
        }
        case "WatchStreams": {
          const { at, call } = command
          const request = Wire.toStreamKey({ ...at, stream: "" })
          return nsp(at.trench, (client) =>
            Stream.runForEach(client.stream(ConfigurationManagerDefinition, "watchStream", request), (response) => {
              const { rejected, values } = Wire.streams(response.streams)
              send({ _tag: "StreamsChanged", at, call, streams: values })
              return unusable(rejected)
            })).pipe(ended("watch streams", at, (reason) =>
              send({ _tag: "StreamsLost", at, call, reason })))
        }
        case "WatchVips": {
          const { at, call } = command
          const request = Wire.toFlowsOf(at)
          return nsp(at.trench, (client) =>
            Stream.runForEach(client.stream(ConfigurationManagerDefinition, "watchFlow", request), (response) => {
              const { rejected, values } = Wire.vips(response.flows.flatMap(({ vips }) =>
                vips
              ))
              send({
                _tag: "VipsChanged",
                at,
                call,
                vips: [
                  ...new Set(values.map(({ address }) =>
                    address
                  ))
                ]
              })
              return unusable(rejected)
            })).pipe(ended("watch flows", at, (reason) => send({ _tag: "VipsLost", at, call, reason })))
        }
        case "QueryConnection": {
          const { at, call, id } = command
          return nsm.query(id).pipe(
            outcome("query the connection", at, {
              onSuccess: (found) => send({ _tag: "QuerySucceeded", at, call, connection: Option.getOrNull(found) }),
              onFailure: (reason) => send({ _tag: "QueryFailed", at, call, reason })
            })
          )
        }
        case "RequestConnection": {
          const { at, call, connection, interfaceName } = command
          return nsm.request(connection, interfaceName === undefined ? {} : { interfaceName }).pipe(
            outcome("request the connection", at, {
              onSuccess: (connection) => send({ _tag: "RequestSucceeded", at, call, connection }),
              onFailure: (reason) => send({ _tag: "RequestFailed", at, call, reason })
            })
          )
        }
        case "CloseConnection": {
          const { at, call, id } = command
          return nsm.close(id).pipe(
            outcome("close the connection", at, {
              onSuccess: () => send({ _tag: "CloseSucceeded", at, call }),
              onFailure: (reason) => send({ _tag: "CloseFailed", at, call, reason })
            })
          )
        }
        case "WatchConnection": {
          const { at, call, id } = command
          return Stream.runForEach(
            nsm.changes(id),
            (connection) => Effect.sync(() => send({ _tag: "ConnectionChanged", at, call, connection }))
          ).pipe(
            ended("watch the connection", at, (reason) => send({ _tag: "ConnectionLost", at, call, reason }))
          )
        }
      }
    }
  })

type Targeted = Extract<Command, { readonly _tag: "RegisterTarget" | "UnregisterTarget" }>

const targetOf = ({ at, target }: Targeted): Target.Target => ({
  kind: "default",
  stream: at,
  ips: target.ips,
  context: { identifier: String(target.identifier) },
  status: target.status
})

/** The targets of a stream as they are now: the first message of a watch. */
const list = (client: Client.Client, stream: Targeted["at"]) =>
  Effect.gen(function*() {
    const filter = TargetWire.toFilter({ kind: "default", status: "any", stream })
    const first = yield* Stream.runHead(client.stream(TargetRegistryDefinition, "watch", filter))
    if (Option.isNone(first)) return yield* GrpcError.error("Unavailable", "the NSP ended the watch without a list")
    const { rejected, values } = TargetWire.targets(first.value.targets)
    yield* unusable(rejected)
    return values
  })

const unusable = (rejected: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.forEach(rejected, (sentence) => Effect.logWarning(`Ignoring what the NSP sent: ${sentence}`), {
    discard: true
  })

/** Turns the end of an action into its event; failures are logged. */
const outcome = <A>(action: string, at: object, on: {
  readonly onSuccess: (value: A) => void
  readonly onFailure: (reason: Model.Reason) => void
}) =>
<R>(effect: Effect.Effect<A, GrpcError.GrpcError | NsmError, R>): Effect.Effect<void, never, R> =>
  Effect.matchEffect(effect, {
    onSuccess: (value) => Effect.sync(() => on.onSuccess(value)),
    onFailure: (error) =>
      Effect.andThen(
        Effect.logWarning(`Could not ${action}`, { ...at, error: error.message }),
        Effect.sync(() => on.onFailure(reasonOf(error)))
      )
  })

/** A watch never succeeds: it ends or it breaks, and both mean that it has to be opened again. */
const ended =
  (action: string, at: object, onLost: (reason: Model.Reason) => void) =>
  <R>(watch: Effect.Effect<void, GrpcError.GrpcError | NsmError, R>): Effect.Effect<void, never, R> =>
    outcome<void>(action, at, { onSuccess: () => onLost("Unavailable"), onFailure: onLost })(watch)

const reasonOf = (error: GrpcError.GrpcError | NsmError): Model.Reason => {
  if (error._tag === "NsmError") return error.reason
  const reason = GrpcError.reason(error)
  return reason._tag === "Other" ? "Failed" : reason._tag
}
