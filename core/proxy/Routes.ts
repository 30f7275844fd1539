/**
 * Decides what the kernel of the proxy looks like: one bridge with the gateway addresses, every interface of a
 * connection as its port, and in one table a default route over all load balancers, to which a rule per VIP leads, and
 * one for all that comes from the bridge.
 *
 *     1 bridge  2 unreachable fallback  3 rules of the bridge  4 addresses  5 enslave ports, announce the bridge
 *     6 default routes  7 add rules  8 delete rules  9 delete routes  10 detach ports  11 delete addresses
 *
 * 1. Afterwards one rule for each VIP leads to the table, and the default's hops are exactly the live load balancers.
 * 2. Nothing that targets send leaves through the pod's own network: neither without a load balancer, when only the
 *    fallback remains, nor from a VIP that is not known here yet.
 * 3. Hops are pinned to the bridge, lie in its subnet, and are of one family; there are no duplicates.
 * 4. A hop is added before, and removed after, nothing else than itself: one load balancer less never cuts off another.
 * 5. Only the bridge, its ports, the default routes of the table, and the rules that select nothing but a source or the
 *    bridge and lead to the table, are touched.
 * 6. What is not known yet (VIPs, addresses, load balancers after a restart) is left as it is.
 *
 * Source: Meridio `pkg/kernel`, `pkg/proxy`; there hops may bind to a port, duplicates of rules stay, and VIP traffic
 * falls through to the main table.
 */
import { Schema } from "effect"
import * as Memo from "../Memo.ts"
import { Cidr, Ip, Kernel } from "../net/index.ts"
import * as Plan from "../Plan.ts"
import { Port } from "./Model.ts"

export const Desired = Schema.Struct({
  families: Schema.Array(Ip.Family),
  bridge: Schema.Struct({
    name: Kernel.LinkName,
    mac: Kernel.Mac,
    /** The gateways of the targets, at most one of a family; none of a family: not known yet. */
    addresses: Schema.Array(Cidr.Cidr)
  }),
  ports: Schema.Array(Port),
  /** Absent: not known yet. */
  vips: Schema.optionalKey(Schema.Array(Cidr.Cidr)),
  table: Schema.Natural,
  priority: Schema.Natural,
  /** False while load balancers from before a restart may come back: then routes without a hop stay. */
  settled: Schema.Boolean,
  /** What becomes of ports that no connection knows. */
  foreignPorts: Schema.Literals(["Leave", "Detach"])
})
export type Desired = typeof Desired.Type

type Operations = ReadonlyArray<Kernel.Operation>

/** The metric of the fallback: the least preferred there is. */
const fallbackMetric = 4_294_967_295

/** The metric that the kernel gives a route without one. */
const metric = { v4: 0, v6: 1024 }

/** RTPROT_BOOT, as `ip route add` and Meridio. */
const protocol = 3

export const plan = (desired: Desired, observed: Kernel.Snapshot): Operations => {
  if (fault(desired, observed) !== undefined) return []
  const moved = planAddresses(desired, observed)
  const routes = Ip.families.map((family) => planRoutes(family, desired, observed, moved.disturbed.has(family)))
  const guards = planGuards(desired, observed)
  const rules = planRules(desired, observed)
  const ports = planPorts(desired, observed)
  return [
    ...planBridge(desired, observed),
    ...routes.flatMap(({ fallback }) => fallback),
    ...guards.add,
    ...moved.first,
    ...ports.enslave,
    ...planAnnouncement(desired, observed, moved.first),
    ...routes.flatMap(({ replace }) => replace),
    ...rules.add,
    ...guards.remove,
    ...rules.remove,
    ...routes.flatMap(({ remove }) => remove),
    ...ports.detach,
    ...moved.last
  ]
}

export const routes = Plan.make({ name: "proxy", plan })

/** Why nothing can be done: the bridge's name is taken by something else. */
export const fault = ({ bridge }: Desired, { links }: Kernel.Snapshot): string | undefined => {
  const link = links.find(({ name }) => name === bridge.name)
  return link === undefined || link.kind === "bridge"
    ? undefined
    : `${bridge.name} is a ${link.kind || "physical"} link, not a bridge: delete or rename it`
}

