/** Draws the visible part of a trace: lanes, lives, faults, messages, steps, violations, the selection. */
import { axis, violations } from "./Axis.ts"
import type { Index } from "./Index.ts"
import { causesOf, lowerBound, messageText, positionOf, textOf } from "./Index.ts"
import { cross, font, head, mark, type Place, ring, type Stage, tick } from "./Marks.ts"
import type { Entry, NoteEntry } from "./Model.ts"
import { axisHeight, type View } from "./View.ts"

/** How much was drawn. */
export interface Drawn {
  lanes: number
  steps: number
  arrows: number
  lost: number
  faults: number
  violations: number
  labels: number
}

export const paint = (index: Index, view: View, stage: Stage): Drawn => {
  const { colors, context, height, width } = stage
  const drawn: Drawn = { lanes: 0, steps: 0, arrows: 0, lost: 0, faults: 0, violations: 0, labels: 0 }
  const place = placeOf(view, stage)
  const bright = brightOf(index, view)
  context.clearRect(0, 0, width, height)
  context.save()
  context.beginPath()
  context.rect(0, axisHeight, width, height - axisHeight)
  context.clip()
  lanes(index, view, stage, place, drawn)
  faults(index, view, stage, place, drawn)
  messages(index, view, stage, place, bright, drawn)
  steps(index, view, stage, place, bright, drawn)
  context.restore()
  axis(index, view, stage, place)
  drawn.violations = violations(index, view, stage, place)
  context.strokeStyle = colors.line
  context.beginPath()
  context.moveTo(0, axisHeight - 0.5)
  context.lineTo(width, axisHeight - 0.5)
  context.stroke()
  return drawn
}

export const placeOf = (view: View, { rowHeight, rows, width }: Stage): Place => {
  const perUnit = width / Math.max(1e-9, view.to - view.from)
  const order = new Map(rows.map((lane, row) => [lane, row]))
  return {
    x: (position) => (position - view.from) * perUnit,
    y: (lane) => {
      const row = order.get(lane)
      return row === undefined ? undefined : axisHeight + (row + 0.5) * rowHeight - view.top
    }
  }
}

/** The entries of the selected chain; undefined: all are bright. */
const brightOf = (index: Index, view: View): ReadonlySet<number> | undefined => {
  if (!view.chain || view.selected === undefined) return undefined
  const chain = new Set([view.selected, ...causesOf(index, view.selected)])
  const next = [view.selected]
  for (let i = next.pop(); i !== undefined && chain.size < 2_000; i = next.pop()) {
    for (const effect of index.effects[i] ?? []) {
      chain.add(effect)
      next.push(effect)
    }
  }
  return chain
}

const lanes = (index: Index, view: View, stage: Stage, { x, y }: Place, drawn: Drawn): void => {
  const { colors, context, rowHeight, rows, width } = stage
  const thick = Math.min(rowHeight - 6, 22)
  for (const [row, lane] of rows.entries()) {
    const middle = y(lane)
    const known = index.trace.lanes[lane]
    if (middle === undefined || known === undefined || isOut(middle, stage)) continue
    drawn.lanes++
    if (row > 0 && index.trace.lanes[rows[row - 1] ?? 0]?.group !== known.group) {
      context.fillStyle = colors.line
      context.fillRect(0, Math.round(middle - rowHeight / 2), width, 1)
    }
    context.fillStyle = colors.groups[known.group]
    context.globalAlpha = 0.14
    for (const life of index.lives[lane] ?? []) {
      const [left = 0, right = 0] = life.map((ms) => x(positionOf(index, view.scale, ms)))
      context.beginPath()
      context.roundRect(left, middle - thick / 2, Math.max(1, right - left), thick, 4)
      context.fill()
    }
    context.globalAlpha = 1
  }
}

const isOut = (middle: number, { height, rowHeight }: Stage): boolean =>
  middle + rowHeight / 2 < axisHeight || middle - rowHeight / 2 > height

