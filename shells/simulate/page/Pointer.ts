/** What the mouse does. */
import { element, h } from "./Dom.ts"
import { hit } from "./Hit.ts"
import { type Index, secondsOf, textOf } from "./Index.ts"
import type { Stage } from "./Marks.ts"
import { placeOf } from "./Paint.ts"
import { extentOf, lanesLeft, pan, type View, zoomAt } from "./View.ts"

export interface Reactions {
  readonly go: (i: number) => void
  readonly plan: () => void
}

/** Points, drags and turns of the wheel over the lanes. */
export const pointer = (
  index: Index,
  view: View,
  canvas: HTMLCanvasElement,
  stage: () => Stage,
  { go, plan }: Reactions
): void => {
  const tip = element("tip", HTMLElement)
  let held: { x: number; y: number; isDrag: boolean } | undefined
  const hover = (i: number | undefined, { offsetX, offsetY }: MouseEvent): void => {
    const entry = i === undefined ? undefined : index.trace.entries[i]
    tip.hidden = entry === undefined
    canvas.style.cursor = entry === undefined ? "grab" : "pointer"
    if (entry !== undefined) {
      tip.replaceChildren(
        h("b", "", textOf(entry, index.trace)),
        h("span", "", `${index.trace.lanes[entry.lane]?.name} at ${secondsOf(entry.at)} s`)
      )
      const right = offsetX + 16 + tip.offsetWidth > canvas.clientWidth
      tip.style.left = `${lanesLeft + (right ? offsetX - tip.offsetWidth - 12 : offsetX + 14)}px`
      tip.style.top = `${Math.min(offsetY + 14, canvas.clientHeight - tip.offsetHeight - 4)}px`
    }
    if (i === view.hovered) return
    view.hovered = i
    plan()
  }
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId)
    held = { x: event.offsetX, y: event.offsetY, isDrag: false }
  })
  canvas.addEventListener("pointermove", (event) => {
    const now = stage()
    if (held === undefined) return hover(hit(index, view, now, placeOf(view, now), event.offsetX, event.offsetY), event)
    const [dx, dy] = [event.offsetX - held.x, event.offsetY - held.y]
    if (!held.isDrag && Math.hypot(dx, dy) < 4) return
    pan(index, view, -dx / now.width * (view.to - view.from))
    view.top -= dy
    held = { x: event.offsetX, y: event.offsetY, isDrag: true }
    plan()
  })
  canvas.addEventListener("pointerup", (event) => {
    const now = stage()
    const found = held?.isDrag === false
      ? hit(index, view, now, placeOf(view, now), event.offsetX, event.offsetY)
      : undefined
    held = undefined
    if (found !== undefined) go(found)
  })
  canvas.addEventListener("pointerleave", (event) => hover(undefined, event))
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault()
    const now = stage()
    const perPixel = (view.to - view.from) / now.width
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(index, view, event.deltaX * perPixel)
    else if (event.shiftKey) view.top += event.deltaY
    else zoomAt(index, view, Math.exp(event.deltaY * 0.0018), view.from + event.offsetX * perPixel)
    plan()
  }, { passive: false })
}

/** Drags over the overview choose what is seen. */
export const brush = (index: Index, view: View, strip: HTMLCanvasElement, plan: () => void): void => {
  const positionAt = (event: MouseEvent): number => {
    const [low, high] = extentOf(index, view.scale)
    return low + event.offsetX / strip.clientWidth * (high - low)
  }
  let from: number | undefined
  strip.addEventListener("pointerdown", (event) => {
    strip.setPointerCapture(event.pointerId)
    from = positionAt(event)
  })
  strip.addEventListener("pointermove", (event) => {
    if (from === undefined) return
    const to = positionAt(event)
    if (Math.abs(to - from) / (extentOf(index, view.scale)[1]) * strip.clientWidth < 3) return
    ;[view.from, view.to] = [Math.min(from, to), Math.max(from, to)]
    zoomAt(index, view, 1, (view.from + view.to) / 2)
    plan()
  })
  strip.addEventListener("pointerup", (event) => {
    const to = positionAt(event)
    const isClick = from !== undefined &&
      Math.abs(to - from) / (extentOf(index, view.scale)[1]) * strip.clientWidth < 3
    from = undefined
    if (!isClick) return
    const half = (view.to - view.from) / 2
    pan(index, view, to - half - view.from)
    plan()
  })
}
