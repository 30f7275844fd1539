/**
 * The lists of the NSP as far as they are believed.
 *
 * A list that becomes empty is believed when it stays so for 2 s: after its restart the NSP of the original sends empty
 * lists before it has read its configuration. Targets and frontends come from its store, and are believed at once.
 */
import { Schema } from "effect"
import { Flow, PortNat, Stream, Vip } from "../config/Model.ts"
import { Target } from "../config/Target.ts"
import * as Machine from "../Machine.ts"
import * as Same from "../Same.ts"

/** The last list of each kind; absent until the first one. */
export const Lists = Schema.Struct({
  vips: Schema.optionalKey(Schema.Array(Vip)),
  portNats: Schema.optionalKey(Schema.Array(PortNat)),
  streams: Schema.optionalKey(Schema.Array(Stream)),
  flows: Schema.optionalKey(Schema.Array(Flow)),
  /** Application targets. */
  targets: Schema.optionalKey(Schema.Array(Target)),
  /** Host names of the frontends with connectivity. */
  frontends: Schema.optionalKey(Schema.Array(Schema.String)),
  /** When the empty list of a kind is believed. */
  emptyAt: Schema.Struct({
    vips: Schema.optionalKey(Machine.Millis),
    streams: Schema.optionalKey(Machine.Millis),
    flows: Schema.optionalKey(Machine.Millis)
  })
})
export type Lists = typeof Lists.Type

export const none: Lists = { emptyAt: {} }

const holdMs = 2_000
const doubted = ["vips", "streams", "flows"] as const

/** The lists after a new one came; the same reference when nothing changes. */
export const receive = (lists: Lists, change: Partial<Omit<Lists, "emptyAt">>, now: Machine.Millis): Lists => {
  const doubt = doubted.find((kind) => change[kind] !== undefined)
  const { emptyAt } = lists
  if (doubt !== undefined && change[doubt]?.length === 0 && (lists[doubt]?.length ?? 0) > 0) {
    return emptyAt[doubt] === undefined ? { ...lists, emptyAt: { ...emptyAt, [doubt]: now + holdMs } } : lists
  }
  const next = { ...lists, ...change, emptyAt: doubt === undefined ? emptyAt : without(emptyAt, doubt) }
  return Same.equals(next, lists) ? lists : next
}

/** The lists when their time has come. */
export const settle = (lists: Lists, now: Machine.Millis): Lists =>
  doubted.reduce((lists, kind) => {
    const at = lists.emptyAt[kind]
    return at === undefined || now < at ? lists : { ...lists, [kind]: [], emptyAt: without(lists.emptyAt, kind) }
  }, lists)

/** When `settle` has something to do. */
export const wake = ({ emptyAt }: Lists): Machine.Millis | undefined =>
  Machine.earliest(emptyAt.vips, emptyAt.streams, emptyAt.flows)

/** Whether every kind of list came at least once. */
export const isComplete = (lists: Lists): boolean =>
  lists.vips !== undefined && lists.portNats !== undefined && lists.streams !== undefined
  && lists.flows !== undefined && lists.targets !== undefined && lists.frontends !== undefined

const without = (emptyAt: Lists["emptyAt"], kind: typeof doubted[number]): Lists["emptyAt"] => {
  const { [kind]: _, ...rest } = emptyAt
  return rest
}