/** Bars over the lanes that a fault strikes, and a flag in the lane of the world. */
const faults = (index: Index, view: View, stage: Stage, { x, y }: Place, drawn: Drawn): void => {
  const { colors, context, rowHeight, rows, width } = stage
  const first = rows[0]
  const top = first === undefined ? undefined : y(first)
  const flags: Array<{ readonly left: number; readonly text: string }> = []
  for (const i of index.faults) {
    const entry = index.trace.entries[i]
    if (entry?.kind !== "fault" || stage.mask[i] === 0) continue
    const left = x(index.positions[view.scale][i] ?? 0)
    const right = Math.max(left + 2, x(positionOf(index, view.scale, entry.at + entry.lastsMs)))
    if (right < 0 || left > width) continue
    drawn.faults++
    context.fillStyle = colors.fault
    for (const lane of entry.strikes.length > 0 ? entry.strikes : entry.lastsMs > 0 ? rows : []) {
      const middle = y(lane)
      if (middle === undefined) continue
      context.globalAlpha = 0.16
      context.fillRect(left, middle - rowHeight / 2, right - left, rowHeight)
      context.globalAlpha = 0.9
      context.fillRect(left, middle - rowHeight / 2, 1.5, rowHeight)
    }
    context.globalAlpha = 1
    if (top === undefined) continue
    const isSelected = i === view.selected || i === view.hovered
    context.fillStyle = colors.fault
    context.beginPath()
    context.moveTo(left, top - 7)
    context.lineTo(left + 9, top - 2.5)
    context.lineTo(left, top + 2)
    context.fill()
    context.fillRect(left, top - 7, 1.5, 15)
    if (isSelected) ring(context, left + 4, top - 2, 9, colors.accent)
    flags.push({ left, text: faultText(index, entry) })
  }
  context.font = font(11, 500)
  for (const [n, { left, text }] of flags.entries()) {
    const wide = context.measureText(text).width
    if (top === undefined || left < 0 || left + 13 + wide > (flags[n + 1]?.left ?? width) - 4) continue
    context.fillText(text, left + 13, top + 1)
    drawn.labels++
  }
}

/** The kind of a fault and whom it strikes. */
const faultText = ({ trace }: Index, { strikes, text }: NoteEntry): string =>
  strikes.length === 0
    ? text
    : [text.split(" ")[0], strikes.map((lane) => trace.lanes[lane]?.name).join(" – ")].join(" ")

const messages = (
  index: Index,
  view: View,
  stage: Stage,
  { x, y }: Place,
  bright: ReadonlySet<number> | undefined,
  drawn: Drawn
): void => {
  const { colors, context, width } = stage
  const { entries } = index.trace
  const seen = new Set<number>()
  const rows = stage.rows.length + 1
  const order = new Map(stage.rows.map((lane, row) => [lane, row]))
  const visible = visibleShare(index, view) * index.messages.length
  const isDense = visible > 1_200
  const faint = Math.max(0.07, Math.min(0.5, 250 / visible))
  const labelled: Array<Labelled> = []
  for (const i of index.messages) {
    const entry = entries[i]
    if (entry?.kind !== "message" || stage.mask[i] === 0) continue
    const [top, bottom] = [y(entry.lane), y(entry.to)]
    if (top === undefined || bottom === undefined) continue
    if (Math.max(top, bottom) < axisHeight || Math.min(top, bottom) > stage.height) continue
    const arrival = index.arrivals[view.scale][i] ?? NaN
    const isLost = Number.isNaN(arrival)
    const left = x(index.positions[view.scale][i] ?? 0)
    const right = isLost ? left + 14 : x(arrival)
    if (right < -2 || left > width + 2) continue
    const isChosen = i === view.selected || i === view.hovered
    // What would cover the same pixels is drawn once.
    const key = (Math.round(left) * rows + (order.get(entry.lane) ?? 0)) * rows + (order.get(entry.to) ?? 0)
    if (!isChosen && !isLost && bright === undefined && seen.has(key)) continue
    seen.add(key)
    drawn.arrows++
    if (isLost) drawn.lost++
    const end = isLost ? top + Math.sign(bottom - top) * Math.min(16, Math.abs(bottom - top) / 2) : bottom
    const color = isChosen ? colors.accent : isLost ? colors.bad : colors.muted
    context.globalAlpha = isChosen || isLost
      ? 1
      : bright !== undefined
      ? bright.has(i) ? 1 : 0.06
      : isDense
      ? faint
      : entry.what === "request"
      ? 0.85
      : 0.5
    context.strokeStyle = color
    context.fillStyle = color
    context.lineWidth = isChosen || bright?.has(i) === true ? 1.8 : 1
    context.setLineDash(entry.what === "end" ? [2, 3] : entry.what === "request" ? [] : [5, 3])
    context.beginPath()
    context.moveTo(left, top)
    context.lineTo(right, end)
    context.stroke()
    context.setLineDash([])
    if (isLost) cross(context, right, end, 3.5)
    else if (!isDense || isChosen) head(context, left, top, right, end)
    if (!isDense && (isChosen || Math.abs(right - left) > 50) && (bright === undefined || bright.has(i))) {
      labelled.push({ text: messageText(entry), left, top, right, end, isChosen })
    }
    context.globalAlpha = 1
  }
  context.lineWidth = 1
  if (labelled.length < 200) drawn.labels += messageLabels(stage, labelled)
}

interface Labelled {
  readonly text: string
  readonly left: number
  readonly top: number
  readonly right: number
  readonly end: number
  readonly isChosen: boolean
}

