import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Logger, Redacted, References } from "effect"
import * as Log from "./Log.ts"

const written = (level: Log.Level, program: Effect.Effect<void>) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    yield* program.pipe(
      Effect.provide(Logger.layer([Log.make("Meridio-test", { level }, (line) => lines.push(line))])),
      Effect.provideService(References.MinimumLogLevel, "All")
    )
    return lines.map((line) => line.replace(/"timestamp":"[^"]*"/, `"timestamp":"T"`))
  })

describe("Log", () => {
  it.effect("writes the keys of the originals in their order", () =>
    Effect.gen(function*() {
      const lines = yield* written(
        "DEBUG",
        Effect.logDebug("Stream opened", { stream: "s", secret: Redacted.make("x") }).pipe(
          Effect.annotateLogs({ class: "Conduit" })
        )
      )
      assert.deepStrictEqual(lines, [
        `{"severity":"debug","timestamp":"T","service_id":"Meridio-test","message":"Stream opened","version":"1.0.0",` +
        `"extra_data":{"class":"Conduit","stream":"s","secret":"<redacted>"}}`
      ])
    }))

  it.effect("puts the error of a cause into one line without a stack", () =>
    Effect.gen(function*() {
      const lines = yield* written("DEBUG", Effect.logError("Failed", Cause.die(new Error("no luck"))))
      assert.deepStrictEqual(lines, [
        `{"severity":"error","timestamp":"T","service_id":"Meridio-test","message":"Failed","version":"1.0.0",` +
        `"extra_data":{"error":"no luck"}}`
      ])
    }))

  it.effect("drops what is below the level", () =>
    Effect.gen(function*() {
      const all = Effect.andThen(Effect.logTrace("t"), Effect.andThen(Effect.logDebug("d"), Effect.logInfo("i")))
      const counts = yield* Effect.forEach(
        [Log.levelOf("TRACE"), Log.levelOf("DEBUG"), Log.levelOf("debug")],
        (level) => Effect.map(written(level, all), (lines) => lines.length)
      )
      assert.deepStrictEqual(counts, [3, 2, 1])
    }))

  it("prints times as Go does", () => {
    const fractions = ["2026-01-02T03:04:05.160Z", "2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05.007Z"]
      .map((text) => Log.timestamp(new Date(text)).slice(19))
    assert.deepStrictEqual(fractions.map((text) => text.replace(/[+-].*/, "")), [".16", "", ".007"])
    for (const text of fractions) assert.match(text, /[+-]\d\d:\d\d$/)
  })
})
