/** The page at work: reads the trace, draws it, and answers mouse and keys. */
import { details, summary } from "./Details.ts"
import { button, element, h } from "./Dom.ts"
import { type Filter, type Index, indexOf, lowerBound, textOf } from "./Index.ts"
import { makeList } from "./List.ts"
import type { Stage } from "./Marks.ts"
import type { Trace } from "./Model.ts"
import { paintOverview } from "./Overview.ts"
import { type Drawn, paint } from "./Paint.ts"
import { brush, pointer } from "./Pointer.ts"
import { contextOf, fitPixels, isDark, readColors } from "./Surface.ts"
import { titles } from "./Titles.ts"
import { axisHeight, fitAll, initialView, reveal, switchScale, type View, visibleEntries, zoomAt } from "./View.ts"

/** What tests read: `window.sluice`. */
export interface Probe {
  drawn: Drawn
  drawMs: number
  shown: number
}

const overviewHeight = 46

export const open = (trace: Trace): Probe => {
  const index = indexOf(trace)
  const view = initialView()
  const mask = new Uint8Array(trace.entries.length)
  const canvas = element("canvas", HTMLCanvasElement)
  const strip = element("overview", HTMLCanvasElement)
  const heads = element("heads", HTMLElement)
  const context = contextOf(canvas)
  const stripContext = contextOf(strip)
  let shown: ReadonlyArray<number> = []
  let colors = readColors()
  let isPlanned = false
  const list = makeList(index, element("list", HTMLElement), element("rows", HTMLElement), (i) => go(i, true))
  const probe: Probe = {
    drawn: { lanes: 0, steps: 0, arrows: 0, lost: 0, faults: 0, violations: 0, labels: 0 },
    drawMs: 0,
    shown: 0
  }

  const stage = (): Stage => {
    const rows = trace.lanes.flatMap((_, lane) => view.hidden.has(lane) ? [] : [lane])
    const { clientHeight: height, clientWidth: width } = canvas
    const rowHeight = Math.min(64, Math.max(22, (height - axisHeight - 4) / Math.max(1, rows.length)))
    return { context, width, height, rows, rowHeight, colors, mask }
  }

  const draw = (): void => {
    isPlanned = false
    const began = performance.now()
    const now = stage()
    fitPixels(canvas, context)
    fitPixels(strip, stripContext)
    const most = now.rows.length * now.rowHeight + axisHeight + 4 - now.height
    view.top = Math.max(0, Math.min(view.top, most))
    probe.drawn = paint(index, view, now)
    paintOverview(index, view, mask, stripContext, strip.clientWidth, overviewHeight, colors)
    drawHeads(index, view, now, heads, (lane) => {
      view.hidden.add(lane)
      sift()
    })
    probe.drawMs = performance.now() - began
  }
  const plan = (): void => {
    if (isPlanned) return
    isPlanned = true
    requestAnimationFrame(draw)
  }

  let texts: ReadonlyArray<string> | undefined
  const textsOf = (): ReadonlyArray<string> =>
    texts ??= trace.entries.map((entry) =>
      `${trace.lanes[entry.lane]?.name} ${textOf(entry, trace)} ${entry.kind} ${JSON.stringify(entry)}`.toLowerCase()
    )

  /** After a change of filters or search. */
  const sift = (): void => {
    shown = visibleEntries(index, view, textsOf)
    mask.fill(0)
    for (const i of shown) mask[i] = 1
    probe.shown = shown.length
    element("count", HTMLElement).textContent = shown.length === trace.entries.length
      ? `${shown.length.toLocaleString("en")} entries`
      : `${shown.length.toLocaleString("en")} of ${trace.entries.length.toLocaleString("en")} entries`
    element("all", HTMLElement).hidden = view.hidden.size === 0
    list.show(shown, view.selected)
    plan()
  }

  const go = (i: number, isFar = false): void => {
    view.selected = i
    element("detail", HTMLElement).replaceChildren(...details(index, i, (one) => go(one, true)))
    element("detail", HTMLElement).scrollTop = 0
    list.show(shown, i)
    list.reveal(i)
    if (isFar) reveal(index, view, i, false)
    const row = trace.lanes.flatMap((_, lane) => view.hidden.has(lane) ? [] : [lane]).indexOf(
      trace.entries[i]?.lane ?? 0
    )
    const { height, rowHeight } = stage()
    const top = row * rowHeight
    if (top < view.top || top > view.top + height - axisHeight - rowHeight) view.top = top - height / 2
    history.replaceState(undefined, "", `#${i}`)
    plan()
  }

  /** The next entry among those shown, forward or back, that fulfils the condition. */
  const walk = (by: 1 | -1, isWanted: (i: number) => boolean = () => true): void => {
    const from = view.selected ?? (by === 1 ? -1 : trace.entries.length)
    let n = by === 1
      ? lowerBound(shown.length, (k) => shown[k] ?? 0, from + 1)
      : lowerBound(shown.length, (k) => shown[k] ?? 0, from) - 1
    while (n >= 0 && n < shown.length) {
      const i = shown[n] ?? 0
      if (isWanted(i)) return go(i, true)
      n += by
    }
  }
  const laneOf = (i: number | undefined): number | undefined => i === undefined ? undefined : trace.entries[i]?.lane

  const actions: { readonly [key: string]: () => void } = {
    ArrowRight: () => walk(1),
    ArrowLeft: () => walk(-1),
    ArrowDown: () => walk(1, (i) => view.selected === undefined || laneOf(i) === laneOf(view.selected)),
    ArrowUp: () => walk(-1, (i) => view.selected === undefined || laneOf(i) === laneOf(view.selected)),
    "]": () => {
      const [first] = view.selected === undefined ? [] : index.effects[view.selected] ?? []
      if (first !== undefined) go(first, true)
    },
    "[": () => {
      const cause = view.selected === undefined ? undefined : trace.entries[view.selected]?.cause
      if (cause !== undefined) go(cause, true)
    },
    s: () =>
      walk(1, (i) => {
        const entry = trace.entries[i]
        return entry?.kind === "step" && entry.changes.length > 0
      }),
    x: () => walk(1, (i) => trace.entries[i]?.kind === "fault"),
    v: () => {
      const [first] = index.violations
      if (first === undefined) return
      go(first)
      reveal(index, view, first, true)
    },
    z: () => {
      if (view.selected !== undefined) reveal(index, view, view.selected, true)
    },
    "+": () => zoomAt(index, view, 0.6, centre()),
    "-": () => zoomAt(index, view, 1 / 0.6, centre()),
    Escape: () => {
      view.selected = undefined
      element("detail", HTMLElement).replaceChildren(...summary(index, (i) => go(i, true)))
      list.show(shown, undefined)
    },
    f: () => fitAll(index, view),
    t: () => setScale(view.scale === "time" ? "events" : "time"),
    c: () => {
      view.chain = !view.chain
      element("chain", HTMLElement).classList.toggle("on", view.chain)
    },
    "/": () => element("search", HTMLInputElement).focus(),
    "?": () => element("help", HTMLDialogElement).showModal()
  }
  const centre = (): number => {
    const position = view.selected === undefined ? undefined : index.positions[view.scale][view.selected]
    return position !== undefined && position >= view.from && position <= view.to ? position : (view.from + view.to) / 2
  }
  const setScale = (scale: View["scale"]): void => {
    switchScale(index, view, scale)
    element("time", HTMLElement).classList.toggle("on", scale === "time")
    element("events", HTMLElement).classList.toggle("on", scale === "events")
    plan()
  }

  addEventListener("keydown", (event) => {
    const search = element("search", HTMLInputElement)
    if (event.target === search) {
      if (event.key === "Escape") search.blur()
      if (event.key === "Enter") walk(event.shiftKey ? -1 : 1)
      return
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const action = actions[event.key === "=" ? "+" : event.key]
    if (action === undefined) return
    event.preventDefault()
    action()
    plan()
  })
  for (const name of ["fit", "chain", "violation", "help-open"]) {
    const key = { fit: "f", chain: "c", violation: "v", "help-open": "?" }[name] ?? ""
    element(name, HTMLElement).addEventListener("click", () => {
      actions[key]?.()
      plan()
    })
  }
  element("time", HTMLElement).addEventListener("click", () => setScale("time"))
  element("events", HTMLElement).addEventListener("click", () => setScale("events"))
  element("all", HTMLElement).addEventListener("click", () => {
    view.hidden.clear()
    sift()
  })
  element("search", HTMLInputElement).addEventListener("input", () => {
    view.search = element("search", HTMLInputElement).value
    sift()
  })
  const filters: ReadonlyArray<Filter> = ["steps", "timers", "messages", "notes"]
  for (const name of filters) {
    element(`show-${name}`, HTMLInputElement).addEventListener("change", ({ currentTarget }) => {
      if (currentTarget instanceof HTMLInputElement) view.shown[name] = currentTarget.checked
      sift()
    })
  }
  element("only-changes", HTMLInputElement).addEventListener("change", ({ currentTarget }) => {
    if (currentTarget instanceof HTMLInputElement) view.onlyChanges = currentTarget.checked
    sift()
  })
  element("theme", HTMLElement).addEventListener("click", () => {
    const root = document.documentElement
    root.dataset["theme"] = isDark() ? "light" : "dark"
    colors = readColors()
    plan()
  })
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    colors = readColors()
    plan()
  })

  pointer(index, view, canvas, stage, { go, plan })
  brush(index, view, strip, plan)
  new ResizeObserver(plan).observe(canvas)

  titles(trace, index)
  fitAll(index, view)
  sift()
  const wanted = Number.parseInt(location.hash.slice(1), 10)
  const first = trace.entries[wanted] === undefined ? index.violations[0] : wanted
  if (first === undefined) element("detail", HTMLElement).replaceChildren(...summary(index, (i) => go(i, true)))
  else {
    go(first)
    if (trace.entries[wanted] !== undefined) reveal(index, view, first, true)
  }
  draw()
  return probe
}

