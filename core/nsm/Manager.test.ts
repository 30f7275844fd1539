import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, HashMap, Schema } from "effect"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import {
  ask,
  client,
  close,
  endpoint,
  kernel,
  outcomes,
  play,
  service,
  standing,
  tags
} from "../../property-tests/nsm/Scenario.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Manager from "./Manager.ts"
import * as Model from "./Model.ts"

type Event = Manager.Event

const vip = Cidr.unsafe("20.0.0.1/32")

// Times of records beyond all clocks would only test the precision of numbers.
machineLaws(Manager.machine, {
  inputs: Arbitrary.map(
    Arbitrary.schema(Schema.Struct({ settings: Manager.Settings, restarted: Schema.Boolean })),
    ({ restarted, settings }) => ({ settings, records: restarted ? [standing().find("SaveRecord").record] : [] })
  ),
  // Two clients and one endpoint that can meet.
  events: Arbitrary.map(
    Arbitrary.schema(Schema.Struct({ event: Manager.Event, other: Schema.Boolean, reselect: Schema.Boolean })),
    ({ event, other, reselect }): Event => {
      const id = other ? "d" : "c"
      const known: Model.Connection = {
        ...client({ state: reselect ? "ReselectRequested" : "Up" }),
        id,
        path: { index: 0, segments: [{ name: "client", id, token: "", metrics: {} }] }
      }
      switch (event._tag) {
        case "RequestRequested":
          return { ...event, connection: known, preferences: [kernel] }
        case "CloseRequested":
          return { ...event, connection: known }
        case "RegisterServiceRequested":
          return { ...event, service: { ...service, matches: reselect ? event.service.matches : [] } }
        case "RegisterEndpointRequested":
          return { ...event, endpoint: endpoint(other ? "nse" : "other") }
        default:
          return event
      }
    }
  ),
  outcomes,
  invariant: ({ circuits, waiting }) => HashMap.size(circuits) <= 2 && HashMap.size(waiting) <= 6,
  runs: 300,
  maxMoves: 60
})

/** A request of the client with the identity. */
const by = (identity: string): Model.Connection =>
  client({ path: { index: 0, segments: [{ name: "client", id: "c", token: "", identity, metrics: {} }] } })
const refusal = (reply: number): Manager.Command => ({
  _tag: "Reply",
  reply,
  result: { _tag: "Failed", reason: "Denied", message: "no sufficient privileges" }
})

const restarted = () => play([standing().find("SaveRecord").record])

const request = {
  _tag: "RequestRequested",
  reply: 1,
  freshId: "m1",
  connection: client(),
  preferences: [kernel]
} as const

