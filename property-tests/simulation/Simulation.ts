/**
 * One simulated life of a trench: it settles, suffers its faults, recovers within a bounded time, and closes.
 *
 *     start ──▶ faults ──▶ quiet for `recoverMs` ──settled?──▶ close all ──▶ quiet for `closeMs` ──nothing left?
 */
import type * as Seed from "../../core/Seed.ts"
import type * as Actor from "./Actor.ts"
import * as Fault from "./Fault.ts"
import type { Machines } from "./Ground.ts"
import type * as Journal from "./Journal.ts"
import type * as Manifests from "./Manifests.ts"
import * as Profiles from "./Profiles.ts"
import * as Properties from "./Properties.ts"
import * as Trench from "./Trench.ts"
import type { Violation } from "./World.ts"

/** A life to be simulated; equal options give an equal life. */
export interface Options {
  readonly profile: Profiles.Profile
  readonly seed: Seed.Seed
  /** Instead of the faults that the profile draws. */
  readonly schedule?: Fault.Schedule
  readonly size?: Trench.Size
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
  const guard = Properties.guard(() => trench)
  const observe: Actor.Observe = (_life, machine, event, _state, commands) => {
    if (coverage !== undefined) {
      const row = `${machine} ${event._tag}`
      coverage.set(row, (coverage.get(row) ?? 0) + 1)
    }
    if (machine === "nsp-registry" && commands.some(({ _tag }) => _tag === "SaveTarget")) guard.registered()
  }
  const injector = Fault.injector()
  const trench: Trench.Trench = Trench.make({
    seed,
    size,
    ...options.given === undefined ? {} : { given: options.given },
    trace: options.trace ?? false,
    machines: options.machines ?? {},
    latency: injector.latency,
    observe,
    onRules: guard.ruled
  })
  const { world } = trench
  const maxSteps = options.maxSteps ?? 10_000_000
  let isSampling = true
  const judge = (when: Properties.Property["when"]): void => {
    for (const property of options.properties ?? []) {
      const detail = property.when === when ? property.check(trench) : undefined
      if (detail !== undefined) world.violate(property.name, detail)
    }
  }
  const sample = (): void => {
    guard.sample()
    judge("Always")
    if (isSampling) world.later(sampleMs, sample)
  }
  const isOver = (): boolean => world.violations().length > 0 || world.steps() >= maxSteps
  /** In slices, so that a violation ends the run soon. */
  const advance = (until: number): void => {
    while (!isOver() && world.elapsed() < until) world.run(Math.min(until, world.elapsed() + 5_000))
  }

  trench.start()
  world.journal?.resume(undefined)
  world.later(sampleMs, sample)
  injector.inject(trench, schedule)
  advance(Math.max(Profiles.quietMs, Fault.endOf(schedule)) + recoverMs)
  world.journal?.resume(undefined)
  if (!isOver()) {
    Properties.settled(trench)
    judge("Settled")
  }
  if (!isOver()) {
    for (const target of trench.targets) for (const stream of target.wished()) target.close(stream)
    advance(world.elapsed() + closeMs)
    world.journal?.resume(undefined)
    if (!isOver()) {
      Properties.closed(trench)
      judge("Closed")
    }
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
