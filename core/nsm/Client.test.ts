import { assert, describe, it } from "@effect/vitest"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import * as Client from "./Client.ts"
import * as ClientState from "./ClientState.ts"
import * as Model from "./Model.ts"

type Event = typeof Client.Event.Type
type Command = typeof Client.Command.Type

const settings: typeof Client.Settings.Type = {
  name: "tapa",
  netns: "inode://4/1",
  requestTimeoutMs: 15_000,
  maxTokenLifetimeMs: 600_000,
  minBackoffMs: 200,
  maxBackoffMs: 5_000,
  seed: 7
}

machineLaws(Client.machine, {
  outcomes: (command: Command): ReadonlyArray<Event> => {
    switch (command._tag) {
      case "Request":
        return [
          { _tag: "RequestSucceeded", call: command.call, connection: command.connection },
          { _tag: "RequestFailed", call: command.call, reason: "Unavailable", message: "" },
          { _tag: "RequestFailed", call: command.call, reason: "NotFound", message: "" }
        ]
      case "Close":
        return [
          { _tag: "CloseFinished", call: command.call },
          { _tag: "CloseFinished", call: command.call, failure: { reason: "Timeout", message: "" } }
        ]
      case "Monitor":
        return [
          { _tag: "MonitorChanged", call: command.call, change: "Down" },
          { _tag: "MonitorChanged", call: command.call, change: "Lost" },
          { _tag: "MonitorChanged", call: command.call, change: "RefreshRequested" }
        ]
      case "Cancel":
      case "Reply":
        return []
    }
  },
  close: { event: { _tag: "CloseRequested", reply: 999 }, isClosed: Client.isIdle },
  runs: 150
})

