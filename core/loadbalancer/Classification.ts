/**
 * Decides which stream a packet belongs to, as layers of boxes that nftables can look up at once.
 *
 * A flow is a union of boxes: destination × source × protocol × destination port × source port. nftables looks a packet
 * up in all boxes of a map in one step, however many they are, but its boxes must not overlap. So flows are laid out in
 * layers: inside one no boxes overlap, and the first layer with a match decides. Flows that compete for no packet share
 * a layer, so there are as many layers as flows that compete for the same packet.
 *
 * 1. The flow with the highest priority wins; of equal ones the first by name (nfqlb leaves that open).
 * 2. The answer does not depend on the order of the flows.
 * 3. A flow without VIPs catches nothing.
 * 4. A box that could never win is left out.
 */
import type { ByteMatch, Flow, PortRange, Protocol } from "../config/Model.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"

/** What is looked up: plain packets by everything, pings by addresses alone. */
export type Kind = "transport" | "ping"

/** Numbers with both ends included. */
export interface Span {
  readonly first: bigint
  readonly last: bigint
}

/** A set of packets of one family. */
export interface Box {
  readonly destination: Cidr.Cidr
  readonly source: Cidr.Cidr
  /** 0 to 255 for any. */
  readonly protocol: PortRange
  readonly destinationPort: PortRange
  readonly sourcePort: PortRange
}

/** A box and where its packets go: on, if the bytes do not match, to the next layer. */
export interface Entry extends Box {
  readonly stream: string
  readonly flow: string
  readonly bytes: ReadonlyArray<ByteMatch>
}

/** What boxes are told apart by, in the order of the keys of maps. */
export const fields = ["destinationPort", "protocol", "destination", "source", "sourcePort"] as const
export type Field = typeof fields[number]

/** Boxes of one layer that are looked up together. */
export interface Lookup<B extends Box = Entry> {
  /** Those that some box of the lookup is limited in. */
  readonly fields: ReadonlyArray<Field>
  /** Whether each box is a single value in each field, so that a hash finds it. */
  readonly isExact: boolean
  readonly boxes: ReadonlyArray<B>
}

/** The numbers of the protocols (IANA). */
export const protocolNumbers: { readonly [P in Protocol]: number } = { tcp: 6, udp: 17, sctp: 132 }

/** The layers of one family, the deciding one first. */
export const layers = (
  flows: ReadonlyArray<Flow>,
  family: Ip.Family,
  kind: Kind
): ReadonlyArray<ReadonlyArray<Entry>> => {
  const placed: Array<Placed> = []
  for (const flow of flows.toSorted(byPrecedence)) {
    for (const entry of entriesOf(flow, family, kind)) {
      const spans = spansOf(entry)
      let layer = 0
      let isShadowed = false
      for (const other of placed) {
        if (!overlap(other.spans, spans)) continue
        layer = Math.max(layer, other.layer + 1)
        isShadowed ||= other.entry.bytes.length === 0 && cover(other.spans, spans)
      }
      if (!isShadowed) placed.push({ entry, spans, layer })
    }
  }
  const all: Array<Array<Entry>> = []
  for (const { entry, layer } of placed) (all[layer] ??= []).push(entry)
  return all
}

/**
 * A layer as at most two lookups, to be made in any order: a hash of those boxes that consist of few single values, which
 * is what most flows ask for and costs a fraction, and one of intervals for the others.
 */
export const lookups = <B extends Box>(layer: ReadonlyArray<B>): ReadonlyArray<Lookup<B>> => {
  const few = layer.filter((box) => volume(box) <= widest)
  const [common = []] = [...Map.groupBy(few, (box) => limited(box).join()).values()].toSorted((a, b) =>
    b.length - a.length
  )
  const exact: Array<B> = []
  const taken = new Set<B>()
  for (const box of common) {
    if (exact.length + volume(box) > most) continue
    taken.add(box)
    exact.push(...values(box))
  }
  const others = layer.filter((box) => !taken.has(box))
  return [
    { fields: exact.slice(0, 1).flatMap(limited), isExact: true, boxes: exact },
    {
      fields: fields.filter((field) => others.some((box) => limited(box).includes(field))),
      isExact: false,
      boxes: others
    }
  ].filter(({ boxes }) => boxes.length > 0)
}

// Values of a box, and elements of a map.
const widest = 128
const most = 8_192

/** Prefixes of the family without those that lie inside others, in order. */
export const distinct = (cidrs: ReadonlyArray<Cidr.Cidr>, family: Ip.Family): ReadonlyArray<Cidr.Cidr> => {
  const kept: Array<Cidr.Cidr> = []
  const own = cidrs.filter((cidr) => Cidr.family(cidr) === family).map(Cidr.network)
  for (const cidr of own.toSorted((a, b) => Cidr.length(a) - Cidr.length(b))) {
    if (!kept.some((wider) => Cidr.contains(wider, cidr))) kept.push(cidr)
  }
  return kept.toSorted(Cidr.compare)
}

