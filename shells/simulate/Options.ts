/** The command line of `sluice simulate`. */
import { Result, Schema } from "effect"
import * as fs from "node:fs"
import { Fault, Profiles } from "../../property-tests/simulation/index.ts"
import * as Mutants from "../../property-tests/simulation/Mutants.ts"
import type { Mutant } from "../../property-tests/simulation/Mutation.ts"
import type { Arguments } from "../runtime/Tool.ts"

const list = Object.entries(Profiles.profiles)
  .map(([name, { size, summary }]) => `  ${name.padEnd(10)}${summary} (${size.targets} targets)`).join("\n")

export const usage =
  `Usage: sluice simulate [--profile P] [--config PATH] [--seed S] [--runs N] [--steps M] [--report FILE]
       sluice simulate --seed S [--faults FILE] [--trace FILE] [--record FOLDER]

  --profile  the kind of life, see below (calm); all: one after another, but scale
  --config   a YAML file, or a folder of them, with meridio.nordix.org objects: each conduit of each trench
             is simulated in place of the one that the profile has; what is not modelled is named
  --targets  how many targets there are, 1 to 2000 (as the profile says)
  --nodes    how many nodes they are spread over, 1 to 200 (as the profile says)
  --trenches how many trenches there are on these nodes, 1 to 9 (as the profile says); --config gives the first one
  --seed     the first seed; runs take this one and those after it (a fresh one, which is printed)
  --runs     how many lives (20; with --faults, --trace or --record 1)
  --steps    the most machine steps of a run (10000000)
  --faults   a file with the faults, as a report or a failure tells them, in place of those the profile draws
  --mistake  runs a machine with a known mistake, to see what a failure looks like: words of the mistake, or "list"
  --report   writes what came of it as JSON
  --trace    writes what happened in the failed, else the last run: a page if FILE ends in .html, else lines of JSON;
             of a failed run it shows the smallest schedule that still fails
  --record   writes a recording of every machine of that run, for sluice replay

Profiles:
${list}

Equal profile, seed and faults give an equal run. Exit code: 0 everything held, 1 something did not, 2 wrong usage.`

/** The most machine steps of a run. */
export const defaultSteps = 10_000_000

export const options = {
  profile: { type: "string", default: "calm" },
  config: { type: "string" },
  targets: { type: "string" },
  nodes: { type: "string" },
  trenches: { type: "string" },
  seed: { type: "string" },
  runs: { type: "string" },
  steps: { type: "string", default: String(defaultSteps) },
  faults: { type: "string" },
  mistake: { type: "string" },
  report: { type: "string" },
  trace: { type: "string" },
  record: { type: "string" }
} as const

export interface Settings {
  readonly profiles: ReadonlyArray<Profiles.Name>
  readonly config: string | undefined
  readonly targets: number | undefined
  readonly nodes: number | undefined
  readonly trenches: number | undefined
  readonly seed: number
  readonly runs: number
  readonly maxSteps: number
  readonly schedule: Fault.Schedule | undefined
  readonly mutant: Mutant | undefined
  readonly report: string | undefined
  readonly trace: string | undefined
  readonly record: string | undefined
}

/** Reads the command line; the failure lists every mistake. */
export const read = (
  given: Arguments["options"],
  words: ReadonlyArray<string>
): Result.Result<Settings, ReadonlyArray<string>> => {
  const mistakes: Array<string> = words.map((word) =>
    `"${word}" is not an option; options begin with --, see sluice simulate --help`
  )
  const text = (name: string): string | undefined => {
    const value = given[name]
    if (value === "") mistakes.push(`--${name}: expected a file`)
    return typeof value === "string" ? value : undefined
  }
  const whole = (name: string, low: number, high: number): number | undefined => {
    const value = given[name]
    if (value === undefined) return undefined
    const number = typeof value === "string" && /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN
    if (number >= low && number <= high) return number
    mistakes.push(`--${name} ${String(value)}: expected a whole number from ${low} to ${high}`)
    return undefined
  }
  const { profile } = given
  const profiles = profile === "all"
    ? Object.keys(Profiles.profiles).filter(Profiles.isName).filter((name) => name !== "scale")
    : [profile].filter((name) => typeof name === "string").filter(Profiles.isName)
  if (profiles.length === 0) mistakes.push(`--profile ${String(profile)}: there is no such profile; known are\n${list}`)
  const mistake = text("mistake")
  const mutant = mistake === undefined ? undefined : Mutants.mutants.find((one) => one.mistake.includes(mistake))
  if (mistake !== undefined && mutant === undefined) {
    mistakes.push(
      `--mistake ${mistake}: known are\n${
        Mutants.mutants.map((one) => `  ${one.mistake} (--profile ${one.profile})`).join("\n")
      }`
    )
  }
  const [trace, record, faults] = [text("trace"), text("record"), text("faults")]
  const isOne = trace !== undefined || record !== undefined || faults !== undefined
  const schedule = faults === undefined ? undefined : readFaults(faults)
  if (schedule !== undefined && Result.isFailure(schedule)) mistakes.push(schedule.failure)
  const settings: Settings = {
    profiles,
    config: text("config"),
    targets: whole("targets", 1, 2_000),
    nodes: whole("nodes", 1, 200),
    trenches: whole("trenches", 1, 9),
    seed: whole("seed", 0, 0xffff_ffff) ?? Math.floor(Math.random() * 1_000_000_000),
    runs: whole("runs", 1, 100_000_000) ?? (isOne ? 1 : 20),
    maxSteps: whole("steps", 1, Number.MAX_SAFE_INTEGER) ?? defaultSteps,
    schedule: schedule === undefined ? undefined : Result.getOrUndefined(schedule),
    mutant,
    report: text("report"),
    trace,
    record
  }
  return mistakes.length === 0 ? Result.succeed(settings) : Result.fail(mistakes)
}

/** A schedule as it is, or the smallest one of the first failure of a report. */
const Faults = Schema.fromJsonString(Schema.Union([
  Fault.Schedule,
  Schema.Struct({
    profiles: Schema.Array(Schema.Struct({
      failure: Schema.optional(Schema.Struct({ shrunk: Schema.Struct({ schedule: Fault.Schedule }) }))
    }))
  })
]))

const readFaults = (file: string): Result.Result<Fault.Schedule, string> => {
  const text = Result.try({
    try: () => fs.readFileSync(file, "utf8"),
    catch: (cause) => `--faults ${file}: ${cause instanceof Error ? cause.message : String(cause)}`
  })
  if (Result.isFailure(text)) return Result.fail(text.failure)
  const decoded = Schema.decodeUnknownResult(Faults)(text.success)
  if (Result.isFailure(decoded)) {
    return Result.fail(
      `--faults ${file}: expected a list of faults such as `
        + `[{ "at": 40000, "fault": { "_tag": "Crash", "process": "nsp", "downMs": 5000 } }], or a report of a failure`
    )
  }
  if (!("profiles" in decoded.success)) return Result.succeed(decoded.success)
  const failed = decoded.success.profiles.find(({ failure }) => failure !== undefined)
  return failed?.failure === undefined
    ? Result.fail(`--faults ${file}: the report has no failure, so it has no faults`)
    : Result.succeed(failed.failure.shrunk.schedule)
}
