/**
 * Plans the kernel of a connection: the veth pair between two namespaces, its addresses, routes, rules and neighbours.
 *
 * 1. An end is found by alias and MAC, never by name: a rename is a rename, and a restarted manager adopts what stands.
 * 2. Only links with the alias, addresses and routes recorded before, and the tables of the connection are touched.
 * 3. Rules go by table, whether the link exists or not (deleting a link removes its routes, not the rules).
 * 4. The source of a policy has its routes before its rule, and loses the rule before the routes.
 * 5. A link is up before it has addresses: the kernel answers nobody who looks for an IPv6 address that was there before,
 *    so that a second passes until the other end asks again.
 *
 * Source: sdk-kernel, `ipcontext`; the defects of upstream that this avoids are those of deployments-k8s#9639, #9463.
 */
import { Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Kernel from "../net/Kernel.ts"
import * as Plan from "../Plan.ts"
import * as Cross from "./Cross.ts"
import type * as Model from "./Model.ts"

/** What should be, and what this manager made before. Without `cross` everything of `previous` goes. */
export interface Desired {
  readonly cross?: Cross.Cross
  readonly previous?: Cross.Cross
}

/** The namespaces of both, by URL; one that is missing is gone. */
export type Observed = { readonly [netns: string]: Kernel.Snapshot }

export const Operation = Schema.TaggedUnion({
  /** Makes both ends with final names, MACs and alias, down and empty. */
  CreatePair: { alias: Schema.String, client: Cross.End, endpoint: Cross.End },
  Change: { netns: Schema.String, operation: Kernel.Operation }
})
export type Operation = typeof Operation.Type

const mainTable = 254
const kernelProtocol = 2
const staticProtocol = 4

/** Who holds a name that the connection wants, if somebody else does: then nothing can be planned. */
export const conflict = (cross: Cross.Cross, observed: Observed): string | undefined => {
  for (const end of [cross.client, cross.endpoint]) {
    const holder = observed[end.netns]?.links.find(({ name }) => name === end.link)
    if (holder !== undefined && !owns(cross.alias, holder)) {
      return `interface ${end.link} exists in ${end.netns} and belongs to ${holder.alias ?? "somebody else"}`
    }
  }
  return undefined
}

export const plan = Plan.make<Desired, Observed, Operation>({
  name: "nsm-forward",
  plan: ({ cross: wanted, previous }, observed) => {
    const cross = wanted === undefined ? undefined : sorted(wanted)
    if (cross === undefined) return previous === undefined ? [] : remove(previous, observed)
    const moved = previous === undefined ? [] : leave(previous, cross, observed)
    const found = [find(cross.alias, cross.client, observed), find(cross.alias, cross.endpoint, observed)] as const
    const stands = found[0] !== undefined && found[1] !== undefined
    const stale = Object.entries(observed).flatMap(([netns, { links }]) =>
      links
        .filter((link) => owns(cross.alias, link) && !(stands && found.includes(link)))
        .map((link) => change(netns, { _tag: "DeleteLink", link: link.name }))
    )
    return [
      ...moved,
      ...stale,
      ...(stands ? [] : [{ _tag: "CreatePair" as const, ...cross }]),
      ...shape(cross.client, stands ? found[0] : undefined, previous?.client, observed),
      ...shape(cross.endpoint, stands ? found[1] : undefined, previous?.endpoint, observed)
    ]
  }
})

/** Whether both ends of the pair exist. */
export const stands = (cross: Cross.Cross, observed: Observed): boolean =>
  find(cross.alias, cross.client, observed) !== undefined
  && find(cross.alias, cross.endpoint, observed) !== undefined

/** What of this manager stands in a namespace without a connection that it belongs to. */
export const sweep = (
  manager: string,
  keep: ReadonlyArray<Cross.Cross>,
  netns: string,
  observed: Kernel.Snapshot
): ReadonlyArray<Kernel.Operation> => {
  const [first, end] = Cross.tables(manager)
  const aliases = new Set(keep.filter((cross) => Cross.namespaces(cross).includes(netns)).map(({ alias }) => alias))
  const tables = new Set(keep.flatMap((cross) => Cross.tablesIn(netns, cross)))
  const isLost = (table: number): boolean => table >= first && table < end && !tables.has(table)
  return [
    ...clear(isLost, observed),
    ...observed.links
      .filter(({ alias }) => alias?.startsWith(Cross.aliasPrefix(manager)) === true && !aliases.has(alias))
      .map(({ name }): Kernel.Operation => ({ _tag: "DeleteLink", link: name }))
  ]
}

/** The order of sets has no meaning: the plan is that of the sorted ones. */
const sorted = (cross: Cross.Cross): Cross.Cross => ({
  ...cross,
  client: sortedEnd(cross.client),
  endpoint: sortedEnd(cross.endpoint)
})

const sortedEnd = (end: Cross.End): Cross.End => ({
  ...end,
  addresses: end.addresses.toSorted(Cidr.compare),
  routes: end.routes.toSorted(byRoute),
  policies: end.policies
    .map((policy) => ({ ...policy, routes: policy.routes.toSorted(byRoute) }))
    .toSorted((a, b) => a.table - b.table),
  neighbours: end.neighbours.toSorted((a, b) => Ip.compare(a.ip, b.ip))
})

const byRoute = (a: Model.Route, b: Model.Route): number =>
  Cidr.compare(a.prefix, b.prefix) || (a.nextHop ?? "").localeCompare(b.nextHop ?? "")

const remove = (cross: Cross.Cross, observed: Observed): ReadonlyArray<Operation> =>
  Object.entries(observed).flatMap(([netns, snapshot]) => {
    const tables = Cross.tablesIn(netns, cross)
    return [
      ...within(netns, clear((table) => tables.includes(table), snapshot)),
      ...snapshot.links
        .filter((link) => owns(cross.alias, link))
        .map((link) => change(netns, { _tag: "DeleteLink", link: link.name }))
    ]
  })

/** Takes away the rules that the new cross connect does not take over. */
const leave = (previous: Cross.Cross, cross: Cross.Cross, observed: Observed): ReadonlyArray<Operation> =>
  Cross.namespaces(previous).flatMap((netns) => {
    const snapshot = observed[netns]
    const kept = netns !== cross.client.netns
      ? []
      : [...cross.client.policies, ...(netns === previous.client.netns ? previous.client.policies : [])]
    const tables = Cross.tablesIn(netns, previous).filter((table) => !kept.some((policy) => policy.table === table))
    return snapshot === undefined ? [] : within(netns, clear((table) => tables.includes(table), snapshot))
  })

/** Everything of one end but its existence. `link` is undefined for a new one. */
const shape = (
  end: Cross.End,
  link: Kernel.Link | undefined,
  previous: Cross.End | undefined,
  observed: Observed
): ReadonlyArray<Operation> => {
  const snapshot = observed[end.netns] ?? Kernel.empty
  const renamed = link !== undefined && link.name !== end.link
  const addresses = snapshot.addresses.flatMap((address) => address.link === link?.name ? [address.cidr] : [])
  const before = previous?.netns === end.netns ? previous : undefined
  const lost = (before?.addresses ?? []).filter((cidr) => !end.addresses.includes(cidr) && addresses.includes(cidr))
  const kept = renamed ? [] : addresses.filter((cidr) => !lost.some((gone) => dies(cidr, gone)))
  const isBare = lost.some(isV4) && !kept.some(isV4)
  // A link that is new, or goes down to be renamed, has lost what hung on it; one that may be without IPv4 address for a
  // moment, what is of IPv4.
  const was = link === undefined || renamed ? Kernel.empty : snapshot
  const here = isBare ? withoutV4(end.link, was) : was
  const [replaced, stale] = routes(end, before, was, here)
  const rename: ReadonlyArray<Kernel.Operation> = renamed
    ? [
      ...(link.up ? [{ _tag: "SetLinkUp" as const, link: link.name, up: false }] : []),
      { _tag: "RenameLink", link: link.name, name: end.link }
    ]
    : []
  return within(end.netns, [
    ...rename,
    // Before the addresses: with one of them comes a route of the kernel that may look the same.
    ...stale,
    ...lost.map((cidr): Kernel.Operation => ({ _tag: "DeleteAddress", link: end.link, cidr })),
    ...(end.mtu === 0 || link?.mtu === end.mtu
      ? []
      : [{ _tag: "SetLinkMtu" as const, link: end.link, mtu: end.mtu }]),
    ...(link?.up === true && !renamed ? [] : [{ _tag: "SetLinkUp" as const, link: end.link, up: true }]),
    ...end.addresses.filter((cidr) => !kept.includes(cidr))
      .map((cidr): Kernel.Operation => ({ _tag: "AddAddress", link: end.link, cidr })),
    ...replaced,
    ...policies(end, before, was, here, snapshot),
    ...neighbours(end, before, was, here, renamed)
  ])
}

/** Whether the kernel takes an address away together with the deleted one: a secondary of the same network. */
const dies = (cidr: Cidr.Cidr, deleted: Cidr.Cidr): boolean =>
  cidr === deleted || (Cidr.family(cidr) === "v4" && Cidr.network(cidr) === Cidr.network(deleted))

const routes = (
  end: Cross.End,
  before: Cross.End | undefined,
  was: Kernel.Snapshot,
  here: Kernel.Snapshot
): Parts => {
  const wanted = grouped(mainTable, end.link, end.routes)
  const old = grouped(mainTable, end.link, before?.routes ?? [])
  const ours = was.routes.filter((route) =>
    !isGiven(route) && old.some((other) => isPlace(other, route)) && route.hops.every(({ link }) => link === end.link)
  )
  return converge(wanted, ours, here.routes.filter((route) => !isGiven(route)))
}

/** A route of the kernel comes and goes with its address. */
const isGiven = ({ protocol }: Kernel.Route): boolean => protocol === kernelProtocol

/** What an IPv4 address that was the last one of the link takes with it. */
const withoutV4 = (link: string, snapshot: Kernel.Snapshot): Kernel.Snapshot => ({
  ...snapshot,
  routes: snapshot.routes.filter(({ family, hops }) => family !== "v4" || !hops.some((hop) => hop.link === link)),
  neighbours: snapshot.neighbours.filter((neighbour) => neighbour.link !== link || Ip.family(neighbour.ip) !== "v4")
})

const isV4 = (cidr: Cidr.Cidr): boolean => Cidr.family(cidr) === "v4"

/** `was` may still be on the link, `here` is it for sure, `snapshot` is the namespace: rules live without the link. */
const policies = (
  end: Cross.End,
  before: Cross.End | undefined,
  was: Kernel.Snapshot,
  here: Kernel.Snapshot,
  snapshot: Kernel.Snapshot
): ReadonlyArray<Kernel.Operation> => {
  const owned = new Set([...end.policies, ...(before?.policies ?? [])].map(({ table }) => table))
  const wantedRoutes = end.policies.flatMap((policy) => grouped(policy.table, end.link, routesOf(policy)))
  const wantedRules = end.policies.flatMap(rulesOf)
  const rules = snapshot.rules.filter((rule) => owned.has(rule.table) && isOurs(rule))
  const inTables = was.routes.filter(({ table }) => owned.has(table))
  const [replace, drop] = converge(wantedRoutes, inTables, here.routes)
  return [
    ...replace,
    ...wantedRules.filter((rule) => !rules.some((other) => isSameRule(rule, other)))
      .map((rule): Kernel.Operation => ({ _tag: "AddRule", rule })),
    ...rules.filter((rule) => !wantedRules.some((other) => isSameRule(rule, other)))
      .map((rule): Kernel.Operation => ({ _tag: "DeleteRule", rule })),
    ...drop
  ]
}

const neighbours = (
  end: Cross.End,
  before: Cross.End | undefined,
  was: Kernel.Snapshot,
  here: Kernel.Snapshot,
  renamed: boolean
): ReadonlyArray<Kernel.Operation> => {
  const on = ({ neighbours }: Kernel.Snapshot) =>
    neighbours.filter(({ link, permanent }) => link === end.link && permanent)
  const present = on(here)
  const gone = (before?.neighbours ?? []).filter(({ ip }) =>
    (renamed || on(was).some((other) => other.ip === ip)) && !end.neighbours.some((other) => other.ip === ip)
  )
  return [
    ...end.neighbours
      .filter(({ ip, mac }) => !present.some((other) => other.ip === ip && other.mac === mac))
      .map((neighbour): Kernel.Operation => ({
        _tag: "ReplaceNeighbour",
        neighbour: { ...neighbour, link: end.link, permanent: true }
      })),
    ...gone.map(({ ip }): Kernel.Operation => ({ _tag: "DeleteNeighbour", link: end.link, ip }))
  ]
}

/** What to put, and what to take away. */
type Parts = readonly [replaced: ReadonlyArray<Kernel.Operation>, stale: ReadonlyArray<Kernel.Operation>]

/** Replaces what differs; deletes of `ours` what is not wanted. */
const converge = (
  wanted: ReadonlyArray<Kernel.Route>,
  ours: ReadonlyArray<Kernel.Route>,
  observed: ReadonlyArray<Kernel.Route>
): Parts => [
  wanted.filter((route) => !observed.some((other) => isPlace(route, other) && isSameWay(route, other)))
    .map((route): Kernel.Operation => ({ _tag: "ReplaceRoute", route })),
  ours.filter((route) => !wanted.some((other) => isPlace(route, other)))
    .map((route): Kernel.Operation => ({ _tag: "DeleteRoute", route }))
]

/** Rules, then routes, of the tables. */
const clear = (
  isMine: (table: number) => boolean,
  { routes, rules }: Kernel.Snapshot
): ReadonlyArray<Kernel.Operation> => [
  ...rules.filter((rule) => isMine(rule.table) && isOurs(rule))
    .map((rule): Kernel.Operation => ({ _tag: "DeleteRule", rule })),
  ...routes.filter(({ table }) => isMine(table)).map((route): Kernel.Operation => ({ _tag: "DeleteRoute", route }))
]

/** The routes of a policy; none given means the default route over the link. */
const routesOf = ({ from, routes }: Cross.PolicyTable): ReadonlyArray<Cross.PolicyTable["routes"][number]> => {
  if (routes.length > 0) return routes
  const families = from === undefined ? (["v4", "v6"] as const) : [Cidr.family(from)]
  return families.map((family) => ({ prefix: Cidr.defaultRoute(family) }))
}

const rulesOf = (policy: Cross.PolicyTable): ReadonlyArray<Kernel.Rule> => {
  const families = new Set(
    policy.from === undefined ? routesOf(policy).map(({ prefix }) => Cidr.family(prefix)) : [Cidr.family(policy.from)]
  )
  return [...families].map((family) => ({
    family,
    priority: Cross.priorityOf(policy.traffic),
    table: policy.table,
    ...(policy.from === undefined ? {} : { from: Cidr.network(policy.from) }),
    ...(policy.traffic === undefined ? {} : { traffic: policy.traffic }),
    foreign: false
  }))
}

/** One kernel route per prefix: several next hops of a prefix are one multipath route. */
const grouped = (
  table: number,
  link: string,
  routes: Cross.PolicyTable["routes"]
): ReadonlyArray<Kernel.Route> => {
  const hops = new Map<Cidr.Cidr, Array<Kernel.NextHop>>()
  for (const { nextHop, prefix } of routes) {
    const found = hops.get(prefix) ?? []
    if (!found.some(({ via }) => via === nextHop)) {
      found.push(nextHop === undefined ? { link } : { via: nextHop, link })
    }
    hops.set(prefix, found)
  }
  return [...hops].map(([destination, hops]) => ({
    family: Cidr.family(destination),
    table,
    destination,
    type: "unicast",
    metric: Cidr.family(destination) === "v4" ? 0 : 1024,
    hops,
    protocol: staticProtocol,
    onlink: hops.some(({ via }) => via !== undefined)
  }))
}

const find = (alias: string, end: Cross.End, observed: Observed): Kernel.Link | undefined =>
  observed[end.netns]?.links.find((link) => owns(alias, link) && link.mac === end.mac)

const owns = (alias: string, link: Kernel.Link): boolean => link.kind === "veth" && link.alias === alias

const isOurs = (rule: Kernel.Rule): boolean => Cross.isPriority(rule.priority) && !rule.foreign

const isSameRule = (a: Kernel.Rule, b: Kernel.Rule): boolean =>
  a.family === b.family && a.table === b.table && a.from === b.from && a.iif === b.iif
  && a.priority === b.priority && Kernel.isSameTraffic(a.traffic, b.traffic)

const isPlace = (a: Kernel.Route, b: Kernel.Route): boolean =>
  a.table === b.table && a.destination === b.destination && a.metric === b.metric

const isSameWay = (a: Kernel.Route, b: Kernel.Route): boolean =>
  a.type === b.type && a.hops.length === b.hops.length
  && a.hops.every((hop) => b.hops.some((other) => hop.via === other.via && hop.link === other.link))

const change = (netns: string, operation: Kernel.Operation): Operation => ({ _tag: "Change", netns, operation })

const within = (netns: string, operations: ReadonlyArray<Kernel.Operation>): ReadonlyArray<Operation> =>
  operations.map((operation) => change(netns, operation))