describe("nsmgr, absent", () => {
  it("asks the endpoint, shapes the kernel, saves, watches and answers the client in its own view", () => {
    const manager = play()
    manager.offer("nse")
    assert.deepStrictEqual(tags(manager.send(ask(1))), ["RequestEndpoint"])
    const { connection, preferences, target } = manager.find("RequestEndpoint")
    assert.deepStrictEqual(target, { name: "nse", url: "unix:///nse" })
    assert.deepStrictEqual(preferences, [{ cls: "LOCAL", type: "KERNEL", parameters: {} }])
    assert.isUndefined(connection.mechanism)
    assert.strictEqual(connection.id, "m1-forwarder")
    assert.deepStrictEqual(connection.path.segments.map(({ expiresAt }) => expiresAt), [600_000, 600_000, 600_000])
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint")), ["Plumb"])
    assert.deepStrictEqual(manager.ids(), [])
    assert.deepStrictEqual(tags(manager.settle("Plumb")), ["WatchEndpoint", "WatchLink", "SaveRecord", "Reply"])
    const { result } = manager.find("Reply")
    assert.isTrue(result._tag === "Succeeded")
    if (result._tag !== "Succeeded") return
    assert.deepInclude(result.connection, { id: "c", mechanism: kernel, endpointName: "nse", state: "Up" })
    assert.strictEqual(result.connection.path.index, 0)
    assert.deepStrictEqual(result.connection.path.segments.map(({ name }) => name), [
      "client",
      "mgr",
      "mgr-forwarder",
      "nse"
    ])
    assert.deepInclude(manager.connection(), { id: "m1", state: "Up" })
    assert.strictEqual(manager.connection()?.path.index, 1)
  })

  it("undoes what it began when the kernel refuses", () => {
    const manager = play()
    manager.offer("nse")
    manager.send(ask(1))
    manager.settle("RequestEndpoint")
    assert.deepStrictEqual(tags(manager.settle("Plumb", 2)), ["CloseEndpoint"])
    assert.deepInclude(manager.connection(), { id: "m1", state: "Down" }, "the kernel may hold a part of it")
    assert.deepStrictEqual(tags(manager.settle("CloseEndpoint")), ["Unplumb"])
    assert.deepStrictEqual(tags(manager.settle("Unplumb")), ["ForgetRecord", "Reply"])
    assert.deepStrictEqual(manager.ids(), [])
    assert.strictEqual(manager.find("Reply").result._tag, "Failed")
  })

  it("tries the candidates in turn and fails with the last reason", () => {
    const manager = play()
    manager.offer("a", "b")
    manager.send(ask(1))
    const first = manager.find("RequestEndpoint").target.name
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint", 1)), ["RequestEndpoint"])
    assert.notStrictEqual(manager.find("RequestEndpoint").target.name, first)
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint", 1)), ["Reply"])
    assert.deepInclude(manager.find("Reply").result, { reason: "Unavailable" })
  })

  it.each([
    ["an unknown service", client(), [], "NotFound"],
    ["another payload", client({ payload: "IP" }), ["nse"], "NotFound"],
    ["an endpoint that is not there", client({ endpointName: "x" }), ["nse"], "NotFound"],
    ["another mechanism", client({ mechanism: { cls: "LOCAL", type: "MEMIF", parameters: {} } }), ["nse"], "Invalid"],
    ["no path", client({ path: Model.emptyPath }), ["nse"], "Invalid"]
  ])("refuses %s at once", (_, connection, endpoints, reason) => {
    const manager = play()
    if (endpoints.length > 0) manager.offer(...endpoints)
    assert.deepStrictEqual(tags(manager.send(ask(1, connection))), ["Reply"])
    const { result } = manager.find("Reply")
    assert.strictEqual(result._tag === "Failed" ? result.reason : undefined, reason)
  })

  it.each([
    ["MEMIF", "LOCAL"],
    ["VFIO", "LOCAL"],
    ["NOOP", "LOCAL"],
    ["VXLAN", "REMOTE"],
    ["KERNEL", "REMOTE"]
  ])("names the mechanism %s/%s that it cannot make, and one that it can", (type, cls) => {
    const manager = play()
    manager.offer("nse")
    manager.send({ ...request, preferences: [{ cls, type, parameters: {} }] })
    const { result } = manager.find("Reply")
    const message = result._tag === "Failed" ? result.message : ""
    assert.include(message, `${cls}/${type}`)
    assert.include(message, "LOCAL/KERNEL")
  })

  it("answers a close of nothing and sweeps what may be left", () => {
    assert.deepStrictEqual(tags(play().send(close(1))), ["Sweep", "Reply"])
  })
})

