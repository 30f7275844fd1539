/**
 * Takes over the targets in the file of the original NSP, so that an upgrade does not show its watchers an empty list.
 * The tables of the original are gone afterwards. Source: Meridio `pkg/nsp/registry/sqlite`.
 */
import { Effect, Result, Schema } from "effect"
import { Target } from "../../core/config/index.ts"
import type * as Sqlite from "../storage/Sqlite.ts"

/** Its tables, in the order in which they can be dropped. */
export const tables: ReadonlyArray<string> = ["targets", "streams", "conduits", "trenches"]

const Count = Schema.Struct({ n: Schema.Int })

const Context = Schema.Record(Schema.String, Schema.String)

/** `ips` joined by `;`; `context` a JSON object; `status` and `type` as on the wire. */
const Row = Schema.Struct({
  ips: Schema.String,
  context: Schema.fromJsonString(Schema.NullOr(Context)),
  status: Schema.Int,
  type: Schema.Int,
  stream: Schema.NullOr(Schema.String),
  conduit: Schema.NullOr(Schema.String),
  trench: Schema.NullOr(Schema.String)
})

const query = `SELECT t.ips, t.context, t.status, t.type, s.name AS stream, c.name AS conduit, c.trench_name AS trench
FROM targets t LEFT JOIN streams s ON s.name = t.stream_name LEFT JOIN conduits c ON c.name = s.conduit_name`

const decodeRow = Schema.decodeUnknownResult(Row)
const decodeTarget = Schema.decodeUnknownResult(Target.Target)

/** Saves the targets of the original, if there are any, and drops its tables: all or nothing. */
export const takeOver = (
  sqlite: Sqlite.Store,
  save: (target: Target.Target) => Effect.Effect<unknown, Sqlite.SqliteError>
): Effect.Effect<void, Sqlite.SqliteError> =>
  Effect.gen(function*() {
    const found = yield* sqlite.first(
      Count,
      "SELECT count(*) AS n FROM sqlite_schema WHERE type = 'table' AND name = 'targets'"
    )
    if (found?.n !== 1) return
    yield* sqlite.transaction(Effect.gen(function*() {
      const rows = yield* sqlite.all(Schema.Unknown, query)
      for (const row of rows) {
        const target = targetOf(row)
        if (Result.isSuccess(target)) yield* save(target.success)
        else yield* Effect.logError("A target of the original NSP cannot be read; it has to register anew", { row })
      }
      for (const table of tables) yield* sqlite.run(`DROP TABLE IF EXISTS ${table}`)
      yield* Effect.logInfo("The targets of the original NSP have been taken over", { rows: rows.length })
    }))
  })

const targetOf = (row: unknown): Result.Result<Target.Target, unknown> =>
  Result.flatMap(decodeRow(row), ({ conduit, context, ips, status, stream, trench, type }) =>
    decodeTarget({
      kind: ["default", "frontend"][type],
      ...((stream ?? "") === "" ? {} : { stream: { trench, conduit, stream } }),
      ips: ips === "" ? [] : ips.split(";"),
      context: context ?? {},
      status: ["enabled", "disabled"][status]
    }))
