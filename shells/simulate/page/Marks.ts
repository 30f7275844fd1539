/** The small shapes of the drawing, and what all of it shares. */
import { isTimer } from "./Index.ts"
import type { Entry, Group, StepEntry } from "./Model.ts"

export interface Colors {
  readonly text: string
  readonly muted: string
  readonly faint: string
  readonly line: string
  readonly stripe: string
  readonly surface: string
  readonly accent: string
  readonly fault: string
  readonly bad: string
  readonly groups: { readonly [group in Group]: string }
}

export interface Stage {
  readonly context: CanvasRenderingContext2D
  readonly width: number
  readonly height: number
  /** The lanes from top to bottom. */
  readonly rows: ReadonlyArray<number>
  readonly rowHeight: number
  readonly colors: Colors
  /** Whether filters and search leave an entry. */
  readonly mask: Uint8Array
}

export interface Place {
  readonly x: (position: number) => number
  /** The middle of a lane; undefined when it is hidden. */
  readonly y: (lane: number) => number | undefined
}

export const font = (size: number, weight = 400): string => `${weight} ${size}px ui-sans-serif, system-ui, sans-serif`

export const head = (context: CanvasRenderingContext2D, fromX: number, fromY: number, x: number, y: number): void => {
  const angle = Math.atan2(y - fromY, x - fromX)
  context.beginPath()
  context.moveTo(x, y)
  context.lineTo(x - 7 * Math.cos(angle - 0.38), y - 7 * Math.sin(angle - 0.38))
  context.lineTo(x - 7 * Math.cos(angle + 0.38), y - 7 * Math.sin(angle + 0.38))
  context.fill()
}

export const cross = (context: CanvasRenderingContext2D, x: number, y: number, size: number): void => {
  context.beginPath()
  context.moveTo(x - size, y - size)
  context.lineTo(x + size, y + size)
  context.moveTo(x + size, y - size)
  context.lineTo(x - size, y + size)
  context.stroke()
}

export const ring = (context: CanvasRenderingContext2D, x: number, y: number, radius: number, color: string): void => {
  context.strokeStyle = color
  context.lineWidth = 2
  context.beginPath()
  context.arc(x, y, radius, 0, 2 * Math.PI)
  context.stroke()
  context.lineWidth = 1
}

/**
 * A dot is a step that changes the state, a ring one that does not, a rhombus a timer, a bar a start, a cross an end; a
 * triangle a session that comes up, or down.
 */
export const mark = (
  context: CanvasRenderingContext2D,
  entry: Entry,
  x: number,
  y: number,
  color: string,
  { bad, surface }: Colors
): void => {
  context.fillStyle = color
  context.strokeStyle = color
  if (entry.kind === "started") {
    context.fillRect(x - 1, y - 9, 2.5, 18)
    return
  }
  if (entry.kind === "ended") {
    context.strokeStyle = bad
    context.lineWidth = 2
    cross(context, x, y, 4)
    context.lineWidth = 1
    return
  }
  if (entry.kind === "up" || entry.kind === "down") {
    const tip = entry.kind === "up" ? -5 : 5
    if (entry.kind === "down") context.fillStyle = bad
    context.beginPath()
    context.moveTo(x, y + tip)
    context.lineTo(x + 4.5, y - tip * 0.7)
    context.lineTo(x - 4.5, y - tip * 0.7)
    context.fill()
    return
  }
  const isSolid = entry.kind === "step" && entry.changes.length > 0
  context.beginPath()
  if (isTimer(entry)) {
    context.moveTo(x, y - 4.5)
    context.lineTo(x + 4.5, y)
    context.lineTo(x, y + 4.5)
    context.lineTo(x - 4.5, y)
    context.closePath()
  } else context.arc(x, y, isSolid ? 3.6 : 3, 0, 2 * Math.PI)
  if (!isSolid) context.fillStyle = surface
  context.fill()
  context.lineWidth = 1.3
  context.stroke()
  context.lineWidth = 1
}

/** Where there is no room for a mark: tall if the state changes. */
export const tick = (
  context: CanvasRenderingContext2D,
  entry: StepEntry,
  x: number,
  y: number,
  color: string
): void => {
  const half = entry.changes.length > 0 ? 6.5 : 2.5
  context.fillStyle = color
  context.fillRect(x - 0.6, y - half, 1.2, 2 * half)
}
