/**
 * Decides the policy rules and blackholes that keep what the VIPs send on the way to the gateways, and nowhere else.
 *
 * For each VIP: priority 100 looks table N up (BIRD fills it with what the gateways announce), priority 101 looks table
 * N+1 up, which holds a blackhole default, so that without a gateway nothing leaks into the primary network.
 *
 * 1. At no point of a plan is there a rule of a VIP of a family without the blackhole of that family (when wanted).
 * 2. The rule of 101 exists before the one of 100 and leaves after it: there is no moment when the main table is next.
 *    Those of 101 come before all others, so that every VIP is guarded as early as can be.
 * 3. Rules at the two priorities into the two tables are ours: those of VIPs of an earlier life are removed.
 * 4. Other priorities, other tables, and rules with selectors we never use are not touched.
 *
 * Source: Meridio service.go setVIPRules. There BIRD makes the blackhole, which leaves windows at the first VIP, at the
 * removal of a VIP and at the end; here the kernel has it from before the first rule until after the last, and a VIP
 * that was removed keeps the rule of 101 alone for a while.
 */
import { Schema } from "effect"
import { Cidr, Ip, Kernel } from "../net/index.ts"
import * as Plan from "../Plan.ts"
import { familiesOf } from "./Model.ts"

export const Desired = Schema.Struct({
  vips: Schema.Array(Cidr.Cidr),
  /** Former VIPs whose egress is dropped, if there is a blackhole. */
  guarded: Schema.Array(Cidr.Cidr),
  /** Table N; N+1 is used too. */
  table: Schema.Natural,
  blackhole: Schema.Boolean
})
export type Desired = typeof Desired.Type

/** The rule that leads to the gateways, and the one that leads into the blackhole. */
export const priorities = { gateways: 100, blackhole: 101 } as const

/** The blackhole of a family: the last of all defaults of table N+1. */
export const blackholeOf = (family: Ip.Family, table: number): Kernel.Route => ({
  family,
  table: table + 1,
  destination: Cidr.defaultRoute(family),
  type: "blackhole",
  metric: 4_294_967_295,
  hops: [],
  protocol: 4,
  onlink: false
})

/** The rules of a VIP in the order of their creation. */
export const rulesOf = (vip: Cidr.Cidr, table: number): readonly [Kernel.Rule, Kernel.Rule] => {
  const common = { family: Cidr.family(vip), from: vip, foreign: false }
  return [
    { ...common, priority: priorities.blackhole, table: table + 1 },
    { ...common, priority: priorities.gateways, table }
  ]
}

/** Lists the operations, blackholes first when they come and last when they go. */
export const plan = (desired: Desired, observed: Kernel.Snapshot): ReadonlyArray<Kernel.Operation> => {
  const { table } = desired
  const vips = desired.vips.toSorted(Cidr.compare)
  const guarded = desired.blackhole ? desired.guarded.toSorted(Cidr.compare).filter((vip) => !vips.includes(vip)) : []
  const wanted = [
    ...[...new Set(vips)].flatMap((vip) => rulesOf(vip, table)),
    ...[...new Set(guarded)].map((vip) => rulesOf(vip, table)[0])
  ]
  const present = observed.rules.filter((rule) => isOurs(rule, table))
  const families = familiesOf([...vips, ...guarded])
  const holes = observed.routes.filter((route) => isBlackhole(route, table))
  return [
    ...(desired.blackhole ? families : [])
      .filter((family) => !holes.some((hole) => hole.family === family && hole.type === "blackhole"))
      .map((family) => ({ _tag: "ReplaceRoute", route: blackholeOf(family, table) }) as const),
    ...wanted.filter((rule) => !present.some((other) => isSame(rule, other)))
      .toSorted((a, b) => b.priority - a.priority)
      .map((rule) => ({ _tag: "AddRule", rule }) as const),
    ...present.filter((rule) => !wanted.some((other) => isSame(rule, other)))
      .toSorted((a, b) => a.priority - b.priority || compareFrom(a, b))
      .map((rule) => ({ _tag: "DeleteRule", rule }) as const),
    ...holes.filter((hole) => !desired.blackhole || !families.includes(hole.family))
      .map((route) => ({ _tag: "DeleteRoute", route }) as const)
  ]
}

export const rules = Plan.make({ name: "frontend", plan })

const isOurs = (rule: Kernel.Rule, table: number): boolean =>
  !rule.foreign && rule.mark === undefined && rule.iif === undefined && rule.traffic === undefined &&
  (rule.priority === priorities.gateways || rule.priority === priorities.blackhole) &&
  (rule.table === table || rule.table === table + 1)

/** Whether it stands where our blackhole stands, whatever it is. */
const isBlackhole = (route: Kernel.Route, table: number): boolean =>
  route.table === table + 1 && route.metric === 4_294_967_295 &&
  route.destination === Cidr.defaultRoute(route.family)

const isSame = (a: Kernel.Rule, b: Kernel.Rule): boolean =>
  a.family === b.family && a.priority === b.priority && a.table === b.table && a.from === b.from

const compareFrom = (a: Kernel.Rule, b: Kernel.Rule): number =>
  a.from === undefined || b.from === undefined
    ? Number(a.from !== undefined) - Number(b.from !== undefined)
    : Cidr.compare(a.from, b.from)
