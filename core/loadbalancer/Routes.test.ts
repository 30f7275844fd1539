import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import * as KernelModel from "../../property-tests/kernel/KernelModel.ts"
import { planLaws } from "../../property-tests/laws/PlanLaws.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import type * as Kernel from "../net/Kernel.ts"
import * as Routes from "./Routes.ts"
import * as Skips from "./Skips.ts"

const bridge = (name: string, ...cidrs: ReadonlyArray<string>): ReadonlyArray<Kernel.Operation> => [
  { _tag: "AddBridge", name },
  { _tag: "SetLinkUp", link: name, up: true },
  ...cidrs.map((cidr): Kernel.Operation => ({ _tag: "AddAddress", link: name, cidr: Cidr.unsafe(cidr) }))
]

/** Two links to proxies and one outside, as bridges, which are links like any other here. */
const links: Kernel.Snapshot = KernelModel.applyAll(
  { links: [], addresses: [], rules: [], routes: [], neighbours: [] },
  [
    ...bridge("load-balan-a", "172.16.0.3/24", "fd00::3/64"),
    ...bridge("load-balan-b", "172.16.1.3/24", "fd00:0:0:1::3/64"),
    ...bridge("ext", "192.0.2.1/24")
  ]
)

const ips = ["172.16.0.10", "172.16.1.10", "172.16.1.11", "172.16.9.1", "fd00::10", "fd00:0:0:1::10", "fd00:9::1"]
  .map(Ip.unsafe)

const rule = (mark: number, family: Ip.Family, more: Partial<Kernel.Rule> = {}): Kernel.Rule => ({
  family,
  priority: Skips.priorityOf(mark),
  table: mark,
  mark,
  foreign: false,
  ...more
})

const route = (table: number, via: string, link: string, more: Partial<Kernel.Route> = {}): Kernel.Route => {
  const ip = Ip.unsafe(via)
  const family = Ip.family(ip)
  return {
    family,
    table,
    destination: Cidr.defaultRoute(family),
    type: "unicast",
    metric: family === "v4" ? 0 : 1024,
    hops: [{ via: ip, link }],
    protocol: Routes.protocol,
    onlink: false,
    ...more
  }
}

/** What a predecessor, the frontend or an administrator may have left. */
const leftovers: ReadonlyArray<Kernel.Operation> = [
  { _tag: "AddRule", rule: rule(5001, "v4") },
  { _tag: "AddRule", rule: rule(5009, "v6") },
  { _tag: "AddRule", rule: rule(5002, "v4", { priority: 99 }) },
  { _tag: "AddRule", rule: rule(5002, "v4", { table: 7 }) },
  ...Ip.families.map((family): Kernel.Operation => ({
    _tag: "AddRule",
    rule: { family, priority: Skips.first, table: 0, mark: 0, mask: 0xffff_ffff, goto: Skips.last, foreign: false }
  })),
  { _tag: "ReplaceRoute", route: route(5001, "172.16.1.10", "load-balan-b") },
  { _tag: "ReplaceRoute", route: route(5002, "172.16.0.10", "load-balan-a") },
  { _tag: "ReplaceRoute", route: route(5009, "fd00::10", "load-balan-a") },
  { _tag: "ReplaceRoute", route: route(4096, "192.0.2.9", "ext", { protocol: 12 }) },
  {
    _tag: "ReplaceNeighbour",
    neighbour: { link: "load-balan-a", ip: Ip.unsafe("172.16.0.10"), mac: "02:00:00:00:00:09", permanent: false }
  },
  { _tag: "DeleteAddress", link: "load-balan-b", cidr: Cidr.unsafe("172.16.1.3/24") },
  { _tag: "SetLinkUp", link: "load-balan-b", up: false }
]

/** So many that rules which skip others are worth it, beyond the marks of the rest. */
const manyTargets = (count: number): ReadonlyArray<Routes.Target> =>
  Array.from({ length: count }, (_, n) => ({ mark: 5_100 + n, ips: [Ip.unsafe("172.16.0.10")] }))

const indexes = (length: number) =>
  Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: length - 1 })))

const desired: Arbitrary.Arbitrary<Routes.Desired> = Arbitrary.map(
  Arbitrary.all({
    targets: Arbitrary.schema(
      Schema.Array(Schema.Struct({ mark: Schema.Literals([5001, 5002, 5003]), ips: indexes(ips.length) }))
    ),
    keep: Arbitrary.schema(Schema.Literals(["all", "none", "some"])),
    serves: Arbitrary.schema(Schema.Boolean),
    more: Arbitrary.schema(Schema.Literals([0, 0, 5, 20])),
    last: Arbitrary.schema(Schema.Literals([5_008, 9_999]))
  }),
  ({ keep, last, more, serves, targets }) => ({
    range: [5_001, last],
    targets: [
      ...[...new Map(targets.map((target) => [target.mark, target])).values()].map(({ ips: chosen, mark }) => ({
        mark,
        ips: Ip.families.flatMap((family) =>
          chosen.flatMap((index) => ips[index] ?? []).find((ip) => Ip.family(ip) === family) ?? []
        )
      })),
      ...manyTargets(more)
    ],
    keep: keep === "all" ? undefined : new Set(keep === "some" ? [5001, 5009] : []),
    linkPrefix: "load-balan-",
    serves
  })
)

