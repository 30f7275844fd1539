import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Fault } from "../../property-tests/simulation/index.ts"
import * as Recording from "../replay/Recording.ts"
import type { World } from "../runtime/Process.ts"
import { command } from "./Main.ts"

const simulate = (...argv: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const lines: { out: Array<string>; err: Array<string> } = { out: [], err: [] }
    const world: World = { env: {}, out: (text) => lines.out.push(text), err: (text) => lines.err.push(text) }
    const code = await command.run(argv, world)
    return { code, out: lines.out.join("\n"), err: lines.err.join("\n") }
  })

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sluice-simulate-"))),
  (made) => Effect.sync(() => fs.rmSync(made, { recursive: true }))
)

const Rows = Schema.Struct({
  reached: Schema.Record(Schema.String, Schema.Natural),
  never: Schema.Array(Schema.String)
})
const Report = Schema.fromJsonString(Schema.Struct({
  held: Schema.Boolean,
  profiles: Schema.Array(Schema.Struct({
    profile: Schema.String,
    seed: Schema.Natural,
    runs: Schema.Natural,
    steps: Schema.Natural,
    faults: Schema.Record(Schema.String, Schema.Natural),
    rows: Schema.Record(Schema.String, Rows),
    failure: Schema.optional(Schema.Struct({
      seed: Schema.Natural,
      violations: Schema.Array(Schema.Struct({ property: Schema.String, reason: Schema.String })),
      schedule: Fault.Schedule,
      shrunk: Schema.Struct({ schedule: Fault.Schedule, runs: Schema.Natural })
    }))
  }))
}))
const readReport = (file: string) => Schema.decodeUnknownSync(Report)(fs.readFileSync(file, "utf8"))

