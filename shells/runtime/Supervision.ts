/**
 * Where a defect goes: forked fibers do not report by themselves, so every long-lived one tells its supervisor, and the
 * program ends with a clear log line and a non-zero exit code.
 */
import { Cause, Context, Deferred, Effect, type Fiber, type Scope } from "effect"

/** Receives the cause of death of a part of the program. */
export interface Supervisor {
  readonly report: (part: string, cause: Cause.Cause<never>) => Effect.Effect<void>
}

/** The supervisor in charge; outside a supervised program the defect is only logged. */
export const Supervision = Context.Reference<Supervisor>("sluice/runtime/Supervision", {
  defaultValue: () => ({
    report: (part, cause) => Effect.logFatal(`${part} ended by a defect: ${Cause.pretty(cause)}`)
  })
})

/** Runs a program that dies as soon as one of its parts does. */
export const supervise = <A, E, R>(program: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const death = yield* Deferred.make<never>()
    const supervisor: Supervisor = { report: (_part, cause) => Deferred.failCause(death, cause) }
    return yield* Effect.raceFirst(
      Effect.provideService(program, Supervision, supervisor),
      Deferred.await(death)
    )
  })

/** Runs a part in the background for the life of the scope; a defect in it reaches the supervisor. */
export const fork = <A, R>(
  part: string,
  effect: Effect.Effect<A, never, R>
): Effect.Effect<Fiber.Fiber<A>, never, R | Scope.Scope> =>
  Effect.flatMap(Supervision, ({ report }) =>
    Effect.forkScoped(
      Effect.tapCause(effect, (cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : report(part, cause))
    ))
