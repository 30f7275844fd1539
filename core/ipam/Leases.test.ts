import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Equal, Result, Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import type * as Ip from "../net/Ip.ts"
import * as Free from "./Free.ts"
import * as Leases from "./Leases.ts"
import type { Change, Entry, Pool } from "./Model.ts"

const operatorV4: Pool = { family: "v4", prefix: Cidr.unsafe("172.16.0.0/16"), conduitLength: 20, nodeLength: 24 }
const operatorV6: Pool = { family: "v6", prefix: Cidr.unsafe("fd00::/48"), conduitLength: 56, nodeLength: 64 }
const small: Pool = { family: "v4", prefix: Cidr.unsafe("10.0.0.0/25"), conduitLength: 27, nodeLength: 29 }

const start = (pool: Pool, ...conduits: ReadonlyArray<string>): Leases.Leases =>
  Leases.setConduits(Leases.load(pool, []), conduits, 0)[0]

const fill = (leases: Leases.Leases, conduit: string, node: (n: number) => string, limit: number) => {
  const addresses: Array<Ip.Ip> = []
  let next = leases
  while (addresses.length < limit) {
    const leased = Leases.allocate(next, [conduit, node(addresses.length), `child-${addresses.length}`], 0)
    if (Result.isFailure(leased)) return { addresses, leases: next, refusal: leased.failure }
    addresses.push(leased.success[0])
    next = leased.success[1]
  }
  return { addresses, leases: next, refusal: undefined }
}

const entry = (network: string, ...path: ReadonlyArray<string>): Entry => ({
  family: "v4",
  path,
  network: Cidr.unsafe(network),
  touchedAt: 0
})

describe("Leases", () => {
  it("gives the addresses of the original", () => {
    for (
      const [pool, expected] of [
        [operatorV4, ["172.16.0.1", "172.16.0.2", "172.16.1.1", "172.16.16.1", "172.16.17.1"]],
        [operatorV6, ["fd00::1", "fd00::2", "fd00:0:0:1::1", "fd00:0:0:100::1", "fd00:0:0:101::1"]]
      ] as const
    ) {
      let leases = start(pool, "conduit-a", "conduit-b")
      const addresses = ([
        ["conduit-a", "node-1", "bridge"],
        ["conduit-a", "node-1", "x"],
        ["conduit-a", "node-2", "bridge"],
        ["conduit-b", "node-1", "bridge"],
        ["conduit-b", "node-2", "bridge"]
      ] as const).map((path) => {
        const [address, next] = Result.getOrThrow(Leases.allocate(leases, path, 0))
        leases = next
        return address
      })
      assert.deepStrictEqual<ReadonlyArray<string>>(addresses, expected)
    }
  })

  it("uses all of a prefix, where the original skips from the 254th on", () => {
    const names = Array.from({ length: 300 }, (_, n) => `conduit-${n}`)
    const changes = Leases.setConduits(Leases.load(operatorV6, []), names, 0)[1]
    assert.strictEqual(changes.length, 256)

    const nodes = fill(start(operatorV4, ...names), "conduit-15", (n) => `node-${n}`, 1_000)
    assert.strictEqual(nodes.addresses.length, 16)
    assert.deepStrictEqual(nodes.refusal, {
      _tag: "Exhausted",
      level: "node",
      prefix: Cidr.unsafe("172.16.240.0/20"),
      length: 24
    })
    const wide = fill(start({ ...operatorV4, nodeLength: 22 }, "a"), "a", () => "node", 2_000)
    assert.strictEqual(wide.addresses.length, 1022)
    assert.strictEqual(wide.addresses.at(-1), "172.16.3.254")
    const v6 = fill(start(operatorV6, "a"), "a", () => "node", 300)
    assert.strictEqual(v6.addresses.at(-1), "fd00::12c")
  })

  it("keeps tuples apart that join to the same text", () => {
    const [first, leases] = Result.getOrThrow(Leases.allocate(start(small, "c"), ["c", "z", "x-y"], 0))
    const [second] = Result.getOrThrow(Leases.allocate(leases, ["c", "y-z", "x"], 0))
    assert.notStrictEqual(first, second)
  })

  it("honours the stored pool, not the configured one", () => {
    const stored: Entry = { family: "v4", path: [], network: Cidr.unsafe("10.9.0.0/16"), touchedAt: 0 }
    const [leases] = Leases.setConduits(Leases.load(operatorV4, [stored]), ["a"], 0)
    assert.strictEqual(Result.getOrThrow(Leases.allocate(leases, ["a", "n", "x"], 0))[0], "10.9.0.1")
  })

  it("leaves out stored entries that overlap or have no parent", () => {
    const leases = Leases.load(small, [
      entry("10.0.0.0/29", "gone", "n"),
      entry("10.0.0.0/27", "a"),
      entry("10.0.0.16/27", "b"),
      entry("10.0.0.1/32", "a", "n", "x"),
      entry("10.0.0.0/29", "a", "n"),
      entry("10.0.0.0/32", "a", "n", "network address")
    ])
    assert.deepStrictEqual(Leases.entries(leases).map(({ path }) => path.join("/")).toSorted(), [
      "",
      "a",
      "a/n",
      "a/n/x"
    ])
  })
})

