/**
 * Small stores that survive `kill -9` and power loss: one SQLite file, one connection, one owner.
 *
 *     open ─▶ ours? ─▶ migrate (user_version) ─▶ statements, transactions ─▶ close
 *
 * 1. A commit is on disk when its effect succeeds (write-ahead log, `synchronous = FULL`).
 * 2. The file is locked for this process: a second one fails with `Locked` after 5 s instead of sharing it.
 * 3. Statements of other fibers wait while a transaction runs; a transaction inside another one is part of it.
 * 4. A file of somebody else, of a newer version, or damaged is refused and left as it is.
 */
import { Context, Effect, Schema, Semaphore } from "effect"
import type { Scope } from "effect"
import { mkdirSync } from "node:fs"
import { dirname } from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { SQLInputValue, StatementSync } from "node:sqlite"

/** What went wrong with a store. */
export class SqliteError extends Schema.TaggedError<SqliteError>()("SqliteError", {
  /** `NotOurs`: another program's file. `Newer`: written by a later version. `Row`: a row that its schema refuses. */
  reason: Schema.Literals(["NotOurs", "Newer", "Corrupt", "Locked", "Full", "Constraint", "Row", "Other"]),
  file: Schema.String,
  details: Schema.String
}) {
  override get message(): string {
    return `${this.file}: ${this.details}`
  }
}

/** Which file, and what it must look like. */
export interface Options {
  /** The folder is made when absent; `:memory:` for a store without a file. */
  readonly file: string
  /** Tells our files from others (`PRAGMA application_id`), one number per kind of store. */
  readonly applicationId: number
  /**
   * Scripts that lead from each version to the next; the number of scripts is the version. Append, never change.
   */
  readonly migrations: ReadonlyArray<string>
  /** Whether a file that nobody marked, with these tables, may be taken over, such as one of the original. Default: no. */
  readonly adopt?: (tables: ReadonlyArray<string>) => boolean
}

/** An open store. Statements are prepared once per text; parameters are those of `?`. */
export interface Store {
  /** All rows, decoded. */
  readonly all: <Row>(
    row: Schema.Codec<Row, unknown>,
    sql: string,
    ...parameters: ReadonlyArray<SQLInputValue>
  ) => Effect.Effect<ReadonlyArray<Row>, SqliteError>
  /** The first row, decoded. */
  readonly first: <Row>(
    row: Schema.Codec<Row, unknown>,
    sql: string,
    ...parameters: ReadonlyArray<SQLInputValue>
  ) => Effect.Effect<Row | undefined, SqliteError>
  /** Executes one statement; the result is the number of rows that it changed. */
  readonly run: (sql: string, ...parameters: ReadonlyArray<SQLInputValue>) => Effect.Effect<number, SqliteError>
  /** All or nothing: failure, defect and interruption undo everything. */
  readonly transaction: <A, E, R>(body: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqliteError, R>
}

/** The store of a program. */
export class Sqlite extends Context.Service<Sqlite, Store>()("sluice/storage/Sqlite") {}

/** Opens the store and closes it with the scope. */
export const open = (options: Options): Effect.Effect<Store, SqliteError, Scope.Scope> =>
  Effect.gen(function*() {
    const { file } = options
    const database = yield* Effect.acquireRelease(
      attempt(file, () => {
        if (file !== ":memory:") mkdirSync(dirname(file), { recursive: true })
        return new DatabaseSync(file, { timeout: 5000 })
      }),
      (database) => Effect.sync(() => database.close())
    )
    const foreign = yield* attempt(file, () => inspect(database, options))
    if (foreign !== undefined) return yield* new SqliteError({ ...foreign, file })
    yield* attempt(file, () => prepare(database, options))
    return storeOf(database, file, yield* Semaphore.make(1))
  })

const Version = Schema.Struct({ user_version: Schema.Int })
const Mark = Schema.Struct({ application_id: Schema.Int })
const Names = Schema.Array(Schema.Struct({ name: Schema.String }))

const versionOf = (database: DatabaseSync): number =>
  Schema.decodeUnknownSync(Version)(database.prepare("PRAGMA user_version").get()).user_version

/** Says why the file must not be touched, if so. */
const inspect = (database: DatabaseSync, { adopt, applicationId, migrations }: Options) => {
  const mark = Schema.decodeUnknownSync(Mark)(database.prepare("PRAGMA application_id").get()).application_id
  const tables = Schema.decodeUnknownSync(Names)(
    database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").all()
  ).map(({ name }) => name)
  const isAdoptable = mark === 0 && (tables.length === 0 || adopt?.(tables) === true)
  if (mark !== applicationId && !isAdoptable) {
    const details = `is a database of another program (tables: ${tables.join(", ")}); name another file or move it away`
    return { reason: "NotOurs" as const, details }
  }
  const version = versionOf(database)
  if (version <= migrations.length) return undefined
  const details = `has version ${version}, this program knows up to ${migrations.length}; run the newer program`
  return { reason: "Newer" as const, details }
}

const prepare = (database: DatabaseSync, { applicationId, migrations }: Options): void => {
  database.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
  database.exec("PRAGMA foreign_keys = ON; BEGIN IMMEDIATE")
  try {
    database.exec(`PRAGMA application_id = ${applicationId}`)
    for (const [index, script] of migrations.entries()) {
      if (index >= versionOf(database)) database.exec(`${script}; PRAGMA user_version = ${index + 1}`)
    }
    database.exec("COMMIT")
  } catch (cause) {
    database.exec("ROLLBACK")
    throw cause
  }
}

/** Set while a transaction runs, on its own fibers only. */
const Inside = Context.Reference<boolean>("sluice/storage/Sqlite/Inside", { defaultValue: () => false })

const storeOf = (database: DatabaseSync, file: string, turn: Semaphore.Semaphore): Store => {
  const prepared = new Map<string, StatementSync>()
  const statement = (sql: string): StatementSync => {
    const known = prepared.get(sql)
    if (known !== undefined) return known
    const made = database.prepare(sql)
    prepared.set(sql, made)
    return made
  }
  const inTurn = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Inside, (inside) => inside ? effect : turn.withPermits(1)(effect))
  const all: Store["all"] = (row, sql, ...parameters) => {
    const decode = Schema.decodeUnknownEffect(Schema.Array(row))
    return inTurn(attempt(file, () => statement(sql).all(...parameters))).pipe(
      Effect.flatMap((rows) => Effect.mapError(decode(rows), (error) => badRow(file, error.message)))
    )
  }
  const transaction: Store["transaction"] = (body) =>
    Effect.flatMap(Inside, (inside) => inside ? body : turn.withPermits(1)(atomically(database, file, body)))
  return {
    all,
    first: (row, sql, ...parameters) => Effect.map(all(row, sql, ...parameters), (rows) => rows[0]),
    run: (sql, ...parameters) => inTurn(attempt(file, () => Number(statement(sql).run(...parameters).changes))),
    transaction
  }
}

