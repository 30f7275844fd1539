import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { mkdirSync, writeFileSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import type { Model } from "../../core/ipam/index.ts"
import { Cidr } from "../../core/net/index.ts"
import * as Sqlite from "../storage/Sqlite.ts"
import { folder } from "./Specimen.ts"
import * as Store from "./Store.ts"

/** As Meridio v1.2.8 makes it (gorm 1.25, read from a database that it wrote). */
const schema = `
  CREATE TABLE \`prefixes\` (\`id\` text,\`name\` text,\`cidr\` text,\`parent_id\` text,\`updated_at\` datetime,
    \`expirable\` numeric DEFAULT false,PRIMARY KEY (\`id\`),
    CONSTRAINT \`fk_prefixes_parent\` FOREIGN KEY (\`parent_id\`) REFERENCES \`prefixes\`(\`id\`));
  CREATE INDEX \`idx_prefixes_expirable\` ON \`prefixes\`(\`expirable\`);
  CREATE UNIQUE INDEX \`idx_parent_id_cidr\` ON \`prefixes\`(\`cidr\`,\`parent_id\`);`

const rows = `
  INSERT INTO prefixes VALUES
    ('trench-a-0', 'trench-a-0', '172.16.0.0/16', '', '2026-03-04 10:00:00.123456789+00:00', 0),
    ('trench-a-1', 'trench-a-1', 'fd00::/48', '', '2026-03-04 10:00:00.123456789+00:00', 0),
    ('conduit-a-trench-a-0', 'conduit-a', '172.16.0.0/20', 'trench-a-0', '2026-03-04 10:00:00+00:00', 0),
    ('conduit-a-trench-a-1', 'conduit-a', 'fd00::/56', 'trench-a-1', '2026-03-04 10:00:00+00:00', 0),
    ('node-1-conduit-a-trench-a-0', 'node-1', '172.16.0.0/24', 'conduit-a-trench-a-0', '2026-03-04 10:00:01+00:00', 1),
    ('bridge-node-1-conduit-a-trench-a-0', 'bridge', '172.16.0.1/32', 'node-1-conduit-a-trench-a-0', NULL, 0),
    ('trench-b-0', 'trench-b-0', '172.17.0.0/16', '', '2026-03-04 10:00:00+00:00', 0),
    ('conduit-b-trench-b-0', 'conduit-b', '172.17.0.0/20', 'trench-b-0', '2026-03-04 10:00:00+00:00', 0)`

const write = (file: string, sql: string) => {
  const database = new DatabaseSync(file, { enableForeignKeyConstraints: false })
  database.exec(sql)
  database.close()
}

const use = <A, E>(file: string, effect: Effect.Effect<A, E, Sqlite.Sqlite>) =>
  Effect.scoped(
    Effect.flatMap(Store.open({ file, trench: "trench-a" }), (store) =>
      Effect.provideService(effect, Sqlite.Sqlite, store))
  )

const entries = Effect.map(Store.load, ({ entries }) => entries)

const read = (entries: ReadonlyArray<Model.Entry>) =>
  entries.map(({ family, network, path }) => `${family} /${path.join("/")} ${network}`).toSorted()

const entry = (network: string, ...path: ReadonlyArray<string>): Model.Entry => ({
  family: "v4",
  path,
  network: Cidr.unsafe(network),
  touchedAt: 1_700_000_000_000
})
const saved = (entry: Model.Entry): Model.Change => ({ _tag: "SaveEntry", entry })

describe("The store of the IPAM", () => {
  it.live("keeps leases, and deletes them with what lies below", () =>
    Effect.gen(function*() {
      const file = `${yield* folder}/made/registry.db`
      const all = [
        entry("10.0.0.0/8"),
        entry("10.0.0.0/16", "a"),
        entry("10.0.0.0/24", "a", ""),
        entry("10.0.1.0/24", "a", "n"),
        entry("10.0.1.1/32", "a", "n", "x"),
        entry("10.0.1.2/32", "a", "n", ""),
        entry("10.1.0.0/16", "b")
      ]
      yield* use(file, Store.persist(all.map(saved)))
      assert.sameDeepMembers([...yield* use(file, entries)], all)
      yield* use(file, Store.persist([{ _tag: "DeleteEntry", family: "v4", path: ["a", "n", ""] }]))
      assert.deepStrictEqual(read(yield* use(file, entries)).length, 6)
      yield* use(file, Store.persist([{ _tag: "DeleteEntry", family: "v6", path: ["a"] }]))
      yield* use(file, Store.persist([{ _tag: "DeleteEntry", family: "v4", path: ["a", ""] }]))
      assert.deepStrictEqual(read(yield* use(file, entries)), [
        "v4 / 10.0.0.0/8",
        "v4 /a 10.0.0.0/16",
        "v4 /a/n 10.0.1.0/24",
        "v4 /a/n/x 10.0.1.1/32",
        "v4 /b 10.1.0.0/16"
      ])
      yield* use(file, Store.persist([{ _tag: "DeleteEntry", family: "v4", path: ["a"] }]))
      assert.deepStrictEqual(read(yield* use(file, entries)), ["v4 / 10.0.0.0/8", "v4 /b 10.1.0.0/16"])
    }))

  it.live("finds what it deletes by its key, without reading other leases", () =>
    Effect.gen(function*() {
      const file = `${yield* folder}/registry.db`
      yield* use(file, Effect.void)
      const database = new DatabaseSync(file)
      const plans = [1, 2, 3].map((level) =>
        String(database.prepare(`EXPLAIN QUERY PLAN ${Store.deletion(level)}`).get()?.["detail"])
      )
      database.close()
      assert.deepStrictEqual(plans, [
        "SEARCH lease USING PRIMARY KEY (family=? AND conduit=?)",
        "SEARCH lease USING PRIMARY KEY (family=? AND conduit=? AND node=?)",
        "SEARCH lease USING PRIMARY KEY (family=? AND conduit=? AND node=? AND child=? AND level>?)"
      ])
    }))

  it.live("takes the leases of its trench over from Meridio's database, once, and leaves its table", () =>
    Effect.gen(function*() {
      const file = `${yield* folder}/registry.db`
      write(file, schema + rows)
      const found = yield* use(file, entries)
      assert.deepStrictEqual(read(found), [
        "v4 / 172.16.0.0/16",
        "v4 /conduit-a 172.16.0.0/20",
        "v4 /conduit-a/node-1 172.16.0.0/24",
        "v4 /conduit-a/node-1/bridge 172.16.0.1/32",
        "v6 / fd00::/48",
        "v6 /conduit-a fd00::/56"
      ])
      const touched = (...path: ReadonlyArray<string>) =>
        found.find((entry) => entry.path.join() === path.join())?.touchedAt
      assert.strictEqual(touched("conduit-a", "node-1"), Date.UTC(2026, 2, 4, 10, 0, 1))
      assert.approximately(touched("conduit-a", "node-1", "bridge") ?? 0, Date.now(), 60_000, "unknown counts as now")

      yield* use(file, Store.persist([{ _tag: "DeleteEntry", family: "v4", path: ["conduit-a"] }]))
      assert.strictEqual((yield* use(file, entries)).length, 3)
      const database = new DatabaseSync(file)
      assert.deepStrictEqual(database.prepare("SELECT count(*) AS n FROM prefixes").get(), { __proto__: null, n: 8 })
      database.close()
    }))

  it.live("takes over the database of an older Meridio, which knew no times", () =>
    Effect.gen(function*() {
      const file = `${yield* folder}/registry.db`
      write(
        file,
        `CREATE TABLE prefixes (id text PRIMARY KEY, name text, cidr text, parent_id text);
        INSERT INTO prefixes VALUES ('trench-a-0', 'trench-a-0', '172.16.0.0/16', ''),
          ('c-trench-a-0', 'c', '172.16.0.0/20', 'trench-a-0')`
      )
      assert.deepStrictEqual(read(yield* use(file, entries)), ["v4 / 172.16.0.0/16", "v4 /c 172.16.0.0/20"])
    }))

  it.live("starts afresh beside a database that it does not know, and stays there", () =>
    Effect.gen(function*() {
      for (
        const foreign of ["CREATE TABLE prefixes (id text, network text)", `${schema} CREATE TABLE other (x text)`]
      ) {
        const file = `${yield* folder}/registry.db`
        write(file, foreign)
        yield* use(file, Store.persist([saved(entry("10.0.0.0/8"))]))
        assert.deepStrictEqual(read(yield* use(`${file}.sluice`, entries)), ["v4 / 10.0.0.0/8"])
        assert.deepStrictEqual(read(yield* use(file, entries)), ["v4 / 10.0.0.0/8"])
        const database = new DatabaseSync(file)
        assert.isUndefined(database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'lease'").get())
        database.close()
      }
    }))

  it.live("serves on when a row is damaged, names it, and lets its owner's next lease replace it", () =>
    Effect.gen(function*() {
      const file = `${yield* folder}/registry.db`
      yield* use(file, Store.persist([entry("10.0.0.0/8"), entry("10.0.0.0/16", "a")].map(saved)))
      write(
        file,
        `INSERT INTO lease VALUES ('v4', 'a', 'n', '', 2, '10.0.0.300/24', 0), ('v5', 'a', 'm', '', 2, '10.0.1.0/24', 0)`
      )
      const { entries: found, unusable } = yield* use(file, Store.load)
      assert.deepStrictEqual(read(found), ["v4 / 10.0.0.0/8", "v4 /a 10.0.0.0/16"])
      assert.match(unusable.join("\n"), /"node":"n".*10\.0\.0\.300\/24.* is no lease.*repair or delete the row/)
      assert.match(unusable.join("\n"), /"v5".*"node":"m".* is no lease/)
      yield* use(file, Store.persist([saved(entry("10.0.2.0/24", "a", "n"))]))
      const after = yield* use(file, Store.load)
      assert.deepStrictEqual([read(after.entries).length, after.unusable.length], [3, 1])
    }))

  it.live("refuses what is no database, or cannot be one", () =>
    Effect.gen(function*() {
      const path = yield* folder
      writeFileSync(`${path}/text`, "precious ".repeat(200))
      mkdirSync(`${path}/folder`)
      const reason = (file: string) =>
        Effect.map(Effect.flip(use(file, entries)), (error) => `${error.reason} ${error.message}`)
      assert.match(yield* reason(`${path}/text`), /^NotOurs .*text: is not a database/)
      assert.match(yield* reason(`${path}/folder`), /folder: unable to open database file/)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(use(`${path}/text/below`, entries))))
    }))
})
