/**
 * Keeps the registered targets over a restart, in one SQLite file.
 *
 * Writes are gathered: whatever came in while the last transaction ran is one transaction. A file that cannot be written
 * any more does not stop the registry; a lost entry only means that its target has to register twice after a restart.
 */
import { Deferred, Effect, Queue, Result, Schema } from "effect"
import type { Scope } from "effect"
import { Target } from "../../core/config/index.ts"
import { Registry } from "../../core/nsp/index.ts"
import * as Sqlite from "../storage/Sqlite.ts"
import * as OriginalStore from "./OriginalStore.ts"

export interface Store {
  /** The targets that were there when the store was opened. */
  readonly stored: ReadonlyArray<Target.Target>
  /** Puts a write in the queue: returns at once. */
  readonly save: (target: Target.Target) => void
  readonly remove: (target: Target.Target) => void
  /** Completes when everything put in the queue so far is on disk, or has been given up. */
  readonly flushed: Effect.Effect<void>
}

const migrations = ["CREATE TABLE registered (key TEXT PRIMARY KEY, target TEXT NOT NULL) STRICT, WITHOUT ROWID"]

const TargetJson = Schema.fromJsonString(Schema.toCodecJson(Target.Target))
const encode = Schema.encodeSync(TargetJson)
const decode = Schema.decodeUnknownResult(TargetJson)
const Row = Schema.Struct({ target: Schema.String })

type Entry =
  | { readonly _tag: "Save" | "Remove"; readonly target: Target.Target }
  | { readonly _tag: "Flush"; readonly done: Deferred.Deferred<void> }

/** Opens the file, making it if need be. A file of the original NSP is taken over with its targets. */
export const open = (file: string): Effect.Effect<Store, Sqlite.SqliteError, Scope.Scope> =>
  Effect.gen(function*() {
    const sqlite = yield* Sqlite.open({
      file,
      applicationId: 0x6e737001,
      migrations,
      adopt: (tables) => tables.every((table) => OriginalStore.tables.includes(table))
    })
    yield* Effect.catch(
      OriginalStore.takeOver(sqlite, (target) => save(sqlite, target)),
      ({ message }) => Effect.logError(`The targets of the original NSP are not taken over: ${message}`)
    )
    const rows = yield* sqlite.all(Row, "SELECT target FROM registered ORDER BY key")
    const stored: Array<Target.Target> = []
    for (const { target } of rows) {
      const decoded = decode(target)
      if (Result.isSuccess(decoded)) stored.push(decoded.success)
      else yield* Effect.logError("A stored target cannot be read and is forgotten", { target })
    }

    const queue = yield* Queue.unbounded<Entry>()
    const writeAll = (entries: ReadonlyArray<Entry>) =>
      sqlite.transaction(Effect.forEach(entries, (entry) => write(sqlite, entry), { discard: true })).pipe(
        Effect.catch(({ message }) => Effect.logError(`Targets are not stored: ${message}`)),
        Effect.andThen(Effect.forEach(entries, complete, { discard: true }))
      )
    // What is queued is written even if the program ends: the last write happens before the file is closed.
    yield* Effect.addFinalizer(() => Effect.flatMap(Queue.clear(queue), writeAll))
    yield* Effect.uninterruptibleMask((restore) => Effect.flatMap(restore(Queue.takeAll(queue)), writeAll)).pipe(
      Effect.forever,
      Effect.forkScoped
    )
    const put = (entry: Entry): void => void Queue.offerUnsafe(queue, entry)
    return {
      stored,
      save: (target) => put({ _tag: "Save", target }),
      remove: (target) => put({ _tag: "Remove", target }),
      flushed: Effect.suspend(() => {
        const done = Deferred.makeUnsafe<void>()
        put({ _tag: "Flush", done })
        return Deferred.await(done)
      })
    }
  })

const write = (sqlite: Sqlite.Store, entry: Entry): Effect.Effect<unknown, Sqlite.SqliteError> => {
  switch (entry._tag) {
    case "Save":
      return save(sqlite, entry.target)
    case "Remove":
      return sqlite.run("DELETE FROM registered WHERE key = ?", Registry.keyOf(entry.target))
    case "Flush":
      return Effect.void
  }
}

const save = (sqlite: Sqlite.Store, target: Target.Target): Effect.Effect<unknown, Sqlite.SqliteError> =>
  sqlite.run(
    "INSERT OR REPLACE INTO registered (key, target) VALUES (?, ?)",
    Registry.keyOf(target),
    encode(target)
  )

const complete = (entry: Entry): Effect.Effect<unknown> =>
  entry._tag === "Flush" ? Deferred.succeed(entry.done, undefined) : Effect.void
