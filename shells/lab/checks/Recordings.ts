/** What the programs of the lab recorded replays to the same decisions and states. */
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Recording from "../../replay/Recording.ts"
import * as Check from "./Check.ts"

const recordingsReplay: Check.Check = {
  name: "recordings-replay",
  leftOut: () => undefined,
  run: (lab) =>
    Effect.gen(function*() {
      const folder = path.join(lab.folder, "recordings")
      const files = fs.readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) =>
        file.endsWith(".ndjson")
      )
      let events = 0
      for (const file of files) {
        const { replay } = yield* Effect.mapError(
          Recording.open(path.join(folder, file)),
          ({ message }) => new Check.CheckFailed({ detail: message })
        )
        const report = replay()
        if (report._tag !== "Same") return yield* Check.fail(`${file}: ${Recording.verdict(report)}`)
        events += report.events
      }
      return files.length === 0
        ? yield* Check.fail("no program has recorded anything")
        : `${files.length} recordings with ${events} events`
    })
}

export const checks: ReadonlyArray<Check.Check> = [recordingsReplay]
