/**
 * The sets, maps and chains of the load balancer as text in the language of nftables.
 *
 * Names end in the family and the layer, or in the identifier offset of their stream, which no two streams share.
 */
import type { ByteMatch, PortNat, Protocol } from "../config/Model.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Classification from "./Classification.ts"
import type { Ruleset, Stream } from "./Model.ts"

/** One object of the table; `isFilled` when its text holds its elements. */
export interface Object {
  readonly kind: "set" | "map" | "chain"
  readonly name: string
  readonly text: string
  readonly isFilled: boolean
}

/** All objects, those that others refer to first. The elements of the slot maps are not part of them. */
export const objects = (ruleset: Ruleset): ReadonlyArray<Object> => {
  const streams = ruleset.streams.toSorted((a, b) => a.offset - b.offset)
  const offsets = new Map(streams.map(({ name, offset }) => [name, offset]))
  const flows = ruleset.flows.filter(({ stream }) => offsets.has(stream.stream))
  const families = Ip.families.map((family) => {
    const vips = Classification.distinct(ruleset.vips, family)
    const transport = Classification.layers(flows, family, "transport")
    const pings = Classification.layers(flows, family, "ping")
    return ofFamily(words[family], { vips, transport, pings, streams, offsets })
  })
  return [
    ...streams.flatMap(ofStream),
    ...families.flat(),
    ...entrance(),
    ...nat(ruleset.portNats)
  ]
}

/** The name of the map from slot to mark of the stream with the offset. */
export const slotsOf = (offset: number): string => `slots-${offset}`

interface Words {
  readonly family: Ip.Family
  readonly n: "4" | "6"
  readonly ip: "ip" | "ip6"
  readonly icmp: "icmp" | "icmpv6"
  readonly address: "ipv4_addr" | "ipv6_addr"
  /** The messages that carry the head of the packet they are about, and whether its fields are where we look. */
  readonly errors: string
  /** Of the packet inside an ICMP error: `th` is the ICMP header there, and its payload starts after 8 bytes. */
  readonly inner: {
    readonly source: string
    readonly destination: string
    readonly protocol: string
    readonly sourcePort: string
    readonly destinationPort: string
  }
}

const words: { readonly [F in Ip.Family]: Words } = {
  v4: {
    family: "v4",
    n: "4",
    ip: "ip",
    icmp: "icmp",
    address: "ipv4_addr",
    // Without options in the inner header: 5 words.
    errors: "icmp type { 3, 4, 5, 11, 12 } @th,68,4 5",
    inner: {
      source: "@th,160,32",
      destination: "@th,192,32",
      protocol: "@th,136,8",
      sourcePort: "@th,224,16",
      destinationPort: "@th,240,16"
    }
  },
  v6: {
    family: "v6",
    n: "6",
    ip: "ip6",
    icmp: "icmpv6",
    address: "ipv6_addr",
    errors: "icmpv6 type { 1, 2, 3, 4 }",
    inner: {
      source: "@th,128,128",
      destination: "@th,256,128",
      protocol: "@th,112,8",
      sourcePort: "@th,384,16",
      destinationPort: "@th,400,16"
    }
  }
}

// Part of the agreement between load balancers, as is the order of the fields of the keys.
const seed = "seed 0x51ce"

const ofStream = (stream: Stream): ReadonlyArray<Object> => [
  map(slotsOf(stream.offset), "type mark : mark"),
  chain(`target-${stream.offset}`, [
    `meta mark set meta mark map @${slotsOf(stream.offset)} accept`,
    "counter drop"
  ]),
  ...Object.values(words).flatMap(({ icmp, inner, ip, n }) => {
    const into = `mod ${stream.slots} ${seed} goto target-${stream.offset}`
    const plain = `${ip} saddr . ${ip} daddr . meta l4proto`
    // The packet inside an error went the other way, from the target to the client.
    const turned = `${inner.destination} . ${inner.source} . ${inner.protocol}`
    return [
      chain(`hash${n}-${stream.offset}`, [`meta mark set jhash ${plain} . th sport . th dport ${into}`]),
      chain(`ping${n}-${stream.offset}`, [`meta mark set jhash ${plain} . ${icmp} id ${into}`]),
      chain(`error${n}-${stream.offset}`, [
        `meta mark set jhash ${turned} . ${inner.destinationPort} . ${inner.sourcePort} ${into}`
      ])
    ]
  })
]

interface Family {
  readonly vips: ReadonlyArray<Cidr.Cidr>
  readonly transport: ReadonlyArray<ReadonlyArray<Classification.Entry>>
  readonly pings: ReadonlyArray<ReadonlyArray<Classification.Entry>>
  readonly streams: ReadonlyArray<Stream>
  readonly offsets: ReadonlyMap<string, number>
}

