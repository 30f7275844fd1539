/**
 * Gives each stream a range of marks of its own: the mark of a target is the offset of its stream plus its identifier.
 *
 * 1. The marks `offset + 1` to `offset + maxTargets` of two streams never overlap; every offset is at least the start.
 * 2. A stream keeps its offset for as long as it exists and fits; a new one takes the lowest free range.
 *
 * Source: Meridio `pkg/loadbalancer/stream` (identifier offset generator).
 */
import { Schema } from "effect"

/** The range of a stream. */
export const Range = Schema.Struct({ offset: Schema.Natural, maxTargets: Schema.Natural })
export type Range = typeof Range.Type

export const Offsets = Schema.Record(Schema.String, Range)
export type Offsets = typeof Offsets.Type

/** The ranges of these streams, given those of before. */
export const assign = (
  before: Offsets,
  streams: ReadonlyArray<{ readonly stream: string; readonly maxTargets: number }>,
  start: number
): Offsets => {
  const sorted = streams.toSorted((a, b) => (a.stream < b.stream ? -1 : 1))
  const kept = sorted.flatMap(({ maxTargets, stream }): ReadonlyArray<readonly [string, Range]> => {
    const range = before[stream]
    return range !== undefined && range.maxTargets === maxTargets ? [[stream, range]] : []
  })
  const taken = new Map(kept)
  for (const { maxTargets, stream } of sorted) {
    if (!taken.has(stream)) taken.set(stream, { offset: lowest([...taken.values()], maxTargets, start), maxTargets })
  }
  return Object.fromEntries(taken)
}

/** Those of the ranges that end at a mark or below. */
export const upTo = (offsets: Offsets, last: number): Offsets =>
  Object.fromEntries(Object.entries(offsets).filter(([, { maxTargets, offset }]) => offset + maxTargets <= last))

const lowest = (taken: ReadonlyArray<Range>, maxTargets: number, start: number): number => {
  let offset = start
  for (const other of taken.toSorted((a, b) => a.offset - b.offset)) {
    if (offset + maxTargets <= other.offset) break
    offset = Math.max(offset, other.offset + other.maxTargets)
  }
  return offset
}
