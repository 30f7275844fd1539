/** Performs the commands of the manager. */
import { Effect, Stream } from "effect"
import * as CircuitState from "../../core/nsm/CircuitState.ts"
import type * as Cross from "../../core/nsm/Cross.ts"
import type * as Manager from "../../core/nsm/Manager.ts"
import type * as Registry from "../../core/nsm/Registry.ts"
import type * as Replies from "../runtime/Replies.ts"
import * as Peer from "../sdk/Peer.ts"
import type { Dial } from "./Dial.ts"
import { Forwarder } from "./Forwarder.ts"
import { Records } from "./Records.ts"

/** Callers that wait: for connections, and for registrations. */
export interface Waiting {
  readonly connections: Replies.Replies<CircuitState.Result>
  readonly registrations: Replies.Replies<Registry.Answer>
}

type Send = (event: Manager.Event) => void

export const perform =
  (waiting: Waiting, dial: Dial) =>
  (command: Manager.Command, send: Send): Effect.Effect<void, never, Forwarder | Records> => {
    switch (command._tag) {
      case "RequestEndpoint": {
        const { call, connection, preferences, target, timeoutMs } = command
        return dial(target.url, (client) => Peer.request(client, connection, preferences, timeoutMs)).pipe(
          Effect.match({
            onSuccess: (answer) => send({ _tag: "EndpointAnswered", call, connection: answer }),
            onFailure: ({ message, reason }) => send({ _tag: "EndpointRefused", call, reason, message })
          })
        )
      }
      case "CloseEndpoint": {
        const { call, connection, target, timeoutMs } = command
        return dial(target.url, (client) => Peer.close(client, connection, timeoutMs)).pipe(
          Effect.catch((error) => Effect.logInfo(`Endpoint ${target.name} was not told of a close: ${error.message}`)),
          Effect.andThen(Effect.sync(() => send({ _tag: "EndpointClosed", call })))
        )
      }
      case "Plumb":
        return Effect.flatMap(Forwarder, ({ plumb }) => plumb(command.cross, command.previous)).pipe(
          Effect.tap(() => tell(command.previous === undefined ? "Plugged" : "Refreshed", command.cross)),
          Effect.match({
            onSuccess: () => send({ _tag: "PlumbSucceeded", call: command.call }),
            onFailure: (failure) => send({ _tag: "PlumbFailed", call: command.call, ...failure })
          })
        )
      case "Adopt":
        return Effect.flatMap(Forwarder, ({ adopt }) => adopt(command.cross, command.previous)).pipe(
          Effect.tap(() => tell("Adopted", command.cross)),
          Effect.match({
            onSuccess: () => send({ _tag: "PlumbSucceeded", call: command.call }),
            onFailure: (failure) => send({ _tag: "PlumbFailed", call: command.call, ...failure })
          })
        )
      case "Unplumb":
        return Effect.flatMap(Forwarder, ({ unplumb }) => unplumb(command.cross)).pipe(
          Effect.andThen(tell("Unplugged", command.cross)),
          Effect.andThen(Effect.sync(() => send({ _tag: "UnplumbFinished", call: command.call })))
        )
      case "WatchEndpoint":
        return watchEndpoint(dial, command, send)
      case "WatchLink":
        return Effect.flatMap(Forwarder, ({ loss }) => loss(command.cross)).pipe(
          Effect.map(({ clientGone }) => send({ _tag: "LinkLost", call: command.call, clientGone }))
        )
      case "SaveRecord":
        return Effect.flatMap(Records, ({ save }) => save(command.record))
      case "ForgetRecord":
        return Effect.flatMap(Records, ({ forget }) => forget(command.clientId))
      case "Sweep":
        return Effect.flatMap(Forwarder, ({ sweep }) => sweep(command.keep))
      case "Reply":
        return waiting.connections.answer(command.reply, command.result)
      case "Answer":
        return waiting.registrations.answer(command.reply, command.answer)
      case "Cancel":
        return Effect.void
    }
  }

const tell = (what: string, { alias, client, endpoint }: Cross.Cross): Effect.Effect<void> =>
  (what === "Refreshed" ? Effect.logDebug : Effect.logInfo)(`${what} ${alias}`, {
    client: `${client.link} in ${client.netns}`,
    endpoint: `${endpoint.link} in ${endpoint.netns}`
  })

/** Tells changes until the endpoint is lost or cancelled. */
const watchEndpoint = (
  dial: Dial,
  { call, connection, target }: Extract<Manager.Command, { _tag: "WatchEndpoint" }>,
  send: Send
): Effect.Effect<void> => {
  const own = connection.path.segments[connection.path.index]
  const selector = { segments: [{ name: own?.name ?? "", id: connection.id, token: "" }], networkServices: [] }
  return dial(target.url, (client) =>
    Peer.monitor(client, selector).pipe(
      Stream.map((event) => CircuitState.changeIn(event, connection)),
      Stream.filter((change) => change !== undefined),
      Stream.runForEach((change) => Effect.sync(() => send({ _tag: "EndpointChanged", call, change })))
    )).pipe(
      Effect.ignore,
      Effect.andThen(Effect.sync(() => send({ _tag: "EndpointChanged", call, change: "Lost" })))
    )
}
