/** The maps and chains that find the flow of a packet and from it the slot in the table of its stream. */
import type { ByteMatch } from "../config/Model.ts"
import type * as Cidr from "../net/Cidr.ts"
import * as Classification from "./Classification.ts"
import type { Stream } from "./Model.ts"
import { chain, map, namePart, type Object } from "./Objects.ts"
import type { Words } from "./Words.ts"

/** The flows of one family in layers, and the streams by name. */
export interface Flows {
  readonly transport: ReadonlyArray<ReadonlyArray<Classification.Entry>>
  readonly pings: ReadonlyArray<ReadonlyArray<Classification.Entry>>
  readonly streams: ReadonlyMap<string, Stream>
}

/** The name of the map from slot to mark of the stream. */
export const slotsOf = ({ offset }: Stream): string => `slots-${offset}`

/** The counter of what a flow has caught, in either table. */
export const counterOf = ({ offset }: Stream, flow: string): string => `flow-${key(offset, flow)}`

/**
 * What a packet has to be looked up by in the maps of `transport`. The kernel goes on, field by field, with every box that
 * still fits, so what tells flows apart best comes first.
 */
export const transportKey = ({ ip }: Words): string => `th dport . meta l4proto . ${ip} daddr . ${ip} saddr . th sport`

/** Part of the agreement between load balancers, as is the order of the fields of the keys. */
export const into = ({ offset, slots }: Stream, target: string): string =>
  `mod ${slots} seed 0x51ce goto ${target}-${offset}`

/** The maps of plain packets, the last of the objects, and what they refer to; `target` begins the name of chains. */
export const transport = (
  w: Words,
  { streams, transport }: Flows,
  target: string
): { readonly chains: ReadonlyArray<Object>; readonly maps: ReadonlyArray<Object> } => {
  const { address, ip, n } = w
  const checks = new Map<string, Object>()
  const chains = new Map<string, Object>()
  const verdict = (entry: Classification.Entry): string => {
    const go = goTo(
      chains,
      entry,
      streams,
      `flow${n}`,
      (stream) =>
        `meta mark set jhash ${ip} saddr . ${ip} daddr . meta l4proto . th sport . th dport ${into(stream, target)}`
    )
    if (entry.bytes.length === 0) return go
    const rules = [...entry.bytes.map(mismatch), go]
    const check = checks.get(rules.join("\n")) ?? chain(`bytes${n}-${checks.size}`, rules)
    checks.set(rules.join("\n"), check)
    return `jump ${check.name}`
  }
  const maps = transport.map((layer, i) =>
    map(
      `flows${n}-${i}`,
      `type inet_service . inet_proto . ${address} . ${address} . inet_service : verdict; flags interval`,
      layer.map((entry) => `${boxText(entry)} : ${verdict(entry)}`)
    )
  )
  return { chains: [...chains.values(), ...checks.values()], maps }
}

/** The same for pings, which belong to a flow by their addresses alone. */
export const pings = (
  w: Words,
  { pings, streams }: Flows
): { readonly chains: ReadonlyArray<Object>; readonly maps: ReadonlyArray<Object> } => {
  const { address, icmp, ip, n } = w
  const chains = new Map<string, Object>()
  const verdict = (entry: Classification.Entry): string =>
    goTo(
      chains,
      entry,
      streams,
      `ping${n}`,
      (stream) => `meta mark set jhash ${ip} saddr . ${ip} daddr . meta l4proto . ${icmp} id ${into(stream, "target")}`
    )
  const maps = pings.map((layer, i) =>
    map(
      `pings${n}-${i}`,
      `type ${address} . ${address} : verdict; flags interval`,
      layer.map((entry) => `${entry.destination} . ${entry.source} : ${verdict(entry)}`)
    )
  )
  return { chains: [...chains.values()], maps }
}

/** An address range as raw bytes are compared. */
export const rawSpan = (cidr: Cidr.Cidr): string => {
  const { first, last } = Classification.span(cidr)
  return rangeText(`0x${first.toString(16)}`, `0x${last.toString(16)}`)
}

export const rangeText = (from: string | number, to: string | number): string =>
  from === to ? `${from}` : `${from}-${to}`

const key = (offset: number, flow: string): string => `${offset}-${namePart(flow)}`

// Each flow has a chain of its own, which counts what the flow catches.
const goTo = (
  chains: Map<string, Object>,
  entry: Classification.Entry,
  streams: Flows["streams"],
  prefix: string,
  rule: (stream: Stream) => string
): string => {
  const stream = streams.get(entry.stream)
  if (stream === undefined) return "continue"
  const name = `${prefix}-${key(stream.offset, entry.flow)}`
  if (!chains.has(name)) {
    chains.set(name, chain(name, [`counter name ${counterOf(stream, entry.flow)} ${rule(stream)}`]))
  }
  return `goto ${name}`
}

const mismatch = ({ length, mask, offset, protocol, value }: ByteMatch): string => {
  const bytes = `@th,${offset * 8},${length * 8}`
  const compared = mask === undefined ? bytes : `${bytes} & ${mask}`
  return `meta l4proto ${protocol} ${compared} != ${value} return`
}

const boxText = (box: Classification.Box): string =>
  [
    ...[box.destinationPort, box.protocol].map(({ from, to }) => rangeText(from, to)),
    box.destination,
    box.source,
    rangeText(box.sourcePort.from, box.sourcePort.to)
  ].join(" . ")
