/** What the operator of a simulated trench configures: objects that are there or not, and the configuration they make. */
import { Schema } from "effect"
import type * as Config from "../../core/config/Model.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import type { Addresses } from "./Addresses.ts"
import type { Size } from "./Cluster.ts"

const conduit = "c"
const attractor = "a"

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

/** The gateway that BIRD refuses; nobody has its address. */
export const badGateway: Config.Gateway = { _tag: "Bgp", name: "gateway-bad", address: Ip.unsafe("169.254.100.250") }

/** Numbers of VIPs are below this. */
const vips = 10
const bfd = { minTxMs: 300, minRxMs: 300, multiplier: 5 }

/** The flow of stream n: TCP to port 4000 + n of the VIPs. */
const flow = (n: number, stream: Config.StreamKey, vips: ReadonlyArray<Config.Vip>): Config.Flow => ({
  name: `f${n}`,
  stream,
  vips,
  sourceSubnets: [],
  sourcePorts: [],
  destinationPorts: [{ from: 4_000 + n, to: 4_000 + n }],
  protocols: ["tcp"],
  byteMatches: [],
  priority: 1
})

const secondFlow: typeof flow = (n, stream, vips) => ({
  ...flow(n, stream, vips.filter(({ address }) => Cidr.family(address) === "v4")),
  name: `g${n}`,
  destinationPorts: [{ from: 9_000 + n, to: 9_000 + n }],
  protocols: ["udp"],
  priority: 5
})

const key = (kind: Kind, n: number): string => `${kind} ${n}`

export type Manifests = ReturnType<typeof make>

export interface Options {
  /** The name of the trench. */
  readonly trench: string
  readonly size: Size
  readonly addresses: Addresses
  readonly given?: Given | undefined
}

/** Objects of a user in place of those that a size makes: one conduit with its streams, and one attractor. */
export interface Given {
  readonly namespace: string
  /** The prefixes between frontends and gateways. */
  readonly external: ReadonlyArray<Cidr.Cidr>
  readonly families: ReadonlyArray<Ip.Family>
  readonly configuration: Config.Configuration
}

/** What the objects of a user are by kind and number; what faults add to them has names and addresses of its own. */
const catalogue = ({ addresses, given, size, trench }: Options) => {
  if (given === undefined) {
    const stream = (n: number): Config.StreamKey => ({ trench, conduit, stream: `s${n}` })
    const vip = (n: number): ReadonlyArray<Config.Vip> =>
      addresses.vip(n).map((address) => ({ name: `${Cidr.family(address)}-${n}`, address }))
    const gateway = (_tag: "Bgp" | "Static", n: number): ReadonlyArray<Config.Gateway> =>
      addresses.gateway(n).map((address) => ({ _tag, name: `gateway-${n}-${Ip.family(address)}`, address, bfd }))
    return {
      names: { trench, conduit, attractor, namespace: "red" },
      families: Ip.families,
      external: addresses.external,
      stream,
      attracted: vip,
      vip,
      flows: (n: number, known: ReadonlyArray<Config.Vip>) => [flow(n, stream(n), known)],
      bgp: (n: number) => gateway("Bgp", n),
      static: gateway("Static", size.gateways),
      portNats: [],
      maxTargets: () => size.maxTargets
    }
  }
  const { attractors: [own], conduits: [first], flows, gateways, streams, trench: name, vips } = given.configuration
  const key = { trench: name, conduit: first?.conduit ?? conduit }
  const streamOf = (n: number): Config.StreamKey => ({ ...key, stream: streams[n]?.stream ?? `simulated-${n}` })
  const [v4, v6] = Ip.families.map((family) =>
    gateways.filter(({ _tag, address }) => _tag === "Bgp" && Ip.family(address) === family)
  )
  const statics = gateways.filter(({ _tag }) => _tag === "Static")
  const extra = (n: number): ReadonlyArray<Config.Vip> =>
    [`203.0.113.${n}/32`, `2001:db8:113::${n.toString(16)}/128`].map((text) => Cidr.unsafe(text))
      .filter((address) => given.families.includes(Cidr.family(address)))
      .map((address) => ({ name: `simulated-${Cidr.family(address)}-${n}`, address }))
  return {
    names: { ...key, attractor: own?.name ?? attractor, namespace: given.namespace },
    families: given.families,
    external: [...given.external, ...statics.length > 0 ? [] : simulatedPrefixes],
    stream: streamOf,
    attracted: (n: number) => n === 1 ? own?.vips ?? [] : extra(n),
    vip: (n: number) => n === 1 ? vips : extra(n),
    flows: (n: number, known: ReadonlyArray<Config.Vip>): ReadonlyArray<Config.Flow> =>
      n >= streams.length
        ? [{ ...flow(n, streamOf(n), known), destinationPorts: [{ from: 60_000 + n, to: 60_000 + n }] }]
        : flows.filter((one) => one.stream.stream === streams[n]?.stream).map((one) => ({
          ...one,
          vips: known.filter((vip) => one.vips.some(({ name }) => name === vip.name) || !vips.includes(vip))
        })),
    bgp: (n: number): ReadonlyArray<Config.Gateway> => [v4?.[n], v6?.[n]].filter((one) => one !== undefined),
    static: statics.length > 0 ? statics : simulatedStatic(given.families),
    portNats: first?.portNats ?? [],
    maxTargets: (n: number) => streams[n]?.maxTargets ?? size.maxTargets
  }
}