const ofFamily = (w: Words, { offsets, pings, transport, vips }: Family): ReadonlyArray<Object> => {
  const { address, icmp, inner, ip, n } = w
  const offset = ({ stream }: Classification.Entry): number => offsets.get(stream) ?? 0
  const checks = new Map<string, Object>()
  const transportVerdict = (entry: Classification.Entry): string => {
    if (entry.bytes.length === 0) return `goto hash${n}-${offset(entry)}`
    const rules = [...entry.bytes.map(mismatch), `goto hash${n}-${offset(entry)}`]
    const check = checks.get(rules.join("\n")) ?? chain(`bytes${n}-${checks.size}`, rules)
    checks.set(rules.join("\n"), check)
    return `jump ${check.name}`
  }
  const flowMaps = transport.map((layer, i) =>
    map(
      `flows${n}-${i}`,
      `type ${address} . ${address} . inet_proto . inet_service . inet_service : verdict; flags interval`,
      layer.map((entry) => `${boxText(entry)} : ${transportVerdict(entry)}`)
    )
  )
  const pingMaps = pings.map((layer, i) =>
    map(
      `pings${n}-${i}`,
      `type ${address} . ${address} : verdict; flags interval`,
      layer.map((entry) => `${entry.destination} . ${entry.source} : goto ping${n}-${offset(entry)}`)
    )
  )
  const errorKey = `${inner.source} . ${inner.destination} . ${inner.sourcePort} . ${inner.destinationPort}`
  const errors = protocols.map(([protocol, number]) => ({
    protocol,
    number,
    // Bytes of the inner packet say nothing about the packets of the flow, so they are not looked at.
    maps: transport.map((layer, i) => {
      const entries = layer.filter((entry) => entry.protocol.from <= number && number <= entry.protocol.to)
      return map(
        `errors${n}-${protocol}-${i}`,
        `typeof ${errorKey} : verdict; flags interval`,
        entries.map((entry) => `${rawText(entry)} : goto error${n}-${offset(entry)}`)
      )
    }).filter(({ isFilled }) => isFilled)
  })).filter(({ maps }) => maps.length > 0)
  const lookups = (key: string, maps: ReadonlyArray<Object>): ReadonlyArray<string> => [
    ...maps.map(({ name }) => `${key} vmap @${name}`),
    "counter drop"
  ]
  return [
    set(`vips${n}`, `type ${address}; flags interval`, vips),
    // The same for raw bytes: their type is an integer, and sets are compared by type.
    set(`inner-vips${n}`, `typeof ${inner.destination}; flags interval`, vips.map(rawSpan)),
    ...checks.values(),
    ...flowMaps,
    ...pingMaps,
    ...errors.flatMap(({ maps, protocol }) => [...maps, chain(`errors${n}-${protocol}`, lookups(errorKey, maps))]),
    chain(`errors${n}`, [
      ...errors.map(({ number, protocol }) => `${inner.protocol} ${number} goto errors${n}-${protocol}`),
      "counter drop"
    ]),
    chain(`pings${n}`, lookups(`${ip} daddr . ${ip} saddr`, pingMaps)),
    chain(`icmp${n}`, [
      `${icmp} type { echo-request, echo-reply } goto pings${n}`,
      `${w.errors} goto errors${n}`,
      "counter drop"
    ]),
    chain(`flows${n}`, [
      `meta l4proto ${icmp} goto icmp${n}`,
      ...lookups(`${ip} daddr . ${ip} saddr . meta l4proto . th dport . th sport`, flowMaps)
    ])
  ]
}

const entrance = (): ReadonlyArray<Object> => [
  chain("balance", [
    "type filter hook prerouting priority filter; policy accept",
    "ip daddr @vips4 goto flows4",
    "ip6 daddr @vips6 goto flows6"
  ]),
  // Ports are only in the first fragment. A rule with `tproxy` makes the kernel put fragments together before the rules,
  // without connection tracking; it must never match.
  chain("reassemble", [
    "type filter hook prerouting priority mangle; policy accept",
    "meta mark 0xffffffff meta l4proto tcp tproxy ip to :1",
    "meta mark 0xffffffff meta l4proto tcp tproxy ip6 to :1"
  ]),
  // ICMP errors of this node: about a target's packet they go to that target; about a client's packet they come from the
  // VIP, and not through the table of the target, whose mark the kernel may have copied (fwmark_reflect).
  chain("own-errors", [
    "type route hook output priority raw; policy accept",
    "ip daddr @vips4 meta l4proto icmp goto icmp4",
    "ip6 daddr @vips6 meta l4proto icmpv6 goto icmp6",
    `icmp type { 3, 11, 12 } ${words.v4.inner.destination} @inner-vips4 `
    + `ip saddr set ${words.v4.inner.destination} meta mark set 0`,
    `icmpv6 type { 1, 2, 3, 4 } ${words.v6.inner.destination} @inner-vips6 `
    + `ip6 saddr set ${words.v6.inner.destination} meta mark set 0`
  ])
]

