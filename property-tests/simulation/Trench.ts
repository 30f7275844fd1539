/**
 * One trench of a simulated world: the processes that are its own, how they are laid out, and what they are configured
 * for. Targets, NSM and the kernels it shares with the other trenches of `Cluster.ts`.
 */
import type { Target } from "../../core/config/Target.ts"
import type { Model } from "../../core/loadbalancer/index.ts"
import type { Addresses } from "./Addresses.ts"
import * as Frontend from "./Frontend.ts"
import * as Gateway from "./Gateway.ts"
import type { Ground } from "./Ground.ts"
import * as Ipam from "./Ipam.ts"
import type * as Kernels from "./Kernels.ts"
import * as LoadBalancer from "./LoadBalancer.ts"
import * as Manifests from "./Manifests.ts"
import * as Nsp from "./Nsp.ts"
import * as Pods from "./Pods.ts"
import * as Proxy from "./Proxy.ts"
import type * as Tapa from "./Tapa.ts"
import type * as World from "./World.ts"

export interface Options extends Manifests.Options {
  /** What the names of its processes begin with. */
  readonly prefix: string
  readonly addresses: Addresses
  readonly pod: Pods.Make
  /** The targets of the world. */
  readonly targets: ReadonlyArray<Tapa.Tapa>
  /** Whether there is no other trench. */
  readonly isAlone: boolean
  /** Hears of every target that the NSP saves. */
  readonly onTarget: (target: Target) => void
  /** Hears of every change of the rules of a load balancer. */
  readonly onRules: (name: string, before: Model.Ruleset | undefined, after: Model.Ruleset) => void
}

/** A place for a pod. */
export interface Place {
  readonly slot: string
  readonly netns: () => string
  /** Who has the place now: each process with the name that the first one had. */
  readonly processes: () => ReadonlyArray<readonly [slot: string, process: string]>
  /** Makes another pod, under a name of its own. */
  readonly succeed: (name: string) => ReadonlyArray<World.Program>
}

export interface Trench {
  readonly ground: Ground
  readonly world: World.World
  readonly name: string
  readonly nsp: Nsp.Nsp
  readonly ipam: Ipam.IpamProgram
  readonly proxies: ReadonlyArray<Proxy.ProxyProgram>
  readonly frontends: ReadonlyArray<Frontend.FrontendProgram>
  readonly loadBalancers: ReadonlyArray<LoadBalancer.LoadBalancerProgram>
  /** All targets of the world, whatever trench they are in. */
  readonly targets: ReadonlyArray<Tapa.Tapa>
  /** Those with BGP, then the static one. */
  readonly gateways: ReadonlyArray<Gateway.Gateway>
  readonly manifests: Manifests.Manifests
  /** The pods that can be replaced. */
  readonly places: ReadonlyArray<Place>
  /** Whether there is no other trench. */
  readonly isAlone: boolean
  /** Whether a namespace is of one of its pods. */
  readonly owns: (netns: string) => boolean
  /** Whether an interface of any pod is in its network. */
  readonly reaches: (port: Kernels.Port) => boolean
}

/** The name of the NSP of a trench whose processes have the prefix. */
export const nspOf = (prefix: string): string => `${prefix}nsp`

export const make = (ground: Ground, options: Options): Trench => {
  const { addresses, isAlone, pod, prefix, size, targets } = options
  const { kernels, world } = ground
  const manifests = Manifests.make(options)
  const { attractor, conduit, families, namespace, trench } = manifests
  const gateways = many(
    size.gateways + 1,
    (n) => Gateway.make(ground, { name: `${prefix}gateway-${n}`, addresses: manifests.gatewayAddresses(n) })
  )
  const nsp = Nsp.make(ground, {
    name: nspOf(prefix),
    initial: manifests.configuration(),
    onTarget: options.onTarget
  })
  const pools = addresses.pools.filter(({ family }) => families.includes(family))
  const ipam = Ipam.make(ground, { name: `${prefix}ipam`, nsp: nsp.name, trench, pools })
  const common = { namespace, trench, conduit, nsp: nsp.name }
  const proxyOf = (n: number, name: string) =>
    Proxy.make(ground, { ...common, families, name, ipam: ipam.name, node: `node-${n}`, netns: pod() })
  const pairOf = (n: number, name: string) => {
    const netns = pod()
    const hostname = name.replace("fe-", "fe-pod-")
    Pods.connectOutside(kernels, netns, n, manifests.frontendAddresses(n))
    const loadBalancer = LoadBalancer.make(ground, {
      ...common,
      name: name.replace("fe-", "lb-"),
      hostname,
      netns,
      onRules: (before, after) => options.onRules(name.replace("fe-", "lb-"), before, after)
    })
    const frontend = Frontend.make(ground, {
      name,
      hostname,
      trench,
      attractor,
      netns,
      nsp: nsp.name,
      link: Pods.external,
      loadBalancer: loadBalancer.name,
      gateways
    })
    return [frontend, loadBalancer] as const
  }
  const proxies = many(size.nodes, (n) => proxyOf(n, `${prefix}proxy-${n}`))
  const pairs = many(size.frontends, (n) => pairOf(n, `${prefix}fe-${n}`))
  const frontends = pairs.map(([frontend]) => frontend)
  const loadBalancers = pairs.map(([, loadBalancer]) => loadBalancer)
  const owns = (netns: string): boolean =>
    proxies.some((one) => one.netns === netns) || frontends.some((one) => one.netns === netns)

  return {
    ground,
    world,
    name: trench,
    nsp,
    ipam,
    proxies,
    frontends,
    loadBalancers,
    targets,
    gateways,
    manifests,
    places: [
      ...proxies.map(({ name: slot }, n): Place => ({
        slot,
        netns: () => proxies[n]?.netns ?? "",
        processes: () => [[slot, proxies[n]?.name ?? ""]],
        succeed: (name) => [proxies[n] = proxyOf(n, name)]
      })),
      ...pairs.map(([{ name: slot }, { name: second }], n): Place => ({
        slot,
        netns: () => frontends[n]?.netns ?? "",
        processes: () => [[slot, frontends[n]?.name ?? ""], [second, loadBalancers[n]?.name ?? ""]],
        succeed: (name) => {
          const [frontend, loadBalancer] = pairOf(n, name)
          return [loadBalancers[n] = loadBalancer, frontends[n] = frontend]
        }
      }))
    ],
    isAlone,
    owns,
    reaches: (port) => {
      if (isAlone || owns(port.netns)) return true
      const peer = kernels.peer(port)
      return peer !== undefined && owns(peer.netns)
    }
  }
}

const many = <A>(count: number, make: (n: number) => A): Array<A> => Array.from({ length: count }, (_, n) => make(n))
