/**
 * Which marks packets may have: those of the rules in force, of the rules about to be, and for a moment those of rules
 * before. The kernel answers a change of rules while packets that were classified by the former ones are still on their
 * way to the routes of their marks.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import { Ruleset } from "./Model.ts"
import * as Wanted from "./Wanted.ts"

/** Rules that were in force until a moment ago, oldest first. */
export const Former = Schema.Array(Schema.Struct({ rules: Ruleset, until: Machine.Millis }))
export type Former = typeof Former.Type

/** More than any packet takes through the kernel, also where the hypervisor takes a processor away. */
const onTheWayMs = 100

/** After other rules came into force. */
export const replaced = (former: Former, rules: Ruleset | undefined, now: Machine.Millis): Former => [
  ...former.filter(({ until }) => until > now),
  ...(rules === undefined ? [] : [{ rules, until: now + onTheWayMs }])
]

/** When the next of them does not count any more. */
export const next = (former: Former, now: Machine.Millis): Machine.Millis | undefined =>
  former.find(({ until }) => until > now)?.until

export interface Rules {
  /** In force; absent when unknown. */
  readonly rules?: Ruleset
  readonly applying?: { readonly rules: Ruleset }
  readonly former: Former
}

/** Undefined: nobody knows. */
export const marks = ({ applying, former, rules }: Rules, now: Machine.Millis): ReadonlySet<number> | undefined => {
  if (rules === undefined) return undefined
  const others = [...applying === undefined ? [] : [applying], ...former.filter(({ until }) => until > now)]
  return others.length === 0
    ? Wanted.marks(rules)
    : new Set([...Wanted.marks(rules), ...others.flatMap(({ rules }) => [...Wanted.marks(rules)])])
}
