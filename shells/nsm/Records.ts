/**
 * The connections of the manager in a file, so that a restarted manager adopts what stands: a JSON array of records,
 * replaced as a whole, so that a crash leaves the old or the new one.
 */
import { Context, Effect, Layer, Schema } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as CircuitState from "../../core/nsm/CircuitState.ts"
import * as Model from "../../core/nsm/Model.ts"

export class Records extends Context.Service<Records, {
  /** What was there at the start. */
  readonly initial: ReadonlyArray<CircuitState.Record>
  /** Keeps a record in place of the one of the same client. Complete when it returns. */
  readonly save: (record: CircuitState.Record) => Effect.Effect<void>
  readonly forget: (clientId: string) => Effect.Effect<void>
}>()("sluice/shells/nsm/Records") {
  /** Records in the file; an empty path keeps them in memory. */
  static layer(file: string): Layer.Layer<Records> {
    return Layer.effect(Records, make(file))
  }
}

const Stored = Schema.fromJsonString(Schema.toCodecJson(Schema.Array(CircuitState.Record)))
const decode = Schema.decodeEffect(Stored)
const encode = Schema.encodeSync(Stored)

const make = (file: string) =>
  Effect.gen(function*() {
    const initial = yield* read(file)
    const records = new Map(initial.map((record) => [Model.clientId(record.connection), record]))
    const write = Effect.suspend(() => {
      if (file === "") return Effect.void
      return Effect.try({
        try: () => {
          fs.mkdirSync(path.dirname(file), { recursive: true })
          fs.writeFileSync(`${file}.new`, encode([...records.values()]), { mode: 0o600 })
          fs.renameSync(`${file}.new`, file)
        },
        catch: (thrown) => thrown instanceof Error ? thrown.message : String(thrown)
      }).pipe(
        Effect.catch((problem) => Effect.logError(`Connections are not saved in NSM_STATE_PATH=${file}: ${problem}`))
      )
    })
    return Records.of({
      initial,
      save: (record) =>
        Effect.andThen(Effect.sync(() => records.set(Model.clientId(record.connection), record)), write),
      forget: (clientId) => Effect.suspend(() => records.delete(clientId) ? write : Effect.void)
    })
  })

/** An unreadable file counts as none: what it spoke of is swept, and clients heal. */
const read = (file: string): Effect.Effect<ReadonlyArray<CircuitState.Record>> =>
  file === "" || !fs.existsSync(file)
    ? Effect.succeed([])
    : Effect.suspend(() => decode(fs.readFileSync(file, "utf8"))).pipe(
      Effect.catch((error) =>
        Effect.as(Effect.logError(`NSM_STATE_PATH=${file} is not readable and is ignored: ${error.message}`), [])
      )
    )
