import { assert, describe, it } from "@effect/vitest"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import {
  answered,
  asks,
  closedReply,
  contextOf,
  established,
  failed,
  play,
  requestOf,
  settings,
  tags,
  wanted
} from "../../property-tests/nsm/ClientScenario.ts"
import * as Client from "./Client.ts"
import * as Model from "./Model.ts"
type Event = typeof Client.Event.Type
type Command = typeof Client.Command.Type

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

describe("nsm-client", () => {
  it("R1: refreshes after a fifth of the shortest token lifetime of the path", () => {
    const { client } = established()
    assert.strictEqual(client.wake(), 10 + Math.floor((300_000 - 10) / 5))
    assert.deepStrictEqual(tags(client.send(70_000, { _tag: "Woken" })), ["Request"])
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
})
