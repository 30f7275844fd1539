import { assert, describe, it } from "@effect/vitest"
import { ask, client, close, kernel, play, standing, tags } from "../../property-tests/nsm/Scenario.ts"
import * as Cidr from "../net/Cidr.ts"
import type * as Cross from "./Cross.ts"
import * as Model from "./Model.ts"

const vip = Cidr.unsafe("20.0.0.1/32")

/** A view of a connection: its index, then each hop as `name:id`. */
const view = ({ id, path }: Model.Connection): ReadonlyArray<string | number> => {
  assert.strictEqual(path.segments[path.index]?.id, id, "the id is that of the hop whose view it is")
  return [path.index, ...path.segments.map(({ id, name }) => `${name}:${id}`)]
}
const request = {
  _tag: "RequestRequested",
  reply: 1,
  freshId: "m1",
  connection: client(),
  preferences: [kernel]
} as const

/** What the client was answered. */
const answer = (manager: ReturnType<typeof play>): Model.Connection => {
  const { result } = manager.find("Reply")
  return result._tag === "Succeeded" ? result.connection : assert.fail("an answer")
}
const [first, second, third] = ["client:c", "mgr:m1", "mgr-forwarder:m1-forwarder"]

describe("The path of upstream: client, manager, forwarder, endpoint", () => {
  const whole = [first, second, third, "nse:nse-id"]

  it("on a request: the endpoint is asked by the forwarder, the client and the monitors see all four", () => {
    const manager = standing()
    assert.deepStrictEqual(view(manager.find("RequestEndpoint").connection), [2, first, second, third])
    assert.deepStrictEqual(view(answer(manager)), [0, ...whole])
    assert.deepStrictEqual(view(manager.connection() ?? assert.fail("a connection")), [1, ...whole])
    assert.deepStrictEqual(view(manager.find("WatchEndpoint").connection), [2, ...whole])
  })

  it("on a refresh with the whole path or with the client's segment only: the same ids", () => {
    const manager = standing()
    const { path } = answer(manager)
    for (const [reply, connection] of [[2, client({ path })], [3, client()]] as const) {
      manager.send(ask(reply, connection))
      manager.settle("RequestEndpoint")
      manager.settle("Plumb")
      assert.deepStrictEqual(view(manager.find("RequestEndpoint").connection).slice(0, 4), [2, first, second, third])
      assert.deepStrictEqual(view(answer(manager)), [0, ...whole])
    }
  })

  it("on a reselect: the old endpoint is told by the same forwarder, the new one takes its place", () => {
    const manager = standing()
    manager.offer("nse", "other")
    const { path } = answer(manager)
    manager.send(ask(2, client({ path, state: "ReselectRequested" })))
    assert.deepStrictEqual(view(manager.find("CloseEndpoint").connection), [2, ...whole])
    manager.settle("CloseEndpoint")
    manager.settle("RequestEndpoint")
    manager.settle("Plumb")
    assert.deepStrictEqual(view(answer(manager)), [0, first, second, third, "other:other-id"])
  })

  it("on a close, and after a restart: the endpoint is told with the ids that it knows", () => {
    const manager = play([standing().find("SaveRecord").record])
    manager.settle("Adopt")
    manager.send(close(2))
    assert.deepStrictEqual(view(manager.find("CloseEndpoint").connection), [2, ...whole])
  })

  it("ends when the token of the client does, whatever the forwarder says of itself", () => {
    const { path } = client()
    const segments = path.segments.map((segment) => ({ ...segment, expiresAt: 100_000 }))
    const manager = play()
    manager.offer("nse")
    manager.send(ask(1, client({ path: { ...path, segments } })))
    manager.settle("RequestEndpoint")
    manager.settle("Plumb")
    assert.strictEqual(manager.find("SaveRecord").record.expiresAt, 85_000)
  })
})

describe("An endpoint that agreed to what cannot be made", () => {
  const ip = { ...Model.emptyIp, policies: [{ from: vip, proto: "tcp", routes: [] }] }
  const impossible = { ...Model.emptyContext, ip }

  it("is told that it is over, and the client why", () => {
    const manager = play()
    manager.offer("nse")
    manager.send(ask(1, client({ context: impossible })))
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint")), ["CloseEndpoint"])
    assert.strictEqual(manager.find("CloseEndpoint").connection.path.segments[3]?.name, "nse")
    assert.deepStrictEqual(tags(manager.settle("CloseEndpoint")), ["Reply"])
    assert.deepInclude(manager.find("Reply").result, { _tag: "Failed", reason: "Invalid" })
  })

  it("keeps the connection that it had", () => {
    const manager = standing()
    manager.send(ask(2, client({ context: impossible })))
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint")), ["Reply"])
    assert.strictEqual(manager.connection()?.state, "Down")
  })

  it("after a reselect leaves nothing of the old connection either", () => {
    const manager = standing()
    manager.offer("other")
    manager.send(ask(2, client({ context: impossible, state: "ReselectRequested" })))
    manager.settle("CloseEndpoint")
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint")), ["CloseEndpoint"])
    assert.deepStrictEqual(tags(manager.settle("CloseEndpoint")), ["Unplumb"])
    assert.deepStrictEqual(tags(manager.settle("Unplumb")), ["Cancel", "Cancel", "ForgetRecord", "Reply"])
  })
})

