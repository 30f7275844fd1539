/**
 * Decides when the kernel's rules and blackholes are brought in line with the VIPs (`Rules.ts` decides how).
 *
 * 1. Nothing is done before the VIPs are known: rules of an earlier life stay, so that no egress leaks at a restart.
 * 2. One convergence at a time; of several wishes the last is applied; a failure is retried; all is compared now and then.
 */
import { Equal, Schema } from "effect"
import * as Machine from "../Machine.ts"
import { Cidr } from "../net/index.ts"
import { Desired } from "./Rules.ts"

export const State = Schema.Struct({
  /** The VIPs whose rules are certainly there. */
  kept: Schema.Array(Cidr.Cidr),
  doing: Schema.TaggedUnion({
    /** Nothing was done yet. */
    Resting: {},
    Waiting: { at: Machine.Millis, done: Schema.Boolean },
    Converging: { call: Machine.Call, vips: Schema.Array(Cidr.Cidr) }
  })
})
export type State = typeof State.Type

export const events = {
  ConvergeRulesSucceeded: { call: Machine.Call },
  ConvergeRulesFailed: { call: Machine.Call, reason: Schema.String }
}
const Event = Schema.TaggedUnion(events)
export type Event = typeof Event.Type

export const commands = {
  /** Reads the kernel, plans by `Rules.plan` and applies. */
  ConvergeRules: { call: Machine.Call, desired: Desired }
}
const Command = Schema.TaggedUnion(commands)
export type Command = typeof Command.Type

export interface Settings {
  readonly retryMs: number
  readonly rulesCheckMs: number
}

export const initial: State = { kept: [], doing: { _tag: "Resting" } }

/** Takes in an outcome. */
export const step = (state: State, event: Event, settings: Settings, now: Machine.Millis): State => {
  const { doing } = state
  if (doing._tag !== "Converging" || doing.call !== event.call) return state
  const done = event._tag === "ConvergeRulesSucceeded"
  const at = now + Math.max(1, done ? settings.rulesCheckMs : settings.retryMs)
  return {
    kept: done ? doing.vips : state.kept.filter((vip) => doing.vips.includes(vip)),
    doing: { _tag: "Waiting", at, done }
  }
}

/** Asks for what the wish needs; `call` is the next free number. */
export const settle = (
  state: State,
  desired: Desired,
  now: Machine.Millis,
  call: number
): Machine.Step<State, Command> => {
  const { doing } = state
  if (doing._tag === "Converging") return Machine.stay(state)
  const changed = doing._tag === "Resting" || (doing.done && !Equal.equals(state.kept, desired.vips))
  if (!changed && doing._tag === "Waiting" && now < doing.at) return Machine.stay(state)
  return [
    { ...state, doing: { _tag: "Converging", call, vips: desired.vips } },
    [{ _tag: "ConvergeRules", call, desired }]
  ]
}

/** The VIPs that may be announced: their rules are there and are not being removed. */
export const secured = ({ doing, kept }: State): ReadonlyArray<Cidr.Cidr> =>
  doing._tag === "Converging" ? kept.filter((vip) => doing.vips.includes(vip)) : kept

/** Whether the kernel is known to hold the rules of exactly these VIPs. */
export const keeps = ({ doing, kept }: State, vips: ReadonlyArray<Cidr.Cidr>): boolean =>
  doing._tag === "Waiting" && doing.done && Equal.equals(kept, vips)

export const wake = ({ doing }: State): Machine.Millis | undefined => doing._tag === "Waiting" ? doing.at : undefined
