/**
 * Decides what the kernel needs so that a packet with the mark of a target reaches the target: per target and family a
 * table of its own, named by the mark, with a default route via the target, and a rule from mark to table.
 *
 * 1. A route names the link on whose network the target lies; a target without such a link gets nothing.
 * 2. A route is there before its rule, and a rule is gone before its route.
 * 3. A new route forgets what the kernel knew of the neighbour: the address may have moved to another pod.
 * 4. Ours are rules of the priorities of `Skips` whose table is their mark, and routes of our protocol, with a mark of our
 *    range; nothing else is touched, but for the links that connect the proxies.
 * 5. The rules of `Skips` come when there are many targets and go with the last one, whose load balancer it ever is.
 *
 * Source: Meridio `pkg/kernel/fwmark.go`. Ours: the priority by the mark (the original lets the kernel count down, so that
 * copies pile up), the link in the route, and the comparison with what is there.
 */
import { Schema } from "effect"
import * as Memo from "../Memo.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import type * as Kernel from "../net/Kernel.ts"
import * as Plan from "../Plan.ts"
import * as Same from "../Same.ts"
import * as Skips from "./Skips.ts"

/** A target: its mark, and at most one address per family. */
export const Target = Schema.Struct({ mark: Schema.Natural, ips: Schema.Array(Ip.Ip) })
export type Target = typeof Target.Type

export interface Desired {
  readonly targets: ReadonlyArray<Target>
  /** Marks that packets may still get, so that their rules and routes stay; undefined for any. */
  readonly keep: ReadonlySet<number> | undefined
  /** The first and the last mark that is ours; other load balancers may use others. */
  readonly range: readonly [first: number, last: number]
  /** What the names of the links to the proxies begin with. */
  readonly linkPrefix: string
  /** Whether the load balancer serves; if not, the links are set down, so that proxies send elsewhere at once. */
  readonly serves: boolean
}

/** RTPROT_*: not used by anybody in iproute2's `rt_protos`. */
export const protocol = 90

/** The part of a namespace that the plan and the fast path look at. */
export const relevant = (snapshot: Kernel.Snapshot): Kernel.Snapshot => ({
  ...snapshot,
  rules: snapshot.rules.filter((rule) => isOurRule(rule) || isSkip(rule) || rule.from !== undefined),
  routes: snapshot.routes.filter((route) => isOurRoute(route) || route.destination === Cidr.defaultRoute(route.family))
})

/** Whether packets with the mark reach the target now. */
export const isReady = (target: Target, observed: Kernel.Snapshot): boolean =>
  target.ips.length > 0 && target.ips.every((ip) => {
    const route = routeOf(target.mark, ip, observed)
    return route !== undefined && hasRoute(observed, route) && hasRule(observed, ruleOf(target.mark, Ip.family(ip)))
  })