/** Whether targets can use their gateways: the bridge is up and has all its addresses. */
export const isReady = ({ bridge, families }: Desired, { addresses, links }: Kernel.Snapshot): boolean =>
  bridge.addresses.length === families.length
  && links.some(({ kind, name, up }) => name === bridge.name && kind === "bridge" && up)
  && bridge.addresses.every((cidr) =>
    addresses.some((address) => address.link === bridge.name && address.cidr === cidr && !address.dadFailed)
  )

/** The interfaces of live connections that do not exist yet, in order. */
export const missing = ({ ports }: Desired, { links }: Kernel.Snapshot): ReadonlyArray<string> => {
  const present = namesOf(links)
  return [...use(ports).live].filter((link) => !present.has(link)).toSorted(byText)
}

/** The next hops of a family, in order. */
export const hops = (
  family: Ip.Family,
  { bridge, ports }: Desired,
  { links }: Kernel.Snapshot
): ReadonlyArray<Ip.Ip> => {
  const subnet = bridge.addresses.find((address) => Cidr.family(address) === family)
  if (subnet === undefined) return []
  const present = namesOf(links)
  const loadBalancers = use(ports).loadBalancers.filter(({ link }) => present.has(link) && link !== bridge.name)
  return remotesIn({ owner: bridge.addresses, subnet, loadBalancers })
}

const remotesIn = Memo.last(
  (input: {
    readonly owner: ReadonlyArray<Cidr.Cidr>
    readonly subnet: Cidr.Cidr
    readonly loadBalancers: ReadonlyArray<Port>
  }) => bySubnet(input.owner, input.subnet),
  ({ loadBalancers, subnet }): ReadonlyArray<Ip.Ip> => {
    const remotes = loadBalancers
      .flatMap(({ remotes }) => remotes.map(Cidr.ip))
      .filter((ip) => Cidr.contains(subnet, Cidr.host(ip)) && ip !== Cidr.ip(subnet))
    return [...new Set(remotes)].toSorted(Ip.compare)
  }
)

/** An object of its own for each subnet of the bridge. */
const bySubnet = (owner: ReadonlyArray<Cidr.Cidr>, subnet: Cidr.Cidr): object => {
  const all = subnets(owner)
  return all.get(subnet) ?? all
}
const subnets = Memo.each((owner: ReadonlyArray<Cidr.Cidr>) =>
  new Map<Cidr.Cidr, object>(owner.map((cidr) => [cidr, {}]))
)

/** What the ports are there for. */
const use = Memo.each((ports: ReadonlyArray<Port>) => {
  const live = new Set<string>()
  const loadBalancers: Array<Port> = []
  for (const port of ports) {
    if (port.phase !== "Live") continue
    live.add(port.link)
    if (port.role === "LoadBalancer") loadBalancers.push(port)
  }
  const closing = new Set<string>()
  for (const { link, phase } of ports) if (phase !== "Live" && !live.has(link)) closing.add(link)
  return { live, closing, loadBalancers }
})

const namesOf = Memo.each((links: Kernel.Snapshot["links"]): ReadonlySet<string> =>
  new Set(links.map(({ name }) => name))
)

const planBridge = ({ bridge: { mac, name } }: Desired, { links }: Kernel.Snapshot): Operations => {
  const link = links.find((link) => link.name === name)
  const up: Kernel.Operation = { _tag: "SetLinkUp", link: name, up: true }
  if (link === undefined) return [{ _tag: "AddBridge", name, mac }, up]
  return link.up ? [] : [up]
}

/**
 * An address gives way before the new one comes if the kernel cannot hold both (the same address, for IPv6) or would take
 * the new one away with it (the same subnet, for IPv4); any other leaves last, when the routes have moved.
 */
