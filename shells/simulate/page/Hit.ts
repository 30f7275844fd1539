/** Which entry is under the pointer. */
import { type Index, lowerBound } from "./Index.ts"
import type { Place, Stage } from "./Marks.ts"
import { axisHeight, type View } from "./View.ts"

const reach = 8

export const hit = (
  index: Index,
  view: View,
  stage: Stage,
  { x, y }: Place,
  left: number,
  top: number
): number | undefined => {
  if (top < axisHeight) return flagAt(index, view, x, left)
  return stepAt(index, view, stage, { x, y }, left, top) ?? messageAt(index, view, stage, { x, y }, left, top)
}

const flagAt = (index: Index, view: View, x: Place["x"], left: number): number | undefined =>
  index.violations.find((i) => Math.abs(x(index.positions[view.scale][i] ?? 0) - left) < 90)

const stepAt = (
  index: Index,
  view: View,
  stage: Stage,
  { x }: Place,
  left: number,
  top: number
): number | undefined => {
  const lane = stage.rows[Math.floor((top - axisHeight + view.top) / stage.rowHeight)]
  const list = lane === undefined ? [] : index.onLane[lane] ?? []
  const positions = index.positions[view.scale]
  const at = (n: number): number => positions[list[n] ?? 0] ?? 0
  const perUnit = stage.width / (view.to - view.from)
  let best: number | undefined
  let distance = reach
  for (let n = lowerBound(list.length, at, view.from + (left - reach) / perUnit); n < list.length; n++) {
    const i = list[n] ?? 0
    const away = Math.abs(x(positions[i] ?? 0) - left)
    if (x(positions[i] ?? 0) > left + reach) break
    if (stage.mask[i] === 1 && away < distance) [best, distance] = [i, away]
  }
  return best
}

const messageAt = (
  index: Index,
  view: View,
  stage: Stage,
  { x, y }: Place,
  left: number,
  top: number
): number | undefined => {
  let best: number | undefined
  let distance = reach - 2
  for (const i of index.messages) {
    const entry = index.trace.entries[i]
    if (entry?.kind !== "message" || stage.mask[i] === 0) continue
    const [fromY, toY] = [y(entry.lane), y(entry.to)]
    const fromX = x(index.positions[view.scale][i] ?? 0)
    if (fromX > left + reach || fromY === undefined || toY === undefined) continue
    const arrival = index.arrivals[view.scale][i] ?? NaN
    const isLost = Number.isNaN(arrival)
    const toX = isLost ? fromX + 14 : x(arrival)
    if (toX < left - reach) continue
    const end = isLost ? fromY + Math.sign(toY - fromY) * Math.min(16, Math.abs(toY - fromY) / 2) : toY
    const away = distanceTo(left, top, fromX, fromY, toX, end)
    if (away < distance) [best, distance] = [i, away]
  }
  return best
}

/** From a point to a line between two points. */
const distanceTo = (x: number, y: number, ax: number, ay: number, bx: number, by: number): number => {
  const [dx, dy] = [bx - ax, by - ay]
  const along = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / Math.max(1e-9, dx * dx + dy * dy)))
  return Math.hypot(x - ax - along * dx, y - ay - along * dy)
}
