/** Waiting, for tests. */
import { assert } from "@effect/vitest"
import { Clock, Effect } from "effect"

/** Waits until the condition says nothing more is missing. */
export const eventually = <R = never>(
  what: string,
  condition: () => Effect.Effect<boolean, never, R> | boolean,
  withinMs = 20_000
): Effect.Effect<void, never, R> =>
  Effect.gen(function*() {
    const deadline = (yield* Clock.currentTimeMillis) + withinMs
    while (true) {
      const now = condition()
      if (typeof now === "boolean" ? now : yield* now) return
      if ((yield* Clock.currentTimeMillis) > deadline) assert.fail(`not in time: ${what}`)
      yield* Effect.sleep(50)
    }
  })
