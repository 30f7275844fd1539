import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Health from "../grpc/Health.ts"
import { commands } from "./Commands.ts"

const sluice = (...words: ReadonlyArray<string>) =>
  Effect.callback<{ readonly code: number | null; readonly out: string; readonly err: string }>((resume) => {
    const child = spawn(process.execPath, ["shells/cli/Main.ts", ...words])
    let [out, err] = ["", ""]
    child.stdout.on("data", (data) => out += String(data))
    child.stderr.on("data", (data) => err += String(data))
    child.on("close", (code) => resume(Effect.succeed({ code, out, err })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-cli-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

describe("sluice", () => {
  it.live("lists its commands, and refuses others with code 2", () =>
    Effect.gen(function*() {
      const bare = yield* sluice()
      assert.deepStrictEqual([bare.code, bare.err], [0, ""])
      for (const name of Object.keys(commands)) assert.include(bare.out, `\n  ${name} `)
      const unknown = yield* sluice("toString")
      assert.deepStrictEqual([unknown.code, unknown.out], [2, ""])
      assert.include(unknown.err, `there is no command "toString"`)
    }))

  it.live("health tells the fit from the unfit and from the absent", () =>
    Effect.gen(function*() {
      const address = `unix://${yield* folder}/health.sock`
      yield* Effect.gen(function*() {
        yield* (yield* Health.Health).register("Readiness", ["NSP"])
        const fit = yield* sluice("health", "--address", address)
        assert.deepStrictEqual(fit, { code: 0, out: "SERVING\n", err: "" })
        const unfit = yield* sluice("health", "--address", address, "--service", "Readiness")
        assert.deepStrictEqual(unfit, { code: 1, out: "NOT_SERVING\n", err: "" })
      }).pipe(Effect.provide(Layer.fresh(Health.serve(address))))
      const absent = yield* sluice("health", "--address", address, "--timeout", "200ms")
      assert.deepStrictEqual([absent.code, absent.out], [1, ""])
      assert.match(absent.err, /^sluice health: UNAVAILABLE: /)
    }))

  it.live("a wrong option is answered with the usage and code 2", () =>
    Effect.gen(function*() {
      const wrong = yield* sluice("health", "--bogus")
      assert.strictEqual(wrong.code, 2)
      assert.include(wrong.err, "Usage: sluice health")
    }))
})
