/** `sluice replay`: what a process saw and decided, walked through on any machine, from the recordings of `SLUICE_RECORD`. */
import { Effect, Result } from "effect"
import * as fs from "node:fs"
import * as tty from "node:tty"
import type * as Process from "../runtime/Process.ts"
import * as Tool from "../runtime/Tool.ts"
import type { Player } from "./Player.ts"
import * as Recording from "./Recording.ts"
import * as Report from "./Report.ts"
import * as Terminal from "./Terminal.ts"
import * as TestFile from "./TestFile.ts"

export const command = Tool.tool({
  name: "replay",
  summary: "Walks through a recording of a process, says whether it still decides the same, makes tests of it.",
  usage: `Usage: sluice replay FILE                                  in a terminal: walk through it; ? lists the keys
       sluice replay FILE --to N [--state] [--json]        event N: commands and changes of the state
       sluice replay FILE --from A --to B [--json]         the state after event A, then the events up to B
       sluice replay FILE --from A --to B --test TEST.ts   a test of that window for vitest
       sluice replay FILE... [--check]                     whether each decides the same as recorded

  FILE     a recording: a process with SLUICE_RECORD=FOLDER writes one for each of its machines, and
           sluice simulate --record FOLDER does so for simulated ones
  --from   a number of events; 0 is the first state
  --to     a number of events; without --from only that event is shown
  --state  with the whole state at the end
  --json   one object in each line
  --test   writes a test that starts from the state after event A, feeds the events up to B, and expects the
           commands and the last state of today's code (without --from: 0, without --to: the last event)
  --check  only the verdict, in a terminal too

Exit code: 0 the same decisions, 1 others, 2 wrong usage.`,
  options: {
    from: { type: "string" },
    to: { type: "string" },
    test: { type: "string" },
    json: { type: "boolean", default: false },
    state: { type: "boolean", default: false },
    check: { type: "boolean", default: false }
  },
  main: ({ options, words }, world) =>
    Effect.gen(function*() {
      const [file] = words
      const isWindow = options["from"] !== undefined || options["to"] !== undefined || options["test"] !== undefined
      if (file === undefined) return refuse(world, "name at least one recording")
      if (words.length > 1 && isWindow) return refuse(world, "--from, --to and --test want one recording")
      const [input, output] = [process.stdin, process.stdout]
      if (isWindow || options["json"] === true || options["state"] === true) return yield* show(file, options, world)
      if (
        words.length === 1 && options["check"] !== true
        && input instanceof tty.ReadStream && output instanceof tty.WriteStream
      ) {
        const recording = yield* Recording.open(file)
        const player = yield* recording.player
        yield* Terminal.walk({
          player,
          file,
          input,
          output,
          write: (action) => Result.merge(writeTest(action.file, file, player, action, recording.source))
        })
        return 0
      }
      let code = 0
      for (const file of words) {
        const report = (yield* Recording.open(file)).replay()
        world.out(`${file}: ${Recording.verdict(report)}`)
        if (report._tag !== "Same") code = 1
      }
      return code
    })
})

const refuse = (world: Process.World, reason: string): number => {
  world.err(`sluice replay: ${reason}; see sluice replay --help`)
  return 2
}

/** A window for scripts: as text, as JSON, or as a test. */
const show = (
  file: string,
  { from, json, state, test, to }: Tool.Arguments["options"],
  world: Process.World
): Effect.Effect<number, Recording.ReplayError> =>
  Effect.gen(function*() {
    const recording = yield* Recording.open(file)
    const player = yield* recording.player
    const last = player.moments.length - 1
    const isTest = typeof test === "string"
    const isOne = from === undefined && to !== undefined && !isTest
    const end = number(to, last)
    const begin = isOne ? Math.max(0, (end ?? 0) - 1) : number(from, 0)
    if (begin === undefined || end === undefined || begin > last || end > last) {
      return refuse(world, `--from and --to are numbers of events from 0 to ${last}`)
    }
    if (begin > end || (isTest && begin === end)) {
      return refuse(world, `--from ${begin} is not before --to ${end}`)
    }
    if (isTest) {
      const written = writeTest(test, file, player, { from: begin, to: end }, recording.source)
      if (Result.isFailure(written)) {
        world.err(`sluice replay: ${written.failure}`)
        return 1
      }
      world.out(written.success)
      return 0
    }
    const moments = player.moments.slice(isOne ? end : begin, end + 1)
    for (const moment of moments) {
      const isFull = (state === true && moment.number === end) || (!isOne && moment.number === begin && begin < end)
      if (json === true) world.out(Report.json(moment, isFull))
      else {
        for (const { text } of Report.lines(player, moment, { width: 120, isFull })) world.out(text)
        world.out("")
      }
    }
    return moments.some(({ recorded }) => recorded !== undefined) ? 1 : 0
  })

const writeTest = (
  test: string,
  file: string,
  player: Player,
  window: TestFile.Window,
  source: TestFile.Source
): Result.Result<string, string> =>
  Result.try({
    try: () => {
      fs.writeFileSync(test, TestFile.text(test, file, player, window, source))
      const others = player.moments.slice(window.from + 1, window.to + 1).filter(({ recorded }) =>
        recorded !== undefined
      )
      const [first, last] = [window.from + 1, window.to]
      const events = first === last ? `event ${last}` : `the events ${first} to ${last}`
      const said = `${test}: ${events} of ${player.machine} as a test`
      return others.length === 0
        ? said
        : `${said}; it expects what is decided today, which is not what was recorded on event ${
          others.map((moment) => moment.number).join(", ")
        }`
    },
    catch: (cause) => `${test} was not written: ${cause instanceof Error ? cause.message : String(cause)}`
  })

const number = (text: unknown, absent: number): number | undefined =>
  text === undefined ? absent : typeof text === "string" && /^\d{1,9}$/.test(text) ? Number(text) : undefined
