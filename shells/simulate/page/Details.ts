/** What is known of the selected entry. */
import { button, type Child, h, json } from "./Dom.ts"
import { causesOf, type Index, messageText, secondsOf, textOf } from "./Index.ts"
import type { Entry, MessageEntry, NoteEntry, StepEntry } from "./Model.ts"

export type Go = (i: number) => void

export const details = (index: Index, i: number, go: Go): ReadonlyArray<Node> => {
  const entry = index.trace.entries[i]
  if (entry === undefined) return []
  const body = entry.kind === "step"
    ? step(entry)
    : entry.kind === "message"
    ? message(index, entry)
    : note(index, entry)
  return [heading(index, i, entry), ...body, ...chain(index, i, go)]
}

/** What is shown while nothing is selected. */
export const summary = (index: Index, go: Go): ReadonlyArray<Node> => [
  h("p", "hint", "Select an entry to see what happened, what it changed, and why."),
  ...index.faults.length === 0
    ? []
    : [section("Faults", ...index.faults.map((i) => link(index, i, go)))],
  section("Made by", h("pre", "", index.trace.command))
]

const heading = ({ trace }: Index, i: number, entry: Entry): Node => {
  const lane = trace.lanes[entry.lane]
  const text = entry.kind === "message"
    ? messageText(entry)
    : entry.kind === "violation"
    ? entry.text.split(":")[0]
    : textOf(entry, trace)
  return h(
    "header",
    "d-head",
    h("div", `d-kind ${entry.kind}`, kindOf(entry)),
    h("h2", "", text ?? ""),
    h(
      "p",
      "d-where",
      h("b", `g-${lane?.group}`, lane?.name ?? ""),
      ` at ${secondsOf(entry.at)} s`,
      h("span", "d-number", `#${i}`)
    )
  )
}

const kindOf = (entry: Entry): string => {
  switch (entry.kind) {
    case "step":
      return entry.event === "Woken" ? `timer of ${entry.machine}` : `event of ${entry.machine}`
    case "message":
      return entry.arrivedAt === undefined ? "message, never arrived" : "message"
    case "started":
      return "start"
    case "ended":
      return "end"
    case "up":
    case "down":
      return `session ${entry.kind}`
    case "fault":
      return "fault"
    case "violation":
      return "violated property"
  }
}

const section = (title: string, ...children: ReadonlyArray<Child>): Node =>
  h("section", "", h("h3", "", title), ...children)

const isEmpty = (value: unknown): boolean =>
  value === undefined || (typeof value === "object" && value !== null && Object.keys(value).length === 0)

const step = ({ at, changes, commands, event, fields, wake }: StepEntry): ReadonlyArray<Node> => {
  const parts: Array<Node> = []
  if (!isEmpty(fields)) parts.push(section("Event", h("pre", "", `${event} `, json(fields))))
  parts.push(section(
    changes.length === 0
      ? "State: as before"
      : `State: ${changes.length} ${changes.length === 1 ? "change" : "changes"}`,
    ...changes.map(([path, before, after]) =>
      h(
        "div",
        "change",
        h("code", "path", path),
        before === undefined ? undefined : h("pre", "old", json(before)),
        after === undefined ? undefined : h("pre", "new", json(after))
      )
    )
  ))
  if (commands.length > 0) {
    parts.push(section(
      `Commands: ${commands.length}`,
      ...commands.map(({ fields, name }) =>
        isEmpty(fields)
          ? h("pre", "command", name)
          : h("details", "command", h("summary", "", name), h("pre", "", json(fields)))
      )
    ))
  }
  if (wake !== undefined && wake >= at) {
    parts.push(section("Next deadline", h("p", "", `${secondsOf(wake)} s, in ${secondsOf(wake - at)} s`)))
  }
  return parts
}

const message = ({ trace }: Index, { arrivedAt, at, lane, to, what }: MessageEntry): ReadonlyArray<Node> => [
  section(
    "Way",
    h(
      "p",
      "",
      `${trace.lanes[lane]?.name} → ${trace.lanes[to]?.name}, `,
      what === "request"
        ? "a request"
        : what === "answer"
        ? "an answer"
        : what === "news"
        ? "news of a watch"
        : "no longer wanted"
    ),
    arrivedAt === undefined
      ? h("p", "bad", "It never arrived: the connection broke, or one of the two died.")
      : h("p", "", `Arrived at ${secondsOf(arrivedAt)} s, after ${Math.round(arrivedAt - at)} ms.`)
  )
]

const note = ({ trace }: Index, { kind, lastsMs, reason, strikes, text }: NoteEntry): ReadonlyArray<Node> => {
  if (kind === "violation") {
    const detail = text.slice(text.indexOf(":") + 1).trim()
    return [section("What is wrong", h("p", "bad", detail)), section("Why it matters", h("p", "", reason ?? ""))]
  }
  if (kind !== "fault") return []
  return [section(
    "What happens",
    h(
      "p",
      "",
      strikes.length === 0
        ? "Everything is struck"
        : `Strikes ${strikes.map((one) => trace.lanes[one]?.name).join(" and ")}`,
      lastsMs > 0 ? ` for ${secondsOf(lastsMs)} s.` : "."
    )
  )]
}

const chain = (index: Index, i: number, go: Go): ReadonlyArray<Node> => {
  const causes = causesOf(index, i)
  const effects = index.effects[i] ?? []
  const links = (list: ReadonlyArray<number>): ReadonlyArray<Node> => list.map((one) => link(index, one, go))
  const parts: Array<Node> = []
  if (causes.length > 0) {
    const far = causes.slice(6)
    const root = far.at(-1)
    parts.push(section(
      "Caused by",
      ...links(causes.slice(0, 6)),
      far.length > 1 ? h("p", "more", `… ${far.length - 1} more, begun by`) : undefined,
      ...root === undefined ? [] : links([root])
    ))
  }
  if (effects.length > 0) {
    parts.push(section(
      "Leads to",
      ...links(effects.slice(0, 12)),
      effects.length > 12 ? h("p", "more", `… ${effects.length - 12} more`) : undefined
    ))
  }
  return parts
}

const link = ({ trace }: Index, i: number, go: Go): Node => {
  const entry = trace.entries[i]
  const lane = entry === undefined ? undefined : trace.lanes[entry.lane]
  const one = button("link", "", () => go(i))
  one.append(
    h("time", "", secondsOf(entry?.at ?? 0)),
    h("b", `g-${lane?.group}`, lane?.name ?? ""),
    h("span", "", entry === undefined ? "" : textOf(entry, trace))
  )
  return one
}
