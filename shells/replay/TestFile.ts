/** A window of a recording as a test: from its state, through its events, to its commands and its last state. */
import * as fs from "node:fs"
import * as path from "node:path"
import * as Literal from "./Literal.ts"
import type { Moment, Player } from "./Player.ts"

export interface Window {
  /** The test starts from the state after this event; 0: from the first. */
  readonly from: number
  /** The last event. */
  readonly to: number
}

/** Where the machine is, below `core/`: component and module. */
export interface Source {
  readonly component: string
  readonly module: string
}

/**
 * The text of the test file. In a checkout of Sluice it imports the machine by its path, elsewhere from the package.
 * It expects what today's code decides: so it holds, before a mistake is mended as what was recorded, after that as
 * what is right.
 */
export const text = (
  file: string,
  recording: string,
  { machine, moments }: Player,
  { from, to }: Window,
  { component, module }: Source
): string => {
  const core = coreFrom(path.dirname(path.resolve(file)))
  const imports = core === undefined
    ? [`import { Woken } from "sluice/core/Machine"`, `import { ${module} } from "sluice/core/${component}"`]
    : [`import { Woken } from "${core}/Machine.ts"`, `import * as ${module} from "${core}/${component}/${module}.ts"`]
  const story = moments.slice(from + 1, to + 1).map(({ at, commands, event }) => ({ at, event, commands }))
  return `/**
 * What \`${machine}\` decided ${
    from + 1 === to ? `on event ${to}` : `on the events ${from + 1} to ${to}`
  } of a recording. Made by
 * \`sluice replay ${path.basename(recording)} --from ${from} --to ${to} --test ${path.basename(file)}\`.
 */
import { Schema } from "effect"
import { expect, it } from "vitest"
${imports.join("\n")}

/** The state before. */
const before: unknown = ${Literal.print(stateOf(moments[from]))}

/** What happened, and what it led to. */
const story: ReadonlyArray<{ readonly at: number; readonly event: unknown; readonly commands: unknown }> = [
${story.map((one) => `  ${Literal.print(one, "  ")}`).join(",\n")}
]

/** The state after. */
const after: unknown = ${Literal.print(stateOf(moments[to]))}

it("${machine} decides the same on ${
    from + 1 === to ? `event ${to}` : `the events ${from + 1} to ${to}`
  } of a recording", () => {
  const { machine } = ${module}
  const state = Schema.toCodecJson(machine.State)
  const decodeEvent = Schema.decodeUnknownSync(Schema.toCodecJson(Schema.Union([machine.Event, Woken])))
  const encodeCommands = Schema.encodeSync(Schema.toCodecJson(Schema.Array(machine.Command)))
  let now = Schema.decodeUnknownSync(state)(before)
  for (const { at, commands, event } of story) {
    const [next, decided] = machine.step(now, decodeEvent(event), at)
    expect(JSON.parse(JSON.stringify(encodeCommands(decided)))).toEqual(commands)
    now = next
  }
  expect(JSON.parse(JSON.stringify(Schema.encodeSync(state)(now)))).toEqual(after)
})
`
}

const stateOf = (moment: Moment | undefined): unknown => JSON.parse(JSON.stringify(moment?.state()))

/** The way from a folder to \`core/\` of the checkout that it lies in. */
const coreFrom = (folder: string): string | undefined => {
  for (let at = folder; at !== path.dirname(at); at = path.dirname(at)) {
    if (!fs.existsSync(path.join(at, "core", "Machine.ts"))) continue
    const way = path.relative(folder, path.join(at, "core"))
    return way.startsWith(".") ? way : `./${way}`
  }
  return undefined
}