const atomically = <A, E, R>(
  database: DatabaseSync,
  file: string,
  body: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqliteError, R> => {
  const exec = (sql: string) => attempt(file, () => database.exec(sql))
  // A statement that failed may have ended the transaction already, so there may be nothing to undo.
  const undo = Effect.suspend(() => database.isTransaction ? Effect.ignore(exec("ROLLBACK")) : Effect.void)
  return Effect.uninterruptibleMask((restore) =>
    exec("BEGIN IMMEDIATE").pipe(
      Effect.andThen(restore(Effect.provideService(body, Inside, true))),
      Effect.tap(() => exec("COMMIT")),
      Effect.onError(() => undo)
    )
  )
}

const badRow = (file: string, details: string): SqliteError =>
  new SqliteError({ reason: "Row", file, details: `has a row that does not fit: ${details}` })

const attempt = <A>(file: string, action: () => A): Effect.Effect<A, SqliteError> =>
  Effect.try({ try: action, catch: (cause) => fromThrown(file, cause) })

const isSqlite = Schema.is(Schema.Struct({ errcode: Schema.Int }))

const fromThrown = (file: string, cause: unknown): SqliteError => {
  const details = cause instanceof Error ? cause.message : String(cause)
  // The primary result code is the low byte (https://sqlite.org/rescode.html).
  switch (isSqlite(cause) ? cause.errcode & 0xff : 0) {
    case 5:
    case 6:
      return new SqliteError({ reason: "Locked", file, details: "is in use by another process" })
    case 11:
      return new SqliteError({ reason: "Corrupt", file, details: `is damaged (${details}); restore or remove it` })
    case 13:
      return new SqliteError({ reason: "Full", file, details })
    case 19:
      return new SqliteError({ reason: "Constraint", file, details })
    case 26:
      return new SqliteError({
        reason: "NotOurs",
        file,
        details: "is not a database; name another file or move it away"
      })
    default:
      return new SqliteError({ reason: "Other", file, details })
  }
}
