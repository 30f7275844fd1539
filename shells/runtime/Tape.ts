/** The lines of a recording and their replay: what a machine saw, what it decided, and what it was. */
import { Equal, Result, Schema } from "effect"
import * as Machine from "../../core/Machine.ts"

/** One line of a tape; `event`, `commands` and `state` are encoded by the schemas of the machine. */
export const Line = Schema.Union([
  Schema.Struct({ machine: Schema.String, at: Machine.Millis, state: Schema.Unknown }),
  Schema.Struct({ at: Machine.Millis, event: Schema.Unknown, commands: Schema.Array(Schema.Unknown) }),
  Schema.Struct({ at: Machine.Millis, state: Schema.Unknown })
])
export type Line = typeof Line.Type

/** Encodes the lines of one machine's tape. */
export const encoder = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>
) => {
  const encodeState = Schema.encodeSync(Schema.toCodecJson(machine.State))
  const encodeEvent = Schema.encodeSync(Schema.toCodecJson(Schema.Union([machine.Event, Machine.Woken])))
  const encodeCommands = Schema.encodeSync(Schema.toCodecJson(Schema.Array(machine.Command)))
  return {
    head: (at: Machine.Millis, state: State): string =>
      JSON.stringify({ machine: machine.name, at, state: encodeState(state) }),
    event: (at: Machine.Millis, event: Event | Machine.Woken, commands: ReadonlyArray<Command>): string =>
      JSON.stringify({ at, event: encodeEvent(event), commands: encodeCommands(commands) }),
    state: (at: Machine.Millis, state: State): string => JSON.stringify({ at, state: encodeState(state) })
  }
}

/**
 * Reads the text of a tape. The last line may be cut, as the death of a process leaves it; anything else that cannot be
 * read is refused with its number.
 */
export const read = (text: string): Result.Result<ReadonlyArray<Line>, string> => {
  const lines: Array<Line> = []
  const texts = text.split("\n").filter((line) => line !== "")
  for (const [index, line] of texts.entries()) {
    const decoded = decodeLine(line)
    if (Result.isSuccess(decoded)) lines.push(decoded.success)
    else if (index < texts.length - 1) return Result.fail(`line ${index + 1} is not a line of a recording`)
  }
  const [head] = lines
  return head !== undefined && "machine" in head
    ? Result.succeed(lines)
    : Result.fail("it does not begin with the head of a recording")
}

/** The name of the machine that a tape is of. */
export const machineOf = ([head]: ReadonlyArray<Line>): string =>
  head !== undefined && "machine" in head ? head.machine : ""

const decodeLine = Schema.decodeUnknownResult(Schema.fromJsonString(Line))

/** What a replay found. */
export type Report =
  | { readonly _tag: "Same"; readonly events: number; readonly states: number; readonly state: unknown }
  | { readonly _tag: "Differs"; readonly line: number; readonly expected: unknown; readonly actual: unknown }
  | { readonly _tag: "Unreadable"; readonly line: number; readonly reason: string }

/** Runs a tape through the machine again and compares every command and every recorded state. */
export const replay = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>,
  lines: ReadonlyArray<Line>
): Report => {
  const decodeState = Schema.decodeUnknownResult(Schema.toCodecJson(machine.State))
  const decodeEvent = Schema.decodeUnknownResult(Schema.toCodecJson(Schema.Union([machine.Event, Machine.Woken])))
  const encodeState = Schema.encodeSync(Schema.toCodecJson(machine.State))
  const encodeCommands = Schema.encodeSync(Schema.toCodecJson(Schema.Array(machine.Command)))
  let state: State | undefined
  let events = 0
  let states = 0
  for (const [index, line] of lines.entries()) {
    if ("event" in line) {
      const event = decodeEvent(line.event)
      if (Result.isFailure(event)) return { _tag: "Unreadable", line: index + 1, reason: String(event.failure) }
      if (state === undefined) return { _tag: "Unreadable", line: index + 1, reason: "an event before the first state" }
      const [next, commands] = machine.step(state, event.success, line.at)
      const actual = plain(encodeCommands(commands))
      if (!Equal.equals(actual, line.commands)) {
        return { _tag: "Differs", line: index + 1, expected: line.commands, actual }
      }
      state = next
      events++
    } else if (state === undefined) {
      const first = decodeState(line.state)
      if (Result.isFailure(first)) return { _tag: "Unreadable", line: index + 1, reason: String(first.failure) }
      state = first.success
    } else {
      const actual = plain(encodeState(state))
      if (!Equal.equals(actual, line.state)) return { _tag: "Differs", line: index + 1, expected: line.state, actual }
      states++
    }
  }
  return state === undefined
    ? { _tag: "Unreadable", line: 1, reason: "the tape is empty" }
    : { _tag: "Same", events, states, state: encodeState(state) }
}

const plain = (json: unknown): unknown => JSON.parse(JSON.stringify(json))
