/**
 * The simulation of whole trenches: machine steps per second and how much faster than life, in the profile calm with 10
 * and with 100 targets. The baseline is the smaller trench.
 */
import { Effect } from "effect"
import { Profiles, Simulation } from "../property-tests/simulation/index.ts"
import type * as Bench from "./Bench.ts"

const sizes = [10, 100]

const life = (targets: number): Simulation.Outcome =>
  Simulation.run({
    profile: Profiles.profiles.calm,
    seed: 1,
    size: { nodes: Math.ceil(targets / 10), targets, frontends: 2, gateways: 1, streams: 2, maxTargets: targets }
  })

/** What is told of each life. */
const figures: ReadonlyArray<
  readonly [metric: string, unit: string, (outcome: Simulation.Outcome, seconds: number) => number]
> = [
  ["machine steps", "1/s", ({ steps }, seconds) => steps / seconds],
  ["virtual to real time", "", ({ virtualMs }, seconds) => virtualMs / 1_000 / seconds],
  ["time per event", "us", ({ events }, seconds) => seconds * 1e6 / events]
]

export const bench: Bench.Bench = {
  name: "simulate",
  summary: "speed of the simulation of whole trenches",
  rows: Effect.sync(() => {
    life(1)
    const lives = sizes.map((targets) => {
      const begin = process.hrtime.bigint()
      const outcome = life(targets)
      return { targets, outcome, seconds: Number(process.hrtime.bigint() - begin) / 1e9 }
    })
    return figures.flatMap(([metric, unit, figure]) => {
      const values = lives.map(({ outcome, seconds }) => figure(outcome, seconds))
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