describe("sluice simulate", () => {
  it.live(
    "says what held, how fast, and which rows and faults were reached, for people and as JSON",
    () =>
      Effect.gen(function*() {
        const file = path.join(yield* folder, "report.json")
        const { code, out } = yield* simulate("--profile", "calm", "--seed", "3", "--runs", "2", "--report", file)
        assert.strictEqual(code, 0)
        assert.match(out, /calm: 2 runs from seed 3[^]*everything held in 2 runs: [\d.]+ runs\/s, \d+ steps\/s/)
        assert.match(out, /no life reaches frontend SecretGone: no gateway of a simulated world has a password/)
        assert.match(out, /faults: .*never: .*Crash[^]*rows: \d+ of \d+[^]*nsp-registry +\d+ of +\d+/)
        const { held, profiles: [profile] } = readReport(file)
        assert.isTrue(held)
        assert.strictEqual(profile?.runs, 2)
        assert.isAbove(profile?.steps ?? 0, 5_000)
        assert.isAbove(profile?.rows["tapa"]?.reached["OpenRequested"] ?? 0, 3)
        assert.include(profile?.rows["frontend"]?.never ?? [], "SecretGone")
      }),
    120_000
  )

  it.live("tells of a failure by seed, reason and smallest schedule, and shows it", () =>
    Effect.gen(function*() {
      const made = yield* folder
      const [report, page, tapes] = ["report.json", "trace.html", "tapes"].map((name) => path.join(made, name))
      const words = ["--profile", "upgrade", "--mistake", "load balancers that come later", "--seed", "1"]
      const { code, out } = yield* simulate(
        ...words,
        "--report",
        report ?? "",
        "--trace",
        page ?? "",
        "--record",
        tapes ?? ""
      )
      assert.strictEqual(code, 1)
      assert.match(out, /FAILED with seed 1:\n +[\d.]+ s {2}[a-z-]+: /)
      assert.match(out, /The smallest schedule that still fails \(\d+ of \d+ faults, found in \d+ runs\)/)
      assert.match(out, /See it: sluice simulate --profile upgrade --mistake ".*" --seed 1 --trace run.html/)
      const { failure } = readReport(report ?? "").profiles[0] ?? {}
      assert.isAbove(failure?.violations[0]?.reason.length ?? 0, 20)
      assert.isBelow(failure?.shrunk.schedule.length ?? Infinity, failure?.schedule.length ?? 0)
      assert.match(fs.readFileSync(page ?? "", "utf8"), /^<!doctype html>[^]*application\/octet-stream/)

      // The machine that was broken decides otherwise than the one that is not; the others do not.
      const verdicts = yield* Effect.forEach(fs.readdirSync(tapes ?? ""), (file) =>
        Effect.map(Recording.open(path.join(tapes ?? "", file)), ({ replay }) => ({ file, is: replay()._tag })))
      assert.isAbove(
        verdicts.filter((one) =>
          one.is === "Same"
        ).length,
        10
      )
      assert.isTrue(verdicts.filter((one) => one.is !== "Same").every(({ file }) => file.startsWith("proxy-")))

      // The faults of the report fail again, without those that do not matter.
      const again = yield* simulate(...words, "--faults", report ?? "")
      assert.strictEqual(again.code, 1)
      assert.include(again.out, failure?.violations[0]?.property ?? "nothing")
    }), 240_000)

  it.live("simulates each conduit of a user's manifests, and says what it leaves out", () =>
    Effect.gen(function*() {
      const made = yield* folder
      const trace = path.join(made, "trace.ndjson")
      const words = ["--config", "shells/simulate/edge-trench.yaml", "--seed", "2"]
      const churn = yield* simulate(...words, "--profile", "churn", "--runs", "2")
      assert.strictEqual(churn.code, 0, churn.out)
      assert.match(churn.out, /churn of edge\/data: everything held[^]*churn of edge\/voice: everything held/)
      assert.match(churn.out, /not simulated: trench edge: its 2 conduits are simulated each in a world of its own/)
      assert.match(churn.out, /not simulated: trench edge: packets to partner are not followed/)

      assert.strictEqual((yield* simulate(...words, "--trace", trace)).code, 0)
      const lines = fs.readFileSync(trace, "utf8")
      // The streams, VIPs and gateways are the user's, of IPv4 alone; the conduit simulated last is traced.
      for (const name of ["calls", "pages", "20.0.0.1/32", "192.0.2.250", "sip-udp"]) assert.include(lines, name)
      assert.notInclude(lines, "2000::1")
    }), 120_000)

  it.live("refuses manifests as the operator would, with code 2", () =>
    Effect.gen(function*() {
      const made = yield* folder
      const file = path.join(made, "trench.yaml")
      const text = fs.readFileSync("shells/simulate/edge-trench.yaml", "utf8")
      fs.writeFileSync(file, text.replace("address: 20.0.0.1/32", "address: 20.0.0.1/99"))
      const bad = yield* simulate("--config", file)
      assert.strictEqual(bad.code, 2)
      assert.match(bad.err, /Vip red\/sip: spec.address is "20.0.0.1\/99"/)
      fs.writeFileSync(
        file,
        text.replaceAll("composites: [voice]", "composites: []").replace("composites: [data]", "composites: []")
      )
      const empty = yield* simulate("--config", file)
      assert.strictEqual(empty.code, 2)
      assert.match(empty.err, /nothing to simulate\n[^]*conduit data is not simulated: no attractor has it/)
      assert.match((yield* simulate("--config", path.join(made, "none.yaml"))).err, /none.yaml/)
    }), 60_000)

  it.live("refuses what it does not understand, all of it at once, with code 2", () =>
    Effect.gen(function*() {
      const made = yield* folder
      fs.writeFileSync(path.join(made, "faults.json"), `[{"at":1,"fault":{"_tag":"Earthquake"}}]`)
      const { code, err } = yield* simulate(
        ..."storms --profile nice --seed one --runs 0 --steps x --targets 9999".split(" "),
        "--faults",
        path.join(made, "faults.json"),
        "--mistake",
        "no such thing"
      )
      assert.strictEqual(code, 2)
      for (
        const said of [
          /"storms" is not an option/,
          /--profile nice: there is no such profile; known are\n {2}calm /,
          /--seed one: expected a whole number from 0 to 4294967295/,
          /--runs 0: expected a whole number from 1/,
          /--steps x: expected/,
          /--targets 9999: expected a whole number from 1 to 2000/,
          /--faults .*faults.json: expected a list of faults such as \[/,
          /--mistake no such thing: known are\n {2}\w[^]*--profile calm/
        ]
      ) assert.match(err, said)
      assert.strictEqual((yield* simulate("--faults", "/nowhere")).code, 2)
      const unwritable = yield* simulate("--seed", "1", "--runs", "1", "--report", "/nowhere/report.json")
      assert.strictEqual(unwritable.code, 1)
      assert.match(unwritable.err, /\/nowhere\/report.json/)
    }), 120_000)
})
