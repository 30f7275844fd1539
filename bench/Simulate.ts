/**
 * The simulation of whole trenches: machine steps per second and how much faster than life, in the profile calm with 10
 * and with 100 targets. The baseline is the smaller trench.
 */
import { Effect } from "effect"
import { Profiles, Simulation } from "../property-tests/simulation/index.ts"
import * as Bench from "./Bench.ts"

const sizes = [10, 100]

const life = (targets: number): Simulation.Outcome =>
  Simulation.run({
    profile: Profiles.profiles.calm,
    seed: 1,
    size: { nodes: Math.ceil(targets / 10), targets, frontends: 2, gateways: 1, streams: 2, maxTargets: targets }
  })

const measured = (figure: (outcome: Simulation.Outcome, seconds: number) => number) =>
  sizes.map((targets): Bench.Variant<never> => ({
    name: `with ${targets} targets`,
    run: Effect.sync(() => {
      const begin = process.hrtime.bigint()
      const outcome = life(targets)
      return figure(outcome, Number(process.hrtime.bigint() - begin) / 1e9)
    })
  }))

export const bench: Bench.Bench = {
  name: "simulate",
  summary: "speed of the simulation of whole trenches",
  rows: Effect.gen(function*() {
    const steps = measured(({ steps }, seconds) => steps / seconds)
    const pace = measured(({ virtualMs }, seconds) => virtualMs / 1_000 / seconds)
    return [
      ...yield* Bench.rows("simulate", "machine steps", "1/s", steps, 3),
      ...yield* Bench.rows("simulate", "virtual to real time", "", pace, 1)
    ]
  })
}
