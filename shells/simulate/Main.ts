/** `sluice simulate`: whole trenches in virtual time, with faults, from seeds. */
import { Effect, Result } from "effect"
import * as fs from "node:fs"
import { Profiles, Simulation, Trace } from "../../property-tests/simulation/index.ts"
import * as Manifests from "../lab/Manifests.ts"
import type * as Process from "../runtime/Process.ts"
import * as Tool from "../runtime/Tool.ts"
import { version } from "../runtime/Version.ts"
import * as Campaign from "./Campaign.ts"
import * as Objects from "./Objects.ts"
import * as Options from "./Options.ts"
import * as Recordings from "./Recordings.ts"
import * as Report from "./Report.ts"
import * as TracePage from "./TracePage.ts"

/** How often progress is shown. Unit: milliseconds. */
const progressMs = 2_000

export const command = Tool.tool({
  name: "simulate",
  summary: "Puts whole trenches through faults in virtual time and checks what must hold.",
  usage: Options.usage,
  options: Options.options,
  main: ({ options, words }, world) =>
    Effect.gen(function*() {
      const read = Options.read(options, words)
      if (Result.isFailure(read)) {
        for (const mistake of read.failure) world.err(`sluice simulate: ${mistake}`)
        return 2
      }
      const settings = read.success
      const objects = settings.config === undefined ? undefined : yield* load(settings.config)
      if (Result.isResult(objects) && Result.isFailure(objects)) {
        for (const line of objects.failure) world.err(`sluice simulate: ${line}`)
        return 2
      }
      const { leftOut, worlds } = objects === undefined ? { leftOut: [], worlds: [undefined] } : objects.success
      for (const sentence of leftOut) world.out(`not simulated: ${sentence}`)
      const results: Array<Campaign.Result> = []
      for (const own of worlds) {
        for (const name of settings.profiles) {
          if (results.some(({ failure }) => failure !== undefined)) break
          results.push(yield* campaign(settings, name, own, world))
        }
      }
      if (settings.report !== undefined) {
        yield* write(
          settings.report,
          `${JSON.stringify({ version, notSimulated: leftOut, ...Report.json(results) }, undefined, 2)}\n`
        )
        world.out(`report in ${settings.report}`)
      }
      return results.every(({ failure }) => failure === undefined) ? 0 : 1
    })
})

/** The worlds of manifests; the failure says what is wrong with them. */
const load = (config: string): Effect.Effect<Result.Result<Objects.Objects, ReadonlyArray<string>>> =>
  Effect.map(Effect.result(Manifests.load(config)), (read) => {
    if (Result.isFailure(read)) return Result.fail(read.failure.lines)
    const objects = Objects.of(read.success)
    return objects.worlds.length > 0
      ? Result.succeed(objects)
      : Result.fail([`--config ${config}: there is nothing to simulate`, ...objects.leftOut])
  })

/** The lives of one profile in one world, with what is told of them. */
const campaign = (
  settings: Options.Settings,
  name: Profiles.Name,
  own: Objects.World | undefined,
  { out }: Process.World
): Effect.Effect<Campaign.Result, Error> =>
  Effect.gen(function*() {
    const { maxSteps, mutant, runs, schedule, seed } = settings
    const profile: Profiles.Profile = Profiles.profiles[name]
    const { size } = profile
    const { nodes = size.nodes, targets = size.targets, trenches = size.trenches ?? 1 } = settings
    const where = own === undefined ? name : `${name} of ${own.name}`
    const plan: Campaign.Plan = {
      name: where,
      profile,
      seed,
      runs,
      maxSteps,
      size: { ...size, ...own?.size, nodes, targets, trenches },
      ...own === undefined ? {} : { given: own.given },
      ...schedule === undefined ? {} : { schedule },
      ...mutant === undefined ? {} : { machines: mutant.machines }
    }
    out(`${where}: ${runs} ${runs === 1 ? "run" : "runs"} from seed ${seed}: ${profile.summary}`)
    const lives = Campaign.run(plan)
    let told = performance.now()
    let next = lives.next()
    while (next.done !== true) {
      const now = performance.now()
      if (now - told > progressMs && next.value.done < runs) {
        told = now
        out(Report.progress(next.value))
      }
      // A signal is heard between two runs.
      yield* Effect.sleep(0)
      next = lives.next()
    }
    const result = next.value
    const words = ["sluice simulate", `--profile ${name}`, ...said(settings, profile)]
    const failedSeed = result.failure?.outcome.seed ?? (seed + result.done - 1) >>> 0
    const again = [...words, `--seed ${failedSeed}`].join(" ")
    for (const line of Report.lines(result, `${again} --trace run.html`)) out(line)
    yield* show(settings, result, again, failedSeed, out)
    return result
  })

/** What of the command line a run depends on besides profile and seed. */
const said = (
  { config, maxSteps, mutant, nodes, schedule, targets, trenches }: Options.Settings,
  { size }: Profiles.Profile
): ReadonlyArray<string> => [
  ...config === undefined ? [] : [`--config ${config}`],
  ...targets === undefined || targets === size.targets ? [] : [`--targets ${targets}`],
  ...nodes === undefined || nodes === size.nodes ? [] : [`--nodes ${nodes}`],
  ...trenches === undefined || trenches === size.trenches ? [] : [`--trenches ${trenches}`],
  ...mutant === undefined ? [] : [`--mistake "${mutant.mistake}"`],
  ...schedule === undefined ? [] : ["--faults FILE"],
  ...maxSteps === Options.defaultSteps ? [] : [`--steps ${maxSteps}`]
]

/** Lives the failed or the last life again, with a journal. */
const show = (
  { record, trace }: Options.Settings,
  { failure, plan }: Campaign.Result,
  again: string,
  seed: number,
  out: (line: string) => void
): Effect.Effect<void, Error> =>
  Effect.gen(function*() {
    if (trace === undefined && record === undefined) return
    const { name, runs: _runs, ...options } = plan
    const outcome = Simulation.run({
      ...options,
      ...failure === undefined ? {} : { schedule: failure.shrunk.schedule },
      seed,
      trace: true
    })
    const { journal } = outcome
    if (journal === undefined) return
    if (trace !== undefined) {
      const what = failure === undefined ? "A life of a trench" : "The smallest life that fails"
      const told = { title: `${what}: ${name}, seed ${seed}`, command: `${again} --trace ${trace}` }
      const text = trace.endsWith(".html")
        ? yield* Effect.promise(() => TracePage.html(told, outcome))
        : Trace.ndjson(journal)
      yield* write(trace, text)
      out(`trace of ${journal.entries().length} entries in ${trace}`)
    }
    if (record !== undefined) {
      const count = yield* attempt(() => Recordings.write(record, journal))
      out(`${count} recordings in ${record}`)
    }
  })

const write = (file: string, text: string): Effect.Effect<void, Error> => attempt(() => fs.writeFileSync(file, text))

const attempt = <A>(run: () => A): Effect.Effect<A, Error> =>
  Effect.try({ try: run, catch: (cause) => cause instanceof Error ? cause : new Error(String(cause)) })
