import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Ipam, Model } from "../../core/ipam/index.ts"
import { Cidr } from "../../core/net/index.ts"
import * as Replies from "../runtime/Replies.ts"
import * as Sqlite from "../storage/Sqlite.ts"
import * as Interpreter from "./Interpreter.ts"
import * as Store from "./Store.ts"

const persist: Ipam.Command = {
  _tag: "Persist",
  call: 7,
  changes: [
    { _tag: "SaveEntry", entry: { family: "v4", path: [], network: Cidr.unsafe("10.0.0.0/8"), touchedAt: 0 } },
    { _tag: "DeleteEntry", family: "v4", path: ["a"] }
  ]
}

const outcome = (store: Sqlite.Store, command: Ipam.Command) =>
  Effect.gen(function*() {
    const events: Array<Ipam.Event> = []
    yield* Interpreter.make(Replies.make<Model.Answer>())(command, (event) => void events.push(event))
    return events
  }).pipe(Effect.provideService(Sqlite.Sqlite, store))

describe("The interpreter of the IPAM", () => {
  it.live("stores, and tells the machine", () =>
    Effect.gen(function*() {
      const store = yield* Store.open({ file: ":memory:", trench: "t" })
      assert.deepStrictEqual(yield* outcome(store, persist), [{ _tag: "PersistSucceeded", call: 7 }])
      assert.strictEqual((yield* Effect.provideService(Store.load, Sqlite.Sqlite, store)).entries.length, 1)
    }))

  it.live("stores nothing of a batch that fails, and tells the machine why", () =>
    Effect.gen(function*() {
      const store = yield* Store.open({ file: ":memory:", trench: "t" })
      yield* store.run(
        "CREATE TRIGGER broken BEFORE INSERT ON lease WHEN NEW.level = 1 BEGIN SELECT RAISE(ABORT, 'disk full'); END"
      )
      const entry: Model.Entry = { family: "v4", path: ["a"], network: Cidr.unsafe("10.0.0.0/16"), touchedAt: 0 }
      const changes: ReadonlyArray<Model.Change> = [...persist.changes, { _tag: "SaveEntry", entry }]
      assert.deepStrictEqual(yield* outcome(store, { ...persist, changes }), [
        { _tag: "PersistFailed", call: 7, reason: ":memory:: disk full" }
      ])
      assert.deepStrictEqual(yield* Effect.provideService(Store.load, Sqlite.Sqlite, store), {
        entries: [],
        unusable: []
      })
    }))

  it.live("gives answers to who waits for them, and drops those of callers that left", () =>
    Effect.gen(function*() {
      const store = yield* Store.open({ file: ":memory:", trench: "t" })
      const replies = Replies.make<Model.Answer>()
      const perform = (command: Ipam.Command) =>
        Effect.provideService(Interpreter.make(replies)(command, () => undefined), Sqlite.Sqlite, store)
      yield* perform({ _tag: "Reply", reply: 99, answer: { _tag: "Released" } })
      const answer = yield* replies.ask((reply) =>
        void Effect.runFork(perform({ _tag: "Reply", reply, answer: { _tag: "Released" } }))
      )
      assert.deepStrictEqual(answer, { _tag: "Released" })
    }))
})