const operations = (desired: Desired, before: Kernel.Snapshot): ReadonlyArray<Kernel.Operation> => {
  const down = linksToSetDown(desired, before)
  const observed: Kernel.Snapshot = down.length === 0
    ? before
    : { ...before, links: before.links.map((link) => down.includes(link.name) ? { ...link, up: false } : link) }
  const targets = desired.targets.toSorted((a, b) => a.mark - b.mark)
  const wanted = targets.flatMap(({ ips, mark }) =>
    ips.toSorted(Ip.compare).flatMap((ip) => {
      const route = routeOf(mark, ip, observed)
      return route === undefined ? [] : [{ ip, route, rule: ruleOf(mark, Ip.family(ip)) }]
    })
  )
  const [first, last] = desired.range
  const isKept = (mark: number): boolean =>
    mark < first || mark > last || desired.keep === undefined || desired.keep.has(mark)
  const wantedOf = Map.groupBy(wanted, ({ rule }) => rule.table)
  const isWanted = (rule: Kernel.Rule): boolean =>
    (wantedOf.get(rule.table) ?? []).some((other) => sameRule(other.rule, rule))
  const [stale = [], staying = []] = [true, false].map((isStale) =>
    observed.rules.filter((rule) => isOurRule(rule) && isStale === (!isKept(rule.table) && !isWanted(rule)))
  )
  const skips = skipsFor([...staying, ...wanted.map(({ rule }) => rule)], observed)
  const staleRoutes = observed.routes.filter((route) =>
    isOurRoute(route) && !isKept(route.table)
    && !(wantedOf.get(route.table) ?? []).some((other) => sameIdentity(other.route, route))
  )
  return [
    ...down.map((link) => ({ _tag: "SetLinkUp" as const, link, up: false })),
    ...wanted.filter(({ route }) => !hasRoute(observed, route)).flatMap((
      { ip, route }
    ) => [
      ...neighbours(ip, observed),
      { _tag: "ReplaceRoute" as const, route }
    ]),
    ...wanted.filter(({ rule }) => !hasRule(observed, rule)).map(({ rule }) => ({
      _tag: "AddRule" as const,
      rule
    })),
    ...skips.added.map((rule) => ({ _tag: "AddRule" as const, rule })),
    ...[...stale.toSorted(byTable), ...skips.removed].map((rule) => ({ _tag: "DeleteRule" as const, rule })),
    ...staleRoutes.toSorted(byTable).map((route) => ({ _tag: "DeleteRoute" as const, route }))
  ]
}

export const plan = Plan.make({ name: "loadbalancer", plan: operations })

/** The same; a kernel that did not change, as the same value tells, needs nothing else than the last time. */
export const planFor: (wish: Desired & { readonly observed: Kernel.Snapshot }) => ReadonlyArray<Kernel.Operation> = Memo
  .last(({ targets }) => targets, ({ observed, ...desired }) => operations(desired, observed))

// What is to change of the rules that skip others, when these are the others, some of them twice.
const skipsFor = (targets: ReadonlyArray<Kernel.Rule>, observed: Kernel.Snapshot) => {
  const marks = Map.groupBy(targets, ({ family }) => family)
  const present = observed.rules.filter(isSkip)
  const countOf = (family: Ip.Family): number => new Set(marks.get(family)?.map(({ table }) => table)).size
  const counts = { v4: countOf("v4"), v6: countOf("v6") }
  return {
    added: Ip.families.filter((family) => Skips.areWorth(counts[family])).flatMap((family) => {
      const priorities = new Set(present.filter((rule) => rule.family === family).map(({ priority }) => priority))
      return [...skipsAt[family].values()].filter(({ priority }) => !priorities.has(priority))
    }),
    removed: present.filter(({ family }) => counts[family] === 0)
  }
}

// A link that was set down has lost its IPv6 addresses, so it is not set up again: NSM replaces it.
const linksToSetDown = ({ linkPrefix, serves }: Desired, { links }: Kernel.Snapshot): ReadonlyArray<string> =>
  serves ? [] : links.filter(({ name, up }) => up && name.startsWith(linkPrefix)).map(({ name }) => name)

const neighbours = (ip: Ip.Ip, observed: Kernel.Snapshot): ReadonlyArray<Kernel.Operation> =>
  observed.neighbours.filter((neighbour) => neighbour.ip === ip && !neighbour.permanent).map(({ link }) => ({
    _tag: "DeleteNeighbour",
    link,
    ip
  }))

/** The link on whose network the address lies; of several the last one: it is the newest, as they come by index. */
export const linkOf = (ip: Ip.Ip, { addresses, links }: Kernel.Snapshot): string | undefined =>
  linkIn({ addresses, links })(ip)

