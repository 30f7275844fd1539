/** `sluice simulate`: whole trenches in virtual time, with faults, from seeds. */
import { Effect } from "effect"
import * as fs from "node:fs"
import {
  Coverage,
  Fault,
  Profiles,
  Properties,
  Shrink,
  Simulation,
  Trace
} from "../../property-tests/simulation/index.ts"
import * as Tool from "../runtime/Tool.ts"
import * as Recordings from "./Recordings.ts"
import * as TracePage from "./TracePage.ts"

const list = Object.entries(Profiles.profiles)
  .map(([name, { size, summary }]) => `  ${name.padEnd(10)}${summary} (${size.targets} targets)`).join("\n")

/** How often progress is shown. Unit: milliseconds. */
const progressMs = 2_000

export const command = Tool.tool({
  name: "simulate",
  summary: "Puts whole trenches through faults in virtual time and checks what must hold.",
  usage: `Usage: sluice simulate [--profile P] [--seed S] [--runs N] [--steps M] [--trace FILE] [--record FOLDER]

  --profile  the kind of life, see below (calm); all: one after another
  --seed     the first seed; runs take this one and those after it (a fresh one)
  --runs     how many lives (20; with --trace or --record 1)
  --steps    the most machine steps of a run (10000000)
  --trace    writes what happened in the last run: a page if FILE ends in .html, else lines of JSON
  --record   writes a recording of every machine of the last run, for sluice replay

Profiles:
${list}

Equal profile and seed give an equal run. Exit code: 0 everything held, 1 something did not, 2 wrong usage.`,
  options: {
    profile: { type: "string", default: "calm" },
    seed: { type: "string" },
    runs: { type: "string" },
    steps: { type: "string", default: "10000000" },
    trace: { type: "string" },
    record: { type: "string" }
  },
  main: ({ options, words }, { err, out }) =>
    Effect.gen(function*() {
      const { profile, record, trace } = options
      const names = profile === "all"
        ? Object.keys(Profiles.profiles).filter(Profiles.isName).filter((name) => name !== "scale")
        : [profile].filter((name) => typeof name === "string").filter(Profiles.isName)
      const seed = whole(options["seed"], Math.floor(Math.random() * 1_000_000_000), 0xffff_ffff)
      const runs = whole(options["runs"], trace === undefined && record === undefined ? 20 : 1, 100_000_000)
      const steps = whole(options["steps"], 0, Number.MAX_SAFE_INTEGER)
      const wrong = names.length === 0
        ? `there is no profile "${String(profile)}"; these are known:\n${list}`
        : words.length > 0
        ? `"${words[0]}" is not expected here; see sluice simulate --help`
        : seed === undefined || runs === undefined || runs === 0 || steps === undefined
        ? "--seed, --runs and --steps are whole numbers; see sluice simulate --help"
        : undefined
      if (wrong !== undefined || seed === undefined || runs === undefined || steps === undefined) {
        err(`sluice simulate: ${wrong ?? ""}`)
        return 2
      }
      const file = typeof trace === "string" ? trace : undefined
      const folder = typeof record === "string" ? record : undefined
      for (const name of names) {
        const code = yield* simulate({ name, seed, runs, maxSteps: steps, file, folder }, out)
        if (code !== 0) return code
      }
      return 0
    })
})

interface Plan {
  readonly name: Profiles.Name
  readonly seed: number
  readonly runs: number
  readonly maxSteps: number
  readonly file: string | undefined
  readonly folder: string | undefined
}

const simulate = (
  { file, folder, maxSteps, name, runs, seed }: Plan,
  out: (line: string) => void
): Effect.Effect<number> =>
  Effect.gen(function*() {
    const profile = Profiles.profiles[name]
    const coverage: Coverage.Coverage = new Map()
    const faults = new Map<string, number>()
    const started = performance.now()
    let told = started
    let steps = 0
    let virtualMs = 0
    out(`${name}: ${runs} ${runs === 1 ? "run" : "runs"} from seed ${seed}: ${profile.summary}`)
    for (let done = 0; done < runs; done++) {
      const options = {
        profile,
        seed: (seed + done) >>> 0,
        maxSteps,
        coverage,
        trace: file !== undefined || folder !== undefined
      }
      const outcome = Simulation.run(options)
      steps += outcome.steps
      virtualMs += outcome.virtualMs
      for (const { fault } of outcome.schedule) faults.set(fault._tag, (faults.get(fault._tag) ?? 0) + 1)
      const isLast = done + 1 === runs || outcome.violations.length > 0
      if (file !== undefined && isLast && outcome.journal !== undefined) {
        const again = `sluice simulate --profile ${name} --seed ${outcome.seed}`
        const told = { title: `A life of a trench: ${name}, seed ${outcome.seed}`, command: again }
        const { journal } = outcome
        const page = file.endsWith(".html")
          ? yield* Effect.promise(() => TracePage.html(told, outcome))
          : Trace.ndjson(journal)
        fs.writeFileSync(file, page)
        out(`${journal.entries().length} lines of trace in ${file}`)
      }
      if (folder !== undefined && isLast && outcome.journal !== undefined) {
        out(`${Recordings.write(folder, outcome.journal)} recordings in ${folder}`)
      }
      if (outcome.violations.length > 0) {
        for (const line of report(name, options, outcome)) out(line)
        return 1
      }
      const now = performance.now()
      if (now - told > progressMs && !isLast) {
        told = now
        out(`  ${done + 1} of ${runs} runs, ${((done + 1) / (now - started) * 1_000).toFixed(1)} runs/s`)
      }
      // A signal is heard between two runs.
      yield* Effect.sleep(0)
    }
    const seconds = (performance.now() - started) / 1_000
    const missing = Coverage.missing(coverage)
    out(
      `${name}: everything held in ${runs} runs: ${(runs / seconds).toFixed(1)} runs/s, `
        + `${Math.round(steps / seconds)} steps/s, ${Math.round(virtualMs / 1_000 / seconds)} times as fast as life`
    )
    out(`  faults: ${[...faults].map(([fault, count]) => `${count} ${fault}`).join(", ") || "none"}`)
    out(`  rows: ${Coverage.rows.length - missing.length} of ${Coverage.rows.length}; never: ${missing.join(", ")}`)
    return 0
  })

/** What failed, the smallest schedule that still fails in the same way, and how to see it. */
const report = (
  name: Profiles.Name,
  options: Simulation.Options,
  { schedule, seed, violations }: Simulation.Outcome
): ReadonlyArray<string> => {
  const properties = new Set(violations.map(({ property }) => property))
  const shrunk = Shrink.shrink(
    schedule,
    (part) =>
      Simulation.run({ ...options, trace: false, schedule: part }).violations.some(({ property }) =>
        properties.has(property)
      )
  )
  return [
    `FAILED with seed ${seed}:`,
    ...violations.flatMap(({ at, detail, property }) => [
      `  ${(at / 1_000).toFixed(3)} s  ${property}: ${detail}`,
      `             ${Properties.reasonOf(property)}`
    ]),
    `The smallest schedule that still fails (${shrunk.schedule.length} of ${schedule.length} faults, ${shrunk.runs} runs):`,
    ...shrunk.schedule.length === 0 ? ["  no fault at all"] : shrunk.schedule.map(Fault.describe),
    `Again: sluice simulate --profile ${name} --seed ${seed} --trace run.html`
  ]
}

const whole = (text: unknown, absent: number, maximum: number): number | undefined => {
  if (text === undefined) return absent
  const number = typeof text === "string" && /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  return number <= maximum ? number : undefined
}
