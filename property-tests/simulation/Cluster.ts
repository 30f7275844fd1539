/**
 * A simulated world as a whole: nodes with their kernels, NSM, targets, and one or several trenches on them.
 *
 *     trench t: NSP, IPAM, proxies, frontends with load balancers ── gateways of t
 *         ╲  one at a time
 *          targets, NSM, kernels of the nodes
 *         ╱
 *     trench t2: NSP, IPAM, proxies, frontends with load balancers ── gateways of t2
 *
 * Processes of the first trench have plain names, `nsp` and `proxy-0`; those of the second begin with its name:
 * `t2-nsp`, `t2-proxy-0`.
 */
import type { Target } from "../../core/config/Target.ts"
import type { Model } from "../../core/loadbalancer/index.ts"
import type * as Seed from "../../core/Seed.ts"
import type * as Actor from "./Actor.ts"
import * as Addresses from "./Addresses.ts"
import { type Ground, type Machines, machines } from "./Ground.ts"
import * as Kernels from "./Kernels.ts"
import type * as Manifests from "./Manifests.ts"
import * as Network from "./Network.ts"
import * as Nsm from "./Nsm.ts"
import * as Pods from "./Pods.ts"
import * as Tapa from "./Tapa.ts"
import * as Trench from "./Trench.ts"
import * as World from "./World.ts"

/** How large the world is; frontends, gateways and streams are those of each trench. */
export interface Size {
  readonly nodes: number
  readonly targets: number
  readonly frontends: number
  readonly gateways: number
  readonly streams: number
  /** Of each stream. */
  readonly maxTargets: number
  /** Default: one. */
  readonly trenches?: number
}

export interface Options {
  readonly seed: Seed.Seed
  readonly size: Size
  /** Objects of a user in place of those that the size makes for the first trench. */
  readonly given?: Manifests.Given
  readonly trace?: boolean
  /** Machines in place of the real ones: mutants. */
  readonly machines?: Partial<Machines>
  /** The latency of messages, in milliseconds. */
  readonly latency?: () => readonly [low: number, high: number]
  readonly observe?: Actor.Observe
  /** Hears of every target that an NSP saves. */
  readonly onTarget?: (trench: number, target: Target) => void
  /** Hears of every change of the rules of a load balancer. */
  readonly onRules?: (trench: number, name: string, before: Model.Ruleset | undefined, after: Model.Ruleset) => void
}

export interface Cluster {
  readonly ground: Ground
  readonly world: World.World
  readonly trenches: readonly [Trench.Trench, ...ReadonlyArray<Trench.Trench>]
  readonly targets: ReadonlyArray<Tapa.Tapa>
  /** What addresses the trenches have in common. */
  readonly likeness: Addresses.Likeness
  /** The process that has the place of the one that had this name at first. */
  readonly current: (name: string) => string
  /** Ends the pod of a target, a proxy or a frontend in order; after a pause another one takes its place. */
  readonly replace: (slot: string, pauseMs: number) => void
  /** Starts everything; applications open their streams. */
  readonly start: () => void
}

/** What the names of the processes of trench n begin with. */
export const prefixOf = (n: number): string => n === 0 ? "" : `${nameOf(n)}-`

const nameOf = (n: number): string => n === 0 ? "t" : `t${n + 1}`

export const make = (options: Options): Cluster => {
  const { given, seed, size } = options
  const { trenches: count = 1 } = size
  const world = World.make({ seed, trace: options.trace ?? false })
  const network = Network.make(world, options.latency ?? (() => [1, 15]))
  const kernels = Kernels.make()
  const observe = options.observe ?? (() => undefined)
  const ground: Ground = { world, network, kernels, observe, machines: { ...machines, ...options.machines } }
  const pod = Pods.make(kernels)
  const likeness = Addresses.likeness(seed)

  const targets: Array<Tapa.Tapa> = []
  const trenchOf = (n: number): Trench.Trench =>
    Trench.make(ground, {
      size,
      trench: nameOf(n),
      prefix: prefixOf(n),
      addresses: Addresses.make(n, likeness),
      given: n === 0 ? given : undefined,
      pod,
      targets,
      isAlone: count === 1,
      onTarget: (target) => options.onTarget?.(n, target),
      onRules: (...change) => options.onRules?.(n, ...change)
    })
  const others = Array.from({ length: count - 1 }, (_, n) => n + 1)
  const trenches = [trenchOf(0), ...others.map(trenchOf)] as const
  const [{ manifests: { namespace } }] = trenches
  const prefixes = new Map(trenches.map(({ name }, n) => [name, prefixOf(n)]))
  const targetOf = (n: number, name: string) =>
    Tapa.make(ground, {
      name,
      node: `node-${n % size.nodes}`,
      namespace,
      netns: pod(),
      wishes: targets[n]?.wished() ?? [],
      nspOf: (trench) => Trench.nspOf(prefixes.get(trench) ?? `${trench}-`)
    })
  for (let n = 0; n < size.targets; n++) targets.push(targetOf(n, `target-${n}`))
  const programs = [
    ...trenches.flatMap(({ ipam, nsp }) => [nsp, ipam]),
    Nsm.program(ground),
    ...trenches.flatMap(({ frontends, gateways, loadBalancers, proxies }) => [
      ...gateways,
      ...proxies,
      ...loadBalancers,
      ...frontends
    ]),
    ...targets
  ]
  programs.forEach(world.add)

  const targetPlaces = targets.map(({ name: slot }, n): Trench.Place => ({
    slot,
    netns: () => targets[n]?.netns ?? "",
    processes: () => [[slot, targets[n]?.name ?? ""]],
    succeed: (name) => [targets[n] = targetOf(n, name)]
  }))
  const places = new Map(
    [...trenches.flatMap(({ places }) => places), ...targetPlaces].map((place) => [place.slot, place])
  )
  const heirs = new Map<string, string>()
  const leaving = new Set<string>()
  const current = (name: string): string => heirs.get(name) ?? name
  const succeed = ({ processes, slot, succeed }: Trench.Place, generation: number): void => {
    const programs = succeed(`${slot}.${generation}`)
    for (const [slot, process] of processes()) heirs.set(slot, process)
    for (const program of programs) {
      world.add(program)
      world.start(program.name)
    }
  }
  const replace = (slot: string, pauseMs: number): void => {
    const place = places.get(slot)
    const own = current(slot)
    if (place === undefined || leaving.has(own) || !world.isAlive(own)) return
    leaving.add(own)
    const netns = place.netns()
    const pod = place.processes()
    let left = pod.length
    for (const [, name] of pod) {
      world.stop(name, () => {
        world.remove(name)
        if (--left > 0) return
        kernels.remove(netns)
        world.later(pauseMs, () => succeed(place, Number(own.split(".")[1] ?? 0) + 1))
      })
    }
  }

  return {
    ground,
    world,
    trenches,
    targets,
    likeness,
    current,
    replace,
    start: () => {
      for (const { name } of programs) {
        world.journal?.resume(undefined)
        world.start(name)
      }
      for (const [n, target] of targets.entries()) {
        const { manifests } = trenches[n % count] ?? trenches[0]
        target.open(manifests.stream(Math.floor(n / count) % size.streams))
      }
    }
  }
}
