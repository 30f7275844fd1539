/** Runs the checks of a lab in order, tells each result as it comes, and writes the report. */
import { Clock, Effect } from "effect"
import type { Lab } from "../Lab.ts"
import type { Trench } from "../Trench.ts"
import * as Changes from "./Changes.ts"
import type { Check } from "./Check.ts"
import * as Faults from "./Faults.ts"
import * as Recordings from "./Recordings.ts"
import * as Traffic from "./Traffic.ts"

export interface Result {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
  readonly ms: number
}

/** The JSON of `--report`. */
export interface Report {
  readonly ok: boolean
  readonly checks: ReadonlyArray<Result>
  /** What the trench has no objects for, with the reason. */
  readonly leftOut: ReadonlyArray<{ readonly name: string; readonly reason: string }>
  /** How many connections and datagrams each target answered. */
  readonly targets: Readonly<Record<string, { readonly connections: number }>>
}

/** In the order in which they run: the later ones count on a trench that works. */
const checks: ReadonlyArray<Check> = [...Traffic.checks, ...Changes.checks, ...Faults.checks, ...Recordings.checks]

/** Runs every check on every trench; names carry the trench when there are several. */
export const run = (lab: Lab, print: (line: string) => void): Effect.Effect<Report> =>
  Effect.gen(function*() {
    const results: Array<Result> = []
    const leftOut: Array<{ name: string; reason: string }> = []
    for (const trench of lab.trenches) {
      const prefix = lab.trenches.length > 1 ? `${trench.layout.trench}/` : ""
      for (const check of checks) {
        const name = `${prefix}${check.name}`
        const reason = check.leftOut(trench)
        if (reason !== undefined) {
          leftOut.push({ name, reason })
          print(`  - ${name}: left out, ${reason}`)
          continue
        }
        const result = yield* timed(name, check, lab, trench)
        results.push(result)
        print(line(result))
      }
    }
    return { ok: results.every(({ ok }) => ok), checks: results, leftOut, targets: connections(lab) }
  })

/** `  ok tcp-v4 (812 ms): stream-a: target-1 101, ...` */
export const line = ({ detail, ms, name, ok }: Result): string =>
  `${ok ? "  ok" : "FAIL"} ${name} (${ms} ms): ${detail}`

const timed = (name: string, check: Check, lab: Lab, trench: Trench): Effect.Effect<Result> =>
  Effect.gen(function*() {
    const begin = yield* Clock.currentTimeMillis
    const outcome = yield* Effect.match(check.run(lab, trench), {
      onFailure: (error) => ({ ok: false, detail: error.message }),
      onSuccess: (detail) => ({ ok: true, detail })
    })
    return { name, ...outcome, ms: (yield* Clock.currentTimeMillis) - begin }
  })

const connections = (lab: Lab): Report["targets"] =>
  Object.fromEntries(
    lab.trenches.flatMap(({ targets, traffic }) =>
      targets.map(({ name }) => [name, { connections: traffic.served()[name] ?? 0 }])
    )
  )
