/**
 * The one loop that gives a machine life: it takes an event, steps, publishes the state, starts every command and keeps
 * one sleeper at `wake`.
 *
 * All commands of a step are started, in order, before the next event is taken. A defect in the machine or in an
 * interpreter ends the loop and reaches whoever supervises it (`Supervision`); nothing fails in silence.
 */
import { Cause, Clock, Effect, Exit, Fiber, FiberMap, PubSub, Queue, type Scope, Stream } from "effect"
import * as Machine from "../../core/Machine.ts"
import { FlightRecorder } from "./FlightRecorder.ts"
import { Supervision } from "./Supervision.ts"

/** Performs one command; every failure of the action has become an event, so it cannot fail. */
export type Perform<Event, Command, R> = (
  command: Command,
  send: (event: Event) => void
) => Effect.Effect<void, never, R>

export interface Options<Input, Event, Command, R> {
  readonly input: Input
  readonly perform: Perform<Event, Command, R>
  /** The identity under which a command runs; a later command with the same key replaces it. Default: its `call`. */
  readonly keyOf?: (command: Command) => Key | undefined
  /** The key a command cancels. Default: the `call` of a command with the tag `Cancel`. */
  readonly cancels?: (command: Command) => Key | undefined
}

export type Key = string | number

/** A machine at work. */
export interface Running<State, Event> {
  /** Hands an event to the machine; returns at once and may be called from any callback. */
  readonly send: (event: Event) => void
  /** The state after the last step. */
  readonly current: () => State
  /** The current state, then the newest one after each change; a slow reader skips states but never the last. */
  readonly changes: Stream.Stream<State>
  /** Never succeeds; dies with the defect that ended the machine. */
  readonly join: Effect.Effect<never>
}

const wakeKey = "wake"
// A timer further away than this is armed in parts: setTimeout holds 31 bits of milliseconds.
const longestSleepMs = 86_400_000

/** Starts a machine; it ends with the scope, which also interrupts every command in flight. */
export const start = Effect.fnUntraced(
  function*<Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged, R>(
    machine: Machine.Machine<Input, State, Event, Command>,
    options: Options<Input, Event, Command, R>
  ): Effect.fn.Return<Running<State, Event>, never, R | Scope.Scope> {
    const supervision = yield* Supervision
    const recorder = yield* FlightRecorder
    const clock = yield* Clock.Clock
    const keyOf = options.keyOf ?? callOf
    const cancels = options.cancels ?? cancelled
    const inbox = yield* Queue.unbounded<Event | Machine.Woken>()
    const states = yield* PubSub.sliding<State>({ capacity: 1, replay: 1 })
    const fibers = yield* FiberMap.make<Key, void, never>()
    const context = yield* Effect.context<R>()
    const send = (event: Event | Machine.Woken): void => void Queue.offerUnsafe(inbox, event)

    const startedAt = clock.currentTimeMillisUnsafe()
    const [first, commands] = machine.init(options.input, startedAt)
    const tape = yield* recorder.open(machine, first, startedAt)
    let state = first
    let armedAt: Machine.Millis | undefined
    let anonymous = 0
    yield* PubSub.publish(states, state)

    const begin = (command: Command) => {
      const cancel = cancels(command)
      if (cancel !== undefined) return FiberMap.remove(fibers, `call ${cancel}`)
      const key = keyOf(command)
      return FiberMap.run(
        fibers,
        key === undefined ? anonymous++ : `call ${key}`,
        Effect.provideContext(options.perform(command, send), context)
      )
    }

    // Only an earlier deadline needs a new sleeper: one that is too early wakes the machine for nothing, once.
    const arm = (): Effect.Effect<unknown> => {
      const deadline = machine.wake(state)
      if (deadline === undefined || (armedAt !== undefined && armedAt <= deadline)) return Effect.void
      armedAt = deadline
      const ms = Math.min(Math.max(1, deadline - clock.currentTimeMillisUnsafe()), longestSleepMs)
      return FiberMap.run(
        fibers,
        wakeKey,
        Effect.map(Effect.sleep(ms), () => {
          armedAt = undefined
          send(Machine.woken)
        })
      )
    }

    const loop = Effect.gen(function*() {
      for (const command of commands) yield* begin(command)
      yield* arm()
      while (true) {
        for (const event of yield* Queue.takeAll(inbox)) {
          const now = clock.currentTimeMillisUnsafe()
          const [next, commands] = machine.step(state, event, now)
          tape.append(now, event, next, commands)
          if (next !== state) {
            state = next
            // Not publishUnsafe: that gives up while anybody still has the last state to read.
            yield* PubSub.publish(states, next)
          }
          for (const command of commands) yield* begin(command)
        }
        yield* arm()
      }
    })

    const life = Effect.raceFirst(loop, Effect.andThen(FiberMap.join(fibers), Effect.never)).pipe(
      Effect.onExit((exit) =>
        Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)
          ? Effect.andThen(tape.crashed, supervision.report(machine.name, exit.cause))
          : Effect.void
      )
    )
    const fiber = yield* Effect.forkScoped(life)

    return {
      send,
      current: () => state,
      changes: Stream.fromPubSub(states),
      join: Fiber.join(fiber)
    }
  }
)

const callOf = (command: Machine.Tagged): Key | undefined =>
  "call" in command && typeof command.call === "number" ? command.call : undefined

const cancelled = (command: Machine.Tagged): Key | undefined => command._tag === "Cancel" ? callOf(command) : undefined
