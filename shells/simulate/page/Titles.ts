/** The head of the page: what this is a trace of, and whether everything held. */
import { element, h } from "./Dom.ts"
import { type Index, textOf } from "./Index.ts"
import type { Trace } from "./Model.ts"

export const titles = (trace: Trace, index: Index): void => {
  document.title = trace.title
  element("title", HTMLElement).textContent = trace.title
  element("facts", HTMLElement).replaceChildren(
    ...trace.facts.map(([name, value]) => h("span", "", h("b", "", value), ` ${name}`))
  )
  const [first] = index.violations
  const verdict = element("violation", HTMLButtonElement)
  const entry = first === undefined ? undefined : trace.entries[first]
  verdict.textContent = entry === undefined ? "✓ everything held" : `✕ ${textOf(entry, trace).split(":")[0]} violated`
  verdict.className = entry === undefined ? "verdict good" : "verdict bad"
  verdict.disabled = entry === undefined
}
