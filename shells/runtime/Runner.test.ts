import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Queue, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as Machine from "../../core/Machine.ts"
import * as FlightRecorder from "./FlightRecorder.ts"
import * as Runner from "./Runner.ts"
import * as Supervision from "./Supervision.ts"
import * as Tape from "./Tape.ts"

/** Dials until it is answered, at most every 100 ms; hanging up cancels. */
const State = Schema.Struct({
  call: Machine.Call,
  retryAt: Schema.optionalKey(Machine.Millis),
  answered: Schema.Boolean
})
const Event = Schema.TaggedUnion({
  DialSucceeded: { call: Machine.Call },
  DialFailed: { call: Machine.Call },
  HangUpRequested: {},
  ExplosionRequested: {}
})
const Command = Schema.TaggedUnion({ Dial: { call: Machine.Call }, Cancel: { call: Machine.Call } })
type State = typeof State.Type
type Step = Machine.Step<State, typeof Command.Type>

const phone = Machine.make({
  name: "phone",
  Input: Schema.Null,
  State,
  Event,
  Command,
  init: (): Step => [{ call: 0, answered: false }, [{ _tag: "Dial", call: 0 }]],
  step: (state, event, now): Step => {
    switch (event._tag) {
      case "DialSucceeded":
        return event.call === state.call ? [{ ...state, answered: true }, []] : Machine.stay(state)
      case "DialFailed":
        return event.call === state.call ? [{ ...state, retryAt: now + 100 }, []] : Machine.stay(state)
      case "HangUpRequested":
        return [{ call: state.call + 1, answered: false }, [{ _tag: "Cancel", call: state.call }]]
      case "ExplosionRequested":
        throw new Error("a step must not throw")
      case "Woken":
        return state.retryAt === undefined || now < state.retryAt
          ? Machine.stay(state)
          : [{ call: state.call + 1, answered: false }, [{ _tag: "Dial", call: state.call + 1 }]]
    }
  },
  wake: (state) => state.retryAt
})

const settled = Effect.repeat(Effect.yieldNow, { times: 20 })

describe("Runner", () => {
  it.effect("starts commands, hears their outcomes and wakes at the deadline", () =>
    Effect.gen(function*() {
      const dialled = yield* Queue.unbounded<number>()
      const running = yield* Runner.start(phone, {
        input: null,
        perform: (command, send) =>
          Effect.sync(() => {
            if (command._tag === "Dial") {
              Queue.offerUnsafe(dialled, command.call)
              send({ _tag: command.call < 2 ? "DialFailed" : "DialSucceeded", call: command.call })
            }
          })
      })
      yield* settled
      yield* TestClock.adjust("100 millis")
      yield* settled
      yield* TestClock.adjust("99 millis")
      yield* settled
      assert.isFalse(running.current().answered)
      yield* TestClock.adjust("1 millis")
      yield* settled
      assert.isTrue(running.current().answered)
      assert.deepStrictEqual(yield* Queue.takeAll(dialled), [0, 1, 2])
    }))

  it.effect("interrupts a command that is cancelled, and every command when the scope ends", () =>
    Effect.gen(function*() {
      const interrupted: Array<number> = []
      const begun = yield* Deferred.make<void>()
      const perform: Runner.Perform<typeof Event.Type, typeof Command.Type, never> = (command) =>
        Effect.andThen(Deferred.succeed(begun, undefined), Effect.never).pipe(
          Effect.onInterrupt(() => Effect.sync(() => interrupted.push(command.call)))
        )
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Runner.start(phone, { input: null, perform })
        yield* Deferred.await(begun)
        running.send({ _tag: "HangUpRequested" })
        yield* settled
        assert.deepStrictEqual(interrupted, [0])
      }))
      yield* Effect.scoped(Effect.andThen(Runner.start(phone, { input: null, perform }), settled))
      assert.deepStrictEqual(interrupted, [0, 0])
    }))

  it.effect("publishes the newest state to a slow reader", () =>
    Effect.gen(function*() {
      const running = yield* Runner.start(phone, { input: null, perform: () => Effect.void })
      for (let i = 0; i < 10; i++) running.send({ _tag: "HangUpRequested" })
      yield* settled
      const states = yield* Stream.runCollect(Stream.take(running.changes, 1))
      assert.deepStrictEqual(Array.from(states, (state) => state.call), [10])
    }))

  it.effect("ends the supervised program when a step or an interpreter has a defect", () =>
    Effect.gen(function*() {
      for (const breakStep of [true, false]) {
        const exit = yield* Effect.exit(Supervision.supervise(Effect.scoped(Effect.gen(function*() {
          const running = yield* Runner.start(phone, {
            input: null,
            perform: () => breakStep ? Effect.void : Effect.die(new Error("an interpreter must not die"))
          })
          if (breakStep) running.send({ _tag: "ExplosionRequested" })
          return yield* Effect.never
        }))))
        assert.isTrue(Exit.isFailure(exit) && Cause.pretty(exit.cause).includes("must not"))
      }
    }))

  it.effect("writes a tape that replays to the same states, and notices a machine that decides otherwise", () =>
    Effect.gen(function*() {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-tape-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => fs.rmSync(folder, { recursive: true })))
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Runner.start(phone, {
          input: null,
          perform: (command, send) =>
            Effect.sync(() => command._tag === "Dial" && send({ _tag: "DialFailed", call: command.call }))
        })
        yield* settled
        for (let i = 0; i < 300; i++) running.send({ _tag: "HangUpRequested" })
        yield* settled
      })).pipe(Effect.provideService(FlightRecorder.FlightRecorder, FlightRecorder.toFolder(folder)))

      const [file] = fs.readdirSync(folder)
      const lines = Tape.read(fs.readFileSync(path.join(folder, file ?? ""), "utf8"))
      const report = Tape.replay(phone, lines)
      assert.deepStrictEqual(report, { _tag: "Same", events: 301, states: 2, state: { call: 300, answered: false } })

      const other = { ...phone, step: (state: State): Step => [state, []] }
      assert.strictEqual(Tape.replay(other, lines)._tag, "Differs")
    }))
})
