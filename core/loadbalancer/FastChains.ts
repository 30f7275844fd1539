/**
 * The fast path: packets that come from outside go from the ingress of their link straight to the link of the target,
 * past routing and all other rules. What is not plain TCP, UDP or SCTP, or is to be answered or changed, goes the general
 * way, which gives the same target.
 */
import type * as Config from "../config/Model.ts"
import * as Ip from "../net/Ip.ts"
import type * as Classification from "./Classification.ts"
import * as Flows from "./Flows.ts"
import type { FastPath, Stream } from "./Model.ts"
import { baseChain, chain, liveMap, type Object, set } from "./Objects.ts"
import * as PortNat from "./PortNat.ts"
import { protocols, type Words, words } from "./Words.ts"

/** The fast path besides its targets. */
export interface Path extends Omit<FastPath, "hops"> {
  /** The word for what leads to the targets of a stream: a link, or a map of links. */
  readonly devices: ReadonlyArray<{ readonly offset: number; readonly word: string }>
}

export interface Given {
  readonly path: Path
  readonly portNats: ReadonlyArray<Config.PortNat>
  readonly families: ReadonlyArray<{
    readonly w: Words
    readonly flows: Flows.Flows
  }>
}

/** The map from mark to address, which also counts what each target gets. */
export const hopsOf = (n: "4" | "6", { offset }: Stream): string => `hops${n}-${offset}`

export const withoutTargets = (path: FastPath, streams: ReadonlyArray<Stream>): Path => {
  const { hops: _, ...others } = path
  return { ...others, devices: streams.map((stream) => ({ offset: stream.offset, word: deviceOf(path, stream).word })) }
}

/** The maps that lead to the targets. */
export const ofTargets = (path: FastPath, streams: ReadonlyArray<Stream>): ReadonlyArray<Object> => [
  ...streams.flatMap((stream) => deviceOf(path, stream).maps),
  ...Object.values(words).flatMap(({ address, family, n }) =>
    streams.map((stream) =>
      liveMap(
        hopsOf(n, stream),
        `type mark : ${address}; size ${stream.maxTargets}; counter`,
        new Map(
          hopsIn(path, stream).filter((hop) => Ip.family(hop.ip) === family).map(({ ip, mark }) => [mark, ip])
        )
      )
    )
  )
]

/** The objects of the table besides those, the slots and the counters of flows. */
export const objects = ({ families, path, portNats }: Given): ReadonlyArray<Object> => {
  const own = families.map((family) => ofFamily(family, path, portNats))
  return [
    ...own.flatMap(({ objects }) => objects),
    baseChain("ingress", `filter hook ingress devices = { ${path.externals.join(", ")} } priority filter`, [
      // The kernel drops what was sent to another station.
      "meta pkttype != host return",
      // The general way tells the sender the MTU.
      ...path.longest === undefined ? [] : [`meta length > ${path.longest} return`],
      ...own.flatMap(({ entrance }) => entrance)
    ])
  ]
}

type Family = Given["families"][number]

const ofFamily = (
  { flows, w }: Family,
  path: Path,
  portNats: Given["portNats"]
): { readonly objects: ReadonlyArray<Object>; readonly entrance: ReadonlyArray<string> } => {
  const { address, family, ip, n } = w
  const devices = new Map(path.devices.map(({ offset, word }) => [offset, word]))
  const natted = PortNat.elements(portNats, family)
  const transport = flows.transport.map((layer) => layer.flatMap(byProtocol))
  const { chains, maps, rules } = Flows.transport(w, { ...flows, transport }, {
    protocol: w.next,
    go: (stream, beginning) => [
      `${beginning} fwd ${ip} to meta mark map @${hopsOf(n, stream)} device ${devices.get(stream.offset)}`
    ]
  })
  const lookups = [
    ...natted.length === 0 ? [] : [`${ip} daddr . ${w.next} . th dport @natted${n} return`],
    ...rules
  ]
  // Whether a packet is for a VIP is found with the flow.
  const [first, ...others] = lookups
  return {
    objects: [
      ...natted.length === 0 ? [] : [
        set(`natted${n}`, `type ${address} . inet_proto . inet_service; flags interval`, natted)
      ],
      ...chains,
      ...maps,
      ...others.length === 0 ? [] : [chain(`flows${n}`, lookups)]
    ],
    entrance: first === undefined ? [] : [`${w.plain} ${others.length === 0 ? first : `goto flows${n}`}`]
  }
}

// The link to the targets of a stream, or a map of them when they are reached by several.
interface Device {
  readonly word: string
  readonly maps: ReadonlyArray<Object>
}

const deviceOf = (path: FastPath, stream: Stream): Device => {
  const links = new Map(hopsIn(path, stream).map(({ link, mark }) => [mark, `"${link}"` as const]))
  const [only, ...others] = new Set(links.values())
  if (only !== undefined && others.length === 0) return { word: only, maps: [] }
  const name = `links-${stream.offset}`
  return {
    word: `meta mark map @${name}`,
    maps: [liveMap(name, `type mark : iface_index; size ${stream.maxTargets}`, links)]
  }
}

const hopsIn = ({ hops }: FastPath, { maxTargets, offset }: Stream): FastPath["hops"] =>
  hops.filter(({ mark }) => mark > offset && mark <= offset + maxTargets)

// Of any protocol only those are plain whose ports we know.
const byProtocol = (entry: Classification.Entry): ReadonlyArray<Classification.Entry> =>
  entry.protocol.from === entry.protocol.to
    ? [entry]
    : protocols.map(([, number]) => ({ ...entry, protocol: { from: number, to: number } }))