const observed = Arbitrary.map(
  Arbitrary.schema(indexes(leftovers.length)),
  (chosen) => KernelModel.applyAll(links, leftovers.filter((_, index) => chosen.includes(index)))
)

const text = (value: unknown): string => JSON.stringify(value)

planLaws(Routes.plan, {
  desired,
  observed,
  apply: KernelModel.apply,
  outcome: (snapshot) => {
    const { links, routes, rules } = Routes.relevant(snapshot)
    return [routes.map(text).toSorted(), rules.map(text).toSorted(), links]
  },
  foreign: (snapshot) => {
    return [
      snapshot.rules.filter(({ foreign, from, goto, mark, priority, table }) =>
        foreign || from !== undefined || priority >= Skips.last && goto !== 100 || mark !== table && goto === undefined
      ),
      snapshot.routes.filter(({ protocol, table }) => protocol !== Routes.protocol && table !== 254),
      snapshot.links.filter(({ name }) => name === "ext"),
      snapshot.addresses.filter(({ link }) => link === "ext")
    ]
  },
  permute: (desired) => ({ ...desired, targets: desired.targets.toReversed() }),
  safe: ({ routes, rules }) => {
    for (const { family, mark = 0, priority, table } of rules) {
      if (priority >= Skips.last || mark !== table || ![5002, 5003].includes(table)) continue
      assert.isTrue(routes.some((route) => route.table === table && route.family === family), "no rule without a route")
    }
  }
})

const wish = (mark: number, ...texts: ReadonlyArray<string>): Routes.Desired => ({
  targets: [{ mark, ips: texts.map(Ip.unsafe) }],
  range: [5_001, 9_999],
  keep: new Set(),
  linkPrefix: "load-balan-",
  serves: true
})

const skips = ({ rules }: Kernel.Snapshot) => rules.filter(({ goto }) => goto !== undefined)

const after = (count: number, before: Kernel.Snapshot) =>
  KernelModel.applyAll(before, Routes.plan.plan({ ...wish(5_001), targets: manyTargets(count) }, before))

describe("Routes", () => {
  it("routes a target over the link of its network, and calls it ready only then", () => {
    const wanted = wish(5001, "172.16.1.10", "fd00:0:0:1::10")
    assert.isTrue(wanted.targets.every((target) => !Routes.isReady(target, links)))
    const there = KernelModel.applyAll(links, Routes.plan.plan(wanted, links))
    assert.deepStrictEqual(Routes.relevant(there).routes.map(({ family, hops, table }) => [family, table, hops]), [
      ["v4", 5001, [{ via: Ip.unsafe("172.16.1.10"), link: "load-balan-b" }]],
      ["v6", 5001, [{ via: Ip.unsafe("fd00:0:0:1::10"), link: "load-balan-b" }]]
    ])
    assert.isTrue(wanted.targets.every((target) => Routes.isReady(target, there)))
    const cut = KernelModel.apply(there, { _tag: "SetLinkUp", link: "load-balan-b", up: false })
    assert.isTrue(wanted.targets.every((target) => !Routes.isReady(target, cut)))
  })

  it("leaves a target that cannot be reached alone", () => {
    assert.deepStrictEqual(Routes.plan.plan(wish(5001, "172.16.9.1"), links), [])
  })

  it("forgets the neighbour when the target moves", () => {
    const stale = KernelModel.apply(links, {
      _tag: "ReplaceNeighbour",
      neighbour: { link: "load-balan-a", ip: Ip.unsafe("172.16.0.10"), mac: "02:00:00:00:00:09", permanent: false }
    })
    assert.deepStrictEqual(Routes.plan.plan(wish(5001, "172.16.0.10"), stale)[0], {
      _tag: "DeleteNeighbour",
      link: "load-balan-a",
      ip: Ip.unsafe("172.16.0.10")
    })
  })

  it("has the kernel skip rules when there are many, and until the last one is gone", () => {
    const many = after(17, links)
    assert.deepStrictEqual(skips(many), Skips.rules("v4"))
    assert.deepStrictEqual(skips(after(16, links)), [])
    assert.deepStrictEqual(skips(after(1, many)), Skips.rules("v4"))
    assert.deepStrictEqual(after(0, many).rules, [])
    const other = KernelModel.apply(many, { _tag: "AddRule", rule: rule(4_001, "v4") })
    assert.deepStrictEqual(skips(after(0, other)), Skips.rules("v4"))
  })

  it("leaves the marks of other load balancers alone", () => {
    const observed = KernelModel.applyAll(links, leftovers)
    const ours = { ...wish(5_001), targets: [], keep: new Set<number>() }
    const deleted = (range: Routes.Desired["range"]) =>
      Routes.plan.plan({ ...ours, range }, observed).filter(({ _tag }) => _tag.startsWith("Delete")).length
    assert.isAbove(deleted([5_001, 9_999]), 0)
    assert.strictEqual(deleted([6_000, 9_999]), 0)
    assert.strictEqual(deleted([4_000, 5_000]), 0)
  })
})
