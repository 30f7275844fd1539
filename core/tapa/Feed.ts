/**
 * Decides when a watch is opened again, and which list of it counts.
 *
 *     Off ──▶ Watching ⇄ Paused
 *
 * 1. A lost watch never empties a list: what was known last stays in force.
 * 2. An empty list right after a watch was opened again only counts when it lasted `holdMs`: an NSP that has just
 *    restarted may answer before it has read its configuration.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import * as Same from "../Same.ts"

/** How long the first list of a reopened watch must stay empty to be believed. */
export const holdMs = 2_000

export const Phase = Schema.TaggedUnion({
  Off: {},
  /** `doubt`: an empty list would be the first answer of a watch that knew better before. */
  Watching: { call: Machine.Call, doubt: Schema.Boolean },
  Paused: { reopenAt: Machine.Millis }
})
export type Phase = typeof Phase.Type

/** A watched list: null until the first list came; `emptyAt` is when an empty list begins to count. */
export const make = <Item extends Schema.Constraint>(item: Item) =>
  Schema.Struct({ phase: Phase, known: Schema.NullOr(Schema.Array(item)), emptyAt: Schema.NullOr(Machine.Millis) })

export interface Feed<Item> {
  readonly phase: Phase
  readonly known: ReadonlyArray<Item> | null
  readonly emptyAt: Machine.Millis | null
}

export const off: Feed<never> = { phase: { _tag: "Off" }, known: null, emptyAt: null }

/** The call of an open watch. */
export const callOf = (phase: Phase): number | undefined => phase._tag === "Watching" ? phase.call : undefined

/** Whether the watch has to be opened now. */
export const isDue = (phase: Phase, now: Machine.Millis): boolean => phase._tag === "Paused" && now >= phase.reopenAt

export const opened = <Item>(feed: Feed<Item>, call: number): Feed<Item> => ({
  ...feed,
  phase: { _tag: "Watching", call, doubt: feed.known !== null && feed.known.length > 0 }
})

export const changed = <Item>(
  feed: Feed<Item>,
  call: number,
  list: ReadonlyArray<Item>,
  now: Machine.Millis
): Feed<Item> => {
  if (callOf(feed.phase) !== call) return feed
  const phase: Phase = { _tag: "Watching", call, doubt: false }
  const doubted = feed.phase._tag === "Watching" && feed.phase.doubt
  const next: Feed<Item> = list.length > 0 || !(doubted || feed.emptyAt !== null)
    ? { phase, known: list, emptyAt: null }
    : { phase, known: feed.known, emptyAt: feed.emptyAt ?? now + holdMs }
  return Same.equals(next, feed) ? feed : next
}

export const lost = <Item>(feed: Feed<Item>, call: number, reopenAt: Machine.Millis): Feed<Item> =>
  callOf(feed.phase) === call ? { ...feed, phase: { _tag: "Paused", reopenAt }, emptyAt: null } : feed

/** The empty list lasted long enough. */
export const woken = <Item>(feed: Feed<Item>, now: Machine.Millis): Feed<Item> =>
  feed.emptyAt !== null && now >= feed.emptyAt ? { ...feed, known: [], emptyAt: null } : feed

/** When a lost watch is opened again. */
export const reopenAt = (phase: Phase): Machine.Millis | undefined =>
  phase._tag === "Paused" ? phase.reopenAt : undefined

export const wake = ({ emptyAt, phase }: Feed<unknown>): Machine.Millis | undefined =>
  Machine.earliest(emptyAt ?? undefined, reopenAt(phase))
