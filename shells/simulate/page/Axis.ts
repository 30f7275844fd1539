/** The time at the top, and the moments at which a property was violated, over everything. */
import type { Index } from "./Index.ts"
import { momentAt, secondsOf, textOf } from "./Index.ts"
import { font, type Place, type Stage } from "./Marks.ts"
import { axisHeight, type View } from "./View.ts"

export const axis = (index: Index, view: View, { colors, context, width }: Stage, { x }: Place): void => {
  context.font = font(11)
  const every = width / Math.max(4, Math.floor(width / 120))
  const [low, high] = [0, width].map((left) =>
    momentAt(index, view.scale, view.from + left / width * (view.to - view.from))
  )
  const span = (high ?? 0) - (low ?? 0)
  const digits = span > 60_000 ? 0 : view.scale === "events" ? 3 : span > 4_000 ? 1 : span > 400 ? 2 : 3
  const tell = (left: number, ms: number): void => {
    context.fillStyle = colors.muted
    context.fillText(`${secondsOf(ms, digits)} s`, left + 4, axisHeight - 11)
    context.fillStyle = colors.line
    context.globalAlpha = 0.7
    context.fillRect(left, axisHeight - 8, 1, 10_000)
    context.globalAlpha = 1
  }
  if (view.scale === "events") {
    for (let left = every / 2; left < width; left += every) {
      tell(left, momentAt(index, view.scale, view.from + left / width * (view.to - view.from)))
    }
    return
  }
  const step = niceStep(span / (width / 110))
  for (let at = Math.ceil(Math.max(0, low ?? 0) / step) * step; at <= (high ?? 0); at += step) tell(x(at), at)
}

const niceStep = (rough: number): number => {
  const power = 10 ** Math.floor(Math.log10(Math.max(1e-6, rough)))
  return [1, 2, 5, 10].map((n) => n * power).find((step) => step >= rough) ?? rough
}

/** Says how many it drew; those of one moment share a flag. */
export const violations = (index: Index, view: View, stage: Stage, { x }: Place): number => {
  const { colors, context, height, width } = stage
  const lefts = new Map<number, number>()
  const flags = new Map<number, Array<string>>()
  for (const i of index.violations) {
    const entry = index.trace.entries[i]
    if (entry === undefined) continue
    const left = lefts.get(entry.at) ?? x(index.positions[view.scale][i] ?? 0)
    if (left < -4 || left > width + 4) continue
    lefts.set(entry.at, left)
    flags.set(left, [...flags.get(left) ?? [], textOf(entry, index.trace).split(":")[0] ?? ""])
  }
  for (const [left, names] of flags) {
    context.fillStyle = colors.bad
    context.fillRect(left - 1, 6, 2, height)
    context.font = font(11, 600)
    const text = names.join(", ")
    const wide = context.measureText(text).width + 14
    const from = left + wide > width ? left - wide : left
    context.beginPath()
    context.roundRect(from - 1, 4, wide, 19, 4)
    context.fill()
    context.fillStyle = colors.surface
    context.fillText(text, from + 6, 17)
  }
  return [...flags.values()].flat().length
}