const drawHeads = (
  { trace }: Index,
  view: View,
  { height, rowHeight, rows }: Stage,
  heads: HTMLElement,
  hide: (lane: number) => void
): void => {
  const key = `${rows.join()} ${rowHeight} ${view.top} ${height} ${laneAt(trace, view)}`
  if (heads.dataset["key"] === key) return
  heads.dataset["key"] = key
  const from = Math.max(0, Math.floor(view.top / rowHeight) - 1)
  const to = from + Math.ceil(height / rowHeight) + 2
  heads.replaceChildren(
    ...rows.slice(from, to).map((lane, n) => {
      const known = trace.lanes[lane]
      const head = h(
        "div",
        `head g-${known?.group}${laneAt(trace, view) === lane ? " on" : ""}`,
        h("i", ""),
        h("span", "", known?.name ?? "")
      )
      head.style.top = `${axisHeight + (from + n) * rowHeight - view.top}px`
      head.style.height = `${rowHeight}px`
      if (lane !== 0) {
        const away = button("hide", "×", () => hide(lane))
        away.title = "hide this lane"
        head.append(away)
      }
      return head
    })
  )
}

const laneAt = (trace: Trace, { selected }: View): number | undefined =>
  selected === undefined ? undefined : trace.entries[selected]?.lane