describe("Free", () => {
  it.prop(
    "gives back exactly what was claimed, whatever the order",
    { claims: Schema.Array(Schema.Literals([0, 1, 2, 3, 4, 5, 6, 7])) },
    ({ claims }) => {
      const taken = new Set<number>()
      let free = Free.whole(Cidr.unsafe("10.0.0.0/29"))
      const base = Free.range(Cidr.unsafe("10.0.0.0/29")).first
      for (const n of claims) {
        const one = { first: base + BigInt(n), last: base + BigInt(n) }
        const claimed = Free.claim(free, one)
        assert.strictEqual(claimed === undefined, taken.has(n))
        free = claimed ?? Free.give(free, one)
        if (!taken.delete(n)) taken.add(n)
        const expected = Array.from({ length: 8 }, (_, i) => i).find((i) => !taken.has(i))
        assert.strictEqual(Free.lowest(free, 1n), expected === undefined ? undefined : base + BigInt(expected))
        for (const [i, range] of free.entries()) {
          const before = free[i - 1]
          assert.isTrue(before === undefined || before.last + 1n < range.first, "ranges are sorted and merged")
        }
      }
    }
  )
})

// The naive model: what each path holds, and nothing else.
// Weighted so that every level runs out of space now and then.
const Move = Schema.Struct({
  kind: Schema.Literals([...Array.from({ length: 24 }, () => "allocate" as const), "release", "sweep", "conduits"]),
  conduit: Schema.Literals(["a", "a", "a", "a", "b", "e"]),
  node: Schema.Literals(["n1", "n1", "n1", "n2", "n3", "n4", "n5"]),
  child: Schema.Literals(["bridge", "k1", "k2", "k3", "k4", "k5", "k6", "k7"]),
  pauseMs: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000 }))
})

const leaseMs = 150_000

const blocks = (parent: Cidr.Cidr, length: number): ReadonlyArray<Cidr.Cidr> => {
  const { first, last } = Free.range(parent)
  const size = 1n << BigInt(32 - length)
  const all: Array<Cidr.Cidr> = []
  for (let at = first; at <= last; at += size) all.push(cidr(at, length))
  return length === 32 ? all.slice(1, -1) : all
}

const cidr = (n: bigint, length: number): Cidr.Cidr =>
  Cidr.unsafe(`${[24n, 16n, 8n, 0n].map((shift) => (n >> shift) & 255n).join(".")}/${length}`)

const key = (path: ReadonlyArray<string>): string => path.join("/")

class Model {
  readonly held = new Map<string, { readonly network: Cidr.Cidr; touchedAt: number }>()

  free(parent: string, prefix: Cidr.Cidr, length: number): ReadonlyArray<Cidr.Cidr> {
    const depth = parent === "" ? 1 : parent.split("/").length + 1
    const siblings = [...this.held].filter(([path]) =>
      path.split("/").length === depth && (parent === "" || path.startsWith(`${parent}/`))
    )
    return blocks(prefix, length).filter((block) => siblings.every(([, { network }]) => network !== block))
  }

  hold(path: string, network: Cidr.Cidr | undefined, now: number): Cidr.Cidr | undefined {
    if (network !== undefined) this.held.set(path, { network, touchedAt: now })
    return network
  }

