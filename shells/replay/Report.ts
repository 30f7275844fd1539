/** One moment of a recording for people, and for scripts. */
import * as Literal from "./Literal.ts"
import type { Moment, Player } from "./Player.ts"

/** A line with its part in the moment, which decides its colour. */
export interface Line {
  readonly role: "head" | "event" | "command" | "path" | "old" | "new" | "wrong" | "plain"
  readonly text: string
}

export interface Options {
  readonly width: number
  /** Whether the whole state follows. */
  readonly isFull: boolean
  /** Whether events and commands get one line each, cut at the width. */
  readonly isBrief?: boolean
}

/** Time, event, commands and what changed; a value of several lines keeps its sign on each. */
export const lines = (
  { moments }: Player,
  moment: Moment,
  { isBrief = false, isFull, width }: Options
): ReadonlyArray<Line> => {
  const before = moments[moment.number - 1]
  const since = before === undefined ? "" : `, ${((moment.at - before.at) / 1_000).toFixed(3)} s after the one before`
  const out: Array<Line> = [{
    role: "head",
    text: `event ${moment.number} of ${moments.length - 1} at ${new Date(moment.at).toISOString()}${since}`
  }]
  const say = (role: Line["role"], sign: string, text: string): void =>
    text.split("\n").forEach((line, n) =>
      out.push({ role, text: `${n === 0 ? sign : sign.replace(/\S/, " ")}${line}` })
    )
  const told = (value: unknown, indent: number): string => {
    const text = tagged(value, isBrief ? Infinity : width - indent)
    return isBrief && text.length > width - indent ? `${text.slice(0, width - indent - 1)}…` : text
  }
  if (moment.event === undefined) out.push({ role: "plain", text: "the first state" })
  else say("event", "> ", told(moment.event, 2))
  for (const command of moment.commands) say("command", "< ", told(command, 2))
  if (moment.recorded !== undefined) {
    const said = moment.recorded.length === 0 ? "! recorded was no command" : "! recorded were other commands:"
    out.push({ role: "wrong", text: said })
    for (const command of moment.recorded) say("wrong", "! < ", told(command, 4))
  }
  for (const { after, before, path } of moment.changes()) {
    const [old, now] = [before, after].map((value) => value === undefined ? "" : Literal.print(value, "", width - 4))
    const line = `~ ${path || "everything"}: ${old} → ${now}`
    if (old !== "" && now !== "" && line.length <= width && !line.includes("\n")) {
      out.push({ role: "path", text: line })
      continue
    }
    out.push({ role: "path", text: `~ ${path || "everything"}` })
    if (old !== undefined && old !== "") say("old", "  - ", old)
    if (now !== undefined && now !== "") say("new", "  + ", now)
  }
  if (isFull) {
    out.push({ role: "plain", text: "= state" })
    say("plain", "  ", Literal.print(moment.state(), "", width - 2))
  }
  return out
}

/** `OpenRequested { reply: 0 }`. */
const tagged = (value: unknown, width: number): string => {
  if (typeof value !== "object" || value === null || !("_tag" in value)) return Literal.print(value, "", width)
  const { _tag, ...fields } = value
  return Object.keys(fields).length === 0 ? String(_tag) : `${String(_tag)} ${Literal.print(fields, "", width)}`
}

/** For scripts: an object for each moment. */
export const json = (moment: Moment, isFull: boolean): string =>
  JSON.stringify({
    number: moment.number,
    at: moment.at,
    event: moment.event,
    commands: moment.commands,
    recorded: moment.recorded,
    changes: moment.changes(),
    ...isFull ? { state: moment.state() } : {}
  })
