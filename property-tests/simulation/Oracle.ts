/**
 * Follows a packet through the modelled kernels, from a gateway to a target and back, and says where it goes or dies.
 *
 *     gateway ─▶ frontend: flow, stream, slot, mark ─▶ rule of the mark ─▶ link to a proxy ─▶ bridge ─▶ target
 *     target: rule of the VIP ─▶ gateway address of the bridge ─▶ rule of the VIP ─▶ load balancer ─▶ table of BIRD ─▶ gateway
 *
 * A step follows the kernel: local addresses first, then rules by priority, in each table the longest prefix with the
 * least metric. A switch delivers to whichever port's other end holds the address, as ARP and ND would find out.
 */
import type { Flow } from "../../core/config/Model.ts"
import { type Model, Ruleset } from "../../core/loadbalancer/index.ts"
import * as Memo from "../../core/Memo.ts"
import { Cidr, Ip, type Kernel } from "../../core/net/index.ts"
import * as Lookup from "../kernel/Lookup.ts"
import type * as Kernels from "./Kernels.ts"

export interface Packet {
  readonly source: Ip.Ip
  readonly destination: Ip.Ip
  readonly protocol: "tcp" | "udp"
  readonly sourcePort: number
  readonly destinationPort: number
}

/** Where a packet ended. */
export type End =
  /** In the namespace that has its destination. */
  | { readonly _tag: "Delivered"; readonly netns: string }
  /** Out of an interface that leads to the outside, to a next hop. */
  | { readonly _tag: "Left"; readonly netns: string; readonly link: string; readonly via: Ip.Ip | undefined }
  | { readonly _tag: "Dropped"; readonly netns: string; readonly why: string }

/** The interfaces of the cluster's own network: no packet of a VIP may leave there. */
export const primary = "eth0"

const mainTable = 254
const mainPriority = 32_766
const hopLimit = 12

/** What the load balancer does with a packet: the mark of a target, or the reason to drop it. */
export const classify = (rules: Model.Ruleset | undefined, packet: Packet, slot: number): number | string => {
  if (rules === undefined) return "no rules"
  const flow = flowOf(rules.flows, packet)
  if (flow === undefined) return "no flow matches"
  const stream = rules.streams.find(({ name }) => name === flow.stream.stream)
  if (stream === undefined || stream.identifiers.length === 0) return `stream ${flow.stream.stream} has no target`
  const marks = marksOf(stream)
  return marks[slot % marks.length] ?? "the slot is empty"
}

/** The flow that takes a packet. */
export const flowOf = (flows: ReadonlyArray<Flow>, packet: Packet): Flow | undefined =>
  flows.filter((one) => matches(one, packet))
    .toSorted((a, b) => b.priority - a.priority || (a.name < b.name ? -1 : 1))[0]

const tables = new WeakMap<Model.Stream, ReadonlyArray<number>>()

/** The marks of the slots of a stream; tables are large, so each is made once. */
export const marksOf = (stream: Model.Stream): ReadonlyArray<number> => {
  const known = tables.get(stream)
  if (known !== undefined) return known
  const marks = Ruleset.marks(stream)
  tables.set(stream, marks)
  return marks
}

const matches = (flow: Flow, packet: Packet): boolean =>
  flow.vips.some(({ address }) => Cidr.contains(address, Cidr.host(packet.destination)))
  && (flow.sourceSubnets.length === 0
    || flow.sourceSubnets.some((subnet) => Cidr.contains(subnet, Cidr.host(packet.source))))
  && (flow.protocols.length === 0 || flow.protocols.includes(packet.protocol))
  && isWithin(flow.destinationPorts, packet.destinationPort)
  && isWithin(flow.sourcePorts, packet.sourcePort)

const isWithin = (ranges: Flow["sourcePorts"], port: number): boolean =>
  ranges.length === 0 || ranges.some(({ from, to }) => from <= port && port <= to)

/** Follows a packet from where it enters or is sent; the mark is that of the first namespace. */
export const walk = (
  kernels: Kernels.Kernels,
  start: string,
  packet: Pick<Packet, "source" | "destination">,
  mark?: number
): End => {
  let netns = start
  let own = mark
  let iif: string | undefined
  for (let hop = 0; hop < hopLimit; hop++) {
    const snapshot = kernels.get(netns)
    const isHere = addressesOf(snapshot.addresses).get(packet.destination)?.some(({ link }) => isUp(snapshot, link))
    if (isHere === true && own === undefined) return { _tag: "Delivered", netns }
    const route = lookup(snapshot, { ...packet, iif, mark: own })
    if (typeof route === "string") return { _tag: "Dropped", netns, why: route }
    if (kernels.isGuarded(netns, iif, route.link)) return { _tag: "Dropped", netns, why: "it would leave the trench" }
    const next = cross(kernels, netns, route.link, route.via ?? packet.destination)
    if (next._tag === "Outside") return { _tag: "Left", netns, link: route.link, via: route.via }
    if (next._tag === "Nowhere") return { _tag: "Dropped", netns, why: next.why }
    netns = next.netns
    iif = next.link
    own = undefined
  }
  return { _tag: "Dropped", netns, why: "it goes round in circles" }
}

