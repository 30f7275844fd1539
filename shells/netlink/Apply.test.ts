import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Cidr, Ip, type Kernel } from "../../core/net/index.ts"
import * as Namespace from "./Namespace.ts"
import * as Netlink from "./Netlink.ts"

let counter = 0

const world = Effect.gen(function*() {
  const netlink = yield* Netlink.make(yield* Namespace.scoped(`sl-ap-${process.pid}-${counter++}`))
  yield* netlink.apply([
    { _tag: "AddBridge", name: "br", mac: "02:00:00:00:00:01" },
    { _tag: "SetLinkUp", link: "br", up: true },
    { _tag: "AddAddress", link: "br", cidr: Cidr.unsafe("172.16.0.1/24") }
  ])
  return netlink
})

const rule = (n: number, mark?: number): Kernel.Rule => ({
  family: n % 3 === 0 ? "v6" : "v4",
  priority: 100,
  table: 1,
  from: Cidr.unsafe(n % 3 === 0 ? `2000::${n}/128` : `20.0.0.${n}/32`),
  ...(mark === undefined ? {} : { mark }),
  foreign: false
})

const route = (n: number, metric: number): Kernel.Route => ({
  family: "v4",
  table: 1,
  destination: Cidr.unsafe(`30.0.0.${n}/32`),
  type: "unicast",
  metric,
  hops: [{ via: Ip.unsafe("172.16.0.2"), link: "br" }],
  protocol: 3,
  onlink: false
})

const host = (n: number): Cidr.Cidr => Cidr.unsafe(`20.0.${n >> 8}.${n & 255}/32`)

const bridge: ReadonlyArray<Kernel.Operation> = [
  { _tag: "AddBridge", name: "br2", mac: "02:00:00:00:00:02" },
  { _tag: "SetLinkUp", link: "br2", up: true }
]

/** Operations that succeed in any order, in groups: after some of them what was read before is not true any more. */
const groups: ReadonlyArray<ReadonlyArray<Kernel.Operation>> = [
  ...[1, 2, 3].flatMap((n): ReadonlyArray<ReadonlyArray<Kernel.Operation>> => [
    [{ _tag: "AddRule", rule: rule(n) }],
    [{ _tag: "DeleteRule", rule: rule(n) }],
    [{ _tag: "ReplaceRoute", route: route(n, 0) }],
    [{ _tag: "ReplaceRoute", route: route(n, 7) }],
    [{ _tag: "DeleteRoute", route: route(n, 0) }]
  ]),
  // The rule with the mark stands behind the one without, or alone.
  [{ _tag: "DeleteRule", rule: rule(1) }, { _tag: "DeleteRule", rule: rule(1, 5) }],
  [{ _tag: "DeleteRule", rule: rule(1, 5) }, { _tag: "AddRule", rule: rule(1) }, {
    _tag: "AddRule",
    rule: rule(1, 5)
  }, { _tag: "DeleteRule", rule: rule(1, 5) }],
  // All routes go, and none returns.
  [{ _tag: "SetLinkUp", link: "br", up: false }, { _tag: "SetLinkUp", link: "br", up: true }],
  // The link is another one under the same name.
  [...bridge, { _tag: "DeleteLink", link: "br2" }, ...bridge],
  [...bridge, { _tag: "RenameLink", link: "br2", name: "br3" }, ...bridge, { _tag: "DeleteLink", link: "br3" }]
]

describe("A list of operations", () => {
  it.effect.prop(
    "ends where the operations end that are applied one by one",
    {
      picks: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: groups.length - 1 }))).check(
        Schema.isMinLength(10)
      )
    },
    ({ picks }) =>
      Effect.scoped(Effect.gen(function*() {
        const [one, other] = [yield* world, yield* world]
        const operations = picks.flatMap((pick) => groups[pick] ?? [])
        yield* one.apply(operations)
        for (const operation of operations) yield* other.apply([operation])
        const [atOnce, singly] = [yield* one.snapshot, yield* other.snapshot]
        assert.deepStrictEqual(atOnce.rules, singly.rules)
        assert.deepStrictEqual(atOnce.routes, singly.routes)
        assert.deepStrictEqual(atOnce.links, singly.links)
      })),
    { arbitrary: { runs: 20, size: 60 }, timeout: 120_000 }
  )

  it.live("of a thousand deletes the meant ones only", () =>
    Effect.scoped(Effect.gen(function*() {
      const { apply, snapshot } = yield* world
      const rules = Array.from({ length: 1_000 }, (_, n): Kernel.Rule => ({ ...rule(1), from: host(n) }))
      const routes = Array.from({ length: 1_000 }, (_, n): Kernel.Route => ({ ...route(1, 0), destination: host(n) }))
      yield* apply([
        ...rules.map((rule): Kernel.Operation => ({ _tag: "AddRule", rule })),
        ...routes.flatMap((route): ReadonlyArray<Kernel.Operation> => [
          { _tag: "ReplaceRoute", route },
          { _tag: "ReplaceRoute", route: { ...route, metric: 7 } }
        ])
      ])
      yield* apply([
        ...rules.slice(1).map((rule): Kernel.Operation => ({ _tag: "DeleteRule", rule })),
        ...[...routes, ...routes].map((route): Kernel.Operation => ({ _tag: "DeleteRoute", route }))
      ])
      const after = yield* snapshot
      assert.deepStrictEqual(after.rules.filter(({ table }) => table === 1), rules.slice(0, 1))
      const left = after.routes.filter(({ table }) => table === 1)
      assert.deepStrictEqual([left.length, new Set(left.map(({ metric }) => metric))], [1_000, new Set([7])])
    })))

  it.live("says why the kernel refused, in its words", () =>
    Effect.scoped(Effect.gen(function*() {
      const { apply } = yield* world
      const far = { ...route(1, 0), hops: [{ via: Ip.unsafe("10.9.9.9"), link: "br" }] }
      const refused = yield* Effect.flip(apply([{ _tag: "ReplaceRoute", route: far }]))
      assert.strictEqual(refused.code, "ENETUNREACH")
      assert.match(refused.detail, /^network is unreachable: Nexthop has invalid gateway\.?$/)
    })))
})
