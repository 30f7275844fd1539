/** Simulated machines on tape: the same recordings that real processes write with `SLUICE_RECORD`. */
import * as fs from "node:fs"
import * as path from "node:path"
import type { Journal } from "../../property-tests/simulation/index.ts"

/** A recording of one machine in one life of its process. */
export interface Recording {
  /** `target-0.1.tapa-12.ndjson`: process, life, machine, and a number that no other has. */
  readonly file: string
  readonly text: string
}

/** The recordings of all machines that a journal tells of, in the form of `shells/runtime/Tape.ts`. */
export const of = (journal: Journal.Journal): ReadonlyArray<Recording> => {
  const steps = new Map<number, Array<Journal.Step>>()
  for (const entry of journal.entries()) {
    if (entry._tag !== "Step") continue
    const known = steps.get(entry.actor)
    if (known === undefined) steps.set(entry.actor, [entry])
    else known.push(entry)
  }
  return journal.actors().flatMap(({ life, machine, process }, actor) => {
    const [first, ...rest] = steps.get(actor) ?? []
    if (first === undefined) return []
    const last = rest.at(-1) ?? first
    const lines = [
      { machine, at: first.now, state: first.encoded.state() },
      ...rest.map(({ encoded, now }) => ({ at: now, event: encoded.event(), commands: encoded.commands() })),
      { at: last.now, state: last.encoded.state() }
    ]
    return [{
      file: `${process}.${life}.${machine}-${actor}.ndjson`,
      text: lines.map((line) => `${JSON.stringify(line)}\n`).join("")
    }]
  })
}

/** Writes them into a folder, which is made if need be, and says how many they are. */
export const write = (folder: string, journal: Journal.Journal): number => {
  fs.mkdirSync(folder, { recursive: true })
  const recordings = of(journal)
  for (const { file, text } of recordings) fs.writeFileSync(path.join(folder, file), text)
  return recordings.length
}
