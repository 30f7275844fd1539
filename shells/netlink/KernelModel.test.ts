/**
 * The kernel and the model of it, step by step over the same operations.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import { Cidr, Ip, Kernel } from "../../core/net/index.ts"
import * as KernelModel from "../../property-tests/kernel/KernelModel.ts"
import * as Namespace from "./Namespace.ts"
import * as Netlink from "./Netlink.ts"
import * as Sysctl from "./Sysctl.ts"

const ports = ["p0", "p1"]
const bridges = ["br0", "br1"]
const links = [...bridges, ...ports, "r0"]

const route = (destination: string, table: number, metric: number, hops: ReadonlyArray<Kernel.NextHop>) => {
  const cidr = Cidr.unsafe(destination)
  const shared = { family: Cidr.family(cidr), table, destination: cidr, metric, protocol: 4, onlink: false }
  const unicast = (onlink: boolean): Kernel.Route => ({ ...shared, type: "unicast", hops, onlink })
  return hops.length > 0 ? unicast(false) : { ...shared, type: "unreachable" as const, hops }
}

const networkOf = (link: string): number => links.indexOf(link)

const addressesOf = (link: string): ReadonlyArray<Cidr.Cidr> => {
  const n = networkOf(link)
  return [`10.${n}.0.1/24`, `10.${n}.0.2/24`, `20.0.0.${n + 1}/32`, `fd00:${n}::1/64`, `2000::${n + 1}/128`].map(
    Cidr.unsafe
  )
}

const gateway4 = (link: string, host: number): Kernel.NextHop => ({
  link,
  via: Ip.unsafe(`10.${networkOf(link)}.0.${host}`)
})
const gateway6 = (link: string, host: number): Kernel.NextHop => ({
  link,
  via: Ip.unsafe(`fd00:${networkOf(link)}::${host}`)
})

const hopSets = links.flatMap((link): ReadonlyArray<ReadonlyArray<Kernel.NextHop>> => [
  [gateway4(link, 8)],
  [gateway4(link, 8), gateway4(link, 9)],
  [gateway4(link, 8), gateway4("p0", 8)],
  [{ link }]
])
const hopSets6 = links.flatMap((link): ReadonlyArray<ReadonlyArray<Kernel.NextHop>> => [
  [gateway6(link, 8)],
  [gateway6(link, 8), gateway6(link, 9)],
  [gateway6(link, 8), gateway6("p0", 8)],
  [{ link }]
])

const routes: ReadonlyArray<Kernel.Route> = [
  ...[[], ...hopSets].map((hops) => route("0.0.0.0/0", 1, 0, hops)),
  ...hopSets.slice(0, 6).map((hops) => route("30.0.0.0/24", 4096, 7, hops)),
  route("0.0.0.0/0", 1, 4294967295, []),
  { ...route("30.0.1.0/24", 1, 0, [{ link: "br0", via: Ip.unsafe("10.77.0.1") }]), onlink: true },
  route("30.0.2.0/24", 1, 0, [{ via: Ip.unsafe("10.0.0.8") }]),
  ...[[], ...hopSets6].map((hops) => route("::/0", 1, 1024, hops)),
  ...hopSets6.slice(0, 6).map((hops) => route("3000::/64", 4096, 7, hops)),
  route("::/0", 1, 4294967295, [])
]

const rules: ReadonlyArray<Kernel.Rule> = [
  { family: "v4", priority: 100, table: 5, from: Cidr.unsafe("20.0.0.1/32"), foreign: false },
  { family: "v4", priority: 100, table: 5, from: Cidr.unsafe("20.0.0.1/32"), mark: 7, foreign: false },
  { family: "v4", priority: 100, table: 5, foreign: false },
  { family: "v4", priority: 100, table: 4096, mark: 7, foreign: false },
  { family: "v4", priority: 100, table: 5, iif: "br0", foreign: false },
  { family: "v4", priority: 100, table: 5, mark: 7, mask: 15, foreign: false },
  { family: "v4", priority: 100, table: 5, mark: 0, mask: Kernel.wholeMark, inverted: true, foreign: false },
  { family: "v4", priority: 100, table: 0, mark: 7, mask: 15, inverted: true, goto: 101, foreign: false },
  { family: "v4", priority: 100, table: 0, mark: 0, mask: 15, inverted: true, goto: 102, foreign: false },
  { family: "v6", priority: 100, table: 0, goto: 101, foreign: false },
  { family: "v4", priority: 100, table: 5, traffic: { protocol: 6 }, foreign: false },
  {
    family: "v4",
    priority: 100,
    table: 5,
    from: Cidr.unsafe("20.0.0.1/32"),
    traffic: { protocol: 6, destinationPorts: { first: 80, last: 90 } },
    foreign: false
  },
  { family: "v6", priority: 101, table: 4097, traffic: { sourcePorts: { first: 7, last: 7 } }, foreign: false },
  { family: "v6", priority: 101, table: 4097, iif: "br0", foreign: false },
  { family: "v4", priority: 101, table: 1, from: Cidr.unsafe("20.0.0.2/32"), foreign: false },
  { family: "v6", priority: 101, table: 4097, from: Cidr.unsafe("2000::1/128"), foreign: false }
]

const forLink = (link: string): ReadonlyArray<Kernel.Operation> => [
  { _tag: "SetLinkUp", link, up: true },
  { _tag: "SetLinkUp", link, up: true },
  { _tag: "SetLinkUp", link, up: false },
  { _tag: "SetLinkMtu", link, mtu: 1400 },
  { _tag: "SetLinkMac", link, mac: "02:00:00:00:00:77" },
  { _tag: "SetLinkAlias", link, alias: "sluice" },
  { _tag: "DeleteLink", link },
  ...[undefined, ...bridges].map((master): Kernel.Operation => ({
    _tag: "SetLinkMaster",
    link,
    ...master !== undefined && { master }
  })),
  ...addressesOf(link).flatMap((cidr): ReadonlyArray<Kernel.Operation> => [
    { _tag: "AddAddress", link, cidr },
    { _tag: "AddAddress", link, cidr },
    { _tag: "DeleteAddress", link, cidr }
  ]),
  ...[gateway4(link, 8), gateway6(link, 8)].flatMap(({ via }): ReadonlyArray<Kernel.Operation> =>
    via === undefined ? [] : [
      { _tag: "ReplaceNeighbour", neighbour: { link, ip: via, mac: "02:00:00:00:00:88", permanent: true } },
      { _tag: "DeleteNeighbour", link, ip: via }
    ]
  )
]

/** Every operation that a list is made of; those that build come more than once. */
const operations: ReadonlyArray<Kernel.Operation> = [
  ...bridges.map((name): Kernel.Operation => ({ _tag: "AddBridge", name, mac: "02:00:00:00:00:01" })),
  ...links.flatMap(forLink),
  ...routes.flatMap((route): ReadonlyArray<Kernel.Operation> => [
    { _tag: "ReplaceRoute", route },
    { _tag: "ReplaceRoute", route },
    { _tag: "DeleteRoute", route }
  ]),
  ...rules.flatMap((
    rule
  ): ReadonlyArray<Kernel.Operation> => [{ _tag: "AddRule", rule }, { _tag: "DeleteRule", rule }]),
  { _tag: "RenameLink", link: "p0", name: "r0" },
  { _tag: "RenameLink", link: "r0", name: "p0" },
  { _tag: "RenameLink", link: "p0", name: "p1" }
]

