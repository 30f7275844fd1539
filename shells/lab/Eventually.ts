/** Waits for conditions of the lab instead of for time. */
import { Clock, Effect, Schema } from "effect"

/** A condition did not come true in time; `detail` is what it last said. */
export class NotInTime extends Schema.TaggedError<NotInTime>()("NotInTime", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

const pauseMs = 100

/** Asks again and again until the condition gives nothing to complain about. */
export const eventually = <R>(
  condition: Effect.Effect<string | undefined, never, R>,
  withinMs: number
): Effect.Effect<void, NotInTime, R> =>
  Effect.gen(function*() {
    const deadline = (yield* Clock.currentTimeMillis) + withinMs
    while (true) {
      const complaint = yield* condition
      if (complaint === undefined) return
      if ((yield* Clock.currentTimeMillis) >= deadline) {
        return yield* new NotInTime({ detail: `not within ${withinMs / 1000} s: ${complaint}` })
      }
      yield* Effect.sleep(pauseMs)
    }
  })
