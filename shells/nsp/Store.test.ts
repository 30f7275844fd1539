import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { Target } from "../../core/config/index.ts"
import * as Store from "./Store.ts"

const file = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sluice-nsp-"))),
    (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true }))
  ),
  (folder) => join(folder, "registry.db")
)

/** Uses the store and closes it. */
const using = <A, E>(file: string, use: (store: Store.Store) => Effect.Effect<A, E>) =>
  Effect.scoped(Effect.flatMap(Store.open(file), use))

const stored = (file: string) => using(file, ({ stored }) => Effect.succeed(stored))

const execute = (file: string, script: string) =>
  Effect.sync(() => {
    const database = new DatabaseSync(file)
    database.exec(script)
    database.close()
  })

const target: Target.Target = {
  kind: "default",
  stream: { trench: "t", conduit: "c", stream: "s" },
  ips: ["172.16.0.1/24", "fd00::1/64"],
  context: { identifier: "1" },
  status: "enabled"
}
const frontend: Target.Target = { kind: "frontend", ips: ["host"], context: { identifier: "host" }, status: "disabled" }

/** As gorm makes it. */
const original = `
  CREATE TABLE trenches (name text, PRIMARY KEY (name));
  CREATE TABLE conduits (name text, trench_name text, PRIMARY KEY (name),
    CONSTRAINT fk_conduits_trench FOREIGN KEY (trench_name) REFERENCES trenches(name));
  CREATE TABLE streams (name text, conduit_name text, PRIMARY KEY (name),
    CONSTRAINT fk_streams_conduit FOREIGN KEY (conduit_name) REFERENCES conduits(name));
  CREATE TABLE targets (id text, ips text, context text, status integer, type integer, stream_name text,
    PRIMARY KEY (id), CONSTRAINT fk_targets_stream FOREIGN KEY (stream_name) REFERENCES streams(name));
  INSERT INTO trenches VALUES ('t'), ('');
  INSERT INTO conduits VALUES ('c', 't'), ('', '');
  INSERT INTO streams VALUES ('s', 'c'), ('', '');
  INSERT INTO targets VALUES
    ('172.16.0.1/24;fd00::1/64-0-s.c.t', '172.16.0.1/24;fd00::1/64', '{"identifier":"1"}', 0, 0, 's'),
    ('host-1-..', 'host', '{"identifier":"host"}', 1, 1, ''),
    ('bad', '10.0.0.1/24', 'no JSON', 0, 0, 's');
`

describe("Store", () => {
  it.live("keeps what was saved, overwritten and removed", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, ({ flushed, remove, save }) => {
        save({ ...target, status: "disabled" })
        save(frontend)
        save({ ...target, ips: target.ips.toReversed() })
        remove(frontend)
        return flushed
      })
      assert.deepStrictEqual(yield* stored(path), [{ ...target, ips: target.ips.toReversed() }])
    }))

  it.live("writes what is queued before it closes", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, ({ save }) => Effect.sync(() => save(target)))
      assert.deepStrictEqual(yield* stored(path), [target])
    }))

  it.live("takes over the targets of the original, with their status, once", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* execute(path, original)
      assert.deepStrictEqual(yield* stored(path), [target, frontend])
      yield* using(path, ({ flushed, remove }) => {
        remove(target)
        return flushed
      })
      assert.deepStrictEqual(yield* stored(path), [frontend])
    }))

  it.live("starts empty on an unknown form of the original's tables, and leaves them as they are", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* execute(path, "CREATE TABLE targets (id text PRIMARY KEY); INSERT INTO targets VALUES ('x')")
      assert.deepStrictEqual(yield* stored(path), [])
      yield* execute(path, "UPDATE targets SET id = 'y'")
      yield* using(path, ({ flushed, save }) => {
        save(target)
        return flushed
      })
      assert.deepStrictEqual(yield* stored(path), [target])
    }))

  it.live("forgets a row that cannot be read, and no other", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, ({ save }) => Effect.sync(() => save(target)))
      yield* execute(path, "INSERT INTO registered VALUES ('bad', '{}')")
      assert.deepStrictEqual(yield* stored(path), [target])
    }))

  it.live("refuses the file of a later version and that of another program", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* stored(path)
      yield* execute(path, "PRAGMA user_version = 99")
      const newer = yield* Effect.flip(stored(path))
      assert.strictEqual(newer.reason, "Newer")
      yield* execute(`${path}.other`, "CREATE TABLE songs (title text)")
      const foreign = yield* Effect.flip(stored(`${path}.other`))
      assert.strictEqual(foreign.reason, "NotOurs")
    }))

  it.live("lets nobody else use its file while it is open", () =>
    Effect.gen(function*() {
      const path = yield* file
      const life = yield* Scope.make()
      yield* Scope.provide(Store.open(path), life)
      const second = yield* Effect.flip(stored(path))
      assert.strictEqual(second.reason, "Locked")
      yield* Scope.close(life, Exit.void)
      assert.deepStrictEqual(yield* stored(path), [])
    }), 20_000)
})
