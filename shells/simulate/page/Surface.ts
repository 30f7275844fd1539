/** Canvases and their colours, which come from the style sheet. */
import type { Colors } from "./Marks.ts"

export const contextOf = (canvas: HTMLCanvasElement): CanvasRenderingContext2D => {
  const context = canvas.getContext("2d")
  if (context === null) throw new Error("this browser has no canvas")
  return context
}

export const fitPixels = (canvas: HTMLCanvasElement, context: CanvasRenderingContext2D): void => {
  const ratio = devicePixelRatio
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)]
  if (canvas.width !== width) canvas.width = width
  if (canvas.height !== height) canvas.height = height
  context.setTransform(ratio, 0, 0, ratio, 0, 0)
}

export const isDark = (): boolean => {
  const { theme } = document.documentElement.dataset
  return theme === undefined ? matchMedia("(prefers-color-scheme: dark)").matches : theme === "dark"
}

export const readColors = (): Colors => {
  const style = getComputedStyle(document.documentElement)
  const of = (name: string): string => style.getPropertyValue(`--${name}`).trim()
  return {
    text: of("text"),
    muted: of("muted"),
    faint: of("faint"),
    line: of("line"),
    stripe: of("stripe"),
    surface: of("surface"),
    accent: of("accent"),
    fault: of("fault"),
    bad: of("bad"),
    groups: {
      world: of("fault"),
      outside: of("outside"),
      frontends: of("frontends"),
      proxies: of("proxies"),
      targets: of("targets"),
      control: of("control")
    }
  }
}
