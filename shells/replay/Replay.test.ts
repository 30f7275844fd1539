import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { type ChildProcess, execFile, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { stringify } from "yaml"
import { everything } from "../../property-tests/fixtures/Manifests.ts"
import { Profiles, Simulation } from "../../property-tests/simulation/index.ts"
import { TargetRegistryDefinition } from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as Client from "../grpc/Client.ts"
import * as TargetWire from "../nsp/TargetWire.ts"
import type { World } from "../runtime/Process.ts"
import * as Recordings from "../simulate/Recordings.ts"
import { command } from "./Main.ts"

const root = process.cwd()

/** In the checkout, so that tests written there find its machines, but not where the runner of tests looks. */
const folder = (parent: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      fs.mkdirSync(parent, { recursive: true })
      return fs.mkdtempSync(path.join(parent, "sluice-replay-"))
    }),
    (made) => Effect.sync(() => fs.rmSync(made, { recursive: true, force: true }))
  )

const replay = (...argv: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const lines: { out: Array<string>; err: Array<string> } = { out: [], err: [] }
    const world: World = { env: {}, out: (text) => lines.out.push(text), err: (text) => lines.err.push(text) }
    const code = await command.run(argv, world)
    return { code, out: lines.out.join("\n"), err: lines.err.join("\n") }
  })

/** What a tool of the checkout says, and whether it succeeds. */
const tool = (name: string, ...words: ReadonlyArray<string>) =>
  Effect.callback<{ readonly isGood: boolean; readonly text: string }>((resume) => {
    execFile(
      path.join(root, "node_modules/.bin", name),
      words,
      (failure, stdout, stderr) => resume(Effect.succeed({ isGood: failure === null, text: `${stdout}${stderr}` }))
    )
  })

const portOf = (child: ChildProcess) =>
  Effect.callback<number>((resume) => {
    let log = ""
    child.stdout?.on("data", (data) => {
      const [, port] = /"message":"Listening".*"port":(\d+)/.exec(log += String(data)) ?? []
      if (port !== undefined) resume(Effect.succeed(Number(port)))
    })
  }).pipe(Effect.timeout("20 seconds"))

const target = (n: number) =>
  TargetWire.toTarget({
    kind: "default",
    stream: { trench: "t", conduit: "c", stream: "s" },
    ips: [`172.16.0.${n}/24`],
    context: { identifier: String(n) },
    status: "enabled"
  })

