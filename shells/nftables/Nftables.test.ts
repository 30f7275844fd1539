import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import { execFile } from "node:child_process"
import { Ip } from "../../core/net/index.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import * as Nftables from "./Nftables.ts"

let counter = 0

const world = Effect.flatMap(
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

/** Prints how often the event loop went round during a long change, and how many megabytes it left behind. */
const long = `
  import { Effect } from "effect"
  import * as Nftables from "${import.meta.dirname}/Nftables.ts"
  await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const { apply } = yield* Nftables.make()
    yield* apply("table inet lb { map many { type mark : mark; size 32768; }\\n }")
    const before = process.memoryUsage.rss()
    let ticks = 0
    setInterval(() => ticks++, 2).unref()
    const elements = Array.from({ length: 20_000 }, (_, n) => n + " : " + n).join(", ")
    yield* apply(("add element inet lb many { " + elements + " }\\nflush map inet lb many\\n").repeat(4))
    console.log(ticks, (process.memoryUsage.rss() - before) / 2 ** 20)
  })))`

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
      assert.match(parse.detail, /^script:2:\d+-\d+: Error: /)
      const missing = yield* Effect.flip(apply("flush table inet lb\nadd rule inet lb absent accept\n"))
      assert.include(missing.message, "No such file or directory")
      assert.deepStrictEqual(yield* list("inet", "lb"), before)
    }))

  it.live("goes on after a script that was refused at thousands of places", () =>
    Effect.gen(function*() {
      const { apply, list } = yield* world
      yield* apply(table)
      const all = Array.from({ length: 4_000 }, (_, n) => n + 10).join(", ")
      const refused = yield* Effect.flip(apply(`delete element inet lb stream { ${all} }\n`))
      assert.include(refused.detail, "Error: ")
      yield* apply("add element inet lb stream { 2 : 3 }\n")
      assert.include(JSON.stringify(yield* list("inet", "lb")), "[2,3]")
    }))

  it.live("knows a link by its name also when another one has taken the name", () =>
    Effect.gen(function*() {
      const path = yield* Namespace.scoped(`sl-nft-${process.pid}-${counter++}`)
      const { apply, list } = yield* Nftables.make(path)
      const wire = yield* Netlink.make(path)
      const link = wire.createVeth({ namespace: path, name: "one" }, { namespace: path, name: "other" })
      yield* link
      yield* apply("table inet lb { map links { type mark : iface_index; elements = { 1 : \"one\" }; }\n }\n")
      yield* wire.apply([{ _tag: "DeleteLink", link: "one" }])
      yield* link
      yield* apply("add element inet lb links { 2 : \"one\" }\n")
      assert.match(JSON.stringify(yield* list("inet", "lb")), /\[1,"\d+"\],\[2,"one"\]/)
    }))

  it.live(
    "changes the namespace of its own process without holding it up, and gives back the memory",
    () =>
      Effect.gen(function*() {
        const path = yield* Namespace.scoped(`sl-nft-${process.pid}-${counter++}`)
        const output = yield* Effect.callback<string>((resume) => {
          execFile(
            "nsenter",
            [`--net=${path}`, process.execPath, "--input-type=module", "-e", long],
            (error, stdout) => {
              resume(error === null ? Effect.succeed(stdout) : Effect.die(error))
            }
          )
        })
        const [ticks = 0, megabytes = 0] = output.split(" ").map(Number)
        assert.isAbove(ticks, 5)
        assert.isBelow(megabytes, 40)
        const listed = yield* (yield* Nftables.make(path)).list("inet", "lb")
        assert.sameMembers([...kinds(Option.getOrThrow(listed))], ["metainfo", "table", "map"])
      }),
    30_000
  )

  it.live("reads counters, named ones and those of elements", () =>
    Effect.gen(function*() {
      const { apply, counters, elementCounters } = yield* world
      const empty = { packets: 0, bytes: 0 }
      yield* apply(`
table inet lb {
  counter seen { packets 3 bytes 400
  }
  set marks { type mark; size 65536; counter; elements = { 1 counter packets 5 bytes 60, 2 } }
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

  it.live("removes and adds elements by themselves, and leaves the counters of others", () =>
    Effect.gen(function*() {
      const { apply, elementCounters, list, update } = yield* world
      yield* apply(`
table inet lb {
  map slots { type mark : mark; size 4096; elements = { 0 : 1, 1 : 2 } }
  set hits { type mark; size 16; counter; elements = { 1 counter packets 5 bytes 60, 2 counter packets 3 bytes 40 } }
}
table netdev lb {
  map hops4 { type mark : ipv4_addr; counter; }
  map hops6 { type mark : ipv6_addr; counter; }
}
`)
      const inet = { family: "inet", table: "lb" } as const
      const netdev = { family: "netdev", table: "lb" } as const
      const many = Array.from({ length: 3_000 }, (_, n) => [n + 10, n + 5_000] as const)
      yield* update([
        { ...inet, name: "slots", removed: [0], added: [[0, 70_000], ...many] },
        { ...inet, name: "hits", removed: [2], added: [[3, undefined]] },
        { ...netdev, name: "hops4", removed: [], added: [[7, Ip.unsafe("10.0.0.1")], [8, Ip.unsafe("10.0.0.2")]] },
        { ...netdev, name: "hops6", removed: [], added: [[7, Ip.unsafe("fd00::1")]] }
      ])
      const hits = yield* elementCounters("inet", "lb", "set", "hits")
      assert.deepStrictEqual(Object.fromEntries(hits), { 1: { packets: 5, bytes: 60 }, 3: { packets: 0, bytes: 0 } })
      assert.deepStrictEqual([...(yield* elementCounters("netdev", "lb", "map", "hops4")).keys()].toSorted(), [
        "7",
        "8"
      ])
      const text = JSON.stringify([yield* list("inet", "lb"), yield* list("netdev", "lb")])
      for (const part of ["[0,70000]", "[1,2]", "[10,5000]", "[3009,7999]", "10.0.0.1", "fd00::1"]) {
        assert.include(text, part)
      }
      assert.notInclude(text, "[0,1]")
    }))

  it.live("changes no element when one of them cannot be changed, and says where", () =>
    Effect.gen(function*() {
      const { apply, list, update } = yield* world
      yield* apply(table)
      const before = yield* list("inet", "lb")
      const stream = { family: "inet", table: "lb", name: "stream" } as const
      const refused = yield* Effect.flip(update([
        { ...stream, removed: [0], added: [[0, 5]] },
        { ...stream, removed: [9], added: [[8, 8]] }
      ]))
      assert.include(refused.message, "delete elements of inet lb stream: no such file or directory (ENOENT)")
      const absent = yield* Effect.flip(update([{ ...stream, name: "absent", removed: [], added: [[1, 1]] }]))
      assert.include(absent.message, "add elements of inet lb absent: no such file or directory (ENOENT)")
      assert.deepStrictEqual(yield* list("inet", "lb"), before)
      yield* update([{ ...stream, removed: [0], added: [[0, 5]] }])
      assert.include(JSON.stringify(yield* list("inet", "lb")), "[0,5]")
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
      const error = yield* Effect.flip(Nftables.make("/run/netns/sl-absent"))
      assert.include(error.message, "/run/netns/sl-absent")
    }))
})
