/** A manager at work in tests: two clients, endpoints that answer, outcomes given one by one. */
import { assert } from "@effect/vitest"
import * as Manager from "../../core/nsm/Manager.ts"
import * as Model from "../../core/nsm/Model.ts"
import * as Path from "../../core/nsm/Path.ts"

type Event = Manager.Event
type Command = Manager.Command

export const settings: Manager.Settings = {
  name: "mgr",
  requestTimeoutMs: 15_000,
  maxTokenLifetimeMs: 600_000,
  endpointLifetimeMs: 60_000
}

export const outcomes = (command: Command): ReadonlyArray<Event> => {
  switch (command._tag) {
    case "RequestEndpoint":
      return [answer(command), { _tag: "EndpointRefused", call: command.call, reason: "Unavailable", message: "" }]
    case "CloseEndpoint":
      return [{ _tag: "EndpointClosed", call: command.call }]
    case "Plumb":
    case "Adopt":
      return [
        { _tag: "PlumbSucceeded", call: command.call },
        { _tag: "PlumbFailed", call: command.call, reason: "NotFound", message: "" },
        { _tag: "PlumbFailed", call: command.call, reason: "Failed", message: "" }
      ]
    case "Unplumb":
      return [{ _tag: "UnplumbFinished", call: command.call }]
    case "WatchEndpoint":
      return [
        { _tag: "EndpointChanged", call: command.call, change: "Down" },
        { _tag: "EndpointChanged", call: command.call, change: "RefreshRequested" },
        { _tag: "EndpointChanged", call: command.call, change: "Lost" }
      ]
    case "WatchLink":
      return [
        { _tag: "LinkLost", call: command.call, clientGone: true },
        { _tag: "LinkLost", call: command.call, clientGone: false }
      ]
    case "Cancel":
    case "SaveRecord":
    case "ForgetRecord":
    case "Reply":
    case "Answer":
    case "Sweep":
      return []
  }
}

const answer = (command: Extract<Command, { _tag: "RequestEndpoint" }>): Event => ({
  _tag: "EndpointAnswered",
  call: command.call,
  connection: Path.giveBack(command.connection, {
    ...command.connection,
    mechanism: command.connection.mechanism ?? Model.kernelMechanism("inode://4/2", "service-abc"),
    path: Path.onward({ name: command.target.name, id: `${command.target.name}-id` }, command.connection).path
  })
})

export const service: Model.NetworkService = { name: "service", payload: "ETHERNET", matches: [] }
export const endpoint = (name: string): Model.Endpoint => ({
  name,
  networkServices: ["service"],
  labels: {},
  url: `unix:///${name}`
})
export const client = (change: Partial<Model.Connection> = {}): Model.Connection => ({
  ...Model.connection("c", "service"),
  path: { index: 0, segments: [{ name: "client", id: "c", token: "", expiresAt: 600_000, metrics: {} }] },
  ...change
})
export const kernel = Model.kernelMechanism("inode://4/1", "nsm-0")
export const ask = (reply: number, connection = client()): Event => ({
  _tag: "RequestRequested",
  reply,
  freshId: `m${reply}`,
  connection,
  preferences: [kernel]
})
export const close = (reply: number, connection = client()): Event => ({
  _tag: "CloseRequested",
  reply,
  freshId: `m${reply}`,
  connection
})

/** A manager at work; outcomes are given by the test. */
export const play = (records: Manager.Input["records"] = []) => {
  let [state, last] = Manager.machine.init({ settings, records }, 0)
  const all: Array<Command> = [...last]
  const send = (event: Event | { readonly _tag: "Woken" }, now = 0): ReadonlyArray<Command> => {
    const [next, commands] = Manager.machine.step(state, event, now)
    state = next
    last = commands
    all.push(...commands)
    return commands
  }
  const find = <T extends Command["_tag"]>(tag: T): Extract<Command, { _tag: T }> => {
    for (const command of all.toReversed()) if (is(tag, command)) return command
    return assert.fail(`no ${tag} in ${tags(all).join(" ")}`)
  }
  const settle = (tag: Command["_tag"], which = 0, now = 0) => {
    const outcome = outcomes(find(tag))[which]
    return outcome === undefined ? assert.fail(`${tag} has no outcome ${which}`) : send(outcome, now)
  }
  return {
    send,
    find,
    settle,
    last: () => last,
    wake: () => Manager.machine.wake(state),
    connection: () => Object.values(Manager.connections(state))[0],
    ids: () => Object.keys(Manager.connections(state)),
    offer: (...names: ReadonlyArray<string>) => {
      send({ _tag: "RegisterServiceRequested", reply: 100, service })
      for (const name of names) send({ _tag: "RegisterEndpointRequested", reply: 101, endpoint: endpoint(name) })
    },
    establish: () => {
      send(ask(1))
      settle("RequestEndpoint")
      settle("Plumb")
    }
  }
}
const is = <T extends Command["_tag"]>(tag: T, command: Command): command is Extract<Command, { _tag: T }> =>
  command._tag === tag
export const tags = (commands: ReadonlyArray<Command>) => commands.map(({ _tag }) => _tag)

export const standing = () => {
  const manager = play()
  manager.offer("nse")
  manager.establish()
  return manager
}
