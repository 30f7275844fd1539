/** What the operator of a simulated trench configures: objects that are there or not, and the configuration they make. */
import { Schema } from "effect"
import type * as Config from "../../core/config/Model.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import type { Size } from "./Trench.ts"

export const trench = "t"
export const conduit = "c"
export const attractor = "a"

/** The objects by kind; of kinds with one object the number means nothing. */
export const Kind = Schema.Literals([
  /** A VIP of each family. */
  "vip",
  /** Whether the attractor lists the VIP. */
  "attracted",
  "stream",
  /** The first flow of stream n, or the second one: UDP to another port, of IPv4 only. */
  "flow",
  "second-flow",
  /** BGP with gateway n, over both families. */
  "gateway",
  /** The static gateway, which is there behind the others. */
  "static",
  /** A gateway with which BIRD refuses the configuration. */
  "bad",
  "attractor",
  /** The conduit with its streams. */
  "conduit",
  "port-nat"
])
export type Kind = typeof Kind.Type

export const stream = (n: number): Config.StreamKey => ({ trench, conduit, stream: `s${n}` })

/** The addresses of gateway n outside of the cluster. */
export const gatewayAddresses = (n: number): ReadonlyArray<Ip.Ip> => [
  Ip.unsafe(`169.254.100.${150 + n}`),
  Ip.unsafe(`100:100::${(150 + n).toString(16)}`)
]

/** The gateway that BIRD refuses; nobody has its address. */
export const badGateway: Config.Gateway = { _tag: "Bgp", name: "gateway-bad", address: Ip.unsafe("169.254.100.250") }

/** Numbers of VIPs are below this. */
const vips = 10
const bfd = { minTxMs: 300, minRxMs: 300, multiplier: 5 }

const vip = (n: number): ReadonlyArray<Config.Vip> => [
  { name: `v4-${n}`, address: Cidr.unsafe(`20.0.0.${n}/32`) },
  { name: `v6-${n}`, address: Cidr.unsafe(`2000::${n.toString(16)}/128`) }
]

/** The flow of stream n: TCP to port 4000 + n of the VIPs. */
const flow = (n: number, vips: ReadonlyArray<Config.Vip>): Config.Flow => ({
  name: `f${n}`,
  stream: stream(n),
  vips,
  sourceSubnets: [],
  sourcePorts: [],
  destinationPorts: [{ from: 4_000 + n, to: 4_000 + n }],
  protocols: ["tcp"],
  byteMatches: [],
  priority: 1
})

const secondFlow = (n: number, vips: ReadonlyArray<Config.Vip>): Config.Flow => ({
  ...flow(n, vips.filter(({ address }) => Cidr.family(address) === "v4")),
  name: `g${n}`,
  destinationPorts: [{ from: 9_000 + n, to: 9_000 + n }],
  protocols: ["udp"],
  priority: 5
})

const gateway = (_tag: "Bgp" | "Static", n: number): ReadonlyArray<Config.Gateway> =>
  gatewayAddresses(n).map((address) => ({ _tag, name: `gateway-${n}-${Ip.family(address)}`, address, bfd }))

const key = (kind: Kind, n: number): string => `${kind} ${n}`

export type Manifests = ReturnType<typeof make>

/** The manifests of a trench: at first its streams with their flows, a VIP, and its gateways. */
export const make = (size: Size) => {
  const capacities = new Map<number, number>()
  const present = new Set<string>(["conduit 0", "attractor 0", "vip 1"])
  const has = (kind: Kind, n = 0): boolean => present.has(key(kind, n))
  const all = (kind: Kind, count: number): ReadonlyArray<number> =>
    Array.from({ length: count }, (_, n) => n).filter((n) => has(kind, n))
  for (let n = 0; n < vips; n++) present.add(key("attracted", n))
  for (let n = 0; n < size.gateways; n++) present.add(key("gateway", n))
  for (let n = 0; n < size.streams; n++) present.add(key("stream", n)).add(key("flow", n))

  const configuration = (): Config.Configuration => {
    const isThere = has("conduit")
    const streams = isThere ? all("stream", size.streams + 1) : []
    const known = all("vip", vips).flatMap(vip)
    const gateways = [
      ...all("gateway", size.gateways).flatMap((n) => gateway("Bgp", n)),
      ...has("static") ? gateway("Static", size.gateways) : [],
      ...has("bad") ? [badGateway] : []
    ]
    const attracted = all("vip", vips).filter((n) => has("attracted", n)).flatMap(vip)
    const portNats: Config.Conduit["portNats"] = has("port-nat")
      ? [{ port: 80, targetPort: 4_000, protocol: "tcp", vips: known }]
      : []
    return {
      trench,
      conduits: isThere ? [{ trench, conduit, portNats }] : [],
      streams: streams.map((n) => ({ ...stream(n), maxTargets: capacities.get(n) ?? size.maxTargets })),
      flows: [
        ...streams.filter((n) => has("flow", n)).map((n) => flow(n, known)),
        ...streams.filter((n) => has("second-flow", n)).map((n) => secondFlow(n, known))
      ],
      vips: known,
      attractors: has("attractor") ? [{ name: attractor, vips: attracted, gateways }] : [],
      gateways
    }
  }

  return {
    configuration,
    /** Adds or removes an object; a stream comes and goes with its first flow. */
    set: (kind: Kind, n: number, isPresent: boolean): void => {
      for (const one of kind === "stream" ? [key("stream", n), key("flow", n)] : [key(kind, n)]) {
        if (isPresent) present.add(one)
        else present.delete(one)
      }
    },
    /** Changes how many targets a stream can have. */
    resize: (stream: number, maxTargets: number): void => void capacities.set(stream, maxTargets)
  }
}
