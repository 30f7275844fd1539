/** The page of a trace: a lane for each process, and nothing else needed. */
import type { Journal } from "../../property-tests/simulation/index.ts"

/** A page: time runs down, each process has a lane; a dot is a step, bars are faults and violations. */
export const html = (title: string, journal: Journal.Journal): string => {
  const lines = journal.entries().map((entry) => ({
    at: entry.at,
    process: entry.process,
    kind: entry._tag,
    text: "event" in entry
      ? [`> ${entry.event}`, ...entry.commands.map((tag) => `< ${tag}`)].join(" ")
      : "to" in entry
      ? `${entry.kind} to ${entry.to}`
      : entry.text
  }))
  const lanes = ["world", ...new Set(lines.map(({ process }) => process).filter((name) => name !== "world"))]
  const events = lines.map(({ at, kind, process, text }) => [at, lanes.indexOf(process), kind, text])
  const data = JSON.stringify({ lanes, events }).replaceAll("<", "\\u003c")
  return page.replace("TITLE", () => escape(title)).replace("HEADING", () => escape(title)).replace("DATA", () => data)
}

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")

const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title><style>
body { font: 13px system-ui, sans-serif; margin: 0; display: grid; grid-template: auto 1fr / 1fr 26rem; height: 100vh }
h1 { font-size: 1rem; margin: .6rem 1rem; grid-column: 1 / 3 }
main { overflow: auto; position: relative } aside { overflow: auto; border-left: 1px solid #ccc; padding: 0 .8rem }
header { position: sticky; top: 0; background: #fff; z-index: 1; display: flex; padding-left: 5rem; border-bottom: 1px solid #ccc }
header span { width: 6rem; flex: none; text-align: center; overflow: hidden; text-overflow: ellipsis; padding: .2rem 0 }
.row { display: flex; height: 15px; align-items: center; cursor: default } .row:hover, .row.on { background: #eef }
.row time { width: 5rem; flex: none; text-align: right; padding-right: .6rem; box-sizing: border-box; color: #777 }
.row i { width: 8px; height: 8px; border-radius: 50%; background: #47c }
.row.Started i { background: #2a2; border-radius: 0 } .row.Fault { background: #fec } .row.Violation { background: #fbb }
.row b { font-weight: normal; padding-left: .8rem; white-space: nowrap } pre { white-space: pre-wrap }
input { width: 100%; box-sizing: border-box; margin: .6rem 0; padding: .3rem }
</style></head><body><h1>HEADING</h1><main><header></header><div id="rows"></div></main>
<aside><input placeholder="filter: process or text"><p id="count"></p><pre id="detail">Point at a line.</pre></aside>
<script>
const { lanes, events } = DATA
const height = 15, rows = document.querySelector("#rows"), main = document.querySelector("main")
const detail = document.querySelector("#detail"), head = document.querySelector("header")
head.replaceChildren(...lanes.map((name) => Object.assign(document.createElement("span"), { textContent: name, title: name })))
let shown = events
const draw = () => {
  const from = Math.max(0, Math.floor(main.scrollTop / height) - 20), to = from + Math.ceil(main.clientHeight / height) + 40
  rows.style.paddingTop = from * height + "px"
  rows.style.height = shown.length * height + "px"
  rows.style.boxSizing = "border-box"
  rows.style.minWidth = 5 + 6 * lanes.length + "rem"
  rows.replaceChildren(...shown.slice(from, to).map(([at, lane, kind, text]) => {
    const row = Object.assign(document.createElement("div"), { className: "row " + kind })
    const time = Object.assign(document.createElement("time"), { textContent: (at / 1000).toFixed(3) })
    const dot = document.createElement(lane === 0 ? "b" : "i")
    if (lane === 0) dot.textContent = text
    else dot.style.marginLeft = "calc(" + (lane + .5) * 6 + "rem - 4px)"
    row.append(time, dot)
    row.onmouseenter = () => detail.textContent =
      (at / 1000).toFixed(3) + " s  " + lanes[lane] + "\\n\\n" + text.replaceAll(" < ", "\\n  < ")
    return row
  }))
}
const filter = () => {
  const word = document.querySelector("input").value
  shown = word === "" ? events : events.filter(([, lane, , text]) => lanes[lane].includes(word) || text.includes(word))
  document.querySelector("#count").textContent = shown.length + " of " + events.length + " lines"
  draw()
}
document.querySelector("input").oninput = filter
main.onscroll = draw
onresize = draw
filter()
</script></body></html>
`
