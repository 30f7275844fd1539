/** The leases on disk: one row per lease, one transaction per batch of changes. */
import { Effect, Schema } from "effect"
import { Model } from "../../core/ipam/index.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import * as Sqlite from "../storage/Sqlite.ts"

/**
 * The store in a file. A file of Meridio's IPAM (table `prefixes`) is taken over with its leases, so that an update
 * keeps every address; there, rows point to their parents, and the family is that of the address.
 */
export const options = (file: string): Sqlite.Options => ({
  file,
  applicationId: 0x736c7502,
  adopt: (tables) => tables.every((table) => table === "prefixes"),
  migrations: [`
    CREATE TABLE lease (
      family TEXT NOT NULL,
      level INTEGER NOT NULL,
      conduit TEXT NOT NULL,
      node TEXT NOT NULL,
      child TEXT NOT NULL,
      network TEXT NOT NULL,
      touched_at REAL NOT NULL,
      PRIMARY KEY (family, level, conduit, node, child)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS prefixes (
      id TEXT PRIMARY KEY, name TEXT, cidr TEXT, parent_id TEXT, updated_at DATETIME, expirable NUMERIC
    );
    INSERT OR IGNORE INTO lease
    WITH RECURSIVE known (id, level, conduit, node, child, cidr, updated_at) AS (
      SELECT id, 0, '', '', '', cidr, updated_at FROM prefixes WHERE parent_id = ''
      UNION ALL
      SELECT p.id, k.level + 1,
        CASE k.level WHEN 0 THEN p.name ELSE k.conduit END,
        CASE k.level WHEN 1 THEN p.name ELSE k.node END,
        CASE k.level WHEN 2 THEN p.name ELSE k.child END,
        p.cidr, p.updated_at
      FROM prefixes p JOIN known k ON p.parent_id = k.id WHERE k.level < 3
    )
    SELECT CASE instr(cidr, ':') WHEN 0 THEN 'v4' ELSE 'v6' END, level, conduit, node, child, cidr,
      1000 * COALESCE(NULLIF(MAX(unixepoch(updated_at), 0), 0), unixepoch('now'))
    FROM known;
    DROP TABLE prefixes`]
})

const Row = Schema.Struct({
  family: Ip.Family,
  level: Schema.Literals([0, 1, 2, 3]),
  conduit: Schema.String,
  node: Schema.String,
  child: Schema.String,
  network: Cidr.Cidr,
  touched_at: Schema.Finite
})

/** Every stored lease. */
export const load: Effect.Effect<ReadonlyArray<Model.Entry>, Sqlite.SqliteError, Sqlite.Sqlite> = Effect.flatMap(
  Sqlite.Sqlite,
  (store) =>
    Effect.map(
      store.all(Row, "SELECT * FROM lease"),
      (rows) =>
        rows.map(({ child, conduit, family, level, network, node, touched_at }) => ({
          family,
          path: [conduit, node, child].slice(0, level),
          network,
          touchedAt: touched_at
        }))
    )
)

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
      return store.run(sql, family, path.length, conduit, node, child, network, touchedAt)
    }
    case "DeleteEntry": {
      const names = ["conduit", "node", "child"].slice(0, change.path.length).map((name) => ` AND ${name} = ?`).join("")
      const sql = `DELETE FROM lease WHERE family = ? AND level >= ?${names}`
      return store.run(sql, change.family, change.path.length, ...change.path)
    }
  }
}
