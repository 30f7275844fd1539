/**
 * The tables of the load balancer as objects of nftables: one of the family inet for the general way through the routing
 * of the kernel, and one of the family netdev for the fast path, which is empty when there is none.
 *
 * Names end in the family and the layer, or in the identifier offset of their stream, which no two streams share.
 */
import * as Memo from "../Memo.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Same from "../Same.ts"
import * as Classification from "./Classification.ts"
import * as Fast from "./FastChains.ts"
import * as Flows from "./Flows.ts"
import * as Maglev from "./Maglev.ts"
import type { Guard, Ruleset, Stream } from "./Model.ts"
import { baseChain, chain, counter, liveMap, liveSet, map, type Object, roomFor, set, type Tables } from "./Objects.ts"
import * as PortNat from "./PortNat.ts"
import { protocols, type Words, words } from "./Words.ts"

/** All objects of both tables, those that others refer to first. */
export const tables = ({ fastPath, flows, guard, portNats, streams, vips }: Ruleset): Tables => {
  const sorted = streams.toSorted((a, b) => a.offset - b.offset)
  const slots = sorted.map(slotsOf)
  const { inet, netdev } = lasting({
    vips,
    flows,
    streams: sorted.map((stream) => ({ ...stream, identifiers: [] })),
    portNats,
    guard,
    fastPath: fastPath === undefined ? undefined : Fast.withoutTargets(fastPath, sorted)
  })
  return {
    inet: [...slots, ...sorted.map(hitsOf), ...inet],
    netdev: fastPath === undefined ? [] : [...slots, ...Fast.ofTargets(fastPath, sorted), ...netdev]
  }
}

interface Lasting extends Pick<Ruleset, "vips" | "flows" | "streams" | "portNats"> {
  readonly guard: Guard | undefined
  readonly fastPath: Fast.Given["path"] | undefined
}

// Targets come and go, their streams and flows stay: what does not mention a target is made once (18 ms for 100 flows).
const lasting = Memo.last(({ flows }: Lasting) => flows, (given): Tables => {
  const { fastPath, guard: guarded, portNats } = given
  const streams = new Map(given.streams.map((stream) => [stream.name, stream]))
  const flows = given.flows.filter(({ stream }) => streams.has(stream.stream))
  const families = Ip.families.map((family) => ({
    w: words[family],
    vips: Classification.distinct(given.vips, family),
    flows: {
      transport: Classification.layers(flows, family, "transport"),
      pings: Classification.layers(flows, family, "ping"),
      streams
    }
  }))
  const general = families.map((family) => ofFamily(family, fastPath !== undefined))
  const counters = flows.flatMap(({ name, stream }) => {
    const own = streams.get(stream.stream)
    return own === undefined ? [] : [Flows.counterOf(own, name)]
  }).toSorted().map(counter)
  return {
    inet: [
      ...counters,
      ...given.streams.flatMap(ofErrors),
      ...general.flatMap(({ objects }) => objects),
      ...entrance(general.flatMap(({ entrance }) => entrance)),
      ...guarded === undefined ? [] : [guard(guarded)],
      ...PortNat.objects(portNats)
    ],
    netdev: fastPath === undefined ? [] : [
      ...counters,
      ...Fast.objects({ path: fastPath, portNats, families })
    ]
  }
}, Same.equals)

/** The mark of each slot of a stream. */
export const marks = (stream: Stream): ReadonlyArray<number> =>
  Maglev.table(stream, stream.identifiers).map((identifier) => stream.offset + identifier)

const slotsOf = Memo.each((stream: Stream): Object =>
  liveMap(Flows.slotsOf(stream), Flows.slotsType(stream), marks(stream))
)

const hitsOf = Memo.each((stream: Stream): Object =>
  liveSet(
    Flows.hitsOf(stream),
    `type mark; size ${stream.maxTargets}; counter`,
    stream.identifiers.toSorted((a, b) => a - b).map((identifier) => stream.offset + identifier)
  )
)

const ofErrors = (stream: Stream): ReadonlyArray<Object> =>
  Object.values(words).map(({ inner, n }) =>
    // The packet inside an error went the other way, from the target to the client.
    chain(`error${n}-${stream.offset}`, [
      ...inner.ports.map(({ condition, destination, source }) => {
        const key = `${inner.destination} . ${inner.source} . ${inner.protocol} . ${destination} . ${source}`
        return `${condition}${Flows.marking(stream, key)} ${Flows.going(stream)}`
      }),
      Flows.otherwise
    ])
  )

interface Family {
  readonly w: Words
  readonly vips: ReadonlyArray<Cidr.Cidr>
  readonly flows: Flows.Flows
}

