import { assert, it } from "@effect/vitest"
import { Effect, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Memory from "./Memory.ts"

it.live("giving memory back collects all garbage", () =>
  Effect.gen(function*() {
    // A reference that was just made lives until the event loop turns.
    const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
    const old = yield* Effect.sync(() => new WeakRef({ of: "old work" }))
    yield* turn
    yield* Memory.giveBack
    yield* turn
    assert.isUndefined(old.deref())
  }))

it.effect("memory is given back after work, once it is quiet, and then left alone for a while", () =>
  Effect.scoped(Effect.gen(function*() {
    let times = 0
    const by = Effect.sync(() => void times++)
    const work = yield* Queue.unbounded<string>()
    yield* Effect.forkScoped(Memory.giveBackWhenQuiet(Stream.fromQueue(work), { by }))
    const after = (ms: number) => Effect.map(TestClock.adjust(ms), () => times)
    const seen = [yield* after(5000)]
    for (let n = 0; n < 3; n++) {
      yield* Queue.offer(work, "busy")
      seen.push(yield* after(900))
    }
    seen.push(yield* after(100))
    yield* Queue.offer(work, "again")
    seen.push(yield* after(50_000), yield* after(12_000))
    assert.deepStrictEqual(seen, [0, 0, 0, 0, 1, 1, 2])
  })))
