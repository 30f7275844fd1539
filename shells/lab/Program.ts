/**
 * A program of the lab, kept running as a kubelet keeps a container: when it ends it is started again, unless the lab
 * holds it down on purpose.
 */
import { Deferred, Effect, type Scope } from "effect"
import * as Host from "./Host.ts"

export interface Program {
  readonly name: string
  readonly pid: () => number | undefined
  /** `kill -9`; the program comes back by itself. Ends when the process is gone. */
  readonly kill: Effect.Effect<void>
  /** `kill -9`, and it stays down until `resume`. */
  readonly suspend: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** How often it ended without being told to. */
  readonly crashes: () => number
}

const restartMs = 300

/** Starts a program that lives as long as the scope. */
export const keep = (name: string, launch: Host.Launch): Effect.Effect<Program, Host.HostError, Scope.Scope> =>
  Effect.gen(function*() {
    let running: Host.Process | undefined
    let held: Deferred.Deferred<void> | undefined
    let expected = false
    let crashes = 0

    const once = (started: Deferred.Deferred<void, Host.HostError>) =>
      Effect.scoped(Effect.gen(function*() {
        running = yield* Host.start(launch)
        yield* Deferred.succeed(started, undefined)
        const how = yield* running.ended
        running = undefined
        if (!expected) {
          crashes++
          yield* Effect.logDebug(`${name} ended: ${how}`)
        }
        expected = false
      })).pipe(Effect.catch((error) => Deferred.fail(started, error)))

    const first = yield* Deferred.make<void, Host.HostError>()
    yield* Effect.forkScoped(Effect.gen(function*() {
      yield* once(first)
      while (true) {
        if (held === undefined) yield* Effect.sleep(restartMs)
        else yield* Deferred.await(held)
        yield* once(yield* Deferred.make<void, Host.HostError>())
      }
    }))
    yield* Deferred.await(first)

    const kill = Effect.suspend(() => {
      if (running === undefined) return Effect.void
      expected = true
      Host.kill(running.pid, "SIGKILL")
      return Effect.asVoid(running.ended)
    })
    return {
      name,
      pid: () => running?.pid,
      kill,
      suspend: Effect.andThen(
        Effect.sync(() => {
          held ??= Deferred.makeUnsafe<void>()
        }),
        kill
      ),
      resume: Effect.suspend(() => {
        const release = held
        held = undefined
        return release === undefined ? Effect.void : Effect.asVoid(Deferred.succeed(release, undefined))
      }),
      crashes: () => crashes
    }
  })
