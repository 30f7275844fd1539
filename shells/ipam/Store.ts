/**
 * The leases on disk: one row per lease, one transaction per batch of changes.
 *
 * What lies at the path decides what is opened:
 *
 *     nothing, or our own ──▶ opened
 *     Meridio's IPAM ───────▶ its leases are copied, so that an update keeps every address; its table stays as it was
 *     any other database ───▶ left alone; the leases are kept in `<path>.sluice`
 *     no database, or none that can be written ──▶ SqliteError
 */
import { Effect, Layer, Result, Schema } from "effect"
import type { Scope } from "effect"
import { existsSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { Model } from "../../core/ipam/index.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import * as Sqlite from "../storage/Sqlite.ts"

export interface Place {
  readonly file: string
  /** Whose leases are taken over from a file of Meridio's. */
  readonly trench: string
}

export const layer = (place: Place): Layer.Layer<Sqlite.Sqlite, Sqlite.SqliteError> =>
  Layer.effect(Sqlite.Sqlite, open(place))

/** Opens the store and tells the log where the leases come from, if that is not as expected. */
export const open = ({ file, trench }: Place): Effect.Effect<Sqlite.Store, Sqlite.SqliteError, Scope.Scope> =>
  Effect.gen(function*() {
    const found = yield* look(file)
    switch (found._tag) {
      case "Ours":
        return yield* Sqlite.open({ file, applicationId, migrations: [create] })
      case "Meridio": {
        const migrations = [`${create}; ${copyFrom(found.columns, trench)}`]
        const store = yield* Sqlite.open({ file, applicationId, migrations, adopt: () => true })
        yield* Effect.logInfo("The leases of Meridio's IPAM were taken over; its own table stays as it was", { file })
        return store
      }
      case "Foreign": {
        const fresh = `${file}.sluice`
        yield* Effect.logWarning(`${file} is a database of another program; the leases are kept in ${fresh}`, {
          tables: found.tables
        })
        return yield* Sqlite.open({ file: fresh, applicationId, migrations: [create] })
      }
    }
  })

const applicationId = 0x736c7502

// The key begins with the path, so that releasing one lease does not read the others.
const create = `
  CREATE TABLE lease (
    family TEXT NOT NULL,
    conduit TEXT NOT NULL,
    node TEXT NOT NULL,
    child TEXT NOT NULL,
    level INTEGER NOT NULL,
    network TEXT NOT NULL,
    touched_at REAL NOT NULL,
    PRIMARY KEY (family, conduit, node, child, level)
  ) WITHOUT ROWID`

// There, a row points to its parent, the trench of a family is `<trench>-<family number>`, and a time may be missing.
const copyFrom = (columns: ReadonlyArray<string>, trench: string): string => {
  const roots = [0, 1].map((family) => `'${trench.replaceAll("'", "''")}-${family}'`).join(", ")
  const renewed = columns.includes("updated_at") ? "p.updated_at" : "NULL"
  return `
  INSERT OR IGNORE INTO lease
  WITH RECURSIVE known (id, level, conduit, node, child, cidr, updated_at) AS (
    SELECT p.id, 0, '', '', '', p.cidr, ${renewed} FROM prefixes p WHERE p.parent_id = '' AND p.id IN (${roots})
    UNION ALL
    SELECT p.id, k.level + 1,
      CASE k.level WHEN 0 THEN p.name ELSE k.conduit END,
      CASE k.level WHEN 1 THEN p.name ELSE k.node END,
      CASE k.level WHEN 2 THEN p.name ELSE k.child END,
      p.cidr, ${renewed}
    FROM prefixes p JOIN known k ON p.parent_id = k.id WHERE k.level < 3
  )
  SELECT CASE instr(cidr, ':') WHEN 0 THEN 'v4' ELSE 'v6' END, conduit, node, child, level, cidr,
    1000 * COALESCE(NULLIF(MAX(unixepoch(updated_at), 0), 0), unixepoch('now'))
  FROM known`
}

type Found =
  | { readonly _tag: "Ours" }
  | { readonly _tag: "Meridio"; readonly columns: ReadonlyArray<string> }
  | { readonly _tag: "Foreign"; readonly tables: ReadonlyArray<string> }

const Mark = Schema.Struct({ application_id: Schema.Int })
const Columns = Schema.Array(Schema.Struct({ table: Schema.String, column: Schema.String }))

// What cannot be looked at is opened as ours, which then fails with the reason.
const look = (file: string): Effect.Effect<Found> =>
  Effect.orElseSucceed(Effect.try({ try: () => existsSync(file) ? inspect(file) : ours, catch: String }), () => ours)

const ours: Found = { _tag: "Ours" }

const inspect = (file: string): Found => {
  const database = new DatabaseSync(file, { timeout: 1000 })
  try {
    const mark = Schema.decodeUnknownSync(Mark)(database.prepare("PRAGMA application_id").get())
    const rows = Schema.decodeUnknownSync(Columns)(
      database.prepare(`SELECT m.name AS "table", c.name AS "column" FROM sqlite_schema m, pragma_table_info(m.name) c
        WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'`).all()
    )
    const tables = [...new Set(rows.map(({ table }) => table))]
    if (mark.application_id === applicationId || tables.length === 0) return ours
    const columns = rows.map(({ column }) => column)
    const isMeridio = tables.join() === "prefixes"
      && ["id", "name", "cidr", "parent_id"].every((column) => columns.includes(column))
    return isMeridio ? { _tag: "Meridio", columns } : { _tag: "Foreign", tables }
  } finally {
    database.close()
  }
}

const Row = Schema.Struct({
  family: Ip.Family,
  level: Schema.Literals([0, 1, 2, 3]),
  conduit: Schema.String,
  node: Schema.String,
  child: Schema.String,
  network: Cidr.Cidr,
  touched_at: Schema.Finite
})

const Raw = Schema.Record(Schema.String, Schema.Unknown)

/** What is stored: the leases, and a sentence for each row that is none. */
export interface Loaded {
  readonly entries: ReadonlyArray<Model.Entry>
  readonly unusable: ReadonlyArray<string>
}

/**
 * Every stored lease. A row that is none must not keep the others from being served: it stays where it is until its
 * owner asks again, who then gets another address and whose new lease replaces it.
 */
export const load: Effect.Effect<Loaded, Sqlite.SqliteError, Sqlite.Sqlite> = Effect.gen(function*() {
  const store = yield* Sqlite.Sqlite
  const entries: Array<Model.Entry> = []
  const unusable: Array<string> = []
  for (const raw of yield* store.all(Raw, "SELECT * FROM lease")) {
    const row = decodeRow(raw)
    if (Result.isFailure(row)) {
      unusable.push(
        `${JSON.stringify(raw)} in table lease is no lease: ${String(row.failure).replaceAll(/\s+/g, " ")}; its owner `
          + "gets another address, repair or delete the row to be rid of this line"
      )
      continue
    }
    const { child, conduit, family, level, network, node, touched_at } = row.success
    entries.push({ family, path: [conduit, node, child].slice(0, level), network, touchedAt: touched_at })
  }
  return { entries, unusable }
})

const decodeRow = Schema.decodeUnknownResult(Row)

/** Stores the changes, all or none. */
export const persist = (
  changes: ReadonlyArray<Model.Change>
): Effect.Effect<void, Sqlite.SqliteError, Sqlite.Sqlite> =>
  Effect.flatMap(
    Sqlite.Sqlite,
    (store) => store.transaction(Effect.forEach(changes, (change) => write(store, change), { discard: true }))
  )

const write = (store: Sqlite.Store, change: Model.Change): Effect.Effect<number, Sqlite.SqliteError> => {
  switch (change._tag) {
    case "SaveEntry": {
      const { family, network, path: [conduit = "", node = "", child = ""], path, touchedAt } = change.entry
      const sql = "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?, ?, ?, ?)"
      return store.run(sql, family, conduit, node, child, path.length, network, touchedAt)
    }
    case "DeleteEntry":
      return store.run(deletion(change.path.length), change.family, ...change.path, change.path.length)
  }
}

/** The statement that deletes an entry of a level and what lies below it. */
export const deletion = (level: number): string =>
  `DELETE FROM lease WHERE family = ?${
    ["conduit", "node", "child"].slice(0, level).map((name) => ` AND ${name} = ?`).join("")
  } AND level >= ?`