/** The addresses of a prefix. */
export const span = (cidr: Cidr.Cidr): Span => {
  const first = Ip.toBigInt(Cidr.ip(cidr))
  return { first, last: first + (1n << BigInt(Ip.bits(Cidr.family(cidr)) - Cidr.length(cidr))) - 1n }
}

interface Placed {
  readonly entry: Entry
  readonly spans: ReadonlyArray<Span>
  readonly layer: number
}

const byPrecedence = (a: Flow, b: Flow): number => b.priority - a.priority || (a.name < b.name ? -1 : 1)

const anyPorts: ReadonlyArray<PortRange> = [{ from: 0, to: 65_535 }]
const anyProtocol: ReadonlyArray<PortRange> = [{ from: 0, to: 255 }]

const entriesOf = (flow: Flow, family: Ip.Family, kind: Kind): ReadonlyArray<Entry> => {
  const destinations = distinct(flow.vips.map(({ address }) => address), family)
  const sources = flow.sourceSubnets.length === 0
    ? [Cidr.defaultRoute(family)]
    : distinct(flow.sourceSubnets, family)
  const isPing = kind === "ping"
  const numbers = flow.protocols.map((protocol) => protocolNumbers[protocol])
  const protocols = isPing || numbers.length === 0
    ? anyProtocol
    : merged(numbers.map((number) => ({ from: number, to: number })))
  const destinationPorts = isPing ? anyPorts : portsOf(flow.destinationPorts)
  const sourcePorts = isPing ? anyPorts : portsOf(flow.sourcePorts)
  const bytes = isPing ? [] : flow.byteMatches
  const { stream } = flow.stream
  return destinations.flatMap((destination) =>
    sources.flatMap((source) =>
      protocols.flatMap((protocol) =>
        destinationPorts.flatMap((destinationPort) =>
          sourcePorts.map((sourcePort) => ({
            destination,
            source,
            protocol,
            destinationPort,
            sourcePort,
            stream,
            flow: flow.name,
            bytes
          }))
        )
      )
    )
  )
}

const portsOf = (ranges: ReadonlyArray<PortRange>): ReadonlyArray<PortRange> =>
  ranges.length === 0 ? anyPorts : merged(ranges)

// Ranges that neither touch nor overlap, in order.
const merged = (ranges: ReadonlyArray<PortRange>): ReadonlyArray<PortRange> => {
  const all: Array<PortRange> = []
  for (const range of ranges.toSorted((a, b) => a.from - b.from)) {
    const last = all.at(-1)
    if (last === undefined || range.from > last.to + 1) all.push(range)
    else all[all.length - 1] = { from: last.from, to: Math.max(last.to, range.to) }
  }
  return all
}

// A destination is always looked at: it tells what is for a VIP at all.
const limited = (box: Box): ReadonlyArray<Field> =>
  fields.filter((field) => {
    switch (field) {
      case "destination":
        return true
      case "source":
        return Cidr.length(box.source) > 0
      case "protocol":
        return sizeOf(box.protocol) < 256
      default:
        return sizeOf(box[field]) < 65_536
    }
  })

const sizeOf = ({ from, to }: PortRange): number => to - from + 1

const isHost = (cidr: Cidr.Cidr): boolean => Cidr.length(cidr) === Ip.bits(Cidr.family(cidr))

// How many single values the box has in the fields that limit it.
const volume = (box: Box): number =>
  limited(box).reduce(
    (product, field) =>
      product *
      (field === "destination" || field === "source" ? (isHost(box[field]) ? 1 : Infinity) : sizeOf(box[field])),
    1
  )

const values = <B extends Box>(box: B): ReadonlyArray<B> => {
  const each = (field: "destinationPort" | "protocol" | "sourcePort"): ReadonlyArray<PortRange> =>
    limited(box).includes(field)
      ? Array.from({ length: sizeOf(box[field]) }, (_, n) => ({ from: box[field].from + n, to: box[field].from + n }))
      : [box[field]]
  return each("destinationPort").flatMap((destinationPort) =>
    each("protocol").flatMap((protocol) =>
      each("sourcePort").map((sourcePort) => ({ ...box, destinationPort, protocol, sourcePort }))
    )
  )
}

const spansOf = (box: Box): ReadonlyArray<Span> => [
  span(box.destination),
  ...[box.destinationPort, box.protocol, box.sourcePort].map(({ from, to }) => ({
    first: BigInt(from),
    last: BigInt(to)
  })),
  span(box.source)
]

const overlap = (a: ReadonlyArray<Span>, b: ReadonlyArray<Span>): boolean =>
  a.every(({ first, last }, i) => {
    const other = b[i]
    return other !== undefined && first <= other.last && other.first <= last
  })

const cover = (outer: ReadonlyArray<Span>, inner: ReadonlyArray<Span>): boolean =>
  outer.every(({ first, last }, i) => {
    const other = inner[i]
    return other !== undefined && first <= other.first && other.last <= last
  })
