/**
 * Stories of a machine as text that a network engineer can read and a reviewer can diff.
 *
 *     # Two gateways, one fails.
 *     0 > init name="fe-1"
 *       = Starting
 *       < StartBird call=0
 *     120 > StartSucceeded call=0
 *       = Isolated
 *
 * The author writes the `#` and `>` lines; the test writes the `=` (state) and `<` (command) lines and compares them
 * with the file. `vitest -u` accepts a change. Times are milliseconds; values are JSON, quotes may be left out. The
 * clock is moved by the story alone: `5000 > Woken` says that a deadline passed.
 */
import { expect, it } from "@effect/vitest"
import { Schema } from "effect"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as Machine from "../../core/Machine.ts"

/** Registers a test for the story in `file`, relative to the test (`import.meta.url`). */
export const transcript = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>,
  file: URL,
  show: (state: State) => string
): void => {
  const path = fileURLToPath(file)
  it(`tells the story ${path.split("/").at(-1)}`, async () => {
    const story = fs.readFileSync(path, "utf8")
    await expect(retell(machine, story, show)).toMatchFileSnapshot(path)
  })
}

/** The story with the states and commands of the machine as it is now. */
export const retell = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>,
  story: string,
  show: (state: State) => string
): string => {
  const decodeInput = Schema.decodeUnknownSync(Schema.toCodecJson(machine.Input))
  const decodeEvent = Schema.decodeUnknownSync(Schema.toCodecJson(Schema.Union([machine.Event, Machine.Woken])))
  const encodeCommand = Schema.encodeSync(Schema.toCodecJson(machine.Command))
  const told: Array<string> = []
  let state: State | undefined
  for (const line of story.split("\n")) {
    if (/^\s+[=<] /.test(line)) continue
    told.push(line)
    const move = /^(\d+) > (\w+)(.*)$/.exec(line)
    if (move === null) continue
    const [, at = "", tag = "", rest = ""] = move
    const fields = parseFields(rest)
    const step: Machine.Step<State, Command> = tag === "init"
      ? machine.init(decodeInput(fields), Number(at))
      : machine.step(begun(state, line), decodeEvent({ _tag: tag, ...fields }), Number(at))
    if (step[0] !== state) told.push(`  = ${show(step[0])}`)
    for (const command of step[1]) told.push(`  < ${printCommand(encodeCommand(command))}`)
    state = step[0]
  }
  return told.join("\n")
}

const begun = <State>(state: State | undefined, line: string): State => {
  if (state === undefined) throw new Error(`a story begins with init, not with: ${line}`)
  return state
}

/** `a=1 b="x" c={"d":[1]}`: a value reaches to the next ` name=` outside of brackets and quotes. */
const parseFields = (text: string): Record<string, unknown> => {
  const fields: Record<string, unknown> = {}
  let rest = text.trim()
  while (rest !== "") {
    const [, name = "", after = ""] = /^(\w+)=(.*)$/.exec(rest) ?? []
    if (name === "") throw new Error(`expected name=value, found: ${rest}`)
    const end = valueEnd(after)
    fields[name] = parseValue(after.slice(0, end))
    rest = after.slice(end).trim()
  }
  return fields
}

const valueEnd = (text: string): number => {
  let depth = 0
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    const char = text[i]
    if (char === "\"" && text[i - 1] !== "\\") quoted = !quoted
    else if (!quoted && (char === "{" || char === "[")) depth++
    else if (!quoted && (char === "}" || char === "]")) depth--
    else if (!quoted && depth === 0 && char === " ") return i
  }
  return text.length
}

const parseValue = (text: string): unknown => {
  const isJson = /^(-?\d+(\.\d+)?|true|false|null|[[{"].*)$/.test(text)
  return isJson ? JSON.parse(text) : text
}

const printCommand = (command: unknown): string => {
  if (typeof command !== "object" || command === null) return JSON.stringify(command)
  const { _tag, ...fields } = { _tag: "?", ...command }
  return [_tag, ...Object.entries(fields).map(([name, value]) => `${name}=${printValue(value)}`)].join(" ")
}

const printValue = (value: unknown): string =>
  typeof value === "string" && /^[^\s"{}[\]]+$/.test(value) && !/^(-?\d|true$|false$|null$)/.test(value)
    ? value
    : JSON.stringify(value)
