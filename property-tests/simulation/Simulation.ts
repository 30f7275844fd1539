/**
 * One simulated life of a world: it settles, suffers its faults, recovers within a bounded time, and closes.
 *
 *     start ──▶ faults ──▶ quiet for `recoverMs` ──settled?──▶ close all ──▶ quiet for `closeMs` ──nothing left?
 *
 * Of several trenches one after the other is closed; those that are not must not notice.
 */
import type * as Seed from "../../core/Seed.ts"
import type * as Actor from "./Actor.ts"
import * as Cluster from "./Cluster.ts"
import * as Fault from "./Fault.ts"
import type { Machines } from "./Ground.ts"
import * as Isolation from "./Isolation.ts"
import type * as Journal from "./Journal.ts"
import type * as Manifests from "./Manifests.ts"
import * as Profiles from "./Profiles.ts"
import * as Properties from "./Properties.ts"
import type { Trench } from "./Trench.ts"
import type { Violation } from "./World.ts"

/** A life to be simulated; equal options give an equal life. */
export interface Options {
  readonly profile: Profiles.Profile
  readonly seed: Seed.Seed
  /** Instead of the faults that the profile draws. */
  readonly schedule?: Fault.Schedule
  readonly size?: Cluster.Size
  /** The initial objects, in place of those that the size makes. */
  readonly given?: Manifests.Given
  /** Whether a journal is kept, for traces and recordings. */
  readonly trace?: boolean
  /** Machines in place of those of the programs: mutants, or your own. */
  readonly machines?: Partial<Machines>
  /** What must hold besides the properties that every run is held to. */
  readonly properties?: ReadonlyArray<Properties.Property>
  /** More machine steps end the run. Default: ten million. */
  readonly maxSteps?: number
  /** Counts what happened in which machine: `machine event`. */
  readonly coverage?: Map<string, number>
}

/** What came of a run. */
export interface Outcome {
  readonly seed: Seed.Seed
  readonly schedule: Fault.Schedule
  readonly violations: ReadonlyArray<Violation>
  /** Machine steps. */
  readonly steps: number
  /** Everything that happened: steps, arrivals, pauses that ended. */
  readonly events: number
  readonly virtualMs: number
  /** What happened, if a trace was asked for. */
  readonly journal: Journal.Journal | undefined
}

/** The bounded time in which a trench recovers, and in which it forgets what is closed. */
export const recoverMs = 180_000
export const closeMs = 240_000
const sampleMs = 1_000

/** Lives one life; it ends with the first violation. */
export const run = (options: Options): Outcome => {
  const { coverage, profile, seed, size = profile.size } = options
  const schedule = options.schedule ?? Profiles.schedule(profile, seed, size)
  const observe: Actor.Observe = (_life, machine, event) => {
    if (coverage === undefined) return
    const row = `${machine} ${event._tag}`
    coverage.set(row, (coverage.get(row) ?? 0) + 1)
  }
  const injector = Fault.injector()
  const cluster: Cluster.Cluster = Cluster.make({
    seed,
    size,
    ...options.given === undefined ? {} : { given: options.given },
    trace: options.trace ?? false,
    machines: options.machines ?? {},
    latency: injector.latency,
    observe,
    onTarget: (n, target) => guards[n]?.registered(target),
    onRules: (n, ...change) => guards[n]?.ruled(...change)
  })
  const { trenches, world } = cluster
  const guards = trenches.map(Properties.guard)
  const isolation = Isolation.guard(cluster)
  const maxSteps = options.maxSteps ?? 10_000_000
  let isSampling = true
  const judge = (when: Properties.Property["when"], trench: Trench): void => {
    for (const property of options.properties ?? []) {
      const detail = property.when === when ? property.check(trench) : undefined
      if (detail !== undefined) world.violate(property.name, detail)
    }
  }
  const sample = (): void => {
    for (const { sample } of guards) sample()
    isolation.sample()
    for (const trench of trenches) judge("Always", trench)
    if (isSampling) world.later(sampleMs, sample)
  }
  const settled = (trench: Trench): void => {
    Properties.settled(trench)
    Isolation.settled(trench)
    judge("Settled", trench)
  }
  const closed = (trench: Trench): void => {
    Properties.closed(trench)
    judge("Closed", trench)
  }
  const isOver = (): boolean => world.violations().length > 0 || world.steps() >= maxSteps
  /** In slices, so that a violation ends the run soon. */
  const advance = (until: number): void => {
    while (!isOver() && world.elapsed() < until) world.run(Math.min(until, world.elapsed() + 5_000))
    world.journal?.resume(undefined)
  }

  cluster.start()
  world.journal?.resume(undefined)
  world.later(sampleMs, sample)
  injector.inject(cluster, schedule)
  advance(Math.max(Profiles.quietMs, Fault.endOf(schedule)) + recoverMs)
  if (!isOver()) trenches.forEach(settled)
  // Which one closes first depends on the seed.
  const first = seed % trenches.length
  const order = [...trenches.slice(first), ...trenches.slice(0, first)]
  for (const [n, trench] of order.entries()) {
    if (isOver()) break
    const others = order.slice(n + 1)
    isolation.leave(others)
    for (const target of cluster.targets) {
      for (const stream of target.wished()) if (stream.trench === trench.name) target.close(stream)
    }
    advance(world.elapsed() + closeMs)
    if (isOver()) break
    closed(trench)
    others.forEach(settled)
  }
  isSampling = false
  return {
    seed,
    schedule,
    violations: world.violations(),
    steps: world.steps(),
    events: world.events(),
    virtualMs: world.elapsed(),
    journal: world.journal
  }
}
