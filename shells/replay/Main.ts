/** `sluice replay`: what a process saw and decided, run again on any machine, from the recordings of `SLUICE_RECORD`. */
import { Effect } from "effect"
import type * as Tape from "../runtime/Tape.ts"
import * as Tool from "../runtime/Tool.ts"
import * as Recording from "./Recording.ts"

export const command = Tool.tool({
  name: "replay",
  summary: "Runs a recording of a process again and says whether it decides the same.",
  usage: `Usage: sluice replay FILE... [--steps] [--state]

  FILE     a recording: a process with SLUICE_RECORD=FOLDER writes one for each of its machines
  --steps  prints every event with the commands it led to
  --state  prints the last state as JSON

Exit code: 0 the same decisions, 1 others, 2 wrong usage.`,
  options: { steps: { type: "boolean", default: false }, state: { type: "boolean", default: false } },
  main: ({ options, words }, { err, out }) =>
    Effect.gen(function*() {
      if (words.length === 0) {
        err("sluice replay: name at least one recording; see sluice replay --help")
        return 2
      }
      let code = 0
      for (const file of words) {
        const { lines, replay } = yield* Recording.open(file)
        if (options["steps"] === true) { for (const line of lines) out(describe(line)) }
        const report = replay()
        if (report._tag === "Same" && options["state"] === true) out(JSON.stringify(report.state, undefined, 2))
        out(`${file}: ${Recording.verdict(report)}`)
        if (report._tag !== "Same") code = 1
      }
      return code
    })
})

/** One line of a tape for people: time, event, commands. */
const describe = (line: Tape.Line): string => {
  const time = new Date(line.at).toISOString()
  if (!("event" in line)) return `${time} = state`
  return [`${time} > ${JSON.stringify(line.event)}`, ...line.commands.map((one) => `  < ${JSON.stringify(one)}`)].join(
    "\n"
  )
}