const protocols: ReadonlyArray<readonly [Protocol, number]> = [["tcp", 6], ["udp", 17], ["sctp", 132]]

// After the balancing, which looks at the ports as the client knows them.
const nat = (nats: ReadonlyArray<PortNat>): ReadonlyArray<Object> => {
  const parts = Object.values(words).flatMap(({ address, family, ip, n }) =>
    protocols.flatMap(([protocol]) => {
      const own = nats.filter((nat) => nat.protocol === protocol).flatMap(({ port, targetPort, vips }) =>
        Classification.distinct(vips.map(({ address }) => address), family).map((vip) => ({ vip, port, targetPort }))
      ).toSorted((a, b) => Cidr.compare(a.vip, b.vip) || a.port - b.port || a.targetPort - b.targetPort)
      if (own.length === 0) return []
      const type = `type ${address} . inet_service : inet_service; flags interval`
      const [there, back] = [`nat${n}-${protocol}`, `unnat${n}-${protocol}`]
      const toTarget = `${ip} daddr . ${protocol} dport map @${there}`
      const toClient = `${ip} saddr . ${protocol} sport map @${back}`
      const set = (rewriting: string): ReadonlyArray<string> => [
        `${rewriting}${protocol} dport set ${toTarget}`,
        `${rewriting}${protocol} sport set ${toClient}`
      ]
      return [{
        maps: [
          map(there, type, single(own.map(({ port, targetPort, vip }) => [vip, port, targetPort]))),
          map(back, type, single(own.map(({ port, targetPort, vip }) => [vip, targetPort, port])))
        ],
        // A UDP checksum of 0 means none and must stay so; raw bytes are written without one.
        rules: protocol === "udp" && family === "v4"
          ? [
            ...set("udp checksum != 0 "),
            `udp checksum 0 @th,16,16 set ${toTarget}`,
            `udp checksum 0 @th,0,16 set ${toClient}`
          ]
          : set("")
      }]
    })
  )
  return parts.length === 0 ? [] : [
    ...parts.flatMap(({ maps }) => maps),
    chain("port-nat", [
      "type filter hook prerouting priority 100; policy accept",
      ...parts.flatMap(({ rules }) => rules)
    ])
  ]
}

// Of elements that cover the same address and port the first counts.
const single = (elements: ReadonlyArray<readonly [Cidr.Cidr, number, number]>): ReadonlyArray<string> =>
  elements.filter(([vip, port], i) =>
    elements.findIndex(([other, otherPort]) => otherPort === port && Cidr.overlaps(other, vip)) === i
  ).map(([vip, from, to]) => `${vip} . ${from} : ${to}`)

const mismatch = ({ length, mask, offset, protocol, value }: ByteMatch): string => {
  const bytes = `@th,${offset * 8},${length * 8}`
  const compared = mask === undefined ? bytes : `${bytes} & ${mask}`
  return `meta l4proto ${protocol} ${compared} != ${value} return`
}

const boxText = (box: Classification.Box): string =>
  [
    box.destination,
    box.source,
    ...[box.protocol, box.destinationPort, box.sourcePort].map(({ from, to }) => rangeText(from, to))
  ].join(" . ")

const rawText = (box: Classification.Box): string =>
  [
    rawSpan(box.destination),
    rawSpan(box.source),
    ...[box.destinationPort, box.sourcePort].map(({ from, to }) => rangeText(from, to))
  ].join(" . ")

const rawSpan = (cidr: Cidr.Cidr): string => {
  const { first, last } = Classification.span(cidr)
  return rangeText(`0x${first.toString(16)}`, `0x${last.toString(16)}`)
}

const rangeText = (from: string | number, to: string | number): string => from === to ? `${from}` : `${from}-${to}`

const chain = (name: string, rules: ReadonlyArray<string>): Object => ({
  kind: "chain",
  name,
  text: `  chain ${name} {\n${rules.map((rule) => `    ${rule}\n`).join("")}  }`,
  isFilled: false
})

const filled =
  (kind: "set" | "map") => (name: string, declaration: string, elements: ReadonlyArray<string> = []): Object => ({
    kind,
    name,
    text: elements.length === 0
      ? `  ${kind} ${name} { ${declaration}; }`
      : `  ${kind} ${name} {\n    ${declaration}\n    elements = {\n      ${elements.join(",\n      ")}\n    }\n  }`,
    isFilled: elements.length > 0
  })
const set = filled("set")
const map = filled("map")
