import { assert, describe, it } from "@effect/vitest"
import { ask, client, close, play, standing, tags } from "../../property-tests/nsm/Scenario.ts"
import * as Cidr from "../net/Cidr.ts"
import type * as Cross from "./Cross.ts"
import * as Model from "./Model.ts"

const vip = Cidr.unsafe("20.0.0.1/32")

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
