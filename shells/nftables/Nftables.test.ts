import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as Namespace from "../netlink/Namespace.ts"
import * as Nftables from "./Nftables.ts"

let counter = 0

const world = Effect.map(
  Effect.suspend(() => Namespace.scoped(`sl-nft-${process.pid}-${counter++}`)),
  (path) => Nftables.make(path)
)

const table = `
table inet lb {
  map stream { type mark : mark; elements = { 0 : 1, 1 : 2 } }
  chain in {
    type filter hook prerouting priority filter
    meta mark set jhash ip saddr mod 2
    meta mark set meta mark map @stream
  }
}
`

const kinds = (objects: Nftables.Objects): ReadonlyArray<string> => objects.flatMap((object) => Object.keys(object))

describe("Nftables", () => {
  it.live("applies a script in its namespace and lists the objects of a table", () =>
    Effect.gen(function*() {
      const [one, other] = [yield* world, yield* world]
      yield* one.apply(table)
      const listed = Option.getOrThrow(yield* one.list("inet", "lb"))
      assert.sameMembers([...kinds(listed)], ["metainfo", "table", "map", "chain", "rule", "rule"])
      assert.isTrue(Option.isNone(yield* other.list("inet", "lb")))
    }))

  it.live("leaves the old rules in place when a later line of the script is wrong, and says where", () =>
    Effect.gen(function*() {
      const { apply, list } = yield* world
      yield* apply(table)
      const before = yield* list("inet", "lb")
      const parse = yield* Effect.flip(apply("flush table inet lb\nadd rule inet lb in nonsense 5\n"))
      assert.match(parse.detail, /^\/dev\/stdin:2:\d+-\d+: Error: /)
      const missing = yield* Effect.flip(apply("flush table inet lb\nadd rule inet lb absent accept\n"))
      assert.include(missing.message, "No such file or directory")
      assert.deepStrictEqual(yield* list("inet", "lb"), before)
    }))

  it.live("reads counters, named ones and those of elements", () =>
    Effect.gen(function*() {
      const { apply, counters, elementCounters } = yield* world
      const empty = { packets: 0, bytes: 0 }
      yield* apply(`
table inet lb {
  counter seen { packets 3 bytes 400
  }
  set marks { type mark; counter; elements = { 1 counter packets 5 bytes 60, 2 } }
  map hops { type mark : ipv4_addr; counter; elements = { 7 : 10.0.0.1 } }
  set none { type mark; counter; }
}
`)
      assert.deepStrictEqual([...yield* counters("inet", "lb")], [["seen", { packets: 3, bytes: 400 }]])
      const marks = yield* elementCounters("inet", "lb", "set", "marks")
      assert.deepStrictEqual([marks.size, marks.get("1"), marks.get("2")], [2, { packets: 5, bytes: 60 }, empty])
      assert.deepStrictEqual([...yield* elementCounters("inet", "lb", "map", "hops")], [["7", empty]])
      assert.strictEqual((yield* elementCounters("inet", "lb", "set", "none")).size, 0)
      assert.strictEqual((yield* elementCounters("inet", "lb", "set", "absent")).size, 0)
      assert.strictEqual((yield* counters("inet", "absent")).size, 0)
    }))

  it.live("deletes a table, also one that is absent", () =>
    Effect.gen(function*() {
      const { apply, deleteTable, list } = yield* world
      yield* apply(table)
      yield* deleteTable("inet", "lb")
      yield* deleteTable("inet", "lb")
      assert.isTrue(Option.isNone(yield* list("inet", "lb")))
    }))

  it.live("fails readably in a namespace that does not exist", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Nftables.make("/run/netns/sl-absent").apply(table))
      assert.include(error.message, "/run/netns/sl-absent")
      const list = yield* Effect.flip(Nftables.make("/run/netns/sl-absent").list("inet", "lb"))
      assert.include(list.message, "/run/netns/sl-absent")
    }))
})
