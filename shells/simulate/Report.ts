/** What many lives came to: for people, and as JSON for scripts. */
import { Coverage, Fault } from "../../property-tests/simulation/index.ts"
import type * as Campaign from "./Campaign.ts"

/** The rows of one machine: pairs of it and an event. */
export interface Rows {
  readonly machine: string
  readonly reached: ReadonlyArray<{ readonly event: string; readonly times: number }>
  readonly never: ReadonlyArray<string>
}

/** Which rows of each machine were reached, most often first, and which never. */
export const rowsOf = (coverage: Coverage.Coverage): ReadonlyArray<Rows> => {
  const machines = new Map<string, Array<string>>()
  for (const row of Coverage.rows) {
    const [machine = "", event = ""] = row.split(" ")
    machines.set(machine, [...machines.get(machine) ?? [], event])
  }
  return [...machines].map(([machine, events]) => {
    const counted = events.map((event) => ({ event, times: coverage.get(`${machine} ${event}`) ?? 0 }))
    return {
      machine,
      reached: counted.filter(({ times }) => times > 0).toSorted((a, b) => b.times - a.times),
      never: counted.filter(({ times }) => times === 0).map(({ event }) => event)
    }
  })
}

/** A line while it runs. */
export const progress = ({ done, plan: { runs }, seconds }: Omit<Campaign.Result, "failure">): string =>
  `  ${done} of ${runs} runs, ${(done / seconds).toFixed(1)} runs/s`

/** What is told at the end. */
export const lines = (result: Campaign.Result, again: string): ReadonlyArray<string> => [
  ...result.failure === undefined ? held(result) : failed(result.failure, again),
  ...coverage(result)
]

const held = ({ cut, done, plan, seconds, steps, virtualMs }: Campaign.Result): ReadonlyArray<string> => [
  `${plan.name}: everything held in ${done} ${done === 1 ? "run" : "runs"}: ${(done / seconds).toFixed(1)} runs/s, `
  + `${Math.round(steps / seconds)} steps/s, ${Math.round(virtualMs / 1_000 / seconds)} times as fast as life`,
  ...cut === 0 ? [] : [`  ${cut} ${cut === 1 ? "run was" : "runs were"} cut short by --steps`]
]

const failed = ({ outcome, shrunk, violations }: Campaign.Failure, again: string): ReadonlyArray<string> => [
  `FAILED with seed ${outcome.seed}:`,
  ...violations.flatMap(({ at, detail, property, reason }) => [
    `  ${(at / 1_000).toFixed(3).padStart(9)} s  ${property}: ${detail}`,
    `               ${reason}`
  ]),
  `The smallest schedule that still fails (${shrunk.schedule.length} of ${outcome.schedule.length} faults, found in ${shrunk.runs} runs):`,
  ...shrunk.schedule.length === 0
    ? ["             no fault at all: it fails in a quiet life"]
    : shrunk.schedule.map((one) => `  ${Fault.describe(one)}`),
  `See it: ${again}`
]

const coverage = (result: Campaign.Result): ReadonlyArray<string> => {
  const rows = rowsOf(result.coverage)
  const all = rows.reduce((sum, { never, reached }) => sum + never.length + reached.length, 0)
  const reached = rows.reduce((sum, { reached }) => sum + reached.length, 0)
  const counted = [...result.faults].filter(([, times]) => times > 0)
  const never = [...result.faults].filter(([, times]) => times === 0).map(([tag]) => tag)
  return [
    `  faults: ${counted.map(([tag, times]) => `${times} ${tag}`).join(", ") || "none"}${
      never.length === 0 ? "" : `; never: ${never.join(", ")}`
    }`,
    `  rows: ${reached} of ${all}`,
    ...rows.map(({ machine, never, reached }) =>
      `    ${machine.padEnd(17)}${String(reached.length).padStart(3)} of ${
        String(reached.length + never.length).padStart(2)
      }${never.length === 0 ? "" : `; never: ${never.join(", ")}`}`
    ),
    ...rows.flatMap(({ machine, never }) =>
      never.flatMap((event) => {
        const reason = Coverage.beyond[`${machine} ${event}`]
        return reason === undefined ? [] : [`  no life reaches ${machine} ${event}: ${reason}`]
      })
    )
  ]
}

/** The same as JSON. */
export const json = (results: ReadonlyArray<Campaign.Result>): object => ({
  held: results.every(({ failure }) => failure === undefined),
  profiles: results.map(({ coverage, cut, done, failure, faults, plan, seconds, steps, virtualMs }) => ({
    profile: plan.name,
    seed: plan.seed,
    runs: done,
    cut,
    steps,
    virtualMs,
    seconds,
    faults: Object.fromEntries(faults),
    rows: Object.fromEntries(
      rowsOf(coverage).map(({ machine, never, reached }) => [
        machine,
        {
          reached: Object.fromEntries(reached.map(({ event, times }) => [event, times])),
          never,
          beyond: Object.fromEntries(
            never.flatMap((event) => {
              const reason = Coverage.beyond[`${machine} ${event}`]
              return reason === undefined ? [] : [[event, reason]]
            })
          )
        }
      ])
    ),
    ...failure === undefined ? {} : {
      failure: {
        seed: failure.outcome.seed,
        violations: failure.violations,
        schedule: failure.outcome.schedule,
        shrunk: failure.shrunk
      }
    }
  }))
})
