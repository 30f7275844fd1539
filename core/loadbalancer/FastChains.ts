/**
 * The fast path: packets that come from outside go from the ingress of their link straight to the link of the target,
 * past routing and all other rules. What is not plain TCP, UDP or SCTP, or is to be answered or changed, goes the general
 * way, which gives the same target.
 */
import type * as Config from "../config/Model.ts"
import * as Ip from "../net/Ip.ts"
import * as Flows from "./Flows.ts"
import type { FastPath, Stream } from "./Model.ts"
import { baseChain, chain, liveMap, type Object, set } from "./Objects.ts"
import * as PortNat from "./PortNat.ts"
import type { Words } from "./Words.ts"

export interface Given {
  readonly path: FastPath
  readonly portNats: ReadonlyArray<Config.PortNat>
  readonly streams: ReadonlyArray<Stream>
  readonly families: ReadonlyArray<{
    readonly w: Words
    readonly flows: Flows.Flows
  }>
}

/** The map from mark to address, which also counts what each target gets. */
export const hopsOf = (n: "4" | "6"): string => `hops${n}`

/** The objects of the table besides the slots and the counters of flows. */
export const objects = ({ families, path, portNats, streams }: Given): ReadonlyArray<Object> => [
  liveMap("links", "type mark : iface_index", path.hops.map(({ link, mark }) => [String(mark), `"${link}"`])),
  ...families.flatMap(({ flows, w }) => {
    const { address, family, ip, n } = w
    const hops = path.hops.filter((hop) => Ip.family(hop.ip) === family)
    const natted = PortNat.elements(portNats, family)
    const { chains, maps } = Flows.transport(w, flows, `target${n}`)
    return [
      ...natted.length === 0 ? [] : [
        set(`natted${n}`, `type ${address} . inet_proto . inet_service; flags interval`, natted)
      ],
      liveMap(hopsOf(n), `type mark : ${address}; counter`, hops.map(({ ip, mark }) => [String(mark), ip])),
      ...streams.map((stream) =>
        chain(`target${n}-${stream.offset}`, [
          `meta mark set meta mark map @${Flows.slotsOf(stream)}`,
          `fwd ${ip} to meta mark map @${hopsOf(n)} device meta mark map @links`
        ])
      ),
      ...chains,
      ...maps,
      chain(`flows${n}`, [
        ...natted.length === 0 ? [] : [`${ip} daddr . meta l4proto . th dport @natted${n} return`],
        ...maps.map(({ name }) => `${Flows.transportKey(w)} vmap @${name}`)
      ])
    ]
  }),
  baseChain("ingress", `filter hook ingress devices = { ${path.externals.join(", ")} } priority filter`, [
    // The kernel drops what was sent to another station.
    "meta pkttype != host return",
    // The general way tells the sender the MTU.
    ...path.longest === undefined ? [] : [`meta length > ${path.longest} return`],
    // Whether it is for a VIP is found with the flow.
    ...families.map(({ w }) => `${w.plain} goto flows${w.n}`)
  ])
]
