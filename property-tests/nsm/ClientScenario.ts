/** A client of NSM step by step: its machine, what it asked last, and answers to that. */
import { assert } from "@effect/vitest"
import * as Client from "../../core/nsm/Client.ts"
import * as Model from "../../core/nsm/Model.ts"

type Event = typeof Client.Event.Type
type Command = typeof Client.Command.Type

export const settings: typeof Client.Settings.Type = {
  name: "tapa",
  netns: "inode://4/1",
  requestTimeoutMs: 15_000,
  maxTokenLifetimeMs: 600_000,
  minBackoffMs: 200,
  maxBackoffMs: 5_000,
  seed: 7
}

/** Plays events and keeps the state and what was commanded last. */
export const play = (as = settings) => {
  let [state] = Client.machine.init(as, 0)
  return {
    send: (now: number, event: Event | { readonly _tag: "Woken" }): ReadonlyArray<Command> => {
      const [next, commands] = Client.machine.step(state, event, now)
      state = next
      return commands
    },
    wake: () => Client.machine.wake(state),
    view: () => Client.view(state)
  }
}

export const wanted: Model.Connection = {
  ...Model.connection("t1-0", "proxy.conduit"),
  labels: { nodeName: "a" },
  payload: "ETHERNET"
}
export const answered = (command: Command | undefined, change: Partial<Model.Connection> = {}): Event => {
  if (command?._tag !== "Request") return assert.fail(`a request, not ${command?._tag}`)
  const { connection } = command
  const segments = [...connection.path.segments, {
    name: "mgr",
    id: "m",
    token: "",
    expiresAt: (connection.path.segments[0]?.expiresAt ?? 0) - 300_000,
    metrics: {}
  }]
  return {
    _tag: "RequestSucceeded",
    call: command.call,
    connection: {
      ...connection,
      endpointName: "nse",
      mechanism: Model.kernelMechanism("inode://4/1", "nsm-0"),
      path: { index: 0, segments: segments.slice(0, 2) },
      ...change
    }
  }
}
export const tags = (commands: ReadonlyArray<Command>) => commands.map(({ _tag }) => _tag)

const first = { _tag: "RequestRequested" as const, connection: wanted, interfaceName: "nsm-0" }
export const asks = (reply: number) => ({ ...first, reply })
export const requestOf = (commands: ReadonlyArray<Command | undefined>) => {
  const request = commands.find((command) => command?._tag === "Request")
  return request?._tag === "Request" ? request : assert.fail("a request")
}
const refusal: Model.Failure = { reason: "Unavailable", message: "nobody" }
export const failed = ({ call }: { readonly call: number }): Event => ({ _tag: "RequestFailed", call, ...refusal })
export const segment = (id: string): Model.PathSegment => ({ name: `name of ${id}`, id, token: "", metrics: {} })
export const closedReply = (reply: number): Command => ({ _tag: "Reply", reply, result: { _tag: "Closed" } })
export const contextOf = (part: Partial<Model.Context>): Model.Context => ({ ...Model.emptyContext, ...part })

export const established = (as = settings) => {
  const client = play(as)
  const [request] = client.send(0, asks(1))
  const commands = client.send(10, answered(request))
  return { client, commands, request, monitor: commands[0]?._tag === "Monitor" ? commands[0].call : -1 }
}
