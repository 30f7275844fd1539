/** A whole trench in a simulated world: which processes there are, how they are laid out, and what they are configured for. */
import type * as Config from "../../core/config/Model.ts"
import type { Model } from "../../core/loadbalancer/index.ts"
import { Cidr, Ip, type Kernel } from "../../core/net/index.ts"
import type * as Seed from "../../core/Seed.ts"
import type * as Actor from "./Actor.ts"
import * as Frontend from "./Frontend.ts"
import * as Gateway from "./Gateway.ts"
import { type Ground, type Machines, machines } from "./Ground.ts"
import * as Ipam from "./Ipam.ts"
import * as Kernels from "./Kernels.ts"
import * as LoadBalancer from "./LoadBalancer.ts"
import * as Network from "./Network.ts"
import * as Nsm from "./Nsm.ts"
import * as Nsp from "./Nsp.ts"
import { primary } from "./Oracle.ts"
import * as Proxy from "./Proxy.ts"
import * as Tapa from "./Tapa.ts"
import * as World from "./World.ts"

/** How large the trench is. */
export interface Size {
  readonly nodes: number
  readonly targets: number
  readonly frontends: number
  readonly gateways: number
  readonly streams: number
  /** Of each stream. */
  readonly maxTargets: number
}

export interface Options {
  readonly seed: Seed.Seed
  readonly size: Size
  readonly trace?: boolean
  /** Machines in place of the real ones: mutants. */
  readonly machines?: Partial<Machines>
  /** The latency of messages, in milliseconds. */
  readonly latency?: () => readonly [low: number, high: number]
  readonly observe?: Actor.Observe
  /** Hears of every change of the rules of a load balancer. */
  readonly onRules?: (name: string, before: Model.Ruleset | undefined, after: Model.Ruleset) => void
}

export const trench = "t"
export const conduit = "c"
const namespace = "red"
const attractor = "a"
const external = "ext"

export interface Trench {
  readonly ground: Ground
  readonly world: World.World
  readonly nsp: Nsp.Nsp
  readonly ipam: Ipam.IpamProgram
  readonly proxies: ReadonlyArray<Proxy.ProxyProgram>
  readonly frontends: ReadonlyArray<Frontend.FrontendProgram>
  readonly loadBalancers: ReadonlyArray<LoadBalancer.LoadBalancerProgram>
  readonly targets: ReadonlyArray<Tapa.Tapa>
  readonly gateways: ReadonlyArray<Gateway.Gateway>
  /** Starts everything; applications open their streams. */
  readonly start: () => void
}

export const stream = (n: number): Config.StreamKey => ({ trench, conduit, stream: `s${n}` })

export const vip = (n: number): ReadonlyArray<Config.Vip> => [
  { name: `v4-${n}`, address: Cidr.unsafe(`20.0.0.${n}/32`) },
  { name: `v6-${n}`, address: Cidr.unsafe(`2000::${n.toString(16)}/128`) }
]

/** The flow of stream n: TCP to port 4000 + n of the VIPs. */
export const flow = (n: number, vips: ReadonlyArray<Config.Vip>): Config.Flow => ({
  name: `f${n}`,
  stream: stream(n),
  vips,
  sourceSubnets: [],
  sourcePorts: [],
  destinationPorts: [{ from: portOf(n), to: portOf(n) }],
  protocols: ["tcp"],
  byteMatches: [],
  priority: 1
})

export const portOf = (stream: number): number => 4_000 + stream

/** The configuration of a trench with these streams and VIPs. */
export const configuration = (
  streams: ReadonlyArray<number>,
  vips: ReadonlyArray<Config.Vip>,
  gateways: ReadonlyArray<Config.Gateway>,
  maxTargets: number
): Config.Configuration => ({
  trench,
  conduits: [{ trench, conduit, portNats: [] }],
  streams: streams.map((n) => ({ ...stream(n), maxTargets })),
  flows: streams.map((n) => flow(n, vips)),
  vips,
  attractors: [{ name: attractor, vips, gateways }],
  gateways
})

const gatewayAddresses = (n: number): ReadonlyArray<Ip.Ip> => [
  Ip.unsafe(`169.254.100.${150 + n}`),
  Ip.unsafe(`100:100::${(150 + n).toString(16)}`)
]

export const configuredGateways = (count: number): ReadonlyArray<Config.Gateway> =>
  Array.from({ length: count }, (_, n) => gatewayAddresses(n)).flatMap((addresses, n) =>
    addresses.map((address): Config.Gateway => ({
      _tag: "Bgp",
      name: `gateway-${n}-${Ip.family(address)}`,
      address,
      bfd: { minTxMs: 300, minRxMs: 300, multiplier: 5 }
    }))
  )

