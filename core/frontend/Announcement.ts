/**
 * Decides when the frontend is registered at the NSP as the one through which the outside can be reached.
 *
 *     Unknown ──unregister──▶ Absent ──register──▶ Disabled ──register──▶ Enabled ──refresh──▶ Enabled
 *        ▲                      ▲                                            │
 *        └── a failed call      └─────────────── unregister ─────────────────┘
 *
 * 1. A register is only asked for while it is wished; after the wish ends the last command is an unregister.
 * 2. The NSP stores a new target as DISABLED, a second register enables it: so it is asked for twice (Meridio keepalive).
 * 3. At most one call is in flight; nothing else ever waits for it.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"

export const State = Schema.Struct({
  /** What the NSP is believed to hold. */
  held: Schema.Literals(["Unknown", "Absent", "Disabled", "Enabled"]),
  wished: Schema.Boolean,
  doing: Schema.TaggedUnion({
    Resting: {},
    /** Until the retry or the refresh. */
    Waiting: { at: Machine.Millis },
    Registering: { call: Machine.Call },
    Unregistering: { call: Machine.Call }
  })
})
export type State = typeof State.Type

/** The outcomes of the commands. */
export const events = {
  RegisterSucceeded: { call: Machine.Call },
  RegisterFailed: { call: Machine.Call, reason: Schema.String },
  UnregisterSucceeded: { call: Machine.Call },
  UnregisterFailed: { call: Machine.Call, reason: Schema.String }
}
const Event = Schema.TaggedUnion(events)
export type Event = typeof Event.Type

export const commands = {
  /** Registers (or refreshes) the frontend target {ips: [hostname], context: {identifier: hostname}, type FRONTEND}. */
  RegisterTarget: { call: Machine.Call },
  UnregisterTarget: { call: Machine.Call },
  /** Interrupts the command with that call. */
  Cancel: { call: Machine.Call }
}
const Command = Schema.TaggedUnion(commands)
export type Command = typeof Command.Type

export interface Settings {
  readonly nspEntryTimeoutMs: number
  readonly retryMs: number
}

/** Whatever an earlier life of the process left at the NSP is taken away first. */
export const initial: State = { held: "Unknown", wished: false, doing: { _tag: "Resting" } }

/** Takes in an outcome. */
export const step = (state: State, event: Event, settings: Settings, now: Machine.Millis): State => {
  const { doing } = state
  if (doing._tag !== "Registering" && doing._tag !== "Unregistering") return state
  if (doing.call !== event.call) return state
  switch (event._tag) {
    case "RegisterSucceeded":
      return doing._tag !== "Registering" ? state : state.held === "Disabled" || state.held === "Enabled"
        ? { ...state, held: "Enabled", doing: { _tag: "Waiting", at: now + Math.max(1, settings.nspEntryTimeoutMs) } }
        : { ...state, held: "Disabled", doing: { _tag: "Resting" } }
    case "UnregisterSucceeded":
      return doing._tag !== "Unregistering" ? state : { ...state, held: "Absent", doing: { _tag: "Resting" } }
    case "RegisterFailed":
    case "UnregisterFailed":
      return {
        ...state,
        // A failed call may have had its effect.
        held: state.held === "Absent" ? "Unknown" : state.held,
        doing: { _tag: "Waiting", at: now + Math.max(1, settings.retryMs) }
      }
  }
}

/** Asks for what the wish needs; `call` is the next free number. */
export const settle = (
  state: State,
  wished: boolean,
  now: Machine.Millis,
  call: number
): Machine.Step<State, Command> => {
  const { doing } = state
  const turned = wished !== state.wished
  switch (doing._tag) {
    case "Unregistering":
      return turned ? [{ ...state, wished }, []] : Machine.stay(state)
    case "Registering":
      if (wished) return Machine.stay(state)
      return [
        { held: "Unknown", wished, doing: { _tag: "Unregistering", call } },
        [{ _tag: "Cancel", call: doing.call }, { _tag: "UnregisterTarget", call }]
      ]
    case "Waiting":
      if (!turned && now < doing.at) return Machine.stay(state)
      break
    case "Resting":
  }
  if (wished) {
    return [{ ...state, wished, doing: { _tag: "Registering", call } }, [{ _tag: "RegisterTarget", call }]]
  }
  if (state.held === "Absent") {
    return turned || doing._tag === "Waiting"
      ? [{ ...state, wished, doing: { _tag: "Resting" } }, []]
      : Machine.stay(state)
  }
  return [{ ...state, wished, doing: { _tag: "Unregistering", call } }, [{ _tag: "UnregisterTarget", call }]]
}

export const wake = (state: State): Machine.Millis | undefined =>
  state.doing._tag === "Waiting" ? state.doing.at : undefined
