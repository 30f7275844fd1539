/**
 * `npm run nightly -- [--hours H] [--runs N] [--profile P] [--from SEED] [--keep FILE]`: lives of simulated trenches from
 * fresh seeds, profile after profile, for hours or until each had so many runs. Failing seeds are printed as they are
 * found and kept in a file, a line of JSON each. Exit code: 0 everything held, 1 something did not, 2 wrong usage.
 */
import * as fs from "node:fs"
import { parseArgs } from "node:util"
import { Profiles, Simulation } from "../property-tests/simulation/index.ts"

/** Runs of a profile before the next one has its turn. */
const turn = 100

const { values: { from, hours, keep, profile, runs } } = parseArgs({
  options: {
    hours: { type: "string", default: "8" },
    runs: { type: "string", default: "1000000" },
    profile: { type: "string", multiple: true },
    from: { type: "string", default: String(Math.floor(Math.random() * 1_000_000_000)) },
    keep: { type: "string", default: "nightly.ndjson" }
  }
})
const everyday = Object.keys(Profiles.profiles).filter((name) => name !== "scale")
const names = (profile ?? everyday).filter(Profiles.isName)
const [seed, each, lasts] = [from, runs, hours].map(Number)
if (
  names.length === 0 || seed === undefined || each === undefined || lasts === undefined || !(seed + each + lasts > 0)
) {
  process.stderr.write(`profiles: ${everyday.join(", ")}; --from, --runs and --hours are numbers\n`)
  process.exit(2)
}

const say = (line: string): void => void process.stdout.write(`${line}\n`)
const ends = performance.now() + lasts * 3_600_000
const done = new Map(names.map((name) => [name, { runs: 0, failed: 0, steps: 0 }]))
say(`from seed ${seed}: ${names.join(", ")}`)
for (let isGoing = true; isGoing;) {
  isGoing = false
  for (const [name, count] of done) {
    const begin = performance.now()
    for (let n = 0; n < turn && count.runs < each && performance.now() < ends; n++) {
      isGoing = true
      const outcome = Simulation.run({ profile: Profiles.profiles[name], seed: (seed + count.runs) >>> 0 })
      count.runs++
      count.steps += outcome.steps
      if (outcome.violations.length === 0) continue
      count.failed++
      say(`FAILED ${name} ${outcome.seed}: ${outcome.violations.map(({ property }) => property).join(", ")}`)
      const { schedule, seed: failing, violations } = outcome
      fs.appendFileSync(keep, `${JSON.stringify({ profile: name, seed: failing, violations, schedule })}\n`)
    }
    if (performance.now() - begin > 1_000) {
      say(`${name}: ${count.runs} runs, ${count.failed} failed, ${count.steps} steps`)
    }
  }
}
for (const [name, { failed, runs }] of done) say(`${name}: ${runs} runs from seed ${seed}, ${failed} failed`)
process.exitCode = [...done.values()].some(({ failed }) => failed > 0) ? 1 : 0
