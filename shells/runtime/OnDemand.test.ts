import { assert, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Option, Scope } from "effect"
import * as OnDemand from "./OnDemand.ts"
import { Supervision } from "./Supervision.ts"

/** A part that counts its starts and ends, and is there when the gate opens. */
const counted = Effect.gen(function*() {
  const gate = yield* Deferred.make<void>()
  const counts = { starts: 0, ends: 0 }
  const start = Effect.gen(function*() {
    counts.starts++
    yield* Effect.addFinalizer(() => Effect.sync(() => counts.ends++))
    yield* Deferred.await(gate)
    return "there"
  })
  return { counts, gate, start }
})

it.effect("nobody uses it: it never starts", () =>
  Effect.scoped(Effect.gen(function*() {
    const { counts, start } = yield* counted
    const part = yield* OnDemand.make("part", start)
    assert.deepStrictEqual(yield* part.used, Option.none())
    assert.strictEqual(counts.starts, 0)
  })))

it.effect("many use it at once: it starts once, outlives a user who goes away, and ends with its scope", () =>
  Effect.gen(function*() {
    const { counts, gate, start } = yield* counted
    const scope = yield* Scope.make()
    const part = yield* OnDemand.make("part", start).pipe(Scope.provide(scope))
    const first = yield* Effect.forkChild(part.get, { startImmediately: true })
    const second = yield* Effect.forkChild(part.get, { startImmediately: true })
    const end = yield* Effect.forkChild(part.used, { startImmediately: true })
    yield* Fiber.interrupt(first)
    yield* Deferred.succeed(gate, undefined)
    assert.deepStrictEqual([yield* Fiber.join(second), yield* part.get], ["there", "there"])
    assert.deepStrictEqual(yield* Fiber.join(end), Option.some("there"))
    assert.deepStrictEqual(counts, { starts: 1, ends: 0 })
    yield* Scope.close(scope, Exit.void)
    assert.deepStrictEqual(counts, { starts: 1, ends: 1 })
  }))

it.effect("its defect reaches the supervisor and whoever uses it", () =>
  Effect.scoped(Effect.gen(function*() {
    const deaths: Array<string> = []
    const part = yield* OnDemand.make("part", Effect.die("broken")).pipe(
      Effect.provideService(Supervision, {
        report: (part, cause) => Effect.sync(() => void deaths.push(`${part}: ${String(Cause.squash(cause))}`))
      })
    )
    const exit = yield* Effect.exit(part.get)
    assert.isTrue(Exit.isFailure(exit))
    assert.deepStrictEqual(deaths, ["part: broken"])
  })))
