/**
 * Decides when BIRD is asked for its sessions and what counts as seen.
 *
 * 1. One question at a time; the next one a delay after the answer, longer just after connectivity was lost.
 * 2. Up to `maxSessionErrors` failed questions in a row change nothing; one more means that nothing is seen.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import * as Same from "../Same.ts"
import { Protocol, Session } from "./BirdOutput.ts"

export const State = Schema.Struct({
  /** Failed questions in a row. */
  errors: Schema.Natural,
  protocols: Schema.Array(Protocol),
  sessions: Schema.Array(Session),
  doing: Schema.TaggedUnion({
    Resting: {},
    Waiting: { at: Machine.Millis },
    Asking: { call: Machine.Call }
  })
})
export type State = typeof State.Type

export const events = {
  QueryBirdSucceeded: {
    call: Machine.Call,
    protocols: Schema.Array(Protocol),
    sessions: Schema.Array(Session)
  },
  QueryBirdFailed: { call: Machine.Call, reason: Schema.String }
}
const Event = Schema.TaggedUnion(events)
export type Event = typeof Event.Type

export const commands = {
  /** Asks for the protocols `NBR-*` and the sessions of `NBR-BFD`. */
  QueryBird: { call: Machine.Call }
}
const Command = Schema.TaggedUnion(commands)
export type Command = typeof Command.Type

export interface Settings {
  readonly delayConnectivityMs: number
  readonly delayNoConnectivityMs: number
  readonly maxSessionErrors: number
}

/** Nothing is seen. */
export const initial: State = { errors: 0, protocols: [], sessions: [], doing: { _tag: "Resting" } }

/** Takes in an answer. */
export const step = (state: State, event: Event, settings: Settings, now: Machine.Millis): State => {
  if (state.doing._tag !== "Asking" || state.doing.call !== event.call) return state
  const doing = { _tag: "Waiting", at: now + Math.max(1, settings.delayConnectivityMs) } as const
  if (event._tag === "QueryBirdSucceeded") {
    // What is the same stays the same value, so that nothing that follows from it is worked out again.
    const protocols = Same.equals(event.protocols, state.protocols) ? state.protocols : event.protocols
    const sessions = Same.equals(event.sessions, state.sessions) ? state.sessions : event.sessions
    return { errors: 0, protocols, sessions, doing }
  }
  return state.errors < settings.maxSessionErrors
    ? { ...state, errors: state.errors + 1, doing }
    : { ...initial, doing }
}

/** Begins and ends with BIRD; `call` is the next free number. */
export const settle = (
  state: State,
  birdUp: boolean,
  settings: Settings,
  now: Machine.Millis,
  call: number
): Machine.Step<State, Command> => {
  if (!birdUp) return state === initial ? Machine.stay(state) : [initial, []]
  switch (state.doing._tag) {
    case "Resting":
      return [pause(state, settings, now), []]
    case "Waiting":
      return now < state.doing.at
        ? Machine.stay(state)
        : [{ ...state, doing: { _tag: "Asking", call } }, [{ _tag: "QueryBird", call }]]
    case "Asking":
      return Machine.stay(state)
  }
}

/** Waits longer for the next question, because connectivity was lost or is not there yet. */
export const pause = (state: State, settings: Settings, now: Machine.Millis): State =>
  state.doing._tag === "Asking"
    ? state
    : { ...state, doing: { _tag: "Waiting", at: now + Math.max(1, settings.delayNoConnectivityMs) } }

export const wake = ({ doing }: State): Machine.Millis | undefined => doing._tag === "Waiting" ? doing.at : undefined
