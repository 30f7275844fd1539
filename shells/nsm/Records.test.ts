import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as CircuitState from "../../core/nsm/CircuitState.ts"
import type * as Cross from "../../core/nsm/Cross.ts"
import * as Model from "../../core/nsm/Model.ts"
import { encode, Records } from "./Records.ts"

const end: Cross.End = {
  netns: "inode://4/1",
  link: "nsm-0",
  mac: "02:00:00:00:00:01",
  mtu: 0,
  addresses: [],
  routes: [],
  policies: [],
  neighbours: []
}

const record = (id: string, expiresAt = 1): CircuitState.Record => ({
  connection: Model.connection(id, "lb"),
  target: { name: "nse", url: "unix:///run/nse.sock" },
  answer: Model.connection(id, "lb"),
  cross: { alias: `nsm:m/${id}`, client: end, endpoint: end },
  expiresAt
})

/** What a program does with the records in the file, and what the next one finds there. */
const life = (file: string, use: (records: Records["Service"]) => Effect.Effect<unknown>) =>
  Effect.flatMap(Records, use).pipe(
    Effect.andThen(found(file)),
    Effect.provide(Records.layer(file))
  )
const found = (file: string) => Effect.map(Records, ({ initial }) => initial).pipe(Effect.provide(Records.layer(file)))

const file = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sl-records-"))),
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  ),
  (folder) => path.join(folder, "deep", "state.json")
)

describe("The records of a manager", () => {
  it.effect("outlive the program that saved them, with their changes", () =>
    Effect.gen(function*() {
      const at = yield* file
      const after = yield* life(at, ({ forget, save }) =>
        Effect.gen(function*() {
          yield* save(record("a"))
          yield* save(record("b"))
          yield* save(record("c"))
          yield* save(record("a", 7))
          yield* forget("b")
          yield* forget("unknown")
        }))
      assert.deepStrictEqual(after, [record("a", 7), record("c")])
      assert.deepStrictEqual(yield* life(at, ({ forget }) => forget("a")), [record("c")])
      assert.strictEqual(fs.statSync(at).mode & 0o777, 0o600)
    }))

  it.prop(
    "are written as the schema says, which leaves out what is secret",
    { one: CircuitState.Record },
    ({ one }) => {
      const json = Schema.toCodecJson(CircuitState.Record)
      assert.deepStrictEqual(JSON.parse(encode(one)), JSON.parse(JSON.stringify(Schema.encodeSync(json)(one))))
    }
  )

  it.effect("cost the same however many there are, and the file does not grow with the changes", () =>
    Effect.gen(function*() {
      const at = yield* file
      const ids = Array.from({ length: 300 }, (_, n) => `client-${n}`)
      const sizes: Array<number> = []
      const after = yield* life(at, ({ save }) =>
        Effect.gen(function*() {
          for (const id of ids) yield* save(record(id))
          for (let round = 0; round < 10; round++) {
            for (const id of ids) yield* save(record(id, round))
            sizes.push(fs.statSync(at).size)
          }
        }))
      assert.deepStrictEqual(after, ids.map((id) => record(id, 9)))
      assert.isBelow(Math.max(...sizes), 2 * 1.2 * JSON.stringify(after).length)
    }))

  it.effect("are those before the line that a crash cut short", () =>
    Effect.gen(function*() {
      const at = yield* file
      yield* life(at, ({ save }) => Effect.andThen(save(record("a")), save(record("b"))))
      const whole = fs.readFileSync(at, "utf8")
      fs.writeFileSync(at, whole.slice(0, -20))
      assert.deepStrictEqual(yield* found(at), [record("a")])
      assert.deepStrictEqual(yield* life(at, ({ save }) => save(record("c"))), [record("a"), record("c")])
    }))

  it.effect("of an older version, one array without changes, are read", () =>
    Effect.gen(function*() {
      const at = yield* file
      yield* life(at, ({ save }) => save(record("a")))
      fs.writeFileSync(at, fs.readFileSync(at, "utf8").trimEnd())
      assert.deepStrictEqual(yield* found(at), [record("a")])
    }))

  it.effect("that cannot be read are none, and are replaced by the next", () =>
    Effect.gen(function*() {
      const at = yield* file
      fs.mkdirSync(path.dirname(at))
      fs.writeFileSync(at, "[{}]\n")
      assert.deepStrictEqual(yield* found(at), [])
      assert.deepStrictEqual(yield* life(at, ({ save }) => save(record("a"))), [record("a")])
    }))
})