const planAddresses = ({ bridge: { addresses, name: link } }: Desired, observed: Kernel.Snapshot) => {
  const present = observed.addresses.filter((address) => address.link === link)
  const first: Array<Kernel.Operation> = []
  const last: Array<Kernel.Operation> = []
  const disturbed = new Set<Ip.Family>()
  for (const cidr of addresses.toSorted(Cidr.compare)) {
    const family = Cidr.family(cidr)
    const isRight = (address: Kernel.Address) => address.cidr === cidr && !address.dadFailed
    const others = present
      .filter((address) => Cidr.family(address.cidr) === family && !isRight(address))
      .toSorted((a, b) => Cidr.compare(a.cidr, b.cidr))
    const rivals = others.filter((address) => Cidr.overlaps(Cidr.network(address.cidr), Cidr.network(cidr)))
    first.push(...rivals.map((rival): Kernel.Operation => ({ _tag: "DeleteAddress", link, cidr: rival.cidr })))
    if (rivals.length > 0) disturbed.add(family)
    // An address in the same subnet goes away with an older one that is deleted, so it is added again in any case.
    if (rivals.length > 0 || !present.some(isRight)) first.push({ _tag: "AddAddress", link, cidr })
    const rest = others.filter((address) => !rivals.includes(address))
    last.push(...rest.map((address): Kernel.Operation => ({ _tag: "DeleteAddress", link, cidr: address.cidr })))
  }
  return { first, last, disturbed }
}

/**
 * Who is on an adopted bridge may know another owner of an address that the bridge has now. When a hardware address is
 * set, even to what it is, the kernel announces all addresses of the link (`arp_notify`, `ndisc_notify`).
 */
const planAnnouncement = ({ bridge }: Desired, { links }: Kernel.Snapshot, moved: Operations): Operations => {
  const adopted = links.find(({ name }) => name === bridge.name)
  const isMoved = moved.some(({ _tag }) => _tag === "AddAddress")
  return adopted !== undefined && isMoved ? [{ _tag: "SetLinkMac", link: bridge.name, mac: adopted.mac }] : []
}

const planPorts = ({ bridge, foreignPorts, ports }: Desired, { links }: Kernel.Snapshot) => {
  const { closing, live } = use(ports)
  const isUnwanted = (name: string): boolean => closing.has(name) || (foreignPorts === "Detach" && !live.has(name))
  const enslave: Array<string> = []
  const detach: Array<string> = []
  for (const { master, name } of links) {
    if (name === bridge.name) continue
    if (master !== bridge.name) {
      if (live.has(name)) enslave.push(name)
    } else if (isUnwanted(name)) detach.push(name)
  }
  return {
    enslave: enslave.toSorted(byText)
      .map((link): Kernel.Operation => ({ _tag: "SetLinkMaster", link, master: bridge.name })),
    detach: detach.toSorted(byText).map((link): Kernel.Operation => ({ _tag: "SetLinkMaster", link }))
  }
}

const planRoutes = (family: Ip.Family, desired: Desired, observed: Kernel.Snapshot, isDisturbed: boolean) => {
  const isEnabled = desired.families.includes(family)
  const defaults = observed.routes.filter((route) =>
    route.family === family && route.table === desired.table && route.destination === Cidr.defaultRoute(family)
  )
  const wanted = isEnabled ? defaultRoute(family, desired, observed) : undefined
  const current = defaults.find((route) => route.metric === metric[family])
  const isStale = (route: Kernel.Route): boolean => {
    if (route.metric === fallbackMetric) return !isEnabled
    return route.metric === metric[family] ? wanted === undefined && desired.settled : desired.settled
  }
  const replace = wanted !== undefined && (isDisturbed || current === undefined || !sameRoute(wanted, current))
  const hasFallback = defaults.some(({ metric, type }) => metric === fallbackMetric && type === "unreachable")
  return {
    fallback: isEnabled && !hasFallback ? [replaceRoute(fallbackRoute(family, desired))] : [],
    replace: replace ? [replaceRoute(wanted)] : [],
    remove: defaults.filter(isStale).toSorted((a, b) => a.metric - b.metric)
      .map((route): Kernel.Operation => ({ _tag: "DeleteRoute", route }))
  }
}

const replaceRoute = (route: Kernel.Route): Kernel.Operation => ({ _tag: "ReplaceRoute", route })

const fallbackRoute = (family: Ip.Family, { table }: Desired): Kernel.Route => ({
  family,
  table,
  destination: Cidr.defaultRoute(family),
  type: "unreachable",
  metric: fallbackMetric,
  hops: [],
  protocol,
  onlink: false
})

