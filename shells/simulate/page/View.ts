/** What of the trace is on the screen: zoom, scroll, selection, filters. */
import type { Filter, Index, ScaleName } from "./Index.ts"
import { filterOf, momentAt, positionOf } from "./Index.ts"

export interface View {
  scale: ScaleName
  /** The visible part, in positions of the scale. */
  from: number
  to: number
  /** Pixels by which the lanes are scrolled up. */
  top: number
  selected: number | undefined
  hovered: number | undefined
  readonly shown: Record<Filter, boolean>
  /** Steps without a change of state are left out. */
  onlyChanges: boolean
  /** Only what the selected entry came from and led to is bright. */
  chain: boolean
  search: string
  readonly hidden: Set<number>
}

export const lanesLeft = 132
export const axisHeight = 30

export const initialView = (): View => ({
  scale: "time",
  from: 0,
  to: 1,
  top: 0,
  selected: undefined,
  hovered: undefined,
  shown: { steps: true, timers: true, messages: true, notes: true },
  onlyChanges: false,
  chain: false,
  search: "",
  hidden: new Set()
})

/** The ends of a scale, with a little air. */
export const extentOf = (index: Index, scale: ScaleName): readonly [number, number] => {
  const end = scale === "time" ? index.trace.endMs : (index.positions.events.at(-1) ?? 0) + 1
  return [-end * 0.005, end * 1.005]
}

export const fitAll = (index: Index, view: View): void => {
  ;[view.from, view.to] = extentOf(index, view.scale)
}

/** Changes the scale and keeps what is seen. */
export const switchScale = (index: Index, view: View, scale: ScaleName): void => {
  const isAll = view.from <= extentOf(index, view.scale)[0] && view.to >= extentOf(index, view.scale)[1]
  const [from, to] = [view.from, view.to].map((position) => momentAt(index, view.scale, position))
  view.scale = scale
  if (isAll || from === undefined || to === undefined) return fitAll(index, view)
  ;[view.from, view.to] = [positionOf(index, scale, from), positionOf(index, scale, to)]
  if (view.to - view.from < smallest(scale)) zoomAt(index, view, 1, (view.from + view.to) / 2)
}

const smallest = (scale: ScaleName): number => (scale === "time" ? 2 : 6)

/** Zooms around a position; 0.5 shows half as much. */
export const zoomAt = (index: Index, view: View, factor: number, around: number): void => {
  const [low, high] = extentOf(index, view.scale)
  const span = Math.min(high - low, Math.max(smallest(view.scale), (view.to - view.from) * factor))
  const share = (around - view.from) / Math.max(1e-9, view.to - view.from)
  view.from = around - share * span
  view.to = view.from + span
  pan(index, view, 0)
}

export const pan = (index: Index, view: View, by: number): void => {
  const [low, high] = extentOf(index, view.scale)
  const span = view.to - view.from
  view.from = Math.min(Math.max(low, view.from + by), high - span)
  view.to = view.from + span
}

/** Brings an entry into sight; zooms in when the neighbours of the entry could not be told apart. */
export const reveal = (index: Index, view: View, i: number, isClose: boolean): void => {
  const position = index.positions[view.scale][i] ?? 0
  if (isClose) {
    const { entries } = index.trace
    const entry = entries[i]
    const span = view.scale === "events" ? 60 : entry?.kind === "fault" && entry.lastsMs > 0 ? entry.lastsMs * 1.6 : 400
    view.from = position - span * (entry?.kind === "violation" ? 0.8 : 0.45)
    view.to = view.from + span
  } else if (position < view.from || position > view.to) {
    const span = view.to - view.from
    view.from = position - span * 0.4
    view.to = view.from + span
  }
  pan(index, view, 0)
}

/** The entries that filters and search leave; lower case text of every entry is made when it is first searched. */
export const visibleEntries = (index: Index, view: View, texts: () => ReadonlyArray<string>): ReadonlyArray<number> => {
  const words = view.search.toLowerCase().split(/\s+/).filter((word) => word !== "")
  const all = words.length === 0 ? [] : texts()
  return index.trace.entries.flatMap((entry, i) => {
    if (!view.shown[filterOf(entry)]) return []
    if (view.onlyChanges && entry.kind === "step" && entry.changes.length === 0) return []
    if (view.hidden.has(entry.lane) || (entry.kind === "message" && view.hidden.has(entry.to))) return []
    return words.every((word) => all[i]?.includes(word) === true) ? [i] : []
  })
}
