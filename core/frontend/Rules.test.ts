import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { planLaws } from "../../property-tests/laws/PlanLaws.ts"
import { Cidr, Kernel } from "../net/index.ts"
import * as Rules from "./Rules.ts"

const vips = ["20.0.0.1/32", "20.0.0.2/32", "40.0.0.0/24", "2000::1/128", "2000::2/128"].map(Cidr.unsafe)
const table = 4096

const someVips = Arbitrary.map(
  Arbitrary.schema(Schema.Array(Schema.Literals([0, 1, 2, 3, 4]))),
  (indexes) => [...new Set(indexes)].flatMap((index) => vips[index] ?? [])
)

const desired: Arbitrary.Arbitrary<Rules.Desired> = Arbitrary.map(
  Arbitrary.all({ vips: someVips, guarded: someVips, blackhole: Arbitrary.schema(Schema.Boolean) }),
  (wish) => ({ ...wish, table })
)

const holes = [Rules.blackholeOf("v4", table), Rules.blackholeOf("v6", table)]

// Rules of an earlier life, of others at other places, and of others at ours with selectors we never use.
const possibleRules: ReadonlyArray<Kernel.Rule> = [
  ...vips.flatMap((vip) => Rules.rulesOf(vip, table)),
  ...vips.flatMap((vip) => Rules.rulesOf(vip, 5000)),
  ...Rules.rulesOf(Cidr.unsafe("30.0.0.1/32"), table),
  { family: "v4", priority: 100, table, foreign: false },
  { family: "v4", priority: 100, table: table + 1, from: Cidr.unsafe("20.0.0.1/32"), foreign: false },
  { family: "v4", priority: 90, table, from: Cidr.unsafe("20.0.0.1/32"), foreign: false },
  { family: "v4", priority: 100, table, foreign: true },
  { family: "v4", priority: 101, table, mark: 5, foreign: false },
  { family: "v6", priority: 32_766, table: 254, foreign: false }
]

const possibleRoutes: ReadonlyArray<Kernel.Route> = [
  ...holes,
  ...holes.map((hole) => ({ ...hole, metric: 32, protocol: 12 })),
  ...holes.map((hole) => ({ ...hole, type: "unicast", hops: [{ link: "lo" }] }) as const),
  ...holes.map((hole) => ({ ...hole, table: 7 }))
]

const chosen = <A>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<ReadonlyArray<A>> =>
  Arbitrary.map(
    Arbitrary.schema(Schema.Array(Schema.Natural)),
    (picks) => values.filter((_, i) => picks.some((pick) => pick % values.length === i))
  )

const observed: Arbitrary.Arbitrary<Kernel.Snapshot> = Arbitrary.map(
  Arbitrary.all({ rules: chosen(possibleRules), routes: chosen(possibleRoutes) }),
  ({ routes, rules }) => ({
    ...Kernel.empty,
    rules,
    // One route for each family, table, destination and metric, as in the kernel.
    routes: routes.filter((route, i) => routes.findIndex((other) => sameRoute(route, other)) === i)
  })
)

const sameRoute = (a: Kernel.Route, b: Kernel.Route): boolean =>
  a.family === b.family && a.table === b.table && a.destination === b.destination && a.metric === b.metric

const isOurRule = ({ foreign, mark, priority, table: to }: Kernel.Rule): boolean =>
  !foreign && mark === undefined && (priority === 100 || priority === 101) && (to === table || to === table + 1)

const isOurRoute = ({ metric, table: to }: Kernel.Route): boolean => to === table + 1 && metric === 4_294_967_295

const apply = (world: Kernel.Snapshot, operation: Kernel.Operation): Kernel.Snapshot => {
  const others = (route: Kernel.Route) => world.routes.filter((other) => !sameRoute(route, other))
  switch (operation._tag) {
    case "AddRule":
      return { ...world, rules: [...world.rules, operation.rule] }
    case "DeleteRule":
      return { ...world, rules: world.rules.filter((rule) => rule !== operation.rule) }
    case "ReplaceRoute":
      return { ...world, routes: [...others(operation.route), operation.route] }
    case "DeleteRoute":
      return { ...world, routes: others(operation.route) }
    default:
      return assert.fail(`${operation._tag} is none of its business`)
  }
}

const text = (values: ReadonlyArray<unknown>): ReadonlyArray<string> =>
  values.map((value) => JSON.stringify(value)).toSorted()

planLaws(Rules.rules, {
  desired,
  observed,
  apply,
  outcome: ({ routes, rules }) => text([...rules.filter(isOurRule), ...routes.filter(isOurRoute)]),
  foreign: ({ routes, rules }) =>
    text([...rules.filter((rule) => !isOurRule(rule)), ...routes.filter((route) => !isOurRoute(route))]),
  permute: (wish) => ({ ...wish, vips: wish.vips.toReversed(), guarded: wish.guarded.toReversed() })
})

const hasHole = (world: Kernel.Snapshot, rule: Kernel.Rule): boolean =>
  world.routes.some((route) => route.family === rule.family && isOurRoute(route) && route.type === "blackhole")

describe("The plan of the rules", () => {
  it.prop("9: never leaves a rule of a VIP without a blackhole", { desired, observed }, ({ desired, observed }) => {
    let world = observed
    for (const operation of Rules.plan({ ...desired, blackhole: true }, observed)) {
      const added = operation._tag === "AddRule" ? [operation.rule] : []
      const before = world.rules.filter((rule) => isOurRule(rule) && hasHole(world, rule))
      world = apply(world, operation)
      for (const rule of [...added, ...before.filter((rule) => world.rules.includes(rule))]) {
        assert.isTrue(hasHole(world, rule), `${operation._tag} leaves ${JSON.stringify(rule)} without a blackhole`)
      }
    }
  })

  it.prop("8: ends with two rules for each VIP, one for each former one, and no other", { desired, observed }, (
    { desired, observed }
  ) => {
    const world = Rules.plan(desired, observed).reduce(apply, observed)
    const rules = world.rules.filter(isOurRule)
    const { blackhole, guarded, vips } = desired
    const former = blackhole ? guarded.filter((vip) => !vips.includes(vip)) : []
    assert.deepStrictEqual(
      text(rules),
      text([
        ...vips.flatMap((vip) => Rules.rulesOf(vip, table)),
        ...former.map((vip) => Rules.rulesOf(vip, table)[0])
      ])
    )
    assert.isTrue(rules.every(({ from }) => from !== undefined))
  })
})