const ofFamily = (
  { flows, vips, w }: Family,
  isBeyondFast: boolean
): { readonly objects: ReadonlyArray<Object>; readonly entrance: ReadonlyArray<string> } => {
  const { address, icmp, inner, ip, n } = w
  const areHosts = vips.every((vip) => Cidr.length(vip) === Ip.bits(w.family))
  const transport = Flows.transport(w, flows, { protocol: "meta l4proto", go: Flows.toTarget })
  const pings = Flows.pings(w, flows)
  const errorKey = ({ destination, source }: Words["inner"]["ports"][number]): string =>
    `${inner.source} . ${inner.destination} . ${source} . ${destination}`
  const counting = new Map<string, Object>()
  const errorOf = ({ flow, stream }: Classification.Entry): string => {
    const own = flows.streams.get(stream)
    if (own === undefined) return "continue"
    const name = `error${n}-${Flows.key(own, flow)}`
    counting.set(name, chain(name, [`counter name ${Flows.counterOf(own, flow)} goto error${n}-${own.offset}`]))
    return `goto ${name}`
  }
  const errors = protocols.map(([protocol, number]) => ({
    protocol,
    number,
    // Bytes of the inner packet say nothing about the packets of the flow, so they are not looked at.
    maps: flows.transport.map((layer, i) => {
      const entries = layer.filter((entry) => entry.protocol.from <= number && number <= entry.protocol.to)
      return map(
        `errors${n}-${protocol}-${i}`,
        `typeof ${inner.ports.slice(0, 1).map(errorKey).join()} : verdict; flags interval`,
        entries.map((entry) => `${rawText(entry)} : ${errorOf(entry)}`)
      )
    }).filter(({ isFilled }) => isFilled)
  })).filter(({ maps }) => maps.length > 0)
  // Without a fast path most packets here are for a VIP: one lookup finds their flow without another one for whether they
  // are. Behind a fast path most are answers, which the smaller lookup for VIPs lets go.
  const [early, late] = transport.isEarly && !isBeyondFast
    ? [transport.rules.slice(0, 1), transport.rules.slice(1)]
    : [[], transport.rules]
  const objects = [
    set(
      `vips${n}`,
      `type ${address}; ${areHosts ? roomFor(vips.length) : "flags interval"}`,
      vips.map(Flows.addressText)
    ),
    // The same for raw bytes: their type is an integer, and sets are compared by type.
    set(`inner-vips${n}`, `typeof ${inner.destination}; flags interval`, vips.map(Flows.rawSpan)),
    ...transport.chains,
    ...transport.maps,
    ...pings.chains,
    ...pings.maps,
    ...counting.values(),
    ...errors.flatMap(({ maps, protocol }) => [
      ...maps,
      chain(`errors${n}-${protocol}`, [
        ...inner.ports.flatMap((ports) => maps.map(({ name }) => `${ports.condition}${errorKey(ports)} vmap @${name}`)),
        Flows.otherwise
      ])
    ]),
    chain(`errors${n}`, [
      ...errors.map(({ number, protocol }) => `${inner.protocol} ${number} goto errors${n}-${protocol}`),
      Flows.otherwise
    ]),
    chain(`pings${n}`, orDrop(pings.rules)),
    chain(`icmp${n}`, [
      `${icmp} type { echo-request, echo-reply } goto pings${n}`,
      `${w.errors} goto errors${n}`,
      Flows.otherwise
    ]),
    chain(`flows${n}`, [
      `meta l4proto ${icmp} goto icmp${n}`,
      ...orDrop(late)
    ])
  ]
  return { objects, entrance: [...early, `${ip} daddr @vips${n} goto flows${n}`] }
}

const orDrop = (rules: ReadonlyArray<string>): ReadonlyArray<string> => [...rules, Flows.otherwise]

const rawText = (box: Classification.Box): string =>
  [
    Flows.rawSpan(box.destination),
    Flows.rawSpan(box.source),
    ...[box.destinationPort, box.sourcePort].map(({ from, to }) => Flows.rangeText(from, to))
  ].join(" . ")

const guard = ({ inside, linkPrefix }: Guard): Object =>
  baseChain("guard", "filter hook forward priority filter", [
    `iifname "${linkPrefix}*" oifname { ${inside.map((link) => `"${link}"`).join(", ")} } counter drop`
  ])

const entrance = (rules: ReadonlyArray<string>): ReadonlyArray<Object> => [
  baseChain("balance", "filter hook prerouting priority filter", rules),
  // Ports are only in the first fragment. A rule with `tproxy` makes the kernel put fragments together before the rules,
  // without connection tracking. No packet comes here.
  chain("reassemble", ["meta l4proto tcp tproxy ip to :1", "meta l4proto tcp tproxy ip6 to :1"]),
  // ICMP errors of this node: about a target's packet they go to that target; about a client's packet they come from the
  // VIP, and not through the table of the target, whose mark the kernel may have copied (fwmark_reflect).
  baseChain("own-errors", "route hook output priority raw", [
    "ip daddr @vips4 meta l4proto icmp goto icmp4",
    "ip6 daddr @vips6 meta l4proto icmpv6 goto icmp6",
    `icmp type { 3, 11, 12 } ${words.v4.inner.destination} @inner-vips4 `
    + `ip saddr set ${words.v4.inner.destination} meta mark set 0`,
    `icmpv6 type { 1, 2, 3, 4 } ${words.v6.inner.destination} @inner-vips6 `
    + `ip6 saddr set ${words.v6.inner.destination} meta mark set 0`
  ])
]
