/**
 * The simulation of whole trenches with every property looked at: machine steps per second and how much faster than life,
 * in whole lives of the profile calm with 10, 100 and 1 000 targets. The baseline is the smallest trench. The times are
 * those of the processor, with all that V8 compiles and collects meanwhile, as other programs may run beside. A campaign
 * lives thousands of lives in one process, so some are lived before: until then V8 compiles more than it runs.
 */
import { Effect } from "effect"
import { Profiles, Simulation } from "../property-tests/simulation/index.ts"
import type * as Bench from "./Bench.ts"

const sizes = [10, 100, 1_000]
/** Short lives are lived several times. */
const repeats = [60, 6, 1]
const before = 60

const life = (targets: number, seed: number): Simulation.Outcome => {
  const streams = Math.max(2, Math.floor(targets / 10))
  const frontends = Math.max(2, Math.floor(targets / 100))
  return Simulation.run({
    profile: Profiles.profiles.calm,
    seed,
    size: { nodes: Math.ceil(targets / 20), targets, frontends, gateways: 2, streams, maxTargets: 20 }
  })
}

type Sum = Pick<Simulation.Outcome, "steps" | "events" | "virtualMs">

const sumOf = (outcomes: ReadonlyArray<Simulation.Outcome>): Sum =>
  outcomes.reduce<Sum>(
    (sum, { events, steps, virtualMs }) => ({
      steps: sum.steps + steps,
      events: sum.events + events,
      virtualMs: sum.virtualMs + virtualMs
    }),
    { steps: 0, events: 0, virtualMs: 0 }
  )

/** What is told of the lives of each size. */
const figures: ReadonlyArray<
  readonly [metric: string, unit: string, (sum: Sum, seconds: number) => number]
> = [
  ["machine steps", "1/s", ({ steps }, seconds) => steps / seconds],
  ["virtual to real time", "", ({ virtualMs }, seconds) => virtualMs / 1_000 / seconds],
  ["time per event", "us", ({ events }, seconds) => seconds * 1e6 / events]
]

export const bench: Bench.Bench = {
  name: "simulate",
  summary: "speed of the simulation of whole trenches",
  rows: Effect.sync(() => {
    for (let seed = 1; seed <= before; seed++) life(10, seed)
    const lives = sizes.map((targets, i) => {
      const begin = process.cpuUsage()
      const outcomes = Array.from({ length: repeats[i] ?? 1 }, (_, n) => life(targets, n + 1))
      const { system, user } = process.cpuUsage(begin)
      return { outcomes, seconds: (system + user) / 1e6 }
    })
    return figures.flatMap(([metric, unit, figure]) => {
      const values = lives.map(({ outcomes, seconds }) => figure(sumOf(outcomes), seconds))
      const [baseline = Number.NaN] = values
      return values.map((value, i): Bench.Row => ({
        bench: "simulate",
        metric: `${metric} with ${sizes[i]} targets`,
        unit,
        value,
        baseline,
        ratio: value / baseline
      }))
    })
  })
}
