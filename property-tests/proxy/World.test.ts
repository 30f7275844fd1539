import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { Cidr, Ip, Kernel } from "../../core/net/index.ts"
import { Model } from "../../core/proxy/index.ts"
import * as World from "./World.ts"

const Move = Schema.Struct({
  kind: Schema.Literals([
    "succeed",
    "succeed",
    "succeed",
    "succeed",
    "succeed",
    "succeed",
    "fail",
    "sleep",
    "sleep",
    "endpoints",
    "vips",
    "request",
    "request",
    "abandon",
    "collect",
    "collect",
    "close",
    "change",
    "meddle"
  ]),
  place: Schema.Natural,
  n: Schema.Literals([1, 2, 3]),
  set: Schema.Array(Schema.Literals([1, 2, 3])).check(Schema.isMaxLength(3)),
  up: Schema.Boolean
})
type Move = typeof Move.Type

const moves = Arbitrary.array(Arbitrary.schema(Move), { maxLength: 150 })
const options = { arbitrary: { runs: 250, size: 150 }, timeout: 120_000 }

const troubles: ReadonlyArray<Kernel.Operation> = [
  { _tag: "SetLinkUp", link: "bridge0", up: false },
  { _tag: "DeleteLink", link: "bridge0" },
  { _tag: "DeleteAddress", link: "bridge0", cidr: Cidr.unsafe("172.16.0.1/20") }
]

const play = (world: World.World, { kind, n, place, set, up }: Move): void => {
  switch (kind) {
    case "succeed":
      return world.answer(place, true)
    case "fail":
      return world.answer(place, false)
    case "sleep":
      return world.sleep((place % 40) * 1_000)
    case "endpoints":
      return world.setEndpoints([...new Set(set)].map((n) => `lb-${n}`))
    case "vips":
      return world.setVips(
        [...new Set(set)].flatMap((n) => [Cidr.unsafe(`20.0.0.${n}/32`), Cidr.unsafe(`2000::${n}/128`)])
      )
    case "request":
      return world.request(n)
    case "abandon":
      return world.abandon()
    case "collect":
      return world.collect()
    case "close":
      return world.close(n)
    case "change":
      return world.change(`lb-${n}`, up)
    case "meddle":
      return world.meddle(troubles[(n - 1) % troubles.length] ?? { _tag: "DeleteLink", link: "bridge0" })
  }
}

/** What holds at any time. */
const check = (world: World.World): void => {
  const allocated = world.allocated()
  const { families } = World.settings
  const connected = world.links().filter(({ phase }) => phase._tag === "Connected")
  const inUse = [
    ...[...connected.map(({ id }) => id), ...world.connections().keys()]
      .flatMap((id) => Model.pairChildren(id, families)),
    ...[...new Set([...world.clients().values()].map(({ client }) => client))]
      .flatMap((client) => Model.pairChildren(client, families))
  ]
  for (const { family, name } of inUse) {
    assert.isTrue(allocated.has(`${family} ${name}`), `${family} ${name} is in use, so it is not released`)
  }
  assert.strictEqual(world.hasEgress(), connected.some(({ phase }) => phase._tag === "Connected" && phase.up))
  const bridge = Model.bridgeChildren(families).map(({ family, name }) => allocated.get(`${family} ${name}`))
  for (const [id, ip] of world.answers()) {
    assert.sameMembers([...ip.extraPrefixes], bridge, `${id} has one gateway of each family`)
    const all = [...ip.srcAddrs, ...ip.dstAddrs]
    assert.lengthOf(all, 2 * families.length, `${id} has one address of each family at each end`)
    assert.strictEqual(new Set([...all, ...bridge]).size, all.length + bridge.length)
  }
}

