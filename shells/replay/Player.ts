/**
 * A recording as something to walk through: what the machine is after each event, run again from the first state.
 *
 *     0: the first state ──event 1──▶ 1 ──event 2──▶ 2 ── … ──▶ last
 */
import { Equal, Result, Schema } from "effect"
import * as Machine from "../../core/Machine.ts"
import type * as Tape from "../runtime/Tape.ts"
import * as Difference from "./Difference.ts"

/** What is after an event; number 0 is what the recording begins with. */
export interface Moment {
  readonly number: number
  readonly at: Machine.Millis
  /** As JSON; undefined at the beginning. */
  readonly event: unknown
  readonly tag: string
  /** What is decided today, as JSON. */
  readonly commands: ReadonlyArray<unknown>
  /** What was decided then, where it is something else. */
  readonly recorded: ReadonlyArray<unknown> | undefined
  /** What the event changed in the state. */
  readonly changes: () => ReadonlyArray<Difference.Difference>
  readonly isChange: boolean
  /** As JSON by the schema of the machine. */
  readonly state: () => unknown
}

export interface Player {
  readonly machine: string
  readonly moments: ReadonlyArray<Moment>
}

/** Runs a recording through a machine; the failure names the line that does not fit it. */
export const play = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>,
  lines: ReadonlyArray<Tape.Line>
): Result.Result<Player, string> => {
  const decodeState = Schema.decodeUnknownResult(Schema.toCodecJson(machine.State))
  const decodeEvent = Schema.decodeUnknownResult(Schema.toCodecJson(Schema.Union([machine.Event, Machine.Woken])))
  const encodeState = Schema.encodeSync(Schema.toCodecJson(machine.State))
  const encodeCommand = Schema.encodeSync(Schema.toCodecJson(machine.Command))
  const moments: Array<Moment> = []
  let state: State | undefined
  for (const [index, line] of lines.entries()) {
    const unreadable = (cause: unknown): Result.Result<never, string> =>
      Result.fail(`line ${index + 1} does not fit the machine: ${String(cause)}`)
    if (state === undefined) {
      if (!("state" in line)) return unreadable("an event before the first state")
      const first = decodeState(line.state)
      if (Result.isFailure(first)) return unreadable(first.failure)
      const decoded = first.success
      state = decoded
      moments.push({
        number: 0,
        at: line.at,
        event: undefined,
        tag: "",
        commands: [],
        recorded: undefined,
        changes: () => [],
        isChange: false,
        state: () => encodeState(decoded)
      })
    } else if ("event" in line) {
      const event = decodeEvent(line.event)
      if (Result.isFailure(event)) return unreadable(event.failure)
      const before: State = state
      const [after, decided] = machine.step(before, event.success, line.at)
      const commands = decided.map((command): unknown => JSON.parse(JSON.stringify(encodeCommand(command))))
      state = after
      moments.push({
        number: moments.length,
        at: line.at,
        event: line.event,
        tag: event.success._tag,
        commands,
        recorded: Equal.equals(commands, line.commands) ? undefined : line.commands,
        changes: () => Difference.between(before, after),
        isChange: after !== before,
        state: () => encodeState(after)
      })
    }
  }
  return moments.length === 0
    ? Result.fail("the recording is empty")
    : Result.succeed({ machine: machine.name, moments })
}

/** What to look for: the next change of the state, an event by its tag, a text in event or commands. */
export type Query =
  | { readonly _tag: "Change" }
  | { readonly _tag: "Tag"; readonly tag: string }
  | { readonly _tag: "Text"; readonly text: string }
  | { readonly _tag: "Differs" }

/** The nearest moment after (or before) one that answers the query. */
export const find = ({ moments }: Player, from: number, by: 1 | -1, query: Query): number | undefined => {
  for (let number = from + by; number >= 0 && number < moments.length; number += by) {
    const moment = moments[number]
    if (moment !== undefined && isFound(moment, query)) return number
  }
  return undefined
}

const isFound = (moment: Moment, query: Query): boolean => {
  switch (query._tag) {
    case "Change":
      return moment.isChange
    case "Tag":
      return moment.tag.toLowerCase().includes(query.tag.toLowerCase())
    case "Text":
      return JSON.stringify([moment.event, moment.commands]).toLowerCase().includes(query.text.toLowerCase())
    case "Differs":
      return moment.recorded !== undefined
  }
}