const defaultRoute = (family: Ip.Family, desired: Desired, observed: Kernel.Snapshot): Kernel.Route | undefined => {
  const vias = hops(family, desired, observed)
  if (vias.length === 0) return undefined
  return {
    family,
    table: desired.table,
    destination: Cidr.defaultRoute(family),
    type: "unicast",
    metric: metric[family],
    hops: vias.map((via) => ({ via, link: desired.bridge.name })),
    protocol,
    onlink: false
  }
}

const sameRoute = (wanted: Kernel.Route, current: Kernel.Route): boolean =>
  current.type === wanted.type && current.hops.length === wanted.hops.length
  && (isInOrder(wanted, current) || hopText(current) === hopText(wanted))

// As a rule the kernel tells the hops as they were given.
const isInOrder = (wanted: Kernel.Route, current: Kernel.Route): boolean =>
  wanted.hops.every(({ link, via }, i) => current.hops[i]?.via === via && current.hops[i]?.link === link)

const hopText = ({ hops }: Kernel.Route): string =>
  hops.map(({ link = "", via = "" }) => `${via} ${link}`).toSorted(byText).join()

/** What comes from the bridge has no other way than the table, even from a VIP that targets hear of first. */
const planGuards = ({ bridge, families, priority, table }: Desired, { rules }: Kernel.Snapshot) => {
  const present = rules.filter(({ foreign, from, iif, mark, table: to, traffic }) =>
    to === table && !foreign && mark === undefined && from === undefined && iif === bridge.name && traffic === undefined
  )
  const isWanted = (rule: Kernel.Rule): boolean => rule.priority === priority && families.includes(rule.family)
  const guarded = new Set(present.filter(isWanted).map(({ family }) => family))
  return {
    add: families.filter((family) => !guarded.has(family)).toSorted().map((family): Kernel.Operation => ({
      _tag: "AddRule",
      rule: { family, priority, table, iif: bridge.name, foreign: false }
    })),
    remove: present.filter((rule) => !isWanted(rule)).toSorted(byRule).map(deleteRule)
  }
}

const planRules = ({ families, priority, table, vips }: Desired, { rules }: Kernel.Snapshot) =>
  vips === undefined ? { add: [], remove: [] } : planVips({ families, priority, table, vips, rules })

// Rules have nothing to do with ports: a change of those does not look at thousands of VIPs.
const planVips = Memo.last(({ rules }: {
  readonly families: Desired["families"]
  readonly priority: number
  readonly table: number
  readonly vips: ReadonlyArray<Cidr.Cidr>
  readonly rules: ReadonlyArray<Kernel.Rule>
}) => rules, ({ families, priority, rules, table, vips }) => {
  // A VIP of length 0 would capture all traffic of the pod.
  const sources = [...new Set(vips.map(Cidr.network))]
    .filter((vip) => families.includes(Cidr.family(vip)) && Cidr.length(vip) > 0)
  const ours = rules.filter(({ foreign, from, iif, mark, table: to, traffic }) =>
    to === table && !foreign && mark === undefined && iif === undefined && from !== undefined && traffic === undefined
  )
  const wanted = new Set<Cidr.Cidr | undefined>(sources)
  const isWanted = ({ from, priority: at }: Kernel.Rule): boolean => at === priority && wanted.has(from)
  const present = new Set(ours.filter(isWanted).map(({ from }) => from))
  return {
    add: sources
      .filter((source) => !present.has(source))
      .toSorted(Cidr.compare)
      .map((from): Kernel.Operation => ({
        _tag: "AddRule",
        rule: { family: Cidr.family(from), priority, table, from, foreign: false }
      })),
    remove: ours.filter((rule) => !isWanted(rule)).toSorted(byRule).map(deleteRule)
  }
})

const deleteRule = (rule: Kernel.Rule): Kernel.Operation => ({ _tag: "DeleteRule", rule })

const byRule = (a: Kernel.Rule, b: Kernel.Rule): number =>
  byText(a.family, b.family) || a.priority - b.priority || byText(a.from ?? "", b.from ?? "")

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