// Links and addresses stay while the routes of one target after the other come, and each of them asks again.
const linkIn = Memo.last(
  ({ links }: Pick<Kernel.Snapshot, "addresses" | "links">) => links,
  ({ addresses, links }) => {
    const found = new Map<Cidr.Cidr, string>()
    for (const { name, up } of links) {
      if (!up) continue
      for (const { cidr, link } of addresses) if (link === name) found.set(Cidr.network(cidr), name)
    }
    const lengths = [...new Set([...found.keys()].map(Cidr.length))].toSorted((a, b) => b - a)
    return Memo.text((ip: Ip.Ip) => {
      const fitting = lengths.filter((length) => length <= Ip.bits(Ip.family(ip)))
      const length = fitting.find((length) => found.has(Cidr.network(Cidr.make(ip, length))))
      return length === undefined ? undefined : found.get(Cidr.network(Cidr.make(ip, length)))
    })
  }
)

const routeOf = (mark: number, ip: Ip.Ip, observed: Kernel.Snapshot): Kernel.Route | undefined => {
  const family = Ip.family(ip)
  const link = linkOf(ip, observed)
  return link === undefined ? undefined : {
    family,
    table: mark,
    destination: Cidr.defaultRoute(family),
    type: "unicast",
    metric: family === "v4" ? 0 : 1024,
    hops: [{ via: ip, link }],
    protocol,
    onlink: false
  }
}

const hasRoute = ({ routes }: Kernel.Snapshot, route: Kernel.Route): boolean =>
  (routesByTable(routes).get(route.table) ?? []).some((other) => sameRoute(other, route))

const hasRule = ({ rules }: Kernel.Snapshot, rule: Kernel.Rule): boolean =>
  (rulesByTable(rules).get(rule.table) ?? []).some((other) => sameRule(other, rule))

const routesByTable = Memo.each((routes: ReadonlyArray<Kernel.Route>) => Map.groupBy(routes, ({ table }) => table))
const rulesByTable = Memo.each((rules: ReadonlyArray<Kernel.Rule>) => Map.groupBy(rules, ({ table }) => table))

const ruleOf = (mark: number, family: Ip.Family): Kernel.Rule => ({
  family,
  priority: Skips.priorityOf(mark),
  table: mark,
  mark,
  foreign: false
})

// Of any of the priorities: another place is one of a predecessor.
const isOurRule = (rule: Kernel.Rule): boolean =>
  rule.priority > Skips.first && rule.priority < Skips.last && rule.mark === rule.table && rule.mask === undefined &&
  rule.from === undefined && rule.iif === undefined && rule.traffic === undefined && rule.inverted === undefined &&
  rule.goto === undefined && !rule.foreign

// Each has a priority of its own.
const byPriority = (rules: ReadonlyArray<Kernel.Rule>) => new Map(rules.map((rule) => [rule.priority, rule]))
const skipsAt = { v4: byPriority(Skips.rules("v4")), v6: byPriority(Skips.rules("v6")) }

const isSkip = (rule: Kernel.Rule): boolean =>
  rule.goto !== undefined && Same.equals(skipsAt[rule.family].get(rule.priority), rule)

const isOurRoute = (route: Kernel.Route): boolean => route.protocol === protocol

const sameRule = (a: Kernel.Rule, b: Kernel.Rule): boolean =>
  isOurRule(a) && a.family === b.family && a.table === b.table && a.priority === b.priority

const sameIdentity = (a: Kernel.Route, b: Kernel.Route): boolean =>
  a.family === b.family && a.table === b.table && a.destination === b.destination && a.metric === b.metric

const sameRoute = (a: Kernel.Route, b: Kernel.Route): boolean => {
  const [one, other] = [a.hops[0], b.hops[0]]
  return sameIdentity(a, b) && a.type === b.type && a.protocol === b.protocol && a.hops.length === b.hops.length
    && one?.via === other?.via && one?.link === other?.link
}

const byTable = (
  a: { readonly family: Ip.Family; readonly table: number },
  b: { readonly family: Ip.Family; readonly table: number }
): number => a.table - b.table || (a.family === b.family ? 0 : a.family === "v4" ? -1 : 1)