export const make = (options: Options): Trench => {
  const { size } = options
  const world = World.make({ seed: options.seed, trace: options.trace ?? false })
  const network = Network.make(world, options.latency ?? (() => [1, 15]))
  const kernels = Kernels.make()
  const observe = options.observe ?? (() => undefined)
  const ground: Ground = { world, network, kernels, observe, machines: { ...machines, ...options.machines } }
  const netns = pods(kernels)

  const gateways = Array.from(
    { length: size.gateways },
    (_, n) => Gateway.make(ground, { name: `gateway-${n}`, addresses: gatewayAddresses(n) })
  )
  const streams = Array.from({ length: size.streams }, (_, n) => n)
  const nsp = Nsp.make(
    ground,
    configuration(streams, vip(1), configuredGateways(size.gateways), size.maxTargets)
  )
  const ipam = Ipam.make(ground, {
    trench,
    pools: [
      { family: "v4", prefix: Cidr.unsafe("172.16.0.0/12"), conduitLength: 14, nodeLength: 20 },
      { family: "v6", prefix: Cidr.unsafe("fd00::/48"), conduitLength: 56, nodeLength: 64 }
    ]
  })
  const place = { namespace, trench, conduit }
  const proxies = Array.from(
    { length: size.nodes },
    (_, n) => Proxy.make(ground, { ...place, name: `proxy-${n}`, node: `node-${n}`, netns: netns() })
  )
  const pairs = Array.from({ length: size.frontends }, (_, n) => {
    const own = netns()
    connectOutside(kernels, own, n)
    const loadBalancer = LoadBalancer.make(ground, {
      ...place,
      name: `lb-${n}`,
      hostname: `fe-pod-${n}`,
      netns: own,
      onRules: (before, after) => options.onRules?.(`lb-${n}`, before, after)
    })
    const frontend = Frontend.make(ground, {
      name: `fe-${n}`,
      hostname: `fe-pod-${n}`,
      trench,
      attractor,
      netns: own,
      link: external,
      loadBalancer: loadBalancer.name,
      gateways
    })
    return { frontend, loadBalancer }
  })
  const targets = Array.from(
    { length: size.targets },
    (_, n) => Tapa.make(ground, { name: `target-${n}`, node: `node-${n % size.nodes}`, namespace, netns: netns() })
  )
  const frontends = pairs.map(({ frontend }) => frontend)
  const loadBalancers = pairs.map(({ loadBalancer }) => loadBalancer)
  const programs = [nsp, ipam, Nsm.program(ground), ...gateways, ...proxies, ...loadBalancers, ...frontends, ...targets]
  programs.forEach(world.add)

  return {
    ground,
    world,
    nsp,
    ipam,
    proxies,
    frontends,
    loadBalancers,
    targets,
    gateways,
    start: () => {
      for (const { name } of programs) {
        world.journal?.resume(undefined)
        world.start(name)
      }
      for (const [n, target] of targets.entries()) target.open(stream(n % size.streams))
    }
  }
}

/** Makes the namespaces of pods, each with an interface in the cluster's own network. */
const pods = (kernels: Kernels.Kernels) => {
  let count = 0
  return (): string => {
    const n = ++count
    const netns = `inode://4/${n}`
    kernels.create(netns)
    kernels.addLink(netns, device(primary, n))
    const address = `10.${Math.floor(n / 62_500)}.${Math.floor(n / 250) % 250}.${1 + n % 250}`
    kernels.applyAll(netns, [
      { _tag: "AddAddress", link: primary, cidr: Cidr.unsafe(`${address}/8`) },
      { _tag: "AddAddress", link: primary, cidr: Cidr.unsafe(`fc00::${n.toString(16)}/64`) },
      ...Ip.families.map((family): Kernel.Operation => ({
        _tag: "ReplaceRoute",
        route: {
          family,
          table: 254,
          destination: Cidr.defaultRoute(family),
          type: "unicast",
          metric: family === "v4" ? 0 : 1024,
          hops: [{ link: primary, via: Ip.unsafe(family === "v4" ? "10.255.255.254" : "fc00::ffff") }],
          protocol: 3,
          onlink: false
        }
      }))
    ])
    return netns
  }
}

const connectOutside = (kernels: Kernels.Kernels, netns: string, n: number): void => {
  kernels.addLink(netns, device(external, n))
  kernels.applyAll(netns, [
    { _tag: "AddAddress", link: external, cidr: Cidr.unsafe(`169.254.100.${1 + n}/24`) },
    { _tag: "AddAddress", link: external, cidr: Cidr.unsafe(`100:100::${(1 + n).toString(16)}/64`) }
  ])
}

const device = (name: string, n: number): Kernel.Link => ({
  name,
  kind: "",
  mac: `02:00:00:00:${(n >> 8 & 255).toString(16).padStart(2, "0")}:${(n & 255).toString(16).padStart(2, "0")}`,
  up: true,
  carrier: true,
  mtu: 1500
})
