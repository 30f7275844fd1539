/**
 * The shape of every conversation: anything that waits, retries, times out or remembers.
 *
 *     input, now ──init──▶ [state, commands]
 *     state, event, now ──step──▶ [state, commands]      (pure, total, synchronous)
 *     state ──wake──▶ the next deadline, or none
 *
 * A command describes an effect; its outcome comes back as an event. Time is an argument and deadlines live in the
 * state, so there are no timers to cancel: the runner keeps one sleeper at `wake(state)` and then sends `Woken`.
 *
 * Laws (checked for every machine by `property-tests/laws/MachineLaws.ts`):
 *
 * 1. `step` never throws and every event is legal in every state.
 * 2. Equal inputs give equal outputs.
 * 3. A no-op returns the same state reference and no commands.
 * 4. After `Woken` at or past the deadline, `wake` is later than now or undefined.
 * 5. A command that expects an answer carries a `call` never used before; answers with another `call` are ignored.
 * 6. Once everything asked for is closed and answered, `wake` is undefined.
 */
import { Schema } from "effect"

/** Milliseconds since the Unix epoch. */
export type Millis = number

/** The schema of an instant or a deadline inside a state. Unit: milliseconds since the Unix epoch. */
export const Millis = Schema.Finite

/** The number that ties the outcome of a command to the command; a counter in the state of the machine. */
export const Call = Schema.Natural

/** Any member of a tagged union. */
export interface Tagged {
  readonly _tag: string
}

/** The shared event "the clock reached `wake(state)`"; it may arrive early or more than once. */
export const Woken = Schema.TaggedStruct("Woken", {})
export type Woken = typeof Woken.Type
export const woken: Woken = { _tag: "Woken" }

/** A new state and the commands to start, in order. */
export type Step<State, Command> = readonly [state: State, commands: ReadonlyArray<Command>]

/**
 * A pure state machine.
 *
 * The schemas make its values printable, recordable (flight recorder, replay) and generable (property tests).
 * A command may carry `call`; a command `Cancel { call }` interrupts the one with that number, after which its answer
 * may or may not come: both are legal.
 */
export interface Machine<Input, State, Event extends Tagged, Command extends Tagged> {
  /** For logs, recordings and metrics, for example `tapa`. */
  readonly name: string
  readonly Input: Schema.Codec<Input, unknown>
  readonly State: Schema.Codec<State, unknown>
  readonly Event: Schema.Codec<Event, unknown>
  readonly Command: Schema.Codec<Command, unknown>
  readonly init: (input: Input, now: Millis) => Step<State, Command>
  readonly step: (state: State, event: Event | Woken, now: Millis) => Step<State, Command>
  readonly wake: (state: State) => Millis | undefined
}

/** Checks a machine against the shape while keeping its own types. */
export const make = <Input, State, Event extends Tagged, Command extends Tagged>(
  machine: Machine<Input, State, Event, Command>
): Machine<Input, State, Event, Command> => machine

const noCommands: ReadonlyArray<never> = []

/** The step that changes nothing: the same state reference and no commands. */
export const stay = <State>(state: State): Step<State, never> => [state, noCommands]

/** Continues from the state of a step; the commands of both follow one another. */
export const andThen = <State, Command>(
  [state, commands]: Step<State, Command>,
  next: (state: State) => Step<State, Command>
): Step<State, Command> => {
  const [end, more] = next(state)
  return [end, more.length === 0 ? commands : commands.length === 0 ? more : [...commands, ...more]]
}

/** The earliest of several deadlines; `undefined` entries do not count. */
export const earliest = (...deadlines: ReadonlyArray<Millis | undefined>): Millis | undefined => {
  let first: Millis | undefined
  for (const deadline of deadlines) {
    if (deadline !== undefined && (first === undefined || deadline < first)) first = deadline
  }
  return first
}
