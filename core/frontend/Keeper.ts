/**
 * Decides when the kernel's rules and blackholes are brought in line with the VIPs (`Rules.ts` decides how).
 *
 * 1. Nothing is done before the VIPs are known: rules of an earlier life stay, so that no egress leaks at a restart.
 * 2. One convergence at a time; of several wishes the last is applied; a failure is retried; all is compared now and then.
 * 3. The egress of a VIP that was removed is dropped for a while, as its targets may still be sending. It stays dropped
 *    when the program ends: the namespace is the pod's and ends with it, or the next life takes over.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import { Cidr } from "../net/index.ts"
import * as Same from "../Same.ts"
import { Desired } from "./Rules.ts"

export const State = Schema.Struct({
  /** The VIPs whose rules are certainly there. */
  kept: Schema.Array(Cidr.Cidr),
  /** Former VIPs whose egress is dropped, until a time or for good. */
  leaving: Schema.Array(Schema.Struct({ vip: Cidr.Cidr, until: Schema.optionalKey(Machine.Millis) })),
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
  readonly guardMs: number
}

export interface Wish {
  readonly vips: ReadonlyArray<Cidr.Cidr>
  /** The last wish of the program. */
  readonly ending: boolean
  readonly table: number
  /** Whether egress without a gateway is dropped. */
  readonly blackhole: boolean
}

export const initial: State = { kept: [], leaving: [], doing: { _tag: "Resting" } }

/** Takes in an outcome. */
export const step = (state: State, event: Event, settings: Settings, now: Machine.Millis): State => {
  const { doing } = state
  if (doing._tag !== "Converging" || doing.call !== event.call) return state
  const done = event._tag === "ConvergeRulesSucceeded"
  const at = now + Math.max(1, done ? settings.rulesCheckMs : settings.retryMs)
  return {
    ...state,
    kept: done ? doing.vips : state.kept.filter((vip) => doing.vips.includes(vip)),
    doing: { _tag: "Waiting", at, done }
  }
}

/** Asks for what the wish needs; `call` is the next free number. */
export const settle = (
  state: State,
  wish: Wish,
  settings: Settings,
  now: Machine.Millis,
  call: number
): Machine.Step<State, Command> => {
  const { doing, kept } = state
  if (doing._tag === "Converging") return Machine.stay(state)
  const { blackhole, table, vips } = wish
  const leaving = blackhole ? leavingAfter(state, wish, now + Math.max(1, settings.guardMs), now) : []
  const guarded = leaving.map(({ vip }) => vip)
  const changed = doing._tag === "Resting" ||
    (doing.done && !(Same.equals(kept, vips) && Same.equals(guarded, state.leaving.map(({ vip }) => vip))))
  if (!changed && doing._tag === "Waiting" && now < doing.at) return Machine.stay(state)
  return [
    { kept, leaving, doing: { _tag: "Converging", call, vips } },
    [{ _tag: "ConvergeRules", call, desired: { vips, guarded, table, blackhole } }]
  ]
}

const leavingAfter = (
  { kept, leaving }: State,
  { ending, vips }: Wish,
  until: Machine.Millis,
  now: Machine.Millis
): State["leaving"] => {
  // As a rule nothing leaves.
  if (leaving.length === 0 && kept.every((vip) => vips.includes(vip))) return leaving
  const left = leaving.filter((one) =>
    !vips.includes(one.vip) && (ending || one.until === undefined || now < one.until)
  )
  const gone = kept.filter((vip) => !vips.includes(vip) && !left.some((one) => one.vip === vip))
  const all = [...left, ...gone.map((vip) => ({ vip, until }))]
  return ending ? all.map(({ vip }) => ({ vip })) : all
}

/** The VIPs that may be announced: their rules are there and are not being removed. */
export const secured = ({ doing, kept }: State): ReadonlyArray<Cidr.Cidr> =>
  doing._tag === "Converging" ? kept.filter((vip) => doing.vips.includes(vip)) : kept

/** Whether the kernel is known to hold the rules of exactly these VIPs. */
export const keeps = ({ doing, kept }: State, vips: ReadonlyArray<Cidr.Cidr>): boolean =>
  doing._tag === "Waiting" && doing.done && Same.equals(kept, vips)

export const wake = ({ doing, leaving }: State): Machine.Millis | undefined => {
  if (doing._tag !== "Waiting") return undefined
  return doing.done ? Machine.earliest(doing.at, ...leaving.map(({ until }) => until)) : doing.at
}
