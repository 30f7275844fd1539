/**
 * How Sluice is measured: every figure is the median of several runs and stands beside a baseline measured in the same
 * run, with the variants interleaved, so that a busy machine disturbs both alike.
 */
import { Effect } from "effect"

/** One line of a report; `ratio` is value / baseline. */
export interface Row {
  readonly bench: string
  readonly metric: string
  readonly unit: string
  readonly value: number
  readonly baseline: number
  readonly ratio: number
}

/** One way to do the work; `run` answers with the measured figure. */
export interface Variant<R> {
  readonly name: string
  readonly run: Effect.Effect<number, never, R>
}

/** A benchmark by its name on the command line. */
export interface Bench {
  readonly name: string
  readonly summary: string
  readonly rows: Effect.Effect<ReadonlyArray<Row>>
}

/** Runs the variants in turn, `rounds` times, and gives the median of each. */
export const medians = <R>(
  variants: ReadonlyArray<Variant<R>>,
  rounds: number
): Effect.Effect<ReadonlyMap<string, number>, never, R> =>
  Effect.gen(function*() {
    const samples = new Map<string, Array<number>>(variants.map(({ name }) => [name, []]))
    for (let round = 0; round < rounds; round++) {
      for (const { name, run } of variants) samples.get(name)?.push(yield* run)
    }
    return new Map([...samples].map(([name, values]) => [name, median(values)]))
  })

/** The rows of a metric: each variant beside the baseline, which is the first variant. */
export const rows = <R>(
  bench: string,
  metric: string,
  unit: string,
  variants: ReadonlyArray<Variant<R>>,
  rounds = 5
): Effect.Effect<ReadonlyArray<Row>, never, R> =>
  Effect.map(medians(variants, rounds), (values) => {
    const baseline = values.get(variants[0]?.name ?? "") ?? Number.NaN
    return [...values].map(([name, value]) => ({
      bench,
      metric: `${metric} ${name}`,
      unit,
      value,
      baseline,
      ratio: value / baseline
    }))
  })

/** How often `work` was done in a second of this process. `count` is how much one call does. */
export const perSecond = (count: number, work: Effect.Effect<void>): Effect.Effect<number> =>
  Effect.gen(function*() {
    const begin = process.hrtime.bigint()
    yield* work
    return count / (Number(process.hrtime.bigint() - begin) / 1e9)
  })

/** The middle value. */
export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