describe("The time of a caller", () => {
  it("is shared by the endpoints that can be asked, and what one leaves is for the next", () => {
    const manager = play()
    manager.offer("a", "b", "c")
    manager.send({ ...request, deadline: 9_000 }, 0)
    assert.strictEqual(manager.find("RequestEndpoint").timeoutMs, 3_000)
    manager.settle("RequestEndpoint", 1, 1_000)
    assert.strictEqual(manager.find("RequestEndpoint").timeoutMs, 4_000)
    manager.settle("RequestEndpoint", 1, 5_000)
    assert.strictEqual(manager.find("RequestEndpoint").timeoutMs, 4_000)
  })

  it("is a request timeout at most, whatever the caller says", () => {
    for (const deadline of [undefined, 1_000_000]) {
      const manager = play()
      manager.offer("a")
      manager.send({ ...request, ...(deadline === undefined ? {} : { deadline }) })
      assert.strictEqual(manager.find("RequestEndpoint").timeoutMs, 15_000)
    }
  })

  it("ends the search when it is over: nobody hears the answer", () => {
    const manager = play()
    manager.offer("a", "b")
    manager.send({ ...request, deadline: 2_000 })
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint", 1, 2_000)), ["Reply"])
    assert.deepInclude(manager.find("Reply").result, { _tag: "Failed", reason: "Timeout" })
  })

  it("is not used up by an old endpoint that does not answer the close of a reselect", () => {
    const manager = standing()
    manager.offer("other")
    manager.send({ ...request, connection: client({ state: "ReselectRequested" }), deadline: 8_000 })
    assert.strictEqual(manager.find("CloseEndpoint").timeoutMs, 2_000)
  })
})

/** Up, and about to give its client a VIP. */
const changing = () => {
  const manager = standing()
  const ip = { ...Model.emptyIp, srcAddrs: [vip], policies: [{ from: vip, routes: [] }] }
  manager.send(ask(2, client({ context: { ...Model.emptyContext, ip } })))
  return { manager, commands: manager.settle("RequestEndpoint") }
}

const mine = ({ context }: Model.Connection): Model.Connection => client({ context })
const other = ({ context }: Model.Connection): Model.Connection => ({
  ...client({ context }),
  id: "d",
  path: { index: 0, segments: [{ name: "client", id: "d", token: "", metrics: {} }] }
})
const tablesOf = ({ client }: Cross.Cross) => client.policies.map(({ table }) => table)

describe("nsmgr, changing what stands", () => {
  it("saves what it is about to do, and after a crash takes both the old and the new for its own", () => {
    const { commands, manager } = changing()
    assert.deepStrictEqual(tags(commands), ["SaveRecord", "Plumb"])
    const { record } = manager.find("SaveRecord")
    const { cross, previous } = manager.find("Plumb")
    assert.deepStrictEqual([record.cross, record.changing], [previous, cross])

    const after = play([record])
    const adopt = after.find("Adopt")
    assert.deepStrictEqual(adopt.cross, previous)
    assert.deepStrictEqual(adopt.previous.client.policies, cross.client.policies)
    assert.deepStrictEqual(tags(after.settle("Adopt")), ["WatchEndpoint", "WatchLink", "SaveRecord"])
    assert.isUndefined(after.find("SaveRecord").record.changing)
  })

  it("saves nothing twice when a refresh changes nothing", () => {
    const manager = standing()
    manager.send(ask(2))
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint")), ["Plumb"])
  })

  it("keeps what stood when the change was refused before it began", () => {
    const { manager } = changing()
    const { previous } = manager.find("Plumb")
    assert.deepStrictEqual(tags(manager.settle("Plumb", 1)), ["SaveRecord", "Reply"])
    manager.send(close(3))
    manager.settle("CloseEndpoint")
    assert.deepStrictEqual(manager.find("Unplumb").cross, previous)
  })

  it("removes both the old and the new when the change broke off", () => {
    const { manager } = changing()
    const { cross } = manager.find("Plumb")
    manager.settle("Plumb", 2)
    manager.send(close(3))
    manager.settle("CloseEndpoint")
    assert.deepStrictEqual(manager.find("Unplumb").cross.client.policies, cross.client.policies)
  })

  it("takes no table along to another namespace, where it may be another connection's", () => {
    const { manager } = changing()
    manager.settle("Plumb")
    const there = manager.find("Plumb").cross
    const moved = Model.kernelMechanism("inode://4/9", "nsm-0")
    // The other connection has the lowest table there.
    const { connection } = manager.find("SaveRecord").record
    manager.send({
      _tag: "RequestRequested",
      reply: 3,
      freshId: "m3",
      connection: other(connection),
      preferences: [moved]
    })
    manager.settle("RequestEndpoint")
    manager.settle("Plumb")
    assert.deepStrictEqual(tablesOf(manager.find("Plumb").cross), tablesOf(there))
    manager.send({
      _tag: "RequestRequested",
      reply: 4,
      freshId: "m4",
      connection: mine(connection),
      preferences: [moved]
    })
    manager.settle("RequestEndpoint")
    assert.notDeepEqual(tablesOf(manager.find("Plumb").cross), tablesOf(there))
  })
})