/** What holds once nothing fails any more and everything was answered. */
const checkEnd = (
  world: World.World,
  endpoints: ReadonlyArray<string>,
  strangers: ReadonlyArray<string> = []
): void => {
  const { families } = World.settings
  const ids = endpoints.map((name) => `proxy-1-conduit-a.t.red-${name}`)
  assert.sameMembers(world.links().map(({ id }) => id), ids)
  assert.sameMembers([...world.connections().keys()], ids, "no connection is left behind")
  const clients = new Set([...world.clients().values()].map(({ client }) => client))
  const children = [
    ...Model.bridgeChildren(families),
    ...[...ids, ...clients].flatMap((id) => Model.pairChildren(id, families))
  ]
  assert.sameMembers([...world.allocated().keys()], [
    ...children.map(({ family, name }) => `${family} ${name}`),
    ...strangers
  ])

  const { links, routes, rules } = world.kernel()
  const up = world.links().filter(({ phase }) => phase._tag === "Connected" && phase.up).map(({ id }) => id)
  for (const family of Ip.families) {
    const expected = up.map((id) => world.allocated().get(`${family} ${id}-src`)).map((address) =>
      address === undefined ? "" : String(Cidr.ip(address))
    )
    const hops = routes.filter((route) => route.family === family && route.table === 1 && route.type === "unicast")
      .flatMap(({ hops }) => hops.map(({ via }) => String(via)))
    assert.sameMembers(hops, expected, "the next hops are the load balancers")
  }
  assert.sameMembers(rules.flatMap(({ from }) => from ?? []), [...world.vips()])
  const ports = links.filter(({ master }) => master === "bridge0").map(({ name }) => name)
  assert.lengthOf(ports, up.length + world.clients().size, "every live connection is a port, and nothing else")
}

describe("A proxy in its world", () => {
  it.prop(
    "I8 I9 I11: keeps its promises at any time, and has what it should have in the end",
    { moves },
    ({ moves }) => {
      const world = World.make()
      world.setVips([])
      world.setEndpoints([])
      for (const move of moves) {
        play(world, move)
        check(world)
      }
      world.abandon()
      world.settle()
      check(world)
      checkEnd(world, world.endpoints())
    },
    options
  )

  it.prop("leaves only targets and the bridge behind when it ends", { moves, late: moves }, ({ late, moves }) => {
    const world = World.make()
    world.setVips([])
    for (const move of moves) play(world, move)
    world.collect()
    const clients = [...world.clients().values()].map(({ client }) => client)
    world.shutDown()
    // Everything is answered before the deadline of the shutdown.
    for (const move of late.filter(({ kind }) => kind !== "sleep")) play(world, move)
    world.settle()
    assert.strictEqual(world.state().phase._tag, "Closed")
    assert.isFalse(world.hasEgress())
    assert.lengthOf([...world.connections().keys()], 0)
    const owners = new Set(
      [...world.allocated().keys()].map((key) => key.replace(/^v\d /, "").replace(/-(src|dst)$/, ""))
    )
    assert.includeMembers(["bridge", ...clients], [...owners], "load balancers' addresses are released")
  }, options)

  it("moves everything to new addresses when the IPAM has lost its data", () => {
    const world = World.make()
    world.setVips([Cidr.unsafe("20.0.0.1/32")])
    world.setEndpoints(["lb-1", "lb-2"])
    world.settle()
    world.request(1)
    world.settle()
    checkEnd(world, ["lb-1", "lb-2"])
    const before = new Set(world.allocated().values())
    world.forget()
    world.sleep(World.settings.renewMs)
    world.settle()
    world.request(1)
    world.settle()
    check(world)
    checkEnd(world, ["lb-1", "lb-2"], ["v4 stranger", "v6 stranger"])
    assert.notDeepEqual(new Set(world.allocated().values()), before)
  })

  it("converges with 200 targets and 20 load balancers, and touches each port once", () => {
    const world = World.make()
    world.setVips([Cidr.unsafe("20.0.0.1/32"), Cidr.unsafe("2000::1/128")])
    const names = Array.from({ length: 20 }, (_, n) => `lb-${n}`)
    world.setEndpoints(names)
    world.settle()
    for (let n = 0; n < 200; n++) world.request(n, `target-${n}`)
    world.settle()
    check(world)
    checkEnd(world, names)
    assert.isBelow(world.applied(), 300, "220 ports, 2 rules, 4 routes that grow, the bridge and its addresses")

    // One less of each: its port leaves by itself, and each route is replaced once.
    const before = world.applied()
    world.setEndpoints(names.slice(1))
    world.close(7)
    world.settle()
    checkEnd(world, names.slice(1))
    assert.isAtMost(world.applied() - before, 4)
  })

  it("takes ports off the bridge that no connection knows, but not before each could be heard of again", () => {
    const world = World.make()
    world.setVips([])
    world.setEndpoints(["lb-1"])
    world.settle()
    world.addLink("old-1")
    world.meddle({ _tag: "SetLinkMaster", link: "old-1", master: "bridge0" })
    const isPort = () => world.kernel().links.some(({ master, name }) => name === "old-1" && master === "bridge0")
    world.settle()
    assert.isTrue(isPort())
    world.sleep(World.settings.tokenLifetimeMs)
    world.settle()
    assert.isFalse(isPort())
  })
})