/** Where every list starts from: two bridges and a port, up and with addresses. */
const beginning: ReadonlyArray<Kernel.Operation> = [
  { _tag: "AddBridge", name: "br0", mac: "02:00:00:00:00:01" },
  { _tag: "AddBridge", name: "br1", mac: "02:00:00:00:00:02" },
  ...["br0", "br1", "p0"].flatMap((link): ReadonlyArray<Kernel.Operation> => [
    { _tag: "SetLinkUp", link, up: true },
    ...addressesOf(link).filter((_, i) => i !== 1).map((cidr): Kernel.Operation => ({ _tag: "AddAddress", link, cidr }))
  ])
]

/** What both know, as lines in an order of its own. */
const view = (snapshot: Kernel.Snapshot): ReadonlyArray<string> =>
  sorted([
    ...snapshot.links.map((link) => ({ ...link, carrier: "?", mtu: link.kind === "bridge" ? "?" : link.mtu })),
    ...snapshot.addresses,
    ...snapshot.rules,
    ...snapshot.routes.filter((route) => route.destination !== "fe80::/64")
      .map((route) => ({ ...route, hops: sorted(route.hops) })),
    ...snapshot.neighbours
  ])

const sorted = (objects: ReadonlyArray<object>): ReadonlyArray<string> =>
  objects.map((object) => JSON.stringify(object, sortKeys)).toSorted()

const sortKeys = (_: string, value: unknown): unknown =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)))
    : value

/** The lines of one that the other lacks. */
const minus = (one: ReadonlyArray<string>, other: ReadonlyArray<string>): string =>
  one.filter((line) => !other.includes(line)).join("\n  ")

/** More for a long search: KERNEL_RUNS=5000. */
const runs = Number(process.env["KERNEL_RUNS"] ?? 100)

let counter = 0

describe("KernelModel", () => {
  it.effect.prop(
    "agrees with the kernel after every operation",
    {
      picks: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: operations.length - 1 }))).check(
        Schema.isMinLength(10)
      )
    },
    ({ picks }) =>
      Effect.scoped(Effect.gen(function*() {
        const run = counter++
        const path = yield* Namespace.scoped(`sl-km-${process.pid}-${run}`)
        const peer = yield* Namespace.scoped(`sl-kp-${process.pid}-${run}`)
        yield* Sysctl.write("net/ipv4/conf/all/promote_secondaries", "0", path)
        yield* Sysctl.write("net/ipv4/conf/default/promote_secondaries", "0", path)
        const netlink = yield* Netlink.make(path)
        const peers = yield* Netlink.make(peer)
        for (const name of ports) {
          yield* netlink.createVeth({ namespace: path, name }, { namespace: peer, name })
          yield* peers.apply([{ _tag: "SetLinkUp", link: name, up: true }])
        }
        yield* netlink.apply(beginning)
        let model = yield* netlink.snapshot
        for (const operation of picks.flatMap((pick) => operations[pick] ?? [])) {
          const told = JSON.stringify(operation)
          const expected = KernelModel.attempt(model, operation)
          const happened = yield* Effect.result(netlink.apply([operation]))
          assert.strictEqual(
            Result.isSuccess(happened),
            Result.isSuccess(expected),
            `${Result.isFailure(happened) ? happened.failure.message : `kernel accepts ${told}`}; model: ${
              Result.isFailure(expected) ? expected.failure : "accepts"
            }`
          )
          model = Result.getOrElse(expected, () => model)
          const [seen, thought] = [view(yield* netlink.snapshot), view(model)]
          assert.deepStrictEqual(
            seen,
            thought,
            `after ${told}\nonly in the kernel:\n  ${minus(seen, thought)}\nonly in the model:\n  ${
              minus(thought, seen)
            }\n`
          )
        }
      })),
    { arbitrary: { runs, size: 60, concurrency: 2 }, timeout: 600_000 }
  )
})
