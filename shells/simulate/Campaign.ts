/** Many lives of one profile, one seed after the other, until one fails; then the smallest schedule that still does. */
import { type Coverage, Fault, Properties, Shrink, Simulation } from "../../property-tests/simulation/index.ts"

/** The lives to be simulated: everything but seed and journal as for one of them. */
export interface Plan extends Omit<Simulation.Options, "seed" | "trace" | "coverage"> {
  /** The name of the profile, for people. */
  readonly name: string
  /** The first seed; run n has the seed n behind it. */
  readonly seed: number
  readonly runs: number
}

export interface Failure {
  readonly outcome: Simulation.Outcome
  /** The violated properties with their reasons. */
  readonly violations: ReadonlyArray<Simulation.Outcome["violations"][number] & { readonly reason: string }>
  /** The smallest schedule with which one of the same properties fails, and how many runs it took to find. */
  readonly shrunk: Shrink.Shrunk
}

export interface Result {
  readonly plan: Plan
  /** How many runs there were; all of them held but the last if there is a failure. */
  readonly done: number
  readonly steps: number
  readonly virtualMs: number
  readonly seconds: number
  readonly coverage: Coverage.Coverage
  /** How often each kind of fault happened. */
  readonly faults: ReadonlyMap<string, number>
  /** Runs that were cut short by `maxSteps`. */
  readonly cut: number
  readonly failure: Failure | undefined
}

/** Yields after each run, so that the caller can tell of the progress or leave. */
export function* run(plan: Plan): Generator<Omit<Result, "failure">, Result> {
  const { name: _name, runs, seed, ...options } = plan
  const coverage: Coverage.Coverage = new Map()
  const faults = new Map(Object.keys(Fault.Fault.cases).map((tag) => [tag, 0]))
  const began = performance.now()
  let [done, steps, virtualMs, cut] = [0, 0, 0, 0]
  const soFar = (): Omit<Result, "failure"> => ({
    plan,
    done,
    steps,
    virtualMs,
    cut,
    coverage,
    faults,
    seconds: (performance.now() - began) / 1_000
  })
  while (done < runs) {
    const outcome = Simulation.run({ ...options, seed: (seed + done) >>> 0, coverage })
    done++
    steps += outcome.steps
    virtualMs += outcome.virtualMs
    if (outcome.steps >= (plan.maxSteps ?? Infinity)) cut++
    for (const { fault } of outcome.schedule) faults.set(fault._tag, (faults.get(fault._tag) ?? 0) + 1)
    if (outcome.violations.length > 0) {
      yield soFar()
      return { ...soFar(), failure: failureOf(plan, outcome) }
    }
    yield soFar()
  }
  return { ...soFar(), failure: undefined }
}

/** Simulates all lives at once. */
export const all = (plan: Plan): Result => {
  const lives = run(plan)
  let next = lives.next()
  while (next.done !== true) next = lives.next()
  return next.value
}

const failureOf = (plan: Plan, outcome: Simulation.Outcome): Failure => {
  const { name: _name, runs: _runs, ...options } = plan
  const violated = new Set(outcome.violations.map(({ property }) => property))
  return {
    outcome,
    violations: outcome.violations.map((one) => ({
      ...one,
      reason: Properties.reasonOf(one.property, plan.properties)
    })),
    shrunk: Shrink.shrink(
      outcome.schedule,
      (schedule) =>
        Simulation.run({ ...options, seed: outcome.seed, schedule }).violations
          .some(({ property }) => violated.has(property))
    )
  }
}
