/** The maps and chains that find the flow of a packet and from it the slot in the table of its stream. */
import type { ByteMatch } from "../config/Model.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Classification from "./Classification.ts"
import type { Stream } from "./Model.ts"
import { chain, map, namePart, type Object, roomFor } from "./Objects.ts"
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
export const counterOf = (stream: Stream, flow: string): string => `flow-${key(stream, flow)}`

/**
 * The mark for a key. The order of the fields of keys, the seed and the slots are the agreement between load balancers.
 * The type of the map is what makes the kernel take a hash as its key without writing it to the packet first.
 */
export const marking = (stream: Stream, key: string): string =>
  `meta mark set jhash ${key} mod ${stream.slots} seed 0x51ce map @${slotsOf(stream)}`

export const slotsType = ({ slots }: Stream): string => `typeof numgen inc mod ${slots} : meta mark; size ${slots}`

/** What counts a marked packet and lets it go on to its target on the general way, and what else becomes of it. */
export const going = (stream: Stream): string => `meta mark @${hitsOf(stream)} accept`
export const otherwise = "counter drop"

/** The set that counts what each target of a stream gets on the general way. */
export const hitsOf = ({ offset }: Stream): string => `hits-${offset}`

/** What packets are looked up in, with what that refers to, and the rules that do so. */
export interface Lookups {
  readonly chains: ReadonlyArray<Object>
  readonly maps: ReadonlyArray<Object>
  readonly rules: ReadonlyArray<string>
}

/** The rules of a stream, of which the first begins as given. */
export type Go = (stream: Stream, beginning: string) => ReadonlyArray<string>

export const toTarget: Go = (stream, beginning) => [`${beginning} ${going(stream)}`, otherwise]

/**
 * For plain packets; `protocol` is the word for what is looked up, `go` are the rules for those of a stream.
 *
 * `isEarly` tells that the first rule can be asked about any packet: it finds only TCP, UDP and SCTP for a VIP.
 */
export const transport = (
  w: Words,
  { streams, transport }: Flows,
  { go, protocol }: { readonly protocol: string; readonly go: Go }
): Lookups & { readonly isEarly: boolean } => {
  const { address, ip, n } = w
  const checks = new Map<string, Object>()
  const chains = new Map<string, Object>()
  const verdict = (entry: Classification.Entry): string => {
    const verdict = goTo(
      chains,
      entry,
      streams,
      `flow${n}`,
      (stream, count) => go(stream, `${marking(stream, `${w.pair} . meta l4proto . th sport . th dport`)} ${count}`)
    )
    if (entry.bytes.length === 0) return verdict
    const rules = [...entry.bytes.map(mismatch), verdict]
    const check = checks.get(rules.join("\n")) ?? chain(`bytes${n}-${checks.size}`, rules)
    checks.set(rules.join("\n"), check)
    return `jump ${check.name}`
  }
  const types: { readonly [F in Classification.Field]: string } = {
    destinationPort: "inet_service",
    protocol: "inet_proto",
    destination: address,
    source: address,
    sourcePort: "inet_service"
  }
  const words: { readonly [F in Classification.Field]: string } = {
    destinationPort: "th dport",
    protocol,
    destination: `${ip} daddr`,
    source: `${ip} saddr`,
    sourcePort: "th sport"
  }
  const all = transport.flatMap((layer, i) =>
    Classification.lookups(layer).map(({ boxes, fields, isExact }) => {
      const name = `${isExact ? "flows" : "ranges"}${n}-${i}`
      return {
        map: map(
          name,
          `type ${fields.map((field) => types[field]).join(" . ")} : verdict; `
            + (isExact ? roomFor(boxes.length) : "flags interval"),
          boxes.map((box) => `${fields.map((field) => valueText(box, field)).join(" . ")} : ${verdict(box)}`)
        ),
        rule: `${fields.map((field) => words[field]).join(" . ")} vmap @${name}`,
        isEarly: isExact && fields.includes("protocol")
      }
    })
  )
  return {
    isEarly: all[0]?.isEarly === true,
    chains: [...chains.values(), ...checks.values()],
    maps: all.map(({ map }) => map),
    rules: all.map(({ rule }) => rule)
  }
}

/** The same for pings, which belong to a flow by their addresses alone. */
export const pings = (w: Words, { pings, streams }: Flows): Lookups => {
  const { address, icmp, ip, n } = w
  const chains = new Map<string, Object>()
  const verdict = (entry: Classification.Entry): string =>
    goTo(
      chains,
      entry,
      streams,
      `ping${n}`,
      (stream, count) =>
        toTarget(stream, `${count} ${marking(stream, `${ip} saddr . ${ip} daddr . meta l4proto . ${icmp} id`)}`)
    )
  const maps = pings.map((layer, i) =>
    map(
      `pings${n}-${i}`,
      `type ${address} . ${address} : verdict; flags interval`,
      layer.map((entry) => `${entry.destination} . ${entry.source} : ${verdict(entry)}`)
    )
  )
  return {
    chains: [...chains.values()],
    maps,
    rules: maps.map(({ name }) => `${ip} daddr . ${ip} saddr vmap @${name}`)
  }
}

/** An address range as raw bytes are compared. */
export const rawSpan = (cidr: Cidr.Cidr): string => {
  const { first, last } = Classification.span(cidr)
  return rangeText(`0x${first.toString(16)}`, `0x${last.toString(16)}`)
}

/** A prefix, or the address if it is just one: where single values are stored, the kernel takes no prefixes. */
export const addressText = (cidr: Cidr.Cidr): string =>
  Cidr.length(cidr) === Ip.bits(Cidr.family(cidr)) ? Cidr.ip(cidr) : cidr

export const rangeText = (from: string | number, to: string | number): string =>
  from === to ? `${from}` : `${from}-${to}`

/** Names a flow of a stream in names of objects. */
export const key = ({ offset }: Stream, flow: string): string => `${offset}-${namePart(flow)}`

// Each flow has a chain of its own, which counts what the flow catches.
const goTo = (
  chains: Map<string, Object>,
  entry: Classification.Entry,
  streams: Flows["streams"],
  prefix: string,
  rules: (stream: Stream, count: string) => ReadonlyArray<string>
): string => {
  const stream = streams.get(entry.stream)
  if (stream === undefined) return "continue"
  const name = `${prefix}-${key(stream, entry.flow)}`
  if (!chains.has(name)) {
    chains.set(name, chain(name, rules(stream, `counter name ${counterOf(stream, entry.flow)}`)))
  }
  return `goto ${name}`
}

const mismatch = ({ length, mask, offset, protocol, value }: ByteMatch): string => {
  const bytes = `@th,${offset * 8},${length * 8}`
  const compared = mask === undefined ? bytes : `${bytes} & ${mask}`
  return `meta l4proto ${protocol} ${compared} != ${value} return`
}

const valueText = (box: Classification.Box, field: Classification.Field): string => {
  if (field === "source" || field === "destination") return addressText(box[field])
  const { from, to } = box[field]
  return rangeText(from, to)
}
