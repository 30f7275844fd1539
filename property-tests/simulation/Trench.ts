/** A whole trench in a simulated world: which processes there are, how they are laid out, and what they are configured for. */
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
import * as Manifests from "./Manifests.ts"
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
  /** Objects of a user in place of those that the size makes. */
  readonly given?: Manifests.Given
  readonly trace?: boolean
  /** Machines in place of the real ones: mutants. */
  readonly machines?: Partial<Machines>
  /** The latency of messages, in milliseconds. */
  readonly latency?: () => readonly [low: number, high: number]
  readonly observe?: Actor.Observe
  /** Hears of every change of the rules of a load balancer. */
  readonly onRules?: (name: string, before: Model.Ruleset | undefined, after: Model.Ruleset) => void
}

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
  /** Those with BGP, then the static one. */
  readonly gateways: ReadonlyArray<Gateway.Gateway>
  readonly manifests: Manifests.Manifests
  /** The process that has the place of the one that had this name at first. */
  readonly current: (name: string) => string
  /** Ends the pod of a target, a proxy or a frontend in order; after a pause another one takes its place. */
  readonly replace: (name: string, pauseMs: number) => void
  /** Starts everything; applications open their streams. */
  readonly start: () => void
}

export const make = (options: Options): Trench => {
  const { size } = options
  const world = World.make({ seed: options.seed, trace: options.trace ?? false })
  const network = Network.make(world, options.latency ?? (() => [1, 15]))
  const kernels = Kernels.make()
  const observe = options.observe ?? (() => undefined)
  const ground: Ground = { world, network, kernels, observe, machines: { ...machines, ...options.machines } }
  const netns = pods(kernels)

  const manifests = Manifests.make(size, options.given)
  const { attractor, conduit, families, namespace, trench } = manifests
  const gateways = Array.from(
    { length: size.gateways + 1 },
    (_, n) => Gateway.make(ground, { name: `gateway-${n}`, addresses: manifests.gatewayAddresses(n) })
  )
  const nsp = Nsp.make(ground, manifests.configuration())
  const pools: Parameters<typeof Ipam.make>[1]["pools"] = [
    { family: "v4", prefix: Cidr.unsafe("172.16.0.0/12"), conduitLength: 14, nodeLength: 20 },
    { family: "v6", prefix: Cidr.unsafe("fd00::/48"), conduitLength: 56, nodeLength: 64 }
  ]
  const ipam = Ipam.make(ground, { trench, pools: pools.filter(({ family }) => families.includes(family)) })
  const place = { namespace, trench, conduit }
  const proxyOf = (n: number, name: string) =>
    Proxy.make(ground, { ...place, families, name, node: `node-${n}`, netns: netns() })
  const pairOf = (n: number, name: string) => {
    const own = netns()
    const hostname = name.replace("fe-", "fe-pod-")
    connectOutside(kernels, own, n, manifests.frontendAddresses(n))
    const loadBalancer = LoadBalancer.make(ground, {
      ...place,
      name: name.replace("fe-", "lb-"),
      hostname,
      netns: own,
      onRules: (before, after) => options.onRules?.(name.replace("fe-", "lb-"), before, after)
    })
    const frontend = Frontend.make(ground, {
      name,
      hostname,
      trench,
      attractor,
      netns: own,
      link: external,
      loadBalancer: loadBalancer.name,
      gateways
    })
    return [frontend, loadBalancer] as const
  }
  const targetOf = (n: number, name: string) =>
    Tapa.make(ground, { name, node: `node-${n % size.nodes}`, namespace, netns: netns() })
  const proxies = many(size.nodes, (n) => proxyOf(n, `proxy-${n}`))
  const pairs = many(size.frontends, (n) => pairOf(n, `fe-${n}`))
  const targets = many(size.targets, (n) => targetOf(n, `target-${n}`))
  const frontends = pairs.map(([frontend]) => frontend)
  const loadBalancers = pairs.map(([, loadBalancer]) => loadBalancer)
  const programs = [nsp, ipam, Nsm.program(ground), ...gateways, ...proxies, ...loadBalancers, ...frontends, ...targets]
  programs.forEach(world.add)

  const heirs = new Map<string, string>()
  const leaving = new Set<string>()
  const current = (name: string): string => heirs.get(name) ?? name
  const begin = <P extends World.Program>(slot: string, program: P): P => {
    heirs.set(slot, program.name)
    world.add(program)
    world.start(program.name)
    return program
  }
  const succeed = (kind: string, n: number, heir: string): void => {
    switch (kind) {
      case "proxy":
        proxies[n] = begin(`proxy-${n}`, proxyOf(n, heir))
        return
      case "fe": {
        const [frontend, loadBalancer] = pairOf(n, heir)
        loadBalancers[n] = begin(`lb-${n}`, loadBalancer)
        frontends[n] = begin(`fe-${n}`, frontend)
        return
      }
      default: {
        const wishes = targets[n]?.wished() ?? []
        const target = begin(`target-${n}`, targetOf(n, heir))
        targets[n] = target
        wishes.forEach(target.open)
      }
    }
  }
  const replace = (slot: string, pauseMs: number): void => {
    const [kind = "", digits = ""] = slot.split("-")
    const own = [...proxies, ...frontends, ...targets].find(({ name }) => name === current(slot))
    if (own === undefined || leaving.has(own.name) || !world.isAlive(own.name)) return
    leaving.add(own.name)
    const pod = kind === "fe" ? [own.name, current(`lb-${digits}`)] : [own.name]
    let left = pod.length
    for (const name of pod) {
      world.stop(name, () => {
        world.remove(name)
        if (--left > 0) return
        kernels.remove(own.netns)
        const generation = Number(own.name.split(".")[1] ?? 0) + 1
        world.later(pauseMs, () => succeed(kind, Number(digits), `${slot}.${generation}`))
      })
    }
  }

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
    manifests,
    current,
    replace,
    start: () => {
      for (const { name } of programs) {
        world.journal?.resume(undefined)
        world.start(name)
      }
      for (const [n, target] of targets.entries()) target.open(manifests.stream(n % size.streams))
    }
  }
}

const many = <A>(count: number, make: (n: number) => A): Array<A> => Array.from({ length: count }, (_, n) => make(n))

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

const connectOutside = (
  kernels: Kernels.Kernels,
  netns: string,
  n: number,
  addresses: ReadonlyArray<Cidr.Cidr>
): void => {
  kernels.addLink(netns, device(external, n))
  kernels.applyAll(netns, addresses.map((cidr) => ({ _tag: "AddAddress", link: external, cidr })))
}

const device = (name: string, n: number): Kernel.Link => ({
  name,
  kind: "",
  mac: `02:00:00:00:${(n >> 8 & 255).toString(16).padStart(2, "0")}:${(n & 255).toString(16).padStart(2, "0")}`,
  up: true,
  carrier: true,
  mtu: 1500
})
