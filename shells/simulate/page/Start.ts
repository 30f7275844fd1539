/** Unpacks the trace that the page carries, and opens it. */
import { open, type Probe } from "./App.ts"
import { element } from "./Dom.ts"
import type { Trace } from "./Model.ts"

declare global {
  interface Window {
    sluice?: Probe
  }
}

const unpack = async (): Promise<Trace> => {
  const packed = Uint8Array.from(atob(element("trace", HTMLScriptElement).textContent.trim()), (c) => c.charCodeAt(0))
  const text = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")))
  return text.json()
}

const start = async (): Promise<void> => {
  window.sluice = open(await unpack())
  document.documentElement.dataset["ready"] = "true"
}

start().catch((cause: unknown) => {
  document.documentElement.dataset["ready"] = "failed"
  element("title", HTMLElement).textContent = `This trace cannot be shown: ${String(cause)}`
})