/** The recording of a real NSP with which two targets are registered, one of them twice, and one leaves. */
const realRecording = (made: string) =>
  Effect.gen(function*() {
    fs.writeFileSync(path.join(made, "trench.yaml"), everything.map((one) => stringify(one)).join("---\n"))
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, ["shells/cli/Main.ts", "nsp"], {
          env: {
            ...process.env,
            NSP_CONFIG_PATH: path.join(made, "trench.yaml"),
            NSP_DATASOURCE: path.join(made, "registry.db"),
            NSP_PORT: "0",
            SLUICE_HEALTH_SOCKET: path.join(made, "health.sock"),
            SLUICE_RECORD: path.join(made, "recordings")
          }
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const client = yield* Client.make({ target: `127.0.0.1:${yield* portOf(child)}` })
    for (const n of [1, 2, 2]) yield* client.call(TargetRegistryDefinition, "register", target(n))
    yield* client.call(TargetRegistryDefinition, "unregister", target(1))
    yield* Effect.callback<void>((resume) => {
      child.on("exit", () => resume(Effect.void))
      child.kill("SIGTERM")
    })
    const [file = ""] = fs.readdirSync(path.join(made, "recordings"))
    return path.join(made, "recordings", file)
  })

/** The recording of a simulated TAPA. */
const simulatedRecording = (made: string) =>
  Effect.sync(() => {
    const { journal } = Simulation.run({ profile: Profiles.profiles.calm, seed: 1, trace: true })
    assert.isDefined(journal)
    const recordings = path.join(made, "simulated")
    if (journal !== undefined) assert.isAbove(Recordings.write(recordings, journal), 20)
    const file = fs.readdirSync(recordings).find((name) => name.startsWith("target-0.1.tapa-"))
    return path.join(recordings, file ?? "")
  })

/** Runs a written test in the checkout, and its types. */
const judge = (made: string) =>
  Effect.gen(function*() {
    fs.writeFileSync(
      path.join(made, "tsconfig.json"),
      JSON.stringify({ extends: path.join(root, "tsconfig.base.json"), include: ["*.ts"] })
    )
    fs.writeFileSync(path.join(made, "vitest.config.mjs"), "export default {}\n")
    const types = yield* tool("tsc", "-p", made)
    assert.isTrue(types.isGood, types.text)
    return yield* tool("vitest", "run", "--root", made)
  })

const Row = Schema.fromJsonString(Schema.Struct({
  number: Schema.Natural,
  event: Schema.optional(Schema.Unknown),
  commands: Schema.Array(Schema.Unknown),
  changes: Schema.Array(Schema.Struct({
    path: Schema.String,
    before: Schema.optional(Schema.Unknown),
    after: Schema.optional(Schema.Unknown)
  })),
  state: Schema.optional(Schema.Unknown)
}))
const decodeRow = Schema.decodeUnknownSync(Row)

describe("sluice replay", () => {
  it.live(
    "walks through the recording of a real process, and a window of it becomes a test that holds",
    () =>
      Effect.gen(function*() {
        const made = yield* folder(path.join(root, ".cache"))
        const file = yield* realRecording(made)
        assert.deepStrictEqual((yield* replay(file)).code, 0)

        const one = yield* replay(file, "--to", "2")
        assert.strictEqual(one.code, 0)
        assert.match(one.out, /^event 2 of 4 at \d{4}-.*after the one before\n> RegisterRequested \{\s+reply: 1/)
        assert.match(one.out, /< SaveTarget[^]*< Reply[^]*~ targets.*\n {2}\+ /)

        const rows = (yield* replay(file, "--from", "1", "--to", "4", "--json", "--state")).out.split("\n")
          .map((row) => decodeRow(row))
        assert.deepStrictEqual(rows.map(({ number }) => number), [1, 2, 3, 4])
        assert.isDefined(rows[0]?.state)
        assert.match(JSON.stringify(rows[3]?.changes), /"before":\{/)

        const test = path.join(made, "nsp.test.ts")
        assert.strictEqual((yield* replay(file, "--from", "1", "--to", "4", "--test", test)).code, 0)
        const good = yield* judge(made)
        assert.isTrue(good.isGood, good.text)
        assert.match(good.text, /1 passed/)
        // The test can fail: it expects what was recorded.
        fs.writeFileSync(test, fs.readFileSync(test, "utf8").replace("_tag: \"SaveTarget\"", "_tag: \"LoseTarget\""))
        const bad = yield* judge(made)
        assert.isFalse(bad.isGood, bad.text)
      }),
    120_000
  )

  it.live(
    "does the same with a simulated machine",
    () =>
      Effect.gen(function*() {
        const made = yield* folder(path.join(root, ".cache"))
        const file = yield* simulatedRecording(made)
        const verdict = yield* replay(file, "--check")
        assert.match(verdict.out, /events, 1 states, the same decisions/)
        const all = yield* replay(file, "--from", "0", "--to", "12")
        assert.match(all.out, /the first state\n= state/)
        assert.match(all.out, /> OpenRequested[^]*~ /)
        assert.strictEqual(
          (yield* replay(file, "--from", "3", "--to", "20", "--test", path.join(made, "tapa.test.ts"))).code,
          0
        )
        const good = yield* judge(made)
        assert.isTrue(good.isGood, good.text)
      }),
    120_000
  )

  it.live("says where today's code decides otherwise, with code 1", () =>
    Effect.gen(function*() {
      const made = yield* folder(os.tmpdir())
      const file = yield* simulatedRecording(made)
      const lines = fs.readFileSync(file, "utf8").split("\n")
      const at = lines.findIndex((line) => line.includes("\"commands\":[{"))
      lines[at] = lines[at]?.replace(/"commands":\[\{.*/, "\"commands\":[{\"_tag\":\"Dance\"}]}") ?? ""
      fs.writeFileSync(file, lines.join("\n"))
      const { code, out } = yield* replay(file, "--to", String(at))
      assert.strictEqual(code, 1)
      assert.match(out, /! recorded were other commands:\n! < Dance/)
      assert.strictEqual((yield* replay(file)).code, 1)
    }), 60_000)

  it.live(
    "refuses what makes no sense with one sentence and code 2, and unreadable files with code 1",
    () =>
      Effect.gen(function*() {
        const made = yield* folder(os.tmpdir())
        const file = yield* simulatedRecording(made)
        for (
          const [words, said] of [
            [[], /name at least one recording/],
            [[file, "--to", "many"], /numbers of events from 0 to \d+/],
            [[file, "--to", "99999"], /numbers of events from 0 to \d+/],
            [[file, "--from", "5", "--to", "3"], /--from 5 is not before --to 3/],
            [[file, file, "--to", "3"], /want one recording/]
          ] as const
        ) {
          const { code, err } = yield* replay(...words)
          assert.strictEqual(code, 2)
          assert.match(err, said)
        }
        fs.writeFileSync(path.join(made, "no"), "{}\n{}\n")
        const { code, err } = yield* replay(path.join(made, "no"), "--to", "3")
        assert.strictEqual(code, 1)
        assert.match(err, /is not a recording/)
        assert.strictEqual((yield* replay(file, "--test", "/nowhere/x.test.ts")).code, 1)
      }),
    60_000
  )

  it.live("walks by keys in a terminal and gives it back", () =>
    Effect.gen(function*() {
      const made = yield* folder(os.tmpdir())
      const file = yield* simulatedRecording(made)
      const seen = yield* Effect.callback<string>((resume) => {
        const child = spawn("script", ["-qfec", `${process.execPath} shells/cli/Main.ts replay ${file}`, "/dev/null"], {
          env: { ...process.env, TERM: "xterm" }
        })
        // Each key waits for what the one before it shows.
        const script: Array<readonly [awaited: RegExp, keys: string]> = [
          [/the first state/, "n"],
          [/event 1 of/, "c"],
          [/~ /, "/"],
          [/next with the text/, "RegisterTarget\r"],
          [/< RegisterTarget/, "?"],
          [/write a regression test/, "q"]
        ]
        let [text, since] = ["", ""]
        child.stdout.on("data", (data: Buffer) => {
          text += data.toString()
          since += data.toString()
          const [awaited, keys] = script[0] ?? [/$^/, ""]
          if (!awaited.test(since)) return
          script.shift()
          since = ""
          child.stdin.write(keys)
        })
        child.on("exit", () => resume(Effect.succeed(text)))
      }).pipe(Effect.timeout("30 seconds"))
      assert.isTrue(seen.trimEnd().endsWith("\x1b[?25h\x1b[?1049l"), JSON.stringify(seen.slice(-200)))
    }), 60_000)
})
