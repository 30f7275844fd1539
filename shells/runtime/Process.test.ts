import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Flags from "./Flags.ts"

/** A program of its own process; `DEMO_MODE` says how it behaves. */
const source = `
  import { Effect } from "effect"
  import * as Process from "./shells/runtime/Process.ts"
  import { runMain } from "./shells/runtime/RunMain.ts"
  import * as Settings from "./shells/runtime/Settings.ts"
  const settings = Settings.table({
    port: Settings.entry("DEMO_PORT", Settings.Int, 7, "Port."),
    mode: Settings.entry("DEMO_MODE", Settings.Text, "", "Mode.")
  })
  runMain(Process.program({
    name: "demo", summary: "Shows.", serviceId: "Meridio-demo", settings, graceMs: ({ port }) => port === 7 ? 300 : 60_000,
    validate: ({ port }) => port === 9 ? ["DEMO_PORT must not be 9"] : [],
    main: ({ mode }) => Effect.gen(function*() {
      yield* Effect.addFinalizer(() => Effect.logInfo("closed"))
      if (mode === "fail") return yield* Effect.fail(new Error("no luck"))
      if (mode === "die") return yield* Effect.die(new TypeError("bug"))
      if (mode === "stuck") yield* Effect.addFinalizer(() => Effect.never)
      yield* Effect.logInfo("up")
      if (mode !== "drain") return yield* Effect.never
      yield* Process.shutdownRequested
      yield* Effect.logInfo("drained")
    })
  }), process.argv.slice(1))`

interface Outcome {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** Runs the program; once it is up, sends the first signal, and each further one when the last has been logged. */
const demo = (mode: string, options: { args?: Array<string>; signals?: Array<NodeJS.Signals>; port?: string } = {}) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const folder = mkdtempSync(join(tmpdir(), "sluice-process-"))
      const env = {
        ...process.env,
        DEMO_MODE: mode,
        DEMO_PORT: options.port ?? "7",
        SLUICE_HEALTH_SOCKET: `${folder}/h`
      }
      const words = ["--input-type=module", "-e", source, "--", ...options.args ?? []]
      return { folder, child: spawn(process.execPath, words, { env }) }
    }),
    ({ child }) => outcome(child, options.signals ?? []),
    ({ child, folder }) =>
      Effect.sync(() => {
        child.kill("SIGKILL")
        rmSync(folder, { recursive: true })
      })
  )

const outcome = (child: ChildProcess, signals: Array<NodeJS.Signals>) =>
  Effect.callback<Outcome>((resume) => {
    let [out, err] = ["", ""]
    const left = [...signals]
    const logged = /"message":"(?:up|Changing|Received)/g
    child.stderr?.on("data", (data) => err += String(data))
    child.stdout?.on("data", (data) => {
      out += String(data)
      const isDue = (out.match(logged) ?? []).length > signals.length - left.length
      const signal = isDue ? left.shift() : undefined
      if (signal !== undefined) child.kill(signal)
    })
    child.on("close", (code) => resume(Effect.succeed({ code, out, err })))
  })

const messages = (out: string) => [...out.matchAll(/"message":"([^"]*)"/g)].map(([, text]) => text)

const read = (...argv: ReadonlyArray<string>) => Result.getOrElse(Flags.parse(argv), (mistake) => mistake)

describe("Process", () => {
  it("reads flags as Go does", () => {
    assert.deepStrictEqual(
      [
        read(),
        read("--help"),
        read("-help", "-version"),
        read("--debug=false"),
        read("word", "--help"),
        read("-h"),
        read("--foo"),
        read("--help=x")
      ],
      [
        "run",
        "help",
        "version",
        "run",
        "run",
        "usage",
        "flag provided but not defined: -foo",
        `invalid boolean value "x" for -help`
      ]
    )
  })

  it.live("answers flags before it reads the environment, and refuses unknown ones with code 2", () =>
    Effect.gen(function*() {
      const version = yield* demo("", { args: ["--version"], port: "bad" })
      assert.strictEqual(version.code, 0)
      assert.match(version.out, /^\d+\.\d+\.\d+\n$/)
      const help = yield* demo("", { args: ["-help"], port: "bad" })
      assert.match(help.out, /^\ndemo --\n  Shows\.\n[^]*DEMO_PORT  7/)
      const debug = yield* demo("", { args: ["--debug"] })
      assert.hasAllKeys(JSON.parse(debug.out), [
        "version",
        "meridio-version",
        "unix-time",
        "network-interfaces",
        "rules",
        "route",
        "neighbors",
        "system",
        "environment-variables"
      ])
      const unknown = yield* demo("", { args: ["--foo"] })
      assert.deepStrictEqual([unknown.code, unknown.out], [2, ""])
      assert.match(unknown.err, /^flag provided but not defined: -foo\nUsage of demo:/)
    }))

  it.live("refuses bad settings with code 2 and without a stack", () =>
    Effect.gen(function*() {
      const bad = yield* demo("", { port: "x" })
      assert.deepStrictEqual([bad.code, bad.out], [2, ""])
      assert.match(bad.err, /^demo: a setting is not usable:\n {2}DEMO_PORT="x" is not usable: .*\n$/)
      const invalid = yield* demo("", { port: "9" })
      assert.match(invalid.err, /DEMO_PORT must not be 9/)
    }))

  it.live("turns failures and defects into one line and code 1", () =>
    Effect.gen(function*() {
      for (const [mode, text] of [["fail", "no luck"], ["die", "bug"]] as const) {
        const { code, err, out } = yield* demo(mode)
        assert.deepStrictEqual([code, err], [1, ""])
        assert.deepStrictEqual(messages(out), ["Configuration read", "closed", `Program ended: ${text}`])
        assert.include(out, `"severity":"critical"`)
      }
    }))

  it.live("ends with code 0 on each signal, closing its scope", () =>
    Effect.gen(function*() {
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const) {
        const { code, out } = yield* demo("", { signals: [signal] })
        assert.strictEqual(code, 0)
        assert.deepStrictEqual(messages(out).slice(2), [`Received ${signal}, shutting down`, "closed"])
      }
    }))

  it.live("lets a program drain by itself", () =>
    Effect.gen(function*() {
      const { code, out } = yield* demo("drain", { signals: ["SIGTERM"] })
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(messages(out).slice(-2), ["drained", "closed"])
    }))

  it.live("leaves resources that cannot be released in time, with code 1", () =>
    Effect.gen(function*() {
      const { code, out } = yield* demo("stuck", { signals: ["SIGTERM"] })
      assert.strictEqual(code, 1)
      assert.include(messages(out), "Resources not released within 300 ms, leaving them")
    }))

  it.live("changes the log level by signal", () =>
    Effect.gen(function*() {
      const { out } = yield* demo("drain", { signals: ["SIGUSR2", "SIGUSR1", "SIGTERM"] })
      const changes = messages(out).filter((text) => text?.startsWith("Changing"))
      assert.deepStrictEqual(changes, [
        "Changing log level to 'TRACE' from 'DEBUG'",
        "Changing log level to 'DEBUG' from 'TRACE'"
      ])
    }))
})