/** Names along the arrows, where they do not cover one another. */
const messageLabels = ({ colors, context, width }: Stage, all: ReadonlyArray<Labelled>): number => {
  const taken: Array<readonly [x: number, y: number, wide: number]> = []
  context.font = font(10)
  for (
    const { end, isChosen, left, right, text, top } of all.toSorted((a, b) => Number(b.isChosen) - Number(a.isChosen))
  ) {
    const wide = context.measureText(text).width + 6
    const spot = [0.5, 0.34, 0.66, 0.22, 0.78]
      .map((share) => [left + share * (right - left) - wide / 2, top + share * (end - top)] as const)
      .find(([x, y]) =>
        x > 0 && x + wide < width
        && taken.every(([otherX, otherY, otherWide]) =>
          Math.abs(y - otherY) > 14 || x > otherX + otherWide + 4 || x + wide + 4 < otherX
        )
      )
    if (spot === undefined) continue
    const [x, y] = spot
    taken.push([x, y, wide])
    context.globalAlpha = 0.9
    context.fillStyle = colors.surface
    context.fillRect(x, y - 7, wide, 13)
    context.globalAlpha = 1
    context.fillStyle = isChosen ? colors.accent : colors.muted
    context.fillText(text, x + 3, y + 3)
  }
  return taken.length
}

const visibleShare = (index: Index, view: View): number => {
  const positions = index.positions[view.scale]
  const at = (i: number): number => positions[i] ?? 0
  const from = lowerBound(positions.length, at, view.from)
  return (lowerBound(positions.length, at, view.to) - from) / Math.max(1, positions.length)
}

const steps = (
  index: Index,
  view: View,
  stage: Stage,
  { x, y }: Place,
  bright: ReadonlySet<number> | undefined,
  drawn: Drawn
): void => {
  const { colors, context, width } = stage
  const { entries, lanes } = index.trace
  const positions = index.positions[view.scale]
  for (const lane of stage.rows) {
    const middle = y(lane)
    const list = index.onLane[lane] ?? []
    const group = lanes[lane]?.group
    if (middle === undefined || group === undefined || isOut(middle, stage)) continue
    const at = (n: number): number => positions[list[n] ?? 0] ?? 0
    const end = Math.min(list.length, lowerBound(list.length, at, view.to) + 1)
    const start = Math.max(0, lowerBound(list.length, at, view.from) - 1)
    const isCrowded = (end - start) * 7 > width
    let last = -Infinity
    const places: Array<readonly [entry: Entry, left: number]> = []
    for (let n = start; n < end; n++) {
      const i = list[n] ?? 0
      const entry = entries[i]
      if (entry === undefined || stage.mask[i] === 0 || entry.kind === "fault" || entry.kind === "violation") continue
      const left = x(positions[i] ?? 0)
      const isChosen = i === view.selected || i === view.hovered
      if (left - last < 0.7 && !isChosen && bright === undefined) continue
      last = left
      drawn.steps++
      context.globalAlpha = bright === undefined || bright.has(i) ? 1 : 0.12
      if (isCrowded && !isChosen && entry.kind === "step") tick(context, entry, left, middle, colors.groups[group])
      else mark(context, entry, left, middle, colors.groups[group], colors)
      context.globalAlpha = 1
      if (i === view.selected) {
        ring(context, left, middle, 8.5, colors.accent)
        deadline(index, view, stage, x, entry, middle)
      } else if (i === view.hovered) ring(context, left, middle, 7, colors.muted)
      if (bright === undefined || bright.has(i)) places.push([entry, left])
    }
    labels(index, stage, places, middle, width, drawn)
  }
}

/** The time from a step to the deadline it waits for. */
const deadline = (
  index: Index,
  view: View,
  { colors, context }: Stage,
  x: Place["x"],
  entry: Entry,
  y: number
): void => {
  if (entry.kind !== "step" || entry.wake === undefined || entry.wake < entry.at) return
  const [left, right] = [x(positionOf(index, view.scale, entry.at)), x(positionOf(index, view.scale, entry.wake))]
  context.strokeStyle = colors.accent
  context.setLineDash([3, 3])
  context.beginPath()
  context.moveTo(left, y + 10)
  context.lineTo(right, y + 10)
  context.stroke()
  context.setLineDash([])
  context.fillStyle = colors.accent
  context.beginPath()
  context.arc(right, y + 10, 2.5, 0, 2 * Math.PI)
  context.fill()
}

/** The names of steps, where there is room up to the next one. */
const labels = (
  { trace }: Index,
  { colors, context, rowHeight }: Stage,
  places: ReadonlyArray<readonly [entry: Entry, left: number]>,
  y: number,
  width: number,
  drawn: Drawn
): void => {
  if (rowHeight < 20 || places.length > 400) return
  context.font = font(11)
  for (const [n, [entry, left]] of places.entries()) {
    const next = places[n + 1]?.[1] ?? Infinity
    if (left < -200 || left > width || next - left < 34) continue
    const text = entry.kind === "step" ? textOf(entry, trace) : entry.kind
    const wide = context.measureText(text).width
    if (left + 8 + wide > Math.min(next, width) - 6) continue
    context.fillStyle = entry.kind === "ended" || entry.kind === "down" ? colors.bad : colors.text
    context.fillText(text, left + 8, y + 4)
    drawn.labels++
  }
}