interface Way {
  readonly link: string
  readonly via: Ip.Ip | undefined
}

/** The way out of a namespace, or why there is none. */
const lookup = (
  snapshot: Kernel.Snapshot,
  { destination, iif, mark, source }: Pick<Packet, "source" | "destination"> & {
    readonly iif: string | undefined
    readonly mark: number | undefined
  }
): Way | string => {
  const family = Ip.family(destination)
  for (const table of Lookup.walk(withMain(snapshot.rules), { source, mark, iif })) {
    const route = (tablesOf(snapshot.routes).get(table) ?? [])
      .filter((one) =>
        one.family === family && Cidr.contains(one.destination, Cidr.host(destination))
        && (one.type !== "unicast" || one.hops.some(({ link }) => link !== undefined && isUp(snapshot, link)))
      )
      .toSorted((a, b) => Cidr.length(b.destination) - Cidr.length(a.destination) || a.metric - b.metric)[0]
    if (route === undefined) continue
    if (route.type !== "unicast") return `${route.type} in table ${table}`
    const hops = route.hops.flatMap(({ link, via }) =>
      link !== undefined && isUp(snapshot, link) ? [{ link, via }] : []
    )
    return hops[0] ?? `no hop in table ${table}`
  }
  return "no route"
}

type Crossing =
  | { readonly _tag: "Arrived"; readonly netns: string; readonly link: string }
  | { readonly _tag: "Outside" }
  | { readonly _tag: "Nowhere"; readonly why: string }

/** Where a frame for the address goes that leaves by a link. */
const cross = (kernels: Kernels.Kernels, netns: string, link: string, address: Ip.Ip): Crossing => {
  const snapshot = kernels.get(netns)
  const device = linksOf(snapshot.links).get(link)
  if (device?.kind === "bridge") return flood(kernels, netns, link, address)
  const peer = kernels.peer({ netns, link })
  if (peer === undefined) return { _tag: "Outside" }
  return arrive(kernels, peer, address) ?? { _tag: "Nowhere", why: `nobody at ${address} behind ${link}` }
}

/** At the other end: it holds the address, or it is a port of a switch. */
const arrive = (kernels: Kernels.Kernels, { link, netns }: Kernels.Port, address: Ip.Ip): Crossing | undefined => {
  const snapshot = kernels.get(netns)
  const device = linksOf(snapshot.links).get(link)
  if (device?.up !== true) return undefined
  const { master } = device
  if (master !== undefined) {
    const crossing = flood(kernels, netns, master, address)
    return crossing._tag === "Nowhere" ? undefined : crossing
  }
  return holds(snapshot, link, address) ? { _tag: "Arrived", netns, link } : undefined
}

const flood = (kernels: Kernels.Kernels, netns: string, bridge: string, address: Ip.Ip): Crossing => {
  const snapshot = kernels.get(netns)
  if (!isUp(snapshot, bridge)) return { _tag: "Nowhere", why: `${bridge} is down` }
  if (holds(snapshot, bridge, address)) return { _tag: "Arrived", netns, link: bridge }
  for (const port of snapshot.links) {
    const peer = port.master === bridge && port.up ? kernels.peer({ netns, link: port.name }) : undefined
    if (peer === undefined) continue
    const other = kernels.get(peer.netns)
    const device = linksOf(other.links).get(peer.link)
    if (device?.up === true && device.master === undefined && holds(other, peer.link, address)) {
      return { _tag: "Arrived", netns: peer.netns, link: peer.link }
    }
  }
  return { _tag: "Nowhere", why: `nobody at ${address} on ${bridge}` }
}

const holds = ({ addresses }: Kernel.Snapshot, link: string, address: Ip.Ip): boolean =>
  addressesOf(addresses).get(address)?.some((one) => one.link === link) === true

const isUp = ({ links }: Kernel.Snapshot, link: string): boolean => linksOf(links).get(link)?.up === true

// Namespaces stay as they are while many packets pass.
const linksOf = Memo.each((links: Kernel.Snapshot["links"]) => new Map(links.map((link) => [link.name, link])))
const addressesOf = Memo.each((addresses: Kernel.Snapshot["addresses"]) =>
  Map.groupBy(addresses, ({ cidr }) => Cidr.ip(cidr))
)
const tablesOf = Memo.each((routes: Kernel.Snapshot["routes"]) => Map.groupBy(routes, ({ table }) => table))
const withMain = Memo.each((rules: Kernel.Snapshot["rules"]): Kernel.Snapshot["rules"] => [
  ...rules,
  ...Ip.families.map((family) => ({ family, priority: mainPriority, table: mainTable, foreign: false }))
])
