/** The journal of a run as lines of JSON: what happened, with the values of every step. */
import type * as Journal from "./Journal.ts"

/** One JSON object in each line: `at` in milliseconds since the beginning, `process`, what happened, and its cause. */
export const ndjson = ({ actors, entries }: Journal.Journal): string =>
  entries().map((entry) => `${JSON.stringify(line(entry, actors()))}\n`).join("")

const line = (entry: Journal.Entry, actors: ReadonlyArray<Journal.Actor>): object => {
  const { _tag, at, cause, process } = entry
  const common = { at, process, kind: _tag, ...cause === undefined ? {} : { cause } }
  switch (entry._tag) {
    case "Step": {
      const { commands, event } = entry.encoded
      return {
        ...common,
        machine: actors[entry.actor]?.machine,
        event: event() ?? { _tag: "init" },
        commands: commands()
      }
    }
    case "Message":
      return { ...common, to: entry.to, message: `${entry.kind} ${entry.subject.name}`, arrivedAt: entry.arrivedAt }
    default:
      return { ...common, text: entry.text }
  }
}