/** The address n behind the beginning of a prefix. */
const after = (prefix: Cidr.Cidr, n: number): Ip.Ip =>
  Ip.fromBigInt(Cidr.family(prefix), Ip.toBigInt(Cidr.ip(Cidr.network(prefix))) + BigInt(n))

/** A static gateway for those who have none, in a network of its own. */
const simulatedPrefixes = [Cidr.unsafe("169.254.200.0/24"), Cidr.unsafe("100:200::/64")]
const simulatedStatic = (families: ReadonlyArray<Ip.Family>): ReadonlyArray<Config.Gateway> =>
  ["169.254.200.250", "100:200::fa"].map((text) => Ip.unsafe(text))
    .filter((address) => families.includes(Ip.family(address)))
    .map((address) => ({ _tag: "Static", name: `simulated-static-${Ip.family(address)}`, address, bfd }))

/** The manifests of a trench: at first its streams with their flows, a VIP, and its gateways; or those of a user. */
export const make = (options: Options) => {
  const { given, size } = options
  const own = catalogue(options)
  const capacities = new Map<number, number>()
  const present = new Set<string>(["conduit 0", "attractor 0", "vip 1"])
  const has = (kind: Kind, n = 0): boolean => present.has(key(kind, n))
  const all = (kind: Kind, count: number): ReadonlyArray<number> =>
    Array.from({ length: count }, (_, n) => n).filter((n) => has(kind, n))
  for (let n = 0; n < vips; n++) present.add(key("attracted", n))
  for (let n = 0; n < size.gateways; n++) present.add(key("gateway", n))
  for (let n = 0; n < size.streams; n++) present.add(key("stream", n)).add(key("flow", n))
  if (own.portNats.length > 0) present.add(key("port-nat", 0))
  if (given?.configuration.gateways.some(({ _tag }) => _tag === "Static") === true) present.add(key("static", 0))

  const configuration = (): Config.Configuration => {
    const isThere = has("conduit")
    const streams = isThere ? all("stream", size.streams + 1) : []
    const known = all("vip", vips).flatMap(own.vip)
    const gateways = [
      ...all("gateway", size.gateways).flatMap(own.bgp),
      ...has("static") ? own.static : [],
      ...has("bad") ? [badGateway] : []
    ]
    const attracted = all("vip", vips).filter((n) => has("attracted", n)).flatMap(own.attracted)
    const { names } = own
    return {
      trench: names.trench,
      conduits: isThere
        ? [{ trench: names.trench, conduit: names.conduit, portNats: has("port-nat") ? nats(known) : [] }]
        : [],
      streams: streams.map((n) => ({ ...own.stream(n), maxTargets: capacities.get(n) ?? own.maxTargets(n) })),
      flows: [
        ...streams.filter((n) => has("flow", n)).flatMap((n) => own.flows(n, known)),
        ...streams.filter((n) => has("second-flow", n)).map((n) => secondFlow(n, own.stream(n), known))
      ],
      vips: known,
      attractors: has("attractor") ? [{ name: names.attractor, vips: attracted, gateways }] : [],
      gateways
    }
  }
  const taken = new Set((given?.configuration.gateways ?? []).map(({ address }) => address))
  const nats = (known: ReadonlyArray<Config.Vip>): Config.Conduit["portNats"] =>
    own.portNats.length === 0
      ? [{ port: 80, targetPort: 4_000, protocol: "tcp", vips: known }]
      : own.portNats.map((nat) => ({
        ...nat,
        vips: known.filter(({ name }) => nat.vips.some((vip) => vip.name === name))
      }))

  return {
    configuration,
    ...own.names,
    families: own.families,
    stream: own.stream,
    /** The addresses of frontend n outside of the cluster: the first ones of the prefixes that no gateway has. */
    frontendAddresses: (n: number): ReadonlyArray<Cidr.Cidr> =>
      own.external.flatMap((prefix) =>
        Array.from(
          { length: n + 1 + taken.size },
          (_, k) => Cidr.make(after(prefix, k + 1), Cidr.length(prefix))
        )
          .filter((one) => !taken.has(Cidr.ip(one))).slice(n, n + 1)
      ),
    /** The addresses of gateway n; behind those with BGP is the static one. */
    gatewayAddresses: (n: number): ReadonlyArray<Ip.Ip> =>
      (n < size.gateways ? own.bgp(n) : own.static).map(({ address }) => address),
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