/** Plays events and keeps the state and what was commanded last. */
const play = (as = settings) => {
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

const wanted: Model.Connection = {
  ...Model.connection("t1-0", "proxy.conduit"),
  labels: { nodeName: "a" },
  payload: "ETHERNET"
}
const answered = (command: Command | undefined, change: Partial<Model.Connection> = {}): Event => {
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
const tags = (commands: ReadonlyArray<Command>) => commands.map(({ _tag }) => _tag)

const first = { _tag: "RequestRequested" as const, connection: wanted, interfaceName: "nsm-0" }
const asks = (reply: number) => ({ ...first, reply })
const requestOf = (commands: ReadonlyArray<Command | undefined>) => {
  const request = commands.find((command) => command?._tag === "Request")
  return request?._tag === "Request" ? request : assert.fail("a request")
}
const refusal: Model.Failure = { reason: "Unavailable", message: "nobody" }
const failed = ({ call }: { readonly call: number }): Event => ({ _tag: "RequestFailed", call, ...refusal })
const segment = (id: string): Model.PathSegment => ({ name: `name of ${id}`, id, token: "", metrics: {} })
const closedReply = (reply: number): Command => ({ _tag: "Reply", reply, result: { _tag: "Closed" } })
const contextOf = (part: Partial<Model.Context>): Model.Context => ({ ...Model.emptyContext, ...part })

const established = (as = settings) => {
  const client = play(as)
  const [request] = client.send(0, asks(1))
  const commands = client.send(10, answered(request))
  return { client, commands, request, monitor: commands[0]?._tag === "Monitor" ? commands[0].call : -1 }
}

describe("nsm-client", () => {
  it("H1: asks with its own signed segment and its kernel mechanism, answers, and monitors", () => {
    const { commands, request } = established()
    assert.deepInclude(request, {
      preferences: [{ cls: "LOCAL", type: "KERNEL", parameters: { inodeURL: "inode://4/1", name: "nsm-0" } }],
      timeoutMs: 15_000
    })
    assert.isTrue(request?._tag === "Request" && request.connection.path.segments[0]?.expiresAt === 600_000)
    assert.deepStrictEqual(tags(commands), ["Monitor", "Reply"])
  })

  it("R1: refreshes after a fifth of the shortest token lifetime of the path", () => {
    const { client } = established()
    assert.strictEqual(client.wake(), 10 + Math.floor((300_000 - 10) / 5))
    assert.deepStrictEqual(tags(client.send(70_000, { _tag: "Woken" })), ["Request"])
  })

  it("R5 H5 H11: retries a failed refresh with back-off, then heals at another endpoint under the same name", () => {
    const { client } = established()
    for (let attempt = 0; attempt < 3; attempt++) {
      const now = client.wake() ?? assert.fail("a deadline")
      const [refresh] = client.send(now, { _tag: "Woken" })
      assert.isTrue(refresh?._tag === "Request" && refresh.connection.endpointName === "nse")
      const call = refresh?._tag === "Request" ? refresh.call : -1
      client.send(now, { _tag: "RequestFailed", call, reason: "Unavailable", message: "" })
      assert.isAbove(client.wake() ?? 0, now)
    }
    assert.strictEqual(client.view()?.state, "Down")
    const [heal] = client.send(client.wake() ?? 0, { _tag: "Woken" })
    assert.isTrue(heal?._tag === "Request" && heal.connection.state === "ReselectRequested")
    assert.isTrue(heal?._tag === "Request" && heal.connection.endpointName === "")
    assert.isTrue(heal?._tag === "Request" && heal.preferences[0]?.parameters["name"] === "nsm-0")
    client.send(200_000, answered(heal))
    assert.strictEqual(client.view()?.state, "Up")
  })

  it("B5: changes context only, keeping labels, mechanism and payload as they were established", () => {
    const { client } = established()
    const context = { ...Model.emptyContext, mtu: 1400 }
    const stripped = { ...Model.connection("t1-0", "proxy.conduit"), context }
    const [update] = client.send(20, { ...asks(2), connection: stripped, interfaceName: "other" })
    assert.isTrue(update?._tag === "Request")
    if (update?._tag !== "Request") return
    assert.deepInclude(update.connection, { context, labels: { nodeName: "a" }, payload: "ETHERNET" })
    assert.strictEqual(Model.interfaceName(update.connection), "nsm-0")
    const commands = client.send(30, answered(update))
    assert.deepStrictEqual(tags(commands), ["Reply"])
  })

  it("B2: serves requests one after another", () => {
    const { client } = established()
    const [second] = client.send(20, asks(2))
    assert.deepStrictEqual(client.send(20, asks(3)), [])
    assert.deepStrictEqual(tags(client.send(30, answered(second))), ["Reply", "Request"])
  })

  it("H6: heals although the user asks again and again, once the monitor has said that the connection is down", () => {
    const { client, monitor } = established()
    const asked = Array.from({ length: 4 }, (_, attempt) => {
      const now = 1_000 * (attempt + 1)
      const context = contextOf({ extra: { [attempt]: "" } })
      const request = requestOf(client.send(now, { ...asks(9), connection: { ...wanted, context } }))
      if (attempt === 0) client.send(now, { _tag: "MonitorChanged", call: monitor, change: "Down" })
      client.send(now, failed(request))
      return request.connection.state
    })
    assert.deepStrictEqual(asked, ["Up", "Up", "Up", "ReselectRequested"])
  })

  it("H6 H10: waits before it heals, and keeps a pinned endpoint", () => {
    const client = play()
    const connection = { ...wanted, endpointName: "nse" }
    const [request] = client.send(0, { _tag: "RequestRequested", reply: 1, connection, interfaceName: "nsm-0" })
    const [monitor] = client.send(10, answered(request))
    const call = monitor?._tag === "Monitor" ? monitor.call : -1
    assert.deepStrictEqual(tags(client.send(20, { _tag: "MonitorChanged", call, change: "Down" })), ["Cancel"])
    const deadline = client.wake() ?? assert.fail("a deadline")
    assert.isAbove(deadline, 20)
    const [heal] = client.send(deadline, { _tag: "Woken" })
    assert.isTrue(heal?._tag === "Request" && heal.connection.endpointName === "nse")
  })

  it("H3: asks for the same again when the manager went away", () => {
    const { client, monitor } = established()
    client.send(20, { _tag: "MonitorChanged", call: monitor, change: "Lost" })
    const deadline = client.wake() ?? assert.fail("a deadline")
    assert.isBelow(deadline, 1_000)
    const [refresh] = client.send(deadline, { _tag: "Woken" })
    assert.isTrue(refresh?._tag === "Request" && refresh.connection.state === "Up")
  })

  it("C2: gives a close up after four attempts", () => {
    const { client } = established()
    let commands = client.send(20, { _tag: "CloseRequested", reply: 2 })
    assert.deepStrictEqual(tags(commands), ["Cancel", "Close"])
    for (let attempt = 1; attempt < 4; attempt++) {
      const call = commands.flatMap((command) => command._tag === "Close" ? [command.call] : [])[0] ?? -1
      client.send(30, { _tag: "CloseFinished", call, failure: { reason: "Unavailable", message: "gone" } })
      commands = client.send(client.wake() ?? 0, { _tag: "Woken" })
    }
    const call = commands.flatMap((command) => command._tag === "Close" ? [command.call] : [])[0] ?? -1
    const failure: Model.Failure = { reason: "Unavailable", message: "gone" }
    assert.deepStrictEqual(client.send(30, { _tag: "CloseFinished", call, failure }), [
      { _tag: "Reply", reply: 2, result: { _tag: "Failed", ...failure } }
    ])
    assert.isUndefined(client.view())
  })

  it("names the interface in the mechanism of a connection that it takes over", () => {
    const found = { ...wanted, mechanism: Model.kernelMechanism("inode://4/1") }
    const [command] = play().send(0, { _tag: "RequestRequested", reply: 1, connection: found, interfaceName: "nsm-3" })
    assert.strictEqual(command?._tag === "Request" ? Model.interfaceName(command.connection) : "", "nsm-3")
  })

  it("B1: refuses a connection without id", () => {
    const [refusal, ...more] = play().send(0, { ...asks(1), connection: { ...wanted, id: "" } })
    assert.isTrue(refusal?._tag === "Reply" && refusal.result._tag === "Failed" && refusal.result.reason === "Invalid")
    assert.deepStrictEqual(more, [])
  })

  it("B3: an endpoint counts only where it differs from the last answer, which a heal may have overtaken", () => {
    const { client, monitor } = established()
    client.send(20, { _tag: "MonitorChanged", call: monitor, change: "Down" })
    const [heal] = client.send(client.wake() ?? 0, { _tag: "Woken" })
    client.send(1_000, answered(heal, { endpointName: "other" }))
    const repeated = requestOf(client.send(1_100, { ...asks(2), connection: { ...wanted, endpointName: "nse" } }))
    assert.strictEqual(repeated.connection.endpointName, "other", "the user only repeats what was answered")
    client.send(1_200, answered(repeated, { endpointName: "other" }))
    const chosen = requestOf(client.send(1_300, { ...asks(3), connection: { ...wanted, endpointName: "third" } }))
    assert.strictEqual(chosen.connection.endpointName, "third")
    client.send(1_400, failed(chosen))
    const [later] = client.send(client.wake() ?? 0, { _tag: "Woken" })
    assert.strictEqual(requestOf([later]).connection.endpointName, "other", "a choice that failed is not kept")
  })

  it("B4: a context counts where it differs from the last answer; of extra values each by itself", () => {
    const { client } = established()
    const first = contextOf({ mtu: 1400, extra: { kept: "1", dropped: "1" } })
    const update = requestOf(client.send(20, { ...asks(2), connection: { ...wanted, context: first } }))
    assert.deepStrictEqual(update.connection.context, first)
    client.send(30, answered(update))
    const refresh = requestOf(client.send(client.wake() ?? 0, { _tag: "Woken" }))
    const moved = contextOf({ mtu: 1300, extra: { kept: "1", dropped: "1", added: "by the endpoint" } })
    client.send(70_000, answered(refresh, { context: moved }))
    const repeated = requestOf(client.send(70_010, { ...asks(3), connection: { ...wanted, context: first } }))
    assert.deepStrictEqual(repeated.connection.context, moved, "an old answer undoes nothing")
    client.send(70_020, answered(repeated, { context: moved }))
    const change = contextOf({ mtu: 1200, extra: { kept: "2" } })
    const changed = requestOf(client.send(70_030, { ...asks(4), connection: { ...wanted, context: change } }))
    assert.deepStrictEqual(changed.connection.context, contextOf({ mtu: 1200, extra: { kept: "2" } }))
  })

  it("B6 B8: after a failed first request nothing is left, and its close is a success", () => {
    const client = play()
    const request = requestOf(client.send(0, asks(1)))
    const failure: Model.Failure = { reason: "NotFound", message: "no endpoint" }
    assert.deepStrictEqual(client.send(10, { _tag: "RequestFailed", call: request.call, ...failure }), [
      { _tag: "Reply", reply: 1, result: { _tag: "Failed", ...failure } }
    ])
    assert.isUndefined(client.view())
    assert.isUndefined(client.wake())
    assert.deepStrictEqual(client.send(20, { _tag: "CloseRequested", reply: 2 }), [closedReply(2)])
  })

  it("B7 R4: a failed later request leaves the connection as it was, and it is refreshed", () => {
    const { client } = established()
    const before = client.view()
    const context = contextOf({ mtu: 1 })
    const update = requestOf(client.send(20, { ...asks(2), connection: { ...wanted, context } }))
    assert.deepStrictEqual(tags(client.send(30, failed(update))), ["Reply"])
    assert.strictEqual(client.view(), before)
    const refresh = requestOf(client.send(client.wake() ?? 0, { _tag: "Woken" }))
    assert.strictEqual(refresh.connection.context.mtu, 0)
  })

  it("B9 B10 R6 C1: a close takes what stood last, ends monitor and timers, reaches the manager once, and answers all", () => {
    const { client } = established()
    const refresh = requestOf(client.send(client.wake() ?? 0, { _tag: "Woken" }))
    client.send(70_000, answered(refresh, { context: contextOf({ mtu: 1300 }) }))
    const commands = client.send(70_010, { _tag: "CloseRequested", reply: 2 })
    assert.deepStrictEqual(tags(commands), ["Cancel", "Close"])
    const close = commands.flatMap((command) => command._tag === "Close" ? [command] : [])[0]
    assert.deepInclude(close?.connection, { id: "t1-0", endpointName: "nse", context: contextOf({ mtu: 1300 }) })
    assert.deepStrictEqual(client.send(70_020, { _tag: "CloseRequested", reply: 3 }), [])
    assert.isUndefined(client.wake())
    const finished: Event = { _tag: "CloseFinished", call: close?.call ?? -1 }
    assert.deepStrictEqual(client.send(70_030, finished), [closedReply(2), closedReply(3)])
    assert.deepStrictEqual(client.send(70_040, { _tag: "CloseRequested", reply: 4 }), [closedReply(4)])
  })

  it("B14: refreshes, heals and closes have the limit of a request", () => {
    const { client, monitor } = established()
    const refresh = requestOf(client.send(client.wake() ?? 0, { _tag: "Woken" }))
    client.send(70_000, answered(refresh))
    client.send(70_001, { _tag: "MonitorChanged", call: monitor, change: "Down" })
    const heal = requestOf(client.send(client.wake() ?? 0, { _tag: "Woken" }))
    client.send(71_000, answered(heal))
    const close = client.send(71_001, { _tag: "CloseRequested", reply: 2 }).at(-1)
    assert.deepStrictEqual([refresh.timeoutMs, heal.timeoutMs], [15_000, 15_000])
    assert.isTrue(close?._tag === "Close" && close.timeoutMs === 15_000)
  })

  it("R2: refreshes as soon as it may when a token of the path has expired already", () => {
    const client = play()
    const request = requestOf(client.send(0, asks(1)))
    const expired = { ...request, connection: { ...request.connection, path: { index: 0, segments: [] } } }
    const path = { index: 0, segments: [{ name: "tapa", id: "t1-0", token: "", expiresAt: 5, metrics: {} }] }
    client.send(10, answered(expired, { path }))
    assert.strictEqual(client.wake(), 10 + settings.minBackoffMs)
  })

  it("R3: a request that succeeds moves the next refresh", () => {
    const { client } = established()
    const before = client.wake() ?? assert.fail("a deadline")
    const update = requestOf(client.send(20_000, asks(2)))
    client.send(20_010, answered(update))
    assert.isAbove(client.wake() ?? 0, before)
    assert.deepStrictEqual(client.send(before, { _tag: "Woken" }), [])
  })

  it("H4 H7: a connection that is down and closed is not healed", () => {
    const { client, monitor } = established()
    client.send(20, { _tag: "MonitorChanged", call: monitor, change: "Down" })
    assert.strictEqual(client.view()?.state, "Down")
    const deadline = client.wake() ?? assert.fail("a deadline")
    assert.deepStrictEqual(tags(client.send(30, { _tag: "CloseRequested", reply: 2 })), ["Close"])
    assert.deepStrictEqual(client.send(deadline, { _tag: "Woken" }), [])
  })

  it("H6: heals that fail come with growing, jittered pauses up to the limit, for ever", () => {
    const pauses = [7, 8].map((seed) => {
      const { client, monitor } = established({ ...settings, seed })
      client.send(20, { _tag: "MonitorChanged", call: monitor, change: "Down" })
      return Array.from({ length: 20 }, () => {
        const at = client.wake() ?? assert.fail("a deadline")
        client.send(at, failed(requestOf(client.send(at, { _tag: "Woken" }))))
        return (client.wake() ?? assert.fail("a deadline")) - at
      })
    })
    for (const [n, pause] of pauses.flatMap((each) => [...each.entries()])) {
      const ceiling = Math.min(settings.maxBackoffMs, settings.minBackoffMs * 2 ** (n + 1))
      assert.isTrue(pause >= ceiling / 2 && pause <= ceiling, `pause ${n} is ${pause} of ${ceiling}`)
    }
    assert.notDeepEqual(pauses[0], pauses[1], "clients do not heal in step")
  })

  it("H8: a request while it heals is one attempt with it, and a later one waits for that", () => {
    const { client, monitor } = established()
    client.send(20, { _tag: "MonitorChanged", call: monitor, change: "Down" })
    const heal = requestOf(client.send(30, asks(2)))
    assert.strictEqual(heal.connection.state, "ReselectRequested")
    assert.deepStrictEqual(client.send(40, asks(3)), [])
    assert.deepStrictEqual(tags(client.send(50, answered(heal))), ["Monitor", "Reply", "Request"])
  })

  it("H9: a monitor that broke during a refresh begins again with its success, and tells nothing twice", () => {
    for (const change of ["Down", "Lost"] as const) {
      const { client, monitor } = established()
      const refresh = requestOf(client.send(client.wake() ?? 0, { _tag: "Woken" }))
      client.send(60_000, { _tag: "MonitorChanged", call: monitor, change })
      assert.deepStrictEqual(tags(client.send(60_010, answered(refresh))), ["Monitor"])
      assert.deepStrictEqual(client.send(60_020, { _tag: "MonitorChanged", call: monitor, change: "Down" }), [])
    }
  })

  it("H12: refreshes when the other side wishes it", () => {
    const { client, monitor } = established()
    const refresh = requestOf(client.send(20, { _tag: "MonitorChanged", call: monitor, change: "RefreshRequested" }))
    assert.deepInclude(refresh.connection, { state: "Up", endpointName: "nse" })
    assert.deepStrictEqual(tags(client.send(30, answered(refresh))), [], "the monitor goes on")
  })

  it("H2 H4: hears of its own record at the manager only, of which a deletion is a loss", () => {
    const record = (index: number, ids: ReadonlyArray<string>, state: Model.State = "Up"): Model.Connection => ({
      ...wanted,
      state,
      path: { index, segments: ids.map(segment) }
    })
    const own = record(0, ["t1-0", "m"])
    const told = (type: Model.ConnectionEvent["type"], ...records: ReadonlyArray<Model.Connection>) =>
      ClientState.changeIn({ type, connections: Object.fromEntries(records.entries()) }, own)
    assert.isUndefined(told("Initial"))
    assert.isUndefined(told("Update", record(1, ["t1-0", "m"])))
    const others = [record(2, ["t1-0", "m", "n"], "Down"), record(1, ["other", "m"], "Down")]
    assert.isUndefined(told("Update", ...others))
    assert.isUndefined(told("Update", record(1, ["t1-0", "left behind"], "Down")))
    assert.strictEqual(told("Update", ...others, record(1, ["t1-0", "m"], "Down")), "Down")
    assert.strictEqual(told("Initial", record(1, ["t1-0", "m"], "Down")), "Down")
    assert.strictEqual(told("Delete", record(1, ["t1-0", "m"])), "Down")
    assert.strictEqual(told("Update", record(1, ["t1-0", "m"], "RefreshRequested")), "RefreshRequested")
  })

  it("H9: the monitor of a record that the manager has under another id now begins again", () => {
    const { client } = established()
    const refresh = requestOf(client.send(client.wake() ?? 0, { _tag: "Woken" }))
    const segments = refresh.connection.path.segments.map((segment, i) => i === 1 ? { ...segment, id: "new" } : segment)
    const commands = client.send(60_000, answered(refresh, { path: { index: 0, segments } }))
    assert.deepStrictEqual(tags(commands), ["Cancel", "Monitor"])
  })
})
