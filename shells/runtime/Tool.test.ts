import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { execFile } from "node:child_process"
import type { World } from "./Process.ts"
import * as Tool from "./Tool.ts"

const call = (
  argv: ReadonlyArray<string>,
  main: Tool.Tool<Error>["main"] = ({ options, words }, world) =>
    Effect.sync(() => {
      world.out(`${String(options["seed"])} ${words.join()}`)
      return 3
    }),
  more: Pick<Tool.Tool<Error>, "onSignal"> = {}
) =>
  Effect.promise(async () => {
    const lines: { out: Array<string>; err: Array<string> } = { out: [], err: [] }
    const world: World = { env: {}, out: (text) => lines.out.push(text), err: (text) => lines.err.push(text) }
    const options = { seed: { type: "string", default: "1" } } as const
    const command = Tool.tool({ name: "try", summary: "Tries.", usage: "Usage: sluice try", options, main, ...more })
    return { code: await command.run(argv, world), ...lines }
  })

const failing = () => Effect.andThen(Effect.logInfo("working"), Effect.fail(new Error("no such file")))

describe("Tool", () => {
  it.live("hands over options and words and returns the exit code", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* call(["--seed", "7", "file"]), { code: 3, out: ["7 file"], err: [] })
    }))

  it.live("explains itself, and refuses what it does not know with code 2", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* call(["--help"]), { code: 0, out: ["Tries.\n\nUsage: sluice try"], err: [] })
      const { code, err } = yield* call(["--sead"])
      assert.strictEqual(code, 2)
      assert.match(err.join(), /^sluice try: Unknown option '--sead'[^]*Usage: sluice try$/)
    }))

  it.live("prints a failure by its message, with code 1, and logs on stderr", () =>
    Effect.gen(function*() {
      const failed = yield* call([], failing)
      assert.deepStrictEqual(failed, { code: 1, out: [], err: ["working", "sluice try: no such file"] })
    }))

  it.live("prints everything into a pipe before it ends", () =>
    Effect.gen(function*() {
      const program = `
        import { Effect } from "effect"
        import { runMain } from "${import.meta.dirname}/RunMain.ts"
        import * as Tool from "${import.meta.dirname}/Tool.ts"
        const main = (_, world) => Effect.sync(() => (world.out("x".repeat(1_000_000)), 3))
        runMain(Tool.tool({ name: "try", summary: "", usage: "", options: {}, main }), [])`
      const { code, size } = yield* Effect.callback<{ readonly code: unknown; readonly size: number }>((resume) => {
        execFile(process.execPath, ["--input-type=module", "-e", program], { maxBuffer: 2e6 }, (error, stdout) => {
          resume(Effect.succeed({ code: error?.code, size: stdout.length }))
        })
      })
      assert.deepStrictEqual({ code, size }, { code: 3, size: 1_000_001 })
    }))

  it.live("a signal interrupts it and closes its scope", () =>
    Effect.gen(function*() {
      const begun = yield* Deferred.make<void>()
      let closed = false
      const main = () =>
        Effect.addFinalizer(() => Effect.sync(() => void (closed = true))).pipe(
          Effect.andThen(Deferred.succeed(begun, undefined)),
          Effect.andThen(Effect.never)
        )
      yield* Effect.forkChild(
        Effect.andThen(Deferred.await(begun), Effect.sync(() => process.kill(process.pid, "SIGHUP")))
      )
      assert.strictEqual((yield* call([], main)).code, 129)
      assert.isTrue(closed)
    }))

  it.live("a tool that is meant to be ended by a signal may call that a success", () =>
    Effect.gen(function*() {
      const begun = yield* Deferred.make<void>()
      yield* Effect.forkChild(
        Effect.andThen(Deferred.await(begun), Effect.sync(() => process.kill(process.pid, "SIGHUP")))
      )
      const main = () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
      assert.strictEqual((yield* call([], main, { onSignal: () => 0 })).code, 0)
    }))
})