describe("nsmgr, up", () => {
  it("refreshes with the mechanism of the endpoint and keeps its endpoint", () => {
    const manager = standing()
    manager.offer("aaa")
    assert.deepStrictEqual(tags(manager.send(ask(2), 1_000)), ["RequestEndpoint"])
    const { connection, target } = manager.find("RequestEndpoint")
    assert.strictEqual(target.name, "nse")
    assert.strictEqual(Model.interfaceName(connection), "service-abc")
    manager.settle("RequestEndpoint", 0, 1_000)
    const { cross, previous } = manager.find("Plumb")
    assert.deepStrictEqual(previous, cross)
    const commands = manager.settle("Plumb", 0, 1_000)
    assert.deepStrictEqual(tags(commands), ["SaveRecord", "Reply"], "both watches last")
  })

  it("watches again what it lost, and what became another one", () => {
    const manager = standing()
    manager.settle("WatchLink", 1)
    manager.send(ask(2))
    manager.settle("RequestEndpoint")
    assert.deepStrictEqual(tags(manager.settle("Plumb")), ["WatchLink", "SaveRecord", "Reply"])
    manager.settle("WatchEndpoint")
    manager.send(ask(3))
    manager.settle("RequestEndpoint")
    assert.deepStrictEqual(tags(manager.settle("Plumb")), ["WatchEndpoint", "SaveRecord", "Reply"])
    manager.offer("other")
    manager.send(ask(4, client({ state: "ReselectRequested" })))
    manager.settle("CloseEndpoint")
    manager.settle("RequestEndpoint")
    const renewed = ["Cancel", "Cancel", "WatchEndpoint", "WatchLink", "SaveRecord", "Reply"]
    assert.deepStrictEqual(tags(manager.settle("Plumb")), renewed)
  })

  it("gives a new policy a table and keeps the table of an old one", () => {
    const manager = standing()
    const policies = [{ from: vip, routes: [] }]
    const context = { ...Model.emptyContext, ip: { ...Model.emptyIp, srcAddrs: [vip], policies } }
    manager.send(ask(2, client({ context })))
    manager.settle("RequestEndpoint")
    manager.settle("Plumb")
    const { table } = manager.find("Plumb").cross.client.policies[0] ?? assert.fail("a policy")
    const second = { from: Cidr.unsafe("20.0.0.2/32"), routes: [] }
    const more = { ...context, ip: { ...context.ip, policies: [second, ...policies] } }
    manager.send(ask(3, client({ context: more })))
    manager.settle("RequestEndpoint")
    const { policies: tables } = manager.find("Plumb").cross.client
    assert.strictEqual(tables.find(({ from }) => from === vip)?.table, table)
    assert.strictEqual(new Set(tables.map(({ table }) => table)).size, 2)
    assert.deepStrictEqual(manager.find("Plumb").cross.endpoint.routes, [])
  })

  it("B12: leaves the old endpoint on a reselect and prefers another", () => {
    const manager = standing()
    manager.offer("nse", "other")
    assert.deepStrictEqual(tags(manager.send(ask(2, client({ state: "ReselectRequested" })))), ["CloseEndpoint"])
    assert.deepStrictEqual(tags(manager.settle("CloseEndpoint")), ["RequestEndpoint"])
    assert.strictEqual(manager.find("RequestEndpoint").target.name, "other")
    manager.settle("RequestEndpoint")
    assert.strictEqual(manager.find("Plumb").previous?.alias, "nsm:mgr/c")
    manager.settle("Plumb")
    assert.strictEqual(manager.connection()?.endpointName, "other")
  })

  it("asks an endpoint that nobody replaces again on a reselect, and keeps the datapath", () => {
    const manager = standing()
    assert.deepStrictEqual(tags(manager.send(ask(2, client({ state: "ReselectRequested" })))), ["RequestEndpoint"])
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint", 1)), ["Reply"])
    assert.strictEqual(manager.connection()?.state, "Down")
  })

  it("clears everything when a reselect finds nobody", () => {
    const manager = standing()
    manager.offer("other")
    manager.send(ask(2, client({ state: "ReselectRequested" })))
    manager.settle("CloseEndpoint")
    manager.settle("RequestEndpoint", 1)
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint", 1)), ["Unplumb"])
    assert.deepStrictEqual(tags(manager.settle("Unplumb")), ["Cancel", "Cancel", "ForgetRecord", "Reply"])
    assert.deepStrictEqual(manager.ids(), [])
  })

  it("E1: closes by itself a request timeout before the client's token expires", () => {
    const manager = standing()
    manager.send({ _tag: "UnregisterEndpointRequested", reply: 9, name: "nse" })
    assert.strictEqual(manager.wake(), 585_000)
    assert.deepStrictEqual(tags(manager.send({ _tag: "Woken" }, 585_000)), ["CloseEndpoint"])
    manager.settle("CloseEndpoint")
    assert.deepStrictEqual(tags(manager.settle("Unplumb")), ["Cancel", "Cancel", "ForgetRecord"])
    assert.isUndefined(manager.wake())
  })

  it("lists what it ends by itself until the links are gone, and lets a close wait for that", () => {
    const manager = standing()
    manager.send({ _tag: "Woken" }, 585_000)
    assert.deepInclude(manager.connection(), { id: "m1", state: "Down" })
    assert.deepStrictEqual(manager.send(close(2), 585_000), [])
    manager.settle("CloseEndpoint")
    assert.deepInclude(manager.connection(), { id: "m1", state: "Down" })
    assert.strictEqual(tags(manager.settle("Unplumb")).at(-1), "Reply")
    assert.deepStrictEqual(manager.ids(), [])
  })

  it("lets nobody but the identity of its client change or close a connection", () => {
    const manager = play()
    manager.offer("nse")
    manager.send(ask(1, by("spiffe://d/me")))
    manager.settle("RequestEndpoint")
    manager.settle("Plumb")
    assert.deepStrictEqual(manager.send(ask(2, by("spiffe://d/other"))), [refusal(2)])
    assert.deepStrictEqual(manager.send(close(3, by("spiffe://d/other"))), [refusal(3)])
    assert.deepStrictEqual(tags(manager.send(close(4, by("spiffe://d/me")))), ["CloseEndpoint"])
  })

  it("tells Down when the endpoint does, and keeps the datapath", () => {
    const manager = standing()
    assert.deepStrictEqual(tags(manager.settle("WatchEndpoint")), ["Cancel"])
    assert.strictEqual(manager.connection()?.state, "Down")
  })

  it("relays a wish for a refresh", () => {
    const manager = standing()
    manager.settle("WatchEndpoint", 1)
    assert.strictEqual(manager.connection()?.state, "RefreshRequested")
  })

  it("tells Down when a link vanished, and ends when the client's namespace did", () => {
    const manager = standing()
    assert.deepStrictEqual(manager.settle("WatchLink", 1), [])
    assert.strictEqual(manager.connection()?.state, "Down")
    assert.deepStrictEqual(tags(standing().settle("WatchLink", 0)), ["CloseEndpoint"])
  })

  it("ends when the new definition of the service no longer matches", () => {
    const manager = standing()
    const matches = [{ source: {}, destinations: [{ zone: "x" }], fallthrough: false }]
    const commands = manager.send({ _tag: "RegisterServiceRequested", reply: 9, service: { ...service, matches } })
    assert.deepStrictEqual(tags(commands), ["Answer", "CloseEndpoint"])
  })

  it("C1: closes towards endpoint and kernel, then answers", () => {
    const manager = standing()
    assert.deepStrictEqual(tags(manager.send(close(2))), ["CloseEndpoint"])
    assert.deepStrictEqual(tags(manager.settle("CloseEndpoint")), ["Unplumb"])
    assert.deepStrictEqual(tags(manager.settle("Unplumb")), ["Cancel", "Cancel", "ForgetRecord", "Reply"])
    assert.deepStrictEqual(manager.find("Reply"), { _tag: "Reply", reply: 2, result: { _tag: "Closed" } })
  })

  it("lets what arrives meanwhile wait in order", () => {
    const manager = play()
    manager.offer("nse")
    manager.send(ask(1))
    assert.deepStrictEqual(manager.send(close(2)), [])
    assert.deepStrictEqual(manager.send(ask(3)), [])
    manager.settle("RequestEndpoint")
    assert.strictEqual(tags(manager.settle("Plumb")).at(-1), "CloseEndpoint")
    manager.settle("CloseEndpoint")
    assert.strictEqual(tags(manager.settle("Unplumb")).at(-1), "RequestEndpoint")
    manager.settle("RequestEndpoint")
    manager.settle("Plumb")
    assert.strictEqual(manager.find("Reply").reply, 3)
    assert.deepStrictEqual(manager.ids().length, 1)
  })

  it("replaces the connection of a client that lost its path", () => {
    const manager = standing()
    manager.send(ask(2))
    assert.strictEqual(manager.find("RequestEndpoint").connection.id, "m1-forwarder")
    manager.settle("RequestEndpoint")
    manager.settle("Plumb")
    assert.deepStrictEqual(manager.ids(), ["m1"])
  })
})

describe("nsmgr, restarted", () => {
  it("sweeps what no record claims and adopts the rest", () => {
    const manager = restarted()
    assert.deepStrictEqual(tags(manager.last()), ["Sweep", "Adopt"])
    assert.deepStrictEqual(manager.find("Sweep").keep, [manager.find("Adopt").cross])
    assert.deepStrictEqual(tags(manager.settle("Adopt")), ["WatchEndpoint", "WatchLink"])
    assert.strictEqual(manager.connection()?.state, "Up")
  })

  it("refreshes at the recorded endpoint before that has registered again", () => {
    const manager = restarted()
    manager.settle("Adopt")
    assert.deepStrictEqual(tags(manager.send(ask(2))), ["RequestEndpoint"])
    assert.strictEqual(manager.find("RequestEndpoint").target.url, "unix:///nse")
  })

  it("ends a connection whose pair is gone", () => {
    const manager = restarted()
    assert.deepStrictEqual(tags(manager.settle("Adopt", 1)), ["CloseEndpoint"])
    assert.deepStrictEqual(tags(manager.settle("CloseEndpoint")), ["Unplumb"])
    assert.deepStrictEqual(tags(manager.settle("Unplumb")), ["ForgetRecord"])
  })
})
