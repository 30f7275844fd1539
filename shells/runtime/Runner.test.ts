import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Queue, Result, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { type Command, type Event, phone, type State, type Step } from "../../property-tests/laws/Phone.ts"
import * as FlightRecorder from "./FlightRecorder.ts"
import * as Runner from "./Runner.ts"
import * as Supervision from "./Supervision.ts"
import * as Tape from "./Tape.ts"

const broken: typeof phone = {
  ...phone,
  step: () => {
    throw new Error("a step must not throw")
  }
}

const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sluice-tape-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true }))
)

const settled = Effect.repeat(Effect.yieldNow, { times: 20 })

describe("Runner", () => {
  it.effect("starts commands, hears their outcomes and wakes at the deadline", () =>
    Effect.gen(function*() {
      const dialled = yield* Queue.unbounded<number>()
      const running = yield* Runner.start(phone, {
        input: {},
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
      assert.strictEqual(running.current().phase, "waiting")
      yield* TestClock.adjust("1 millis")
      yield* settled
      assert.strictEqual(running.current().phase, "talking")
      assert.deepStrictEqual(yield* Queue.takeAll(dialled), [0, 1, 2])
    }))

  it.effect("interrupts a command that is cancelled, and every command when the scope ends", () =>
    Effect.gen(function*() {
      const interrupted: Array<number> = []
      const begun = yield* Deferred.make<void>()
      const perform: Runner.Perform<Event, Command, never> = (command) =>
        Effect.andThen(Deferred.succeed(begun, undefined), Effect.never).pipe(
          Effect.onInterrupt(() => Effect.sync(() => interrupted.push(command.call)))
        )
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Runner.start(phone, { input: {}, perform })
        yield* Deferred.await(begun)
        running.send({ _tag: "HangUpRequested" })
        yield* settled
        assert.deepStrictEqual(interrupted, [0])
      }))
      yield* Effect.scoped(Effect.andThen(Runner.start(phone, { input: {}, perform }), settled))
      assert.deepStrictEqual(interrupted, [0, 0])
    }))

  it.effect("publishes the newest state to a slow reader", () =>
    Effect.gen(function*() {
      const running = yield* Runner.start(phone, { input: {}, perform: () => Effect.void })
      running.send({ _tag: "DialFailed", call: 0 })
      running.send({ _tag: "HangUpRequested" })
      yield* settled
      const states = yield* Stream.runCollect(Stream.take(running.changes, 1))
      assert.deepStrictEqual(Array.from(states, (state) => state.phase), ["closed"])
    }))

  it.effect("a reader that stops reading holds up nobody, and reads the newest state when it goes on", () =>
    Effect.scoped(Effect.gen(function*() {
      const running = yield* Runner.start(phone, { input: {}, perform: () => Effect.void })
      const dead = yield* Stream.toPull(running.changes)
      yield* dead
      const seen: Array<string> = []
      yield* Effect.forkScoped(Stream.runForEach(running.changes, ({ phase }) => Effect.sync(() => seen.push(phase))))
      yield* settled
      running.send({ _tag: "DialFailed", call: 0 })
      yield* settled
      running.send({ _tag: "HangUpRequested" })
      yield* settled
      assert.deepStrictEqual(seen, ["dialling", "waiting", "closed"])
      assert.deepStrictEqual((yield* dead).map(({ phase }) => phase), ["closed"])
    })))

  it.effect("ends the supervised program when a step or an interpreter has a defect, and saves the last decisions", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const before = process.env["TMPDIR"]
      process.env["TMPDIR"] = folder
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          if (before === undefined) delete process.env["TMPDIR"]
          else process.env["TMPDIR"] = before
        })
      )
      for (const breakStep of [true, false]) {
        const exit = yield* Effect.exit(Supervision.supervise(Effect.scoped(Effect.gen(function*() {
          const running = yield* Runner.start(breakStep ? broken : phone, {
            input: {},
            perform: () => breakStep ? Effect.void : Effect.die(new Error("an interpreter must not die"))
          })
          running.send({ _tag: "HangUpRequested" })
          return yield* Effect.never
        }))))
        assert.isTrue(Exit.isFailure(exit) && Cause.pretty(exit.cause).includes("must not"))
        const [file = ""] = fs.readdirSync(folder)
        const lines = Result.getOrThrow(Tape.read(fs.readFileSync(path.join(folder, file), "utf8")))
        assert.strictEqual(Tape.replay(phone, lines)._tag, "Same")
      }
    }))

  it.effect("writes a tape that replays to the same states, and notices a machine that decides otherwise", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Runner.start(phone, {
          input: {},
          perform: (command, send) =>
            Effect.sync(() => command._tag === "Dial" && send({ _tag: "DialFailed", call: command.call }))
        })
        for (let i = 0; i < 300; i++) {
          yield* settled
          yield* TestClock.adjust("100 millis")
        }
        running.send({ _tag: "HangUpRequested" })
        yield* settled
      })).pipe(Effect.provideService(FlightRecorder.FlightRecorder, FlightRecorder.toFolder(folder)))

      const [file] = fs.readdirSync(folder)
      const text = fs.readFileSync(path.join(folder, file ?? ""), "utf8")
      const lines = Result.getOrThrow(Tape.read(text))
      const report = Tape.replay(phone, lines)
      assert.deepStrictEqual(report, { _tag: "Same", events: 602, states: 3, state: { phase: "closed", call: 300 } })

      assert.strictEqual(Result.getOrThrow(Tape.read(text.slice(0, -5))).length, lines.length - 1)
      assert.deepStrictEqual(
        Tape.read(`${text}?\n${text}`),
        Result.fail(`line ${lines.length + 1} is not a line of a recording`)
      )

      const other = { ...phone, step: (state: State): Step => [state, []] }
      assert.strictEqual(Tape.replay(other, lines)._tag, "Differs")
    }))
})
