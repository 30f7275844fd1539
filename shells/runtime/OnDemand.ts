/** Parts of a program that start with their first use: what nobody uses costs neither start nor memory. */
import { Effect, Fiber, Option } from "effect"
import type { Scope } from "effect"
import * as Supervision from "./Supervision.ts"

/** A part that starts once, whoever uses it first, and then lives as long as the scope of the program. */
export interface OnDemand<out A> {
  /** Uses it: starts it if nobody has, and waits until it is there. */
  readonly get: Effect.Effect<A>
  /** What it is if it was ever used; waits for a start that is under way and never begins one. */
  readonly used: Effect.Effect<Option.Option<A>>
}

/** Prepares a part; its defect reaches the supervisor. */
export const make = <A, R>(
  part: string,
  start: Effect.Effect<A, never, R>
): Effect.Effect<OnDemand<A>, never, R | Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<R | Scope.Scope>()
    let fiber: Fiber.Fiber<A> | undefined
    const begin = Supervision.fork(part, start).pipe(
      Effect.tap((begun) => Effect.sync(() => fiber = begun)),
      Effect.provideContext(context)
    )
    // The start is a fiber of its own, so that a user who goes away does not take it along.
    const begun = yield* Effect.cached(begin)
    return {
      get: Effect.flatMap(begun, Fiber.join),
      used: Effect.suspend(() => fiber === undefined ? Effect.succeedNone : Effect.asSome(Fiber.join(fiber)))
    }
  })