  drop(path: string): void {
    for (const other of this.held.keys()) {
      if (other === path || other.startsWith(`${path}/`)) this.held.delete(other)
    }
  }
}

const apply = (stored: ReadonlyArray<Entry>, changes: ReadonlyArray<Change>): ReadonlyArray<Entry> =>
  changes.reduce((entries, change) => {
    const path = change._tag === "SaveEntry" ? change.entry.path : change.path
    const rest = entries.filter((entry) =>
      change._tag === "SaveEntry"
        ? key(entry.path) !== key(path)
        : !path.every((name, level) => entry.path[level] === name)
    )
    return change._tag === "SaveEntry" ? [...rest, change.entry] : rest
  }, stored)

const byPath = (entries: ReadonlyArray<Entry>): ReadonlyArray<Entry> =>
  entries.toSorted((a, b) => key(a.path) < key(b.path) ? -1 : 1)

describe("Leases, compared with sets", () => {
  it.prop(
    "agree on every answer, on what expires, and on what a restart finds",
    { moves: Arbitrary.array(Arbitrary.schema(Move), { minLength: 60, maxLength: 120 }) },
    ({ moves }) => {
      const model = new Model()
      let leases = Leases.load(small, [])
      let stored: ReadonlyArray<Entry> = Leases.entries(leases)
      let now = 1_000_000
      const follow = ([next, changes]: Leases.Changed) => {
        leases = next
        stored = apply(stored, changes)
      }
      for (const { child, conduit, kind, node, pauseMs } of moves) {
        now += pauseMs
        const path = [conduit, node, child] as const
        switch (kind) {
          case "conduits": {
            const listed = [conduit, ...["a", "b", "c", "d", "e"].slice(pauseMs % 5)]
            follow(Leases.setConduits(leases, listed, now))
            for (const name of ["a", "b", "c", "d", "e"]) if (!listed.includes(name)) model.drop(name)
            for (const name of listed) {
              if (!model.held.has(name)) model.hold(name, model.free("", small.prefix, 27)[0], now)
            }
            break
          }
          case "allocate": {
            const leased = Leases.allocate(leases, path, now)
            const own = model.held.get(conduit)
            const network = own === undefined
              ? undefined
              : model.held.get(`${conduit}/${node}`)?.network ?? model.free(conduit, own.network, 29)[0]
            const known = model.held.get(key(path))
            const address = known?.network
              ?? (network === undefined ? undefined : model.free(`${conduit}/${node}`, network, 32)[0])
            assert.strictEqual(Result.isSuccess(leased), address !== undefined)
            if (Result.isFailure(leased) || address === undefined) break
            assert.strictEqual(leased.success[0], Cidr.ip(address))
            if (known === undefined || now - known.touchedAt >= 60_000) {
              model.hold(`${conduit}/${node}`, network, now)
              model.hold(key(path), address, now)
            } else assert.strictEqual(leased.success[1], leases, "a lease that was just renewed is left alone")
            follow([leased.success[1], leased.success[2]])
            break
          }
          case "release": {
            const released = Leases.release(leases, path)
            if (!model.held.has(key(path))) assert.strictEqual(released[0], leases)
            follow(released)
            model.drop(key(path))
            break
          }
          case "sweep": {
            follow(Leases.sweep(leases, now - leaseMs))
            for (const [path, { touchedAt }] of model.held) {
              const [, node, child] = path.split("/")
              if (node !== undefined && child !== "bridge" && touchedAt < now - leaseMs) model.drop(path)
            }
          }
        }
        const entries = Leases.entries(leases)
        assert.deepStrictEqual(
          byPath(entries).slice(1).map(({ network, path, touchedAt }) => [key(path), network, touchedAt]),
          [...model.held].toSorted(([a], [b]) => a < b ? -1 : 1).map(([path, held]) => [
            path,
            held.network,
            held.touchedAt
          ])
        )
        assert.deepStrictEqual(byPath(stored), byPath(entries), "the changes tell the whole story")
        assert.isTrue(Equal.equals(Leases.load(small, entries.toReversed()), leases), "reloading changes nothing")
      }
    },
    { arbitrary: { runs: 300 } }
  )
})
