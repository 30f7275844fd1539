/**
 * The connections of the manager in a file, so that a restarted manager adopts what stands.
 *
 * The first line is a JSON array of records; each further line is one change, `{"save": record}` or `{"forget": client
 * id}`, so that a change costs the same however many records there are. When the changes outgrow the records, the file
 * is replaced as a whole. A crash leaves what was there and perhaps the beginning of one line, which does not count.
 */
import { Context, Effect, Layer, Result, Schema } from "effect"
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

const Change = Schema.Union([
  Schema.Struct({ save: CircuitState.Record }),
  Schema.Struct({ forget: Schema.String })
])
type Change = typeof Change.Type
const All = Schema.fromJsonString(Schema.toCodecJson(Schema.Array(CircuitState.Record)))
const One = Schema.fromJsonString(Schema.toCodecJson(Change))
const [decodeAll, decodeOne] = [Schema.decodeUnknownResult(All), Schema.decodeUnknownResult(One)]

/** What the schema writes, for a tenth of the time: everything is plain, and tokens are never kept. */
export const encode = (record: CircuitState.Record): string =>
  JSON.stringify({ ...record, connection: tokenless(record.connection), answer: tokenless(record.answer) })

const tokenless = (connection: Model.Connection): Model.Connection => ({
  ...connection,
  path: { ...connection.path, segments: connection.path.segments.map((segment) => ({ ...segment, token: "" })) }
})

/** So many changes are appended at least, before the file is replaced. */
const fewest = 100

type Held = Map<string, CircuitState.Record>

const make = (file: string) =>
  Effect.gen(function*() {
    const records = yield* read(file)
    const initial = [...records.values()]
    let appended = Number.POSITIVE_INFINITY
    const write = (change: Change) => {
      if (appended < Math.max(fewest, records.size)) {
        fs.appendFileSync(file, "save" in change ? `{"save":${encode(change.save)}}\n` : `${JSON.stringify(change)}\n`)
        appended++
        return
      }
      fs.mkdirSync(path.dirname(file), { recursive: true })
      fs.writeFileSync(`${file}.new`, `[${[...records.values()].map(encode).join()}]\n`, { mode: 0o600 })
      fs.renameSync(`${file}.new`, file)
      appended = 0
    }
    const keep = (change: Change) =>
      file === "" ? Effect.void : Effect.try({
        try: () => write(change),
        catch: (thrown) => thrown instanceof Error ? thrown.message : String(thrown)
      }).pipe(
        Effect.catch((problem) => {
          // What is in the file now is uncertain, so that the next change replaces it.
          appended = Number.POSITIVE_INFINITY
          return Effect.logError(`Connections are not saved in NSM_STATE_PATH=${file}: ${problem}`)
        })
      )
    return Records.of({
      initial,
      save: (record) =>
        Effect.suspend(() => {
          records.set(Model.clientId(record.connection), record)
          return keep({ save: record })
        }),
      forget: (clientId) => Effect.suspend(() => records.delete(clientId) ? keep({ forget: clientId }) : Effect.void)
    })
  })

/** An unreadable file counts as none: what it spoke of is swept, and clients heal. */
const read = (file: string): Effect.Effect<Held> =>
  Effect.suspend(() => {
    const held = file === "" || !fs.existsSync(file)
      ? Result.succeed<Held>(new Map())
      : parse(fs.readFileSync(file, "utf8"))
    return Result.isSuccess(held) ? Effect.succeed(held.success) : Effect.as(
      Effect.logError(`NSM_STATE_PATH=${file} is not readable and is ignored: ${held.failure}`),
      new Map()
    )
  })

const parse = (text: string): Result.Result<Held, string> => {
  const [first = "", ...rest] = text.split("\n")
  const all = decodeAll(first)
  if (Result.isFailure(all)) return Result.fail(all.failure.message)
  const held: Held = new Map(all.success.map((record) => [Model.clientId(record.connection), record]))
  // What follows the last line break is a line that was not finished.
  for (const line of rest.slice(0, -1)) {
    const change = decodeOne(line)
    if (Result.isFailure(change)) return Result.fail(change.failure.message)
    if ("save" in change.success) held.set(Model.clientId(change.success.save.connection), change.success.save)
    else held.delete(change.success.forget)
  }
  return Result.succeed(held)
}
