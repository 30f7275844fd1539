import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Schema } from "effect"
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Sqlite from "./Sqlite.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-sqlite-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)
const create = "CREATE TABLE prefix (name TEXT PRIMARY KEY, length INTEGER NOT NULL)"
const options = (file: string, more: Partial<Sqlite.Options> = {}): Sqlite.Options => ({
  file,
  applicationId: 0x736c7501,
  migrations: [create],
  ...more
})
const Prefix = Schema.Struct({ name: Schema.String, length: Schema.Int })
const insert = "INSERT INTO prefix VALUES (?, ?)"
const list = "SELECT name, length FROM prefix ORDER BY name"

describe("Sqlite", () => {
  it.live("keeps rows over a restart and decodes them", () =>
    Effect.gen(function*() {
      const file = `${yield* folder}/made/store.db`
      yield* Effect.scoped(Effect.gen(function*() {
        const store = yield* Sqlite.open(options(file))
        assert.strictEqual(yield* store.run(insert, "a", 24), 1)
      }))
      const store = yield* Sqlite.open(options(file))
      assert.deepStrictEqual(yield* store.all(Prefix, list), [{ name: "a", length: 24 }])
      assert.isUndefined(yield* store.first(Prefix, "SELECT * FROM prefix WHERE name = ?", "b"))
    }))

  it.live("survives kill -9: what was committed is there, what was not is not", () =>
    Effect.gen(function*() {
      const file = `${yield* folder}/store.db`
      const source = `
        import { Effect } from "effect"
        import * as Sqlite from "./shells/storage/Sqlite.ts"
        const options = ${JSON.stringify(options(file))}
        Effect.runFork(Effect.scoped(Effect.gen(function*() {
          const store = yield* Sqlite.open(options)
          yield* store.run("${insert}", "committed", 1)
          yield* store.transaction(Effect.gen(function*() {
            yield* store.run("${insert}", "pending", 2)
            process.stdout.write("now")
            yield* Effect.never
          }))
        })))
        setInterval(() => undefined, 1000)`
      yield* Effect.callback<void>((resume) => {
        const child = spawn(process.execPath, ["--input-type=module", "-e", source])
        child.stdout.on("data", () => child.kill("SIGKILL"))
        child.on("close", () => resume(Effect.void))
        return Effect.sync(() => child.kill("SIGKILL"))
      })
      const store = yield* Sqlite.open(options(file))
      assert.deepStrictEqual(yield* store.all(Prefix, list), [{ name: "committed", length: 1 }])
    }))

  it.live("undoes a transaction that fails or is interrupted, and lets others wait for it", () =>
    Effect.gen(function*() {
      const store = yield* Sqlite.open(options(":memory:"))
      const failing = store.transaction(Effect.andThen(store.run(insert, "a", 1), Effect.fail("no")))
      assert.strictEqual(yield* Effect.flip(failing), "no")
      const inside = yield* Deferred.make<void>()
      const hanging = yield* Effect.forkChild(
        store.transaction(
          store.run(insert, "b", 1).pipe(
            Effect.andThen(Deferred.succeed(inside, undefined)),
            Effect.andThen(Effect.never)
          )
        )
      )
      yield* Deferred.await(inside)
      const reading = yield* Effect.forkChild(store.all(Prefix, list))
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      yield* Fiber.interrupt(hanging)
      assert.deepStrictEqual(yield* Fiber.join(reading), [])
      yield* store.transaction(store.transaction(store.run(insert, "c", 1)))
      assert.strictEqual((yield* store.all(Prefix, list)).length, 1)
    }))

  it.live("names a constraint and a row that does not fit", () =>
    Effect.gen(function*() {
      const store = yield* Sqlite.open(options(":memory:"))
      yield* store.run(insert, "a", 1)
      assert.strictEqual((yield* Effect.flip(store.run(insert, "a", 2))).reason, "Constraint")
      const Wrong = Schema.Struct({ name: Schema.Int })
      assert.strictEqual((yield* Effect.flip(store.all(Wrong, list))).reason, "Row")
    }))

  it.live("migrates in order, once, and refuses a newer file", () =>
    Effect.gen(function*() {
      const file = `${yield* folder}/store.db`
      const newer = options(file, {
        migrations: [create, "ALTER TABLE prefix ADD COLUMN node TEXT; DROP TABLE IF EXISTS x"]
      })
      yield* Effect.scoped(Effect.andThen(Sqlite.open(options(file)), (store) => store.run(insert, "a", 1)))
      const Row = Schema.Struct({ name: Schema.String, node: Schema.NullOr(Schema.String) })
      for (const _ of [1, 2]) {
        yield* Effect.scoped(Effect.gen(function*() {
          const store = yield* Sqlite.open(newer)
          assert.deepStrictEqual(yield* store.all(Row, "SELECT name, node FROM prefix"), [{ name: "a", node: null }])
        }))
      }
      const error = yield* Effect.flip(Sqlite.open(options(file)))
      assert.deepStrictEqual([error.reason, error.details], [
        "Newer",
        "has version 2, this program knows up to 1; run the newer program"
      ])
    }))

  it.live("leaves a file alone that is not ours, unless it may be adopted", () =>
    Effect.gen(function*() {
      const path = yield* folder
      writeFileSync(`${path}/text`, "precious ".repeat(200))
      assert.strictEqual((yield* Effect.flip(Sqlite.open(options(`${path}/text`)))).reason, "NotOurs")
      assert.strictEqual(readFileSync(`${path}/text`, "utf8"), "precious ".repeat(200))
      const other = new DatabaseSync(`${path}/other.db`)
      other.exec("CREATE TABLE targets (id TEXT)")
      other.close()
      const before = readFileSync(`${path}/other.db`)
      const error = yield* Effect.flip(Sqlite.open(options(`${path}/other.db`)))
      assert.match(error.message, /other\.db: is a database of another program \(tables: targets\)/)
      assert.isTrue(before.equals(readFileSync(`${path}/other.db`)))
      yield* Sqlite.open(options(`${path}/other.db`, { adopt: (tables) => tables.includes("targets") }))
    }))

  it.live("a failed migration leaves the file at its version", () =>
    Effect.gen(function*() {
      const file = `${yield* folder}/store.db`
      const broken = options(file, { migrations: [create, "CREATE TABLE node (name TEXT); NONSENSE"] })
      assert.strictEqual((yield* Effect.flip(Effect.scoped(Sqlite.open(broken)))).reason, "Other")
      const store = yield* Sqlite.open(options(file))
      yield* store.run(insert, "a", 1)
    }))
})
