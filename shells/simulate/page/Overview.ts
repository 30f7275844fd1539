/** The whole run in one strip: how much happened when, faults, violations, and the part that is on the screen. */
import type { Index } from "./Index.ts"
import { positionOf } from "./Index.ts"
import type { Colors } from "./Marks.ts"
import { extentOf, type View } from "./View.ts"

export const paintOverview = (
  index: Index,
  view: View,
  mask: Uint8Array,
  context: CanvasRenderingContext2D,
  width: number,
  height: number,
  colors: Colors
): void => {
  const [low, high] = extentOf(index, view.scale)
  const x = (position: number): number => (position - low) / (high - low) * width
  const positions = index.positions[view.scale]
  const bins = new Float64Array(Math.ceil(width / 3) + 1)
  for (const [i, position] of positions.entries()) {
    const bin = Math.floor(x(position) / 3)
    if (mask[i] === 1) bins[bin] = (bins[bin] ?? 0) + 1
  }
  const most = Math.log1p(bins.reduce((a, b) => Math.max(a, b), 1))
  context.clearRect(0, 0, width, height)
  context.fillStyle = colors.fault
  for (const i of index.faults) {
    const entry = index.trace.entries[i]
    if (entry?.kind !== "fault") continue
    const left = x(positions[i] ?? 0)
    const right = x(positionOf(index, view.scale, entry.at + entry.lastsMs))
    context.globalAlpha = 0.18
    context.fillRect(left, 0, Math.max(2, right - left), height)
    context.globalAlpha = 1
    context.fillRect(left, 0, 1.5, 5)
  }
  context.fillStyle = colors.accent
  context.globalAlpha = 0.55
  for (const [bin, count] of bins.entries()) {
    const tall = count === 0 ? 0 : Math.max(1.5, Math.log1p(count) / most * (height - 8))
    context.fillRect(bin * 3, height - tall, 2.2, tall)
  }
  context.globalAlpha = 1
  context.fillStyle = colors.bad
  for (const i of index.violations) context.fillRect(x(positions[i] ?? 0) - 1, 0, 2, height)
  const [left, right] = [x(view.from), x(view.to)]
  context.fillStyle = colors.stripe
  context.globalAlpha = 0.75
  context.fillRect(0, 0, left, height)
  context.fillRect(right, 0, width - right, height)
  context.globalAlpha = 1
  context.strokeStyle = colors.accent
  context.lineWidth = 1.5
  context.strokeRect(
    Math.max(0.75, left),
    0.75,
    Math.max(3, Math.min(width - 1.5, right) - Math.max(0.75, left)),
    height - 1.5
  )
  context.lineWidth = 1
}
