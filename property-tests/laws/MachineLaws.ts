/**
 * The laws that every machine obeys (`core/Machine.ts`), as one suite: `machineLaws(machine, options)` in a test file.
 *
 * A run is a generated list of moves: an arbitrary event, the outcome of a command in flight, or the passing of time
 * (to the deadline or short of it). After the moves the machine is asked to close, everything in flight is answered,
 * and it must come to rest.
 */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Equal, Schema } from "effect"
import * as Machine from "../../core/Machine.ts"

export interface Options<Input, State, Event, Command> {
  readonly inputs?: Arbitrary.Arbitrary<Input>
  /** Replaces the generator derived from the schema where that hardly ever hits interesting values. */
  readonly events?: Arbitrary.Arbitrary<Event>
  /** The events with which a command in flight may be answered; none for a command without an outcome. */
  readonly outcomes: (command: Command) => ReadonlyArray<Event>
  /** The number of a command that expects an answer. Default: its `call`, except for `Cancel`. */
  readonly callOf?: (command: Command) => unknown
  /** How the machine is asked to end, and how it is known to have ended. Left out for a machine that never ends. */
  readonly close?: { readonly event: Event; readonly isClosed: (state: State) => boolean }
  /** What must hold after every step, beyond the laws: throws or returns false if it does not. */
  readonly invariant?: (state: State, commands: ReadonlyArray<Command>, event: Event | Machine.Woken) => void | boolean
  readonly runs?: number
  readonly maxMoves?: number
  /** How far lists grow, the moves too. Default: about ten; raise it if states are many moves away. */
  readonly size?: number
}

const Move = Schema.Struct({
  kind: Schema.Literals(["event", "outcome", "outcome", "wake", "sleep"]),
  which: Schema.Natural,
  sleepMs: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60_000 }))
})

const start = 1_700_000_000_000

/** Registers the suite of laws for a machine. */
export const machineLaws = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>,
  options: Options<Input, State, Event, Command>
): void => {
  describe(`${machine.name} obeys the laws of machines`, () => {
    it.effect("in any order of events, outcomes and time", () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* violation(machine, options), undefined)
      }), 120_000)
  })
}

/** Looks for a run that breaks a law; the report says how, with the smallest run and the way to repeat it. */
export const violation = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>,
  options: Options<Input, State, Event, Command>
): Effect.Effect<string | undefined> => {
  // The generator keeps every list near ten, so a long run is made of several: many machines are interesting late only.
  const stretch = Arbitrary.array(
    Arbitrary.all({ move: Arbitrary.schema(Move), event: options.events ?? Arbitrary.schema(machine.Event) }),
    { maxLength: options.maxMoves ?? 60 }
  )
  const moves = Arbitrary.map(Arbitrary.all([stretch, stretch, stretch, stretch]), (stretches) => stretches.flat())
  const size = options.size === undefined ? {} : { size: options.size }
  const run = Arbitrary.all({ input: options.inputs ?? Arbitrary.schema(machine.Input), moves })
  const property = ({ input, moves }: { readonly input: Input; readonly moves: ReadonlyArray<Happening<Event>> }) =>
    Effect.try({
      try: () => {
        play(machine, options, input, moves)
        return true
      },
      catch: (broken) => broken instanceof Error ? broken.message : String(broken)
    })
  return Effect.map(
    Arbitrary.checkEffect(run, property, { runs: options.runs ?? 300, ...size }),
    Arbitrary.formatCheckFailure
  )
}

interface Happening<Event> {
  readonly event: Event
  readonly move: typeof Move.Type
}

const play = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>,
  options: Options<Input, State, Event, Command>,
  input: Input,
  moves: ReadonlyArray<Happening<Event>>
): void => {
  const world = observe(machine, options, input)
  for (const { event, move } of moves) {
    switch (move.kind) {
      case "event":
        world.step(event)
        break
      case "outcome":
        world.answer(move.which)
        break
      case "wake":
        world.wake()
        break
      case "sleep":
        world.sleep(move.sleepMs)
    }
  }
  if (options.close !== undefined) {
    world.step(options.close.event)
    world.settle()
    assert.isTrue(options.close.isClosed(world.state()), "it closes once everything is answered")
    assert.isUndefined(machine.wake(world.state()), "a closed machine waits for nothing")
  }
}

/** Steps a machine, checks the laws at each step and keeps the commands in flight. */
const observe = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>,
  options: Options<Input, State, Event, Command>,
  input: Input
) => {
  const callOf = options.callOf ?? defaultCall
  const isState = Schema.is(machine.State)
  const used = new Set<unknown>()
  let now = start
  let inFlight: Array<Command> = []
  let state: State

  const take = (next: State, commands: ReadonlyArray<Command>, event: Event | Machine.Woken): void => {
    assert.isTrue(isState(next), "the state fits its schema")
    for (const command of commands) {
      const call = callOf(command)
      if (call !== undefined) {
        assert.isFalse(used.has(call), `the call of ${command._tag} is new`)
        used.add(call)
      }
      if (options.outcomes(command).length > 0) inFlight.push(command)
    }
    state = next
    assert.notStrictEqual(options.invariant?.(next, commands, event), false, "the invariant holds")
  }

  const step = (event: Event | Machine.Woken): void => {
    const [next, commands] = machine.step(state, event, now)
    const again = machine.step(state, event, now)
    assert.isTrue(Equal.equals(again, [next, commands]), "equal inputs give equal outputs")
    if (commands.length === 0 && Equal.equals(next, state)) {
      assert.strictEqual(next, state, `a no-op (${event._tag}) returns the same reference`)
    }
    take(next, commands, event)
  }

  const wake = (): void => {
    const deadline = machine.wake(state)
    if (deadline !== undefined && deadline > now) now = deadline
    step(Machine.woken)
    const next = machine.wake(state)
    assert.isTrue(next === undefined || next > now, "after Woken the next deadline is later")
  }

  const answer = (which: number): void => {
    const command = inFlight[which % Math.max(1, inFlight.length)]
    if (command === undefined) return
    inFlight = inFlight.filter((other) => other !== command)
    const outcomes = options.outcomes(command)
    const outcome = outcomes[which % outcomes.length]
    if (outcome !== undefined) step(outcome)
  }

  const first = machine.init(input, now)
  assert.isTrue(Equal.equals(machine.init(input, now), first), "init is deterministic")
  state = first[0]
  take(first[0], first[1], Machine.woken)

  return {
    state: () => state,
    step,
    wake,
    answer,
    sleep: (ms: number): void => {
      now += ms
      const deadline = machine.wake(state)
      if (deadline !== undefined && deadline <= now) wake()
    },
    settle: (): void => {
      for (let round = 0; round < 1_000; round++) {
        if (inFlight.length > 0) answer(0)
        else if (machine.wake(state) !== undefined) wake()
        else return
      }
      assert.fail("the machine comes to rest after it was asked to close")
    }
  }
}

const defaultCall = (command: Machine.Tagged): unknown =>
  command._tag !== "Cancel" && "call" in command ? command.call : undefined
