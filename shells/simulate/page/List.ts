/** The entries that filters and search leave, as a list of which only the visible rows exist. */
import { h } from "./Dom.ts"
import { type Index, lowerBound, secondsOf, textOf } from "./Index.ts"
import type { Entry } from "./Model.ts"

export const rowHeight = 24

export interface List {
  readonly show: (entries: ReadonlyArray<number>, selected: number | undefined) => void
  /** Brings an entry into sight. */
  readonly reveal: (i: number) => void
}

export const makeList = (index: Index, box: HTMLElement, rows: HTMLElement, go: (i: number) => void): List => {
  let shown: ReadonlyArray<number> = []
  let selected: number | undefined
  const draw = (): void => {
    const from = Math.max(0, Math.floor(box.scrollTop / rowHeight) - 5)
    const to = Math.min(shown.length, from + Math.ceil(box.clientHeight / rowHeight) + 10)
    rows.style.height = `${shown.length * rowHeight}px`
    rows.replaceChildren(
      ...shown.slice(from, to).map((i, n) => {
        const entry = index.trace.entries[i]
        const row = h("div", "row")
        if (entry === undefined) return row
        const lane = index.trace.lanes[entry.lane]
        row.className = `row ${entry.kind}${i === selected ? " on" : ""}`
        row.style.top = `${(from + n) * rowHeight}px`
        row.append(
          h("time", "", secondsOf(entry.at)),
          h("i", `${signOf(entry)} g-${lane?.group}`),
          h("b", "", lane?.name ?? ""),
          h("span", "", textOf(entry, index.trace))
        )
        row.addEventListener("click", () => go(i))
        return row
      })
    )
  }
  box.addEventListener("scroll", draw)
  new ResizeObserver(draw).observe(box)
  return {
    show: (entries, now) => {
      shown = entries
      selected = now
      draw()
    },
    reveal: (i) => {
      const row = lowerBound(shown.length, (n) => shown[n] ?? 0, i)
      const top = row * rowHeight
      if (top < box.scrollTop || top > box.scrollTop + box.clientHeight - rowHeight) {
        box.scrollTop = top - box.clientHeight / 2
      }
      draw()
    }
  }
}

const signOf = (entry: Entry): string =>
  entry.kind === "step" ? entry.event === "Woken" ? "timer" : entry.changes.length > 0 ? "solid" : "hollow" : entry.kind
