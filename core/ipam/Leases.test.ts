import { assert, describe, it } from "@effect/vitest"
import { HashMap, Result } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import type * as Free from "./Free.ts"
import * as Leases from "./Leases.ts"
import type { Entry, Pool } from "./Model.ts"

const operatorV4: Pool = { family: "v4", prefix: Cidr.unsafe("172.16.0.0/16"), conduitLength: 20, nodeLength: 24 }
const operatorV6: Pool = { family: "v6", prefix: Cidr.unsafe("fd00::/48"), conduitLength: 56, nodeLength: 64 }
const small: Pool = { family: "v4", prefix: Cidr.unsafe("10.0.0.0/25"), conduitLength: 27, nodeLength: 29 }

const defaultV4: Pool = { ...operatorV4, prefix: Cidr.unsafe("169.255.0.0/16") }

// What Meridio v1.2.8 answered when it was run: bridge, then source and target of two connections, for each node.
const workedV4 = ["0", "1", "16", "17"].flatMap((third) => [1, 2, 3, 4, 5].map((last) => `169.255.${third}.${last}`))
const workedV6 = ["fd00::", "fd00:0:0:1::", "fd00:0:0:100::", "fd00:0:0:101::"].flatMap((net) =>
  [1, 2, 3, 4, 5].map((last) => `${net}${last}`)
)

const start = (pool: Pool, ...conduits: ReadonlyArray<string>): Leases.Leases =>
  Leases.setConduits(Leases.load(pool, [], 0).leases, conduits, 0)[0]

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

const hasChild = (leases: Leases.Leases): boolean => Leases.entries(leases).some(({ path }) => path.length === 3)

describe("Leases", () => {
  it.each([[defaultV4, workedV4], [operatorV4, workedV4.map((ip) => ip.replace("169.255", "172.16"))], [
    operatorV6,
    workedV6
  ]])("gives the addresses that the original gives on a fresh database", (pool, expected) => {
    let leases = start(pool, "conduit-a", "conduit-b")
    const addresses = ["conduit-a", "conduit-b"].flatMap((conduit) =>
      ["node-1", "node-2"].flatMap((node) =>
        ["bridge", "c1-src", "c1-dst", "c2-src", "c2-dst"].map((child) => {
          const [address, next] = Result.getOrThrow(Leases.allocate(leases, [conduit, node, child], 0))
          leases = next
          return address
        })
      )
    )
    assert.deepStrictEqual<ReadonlyArray<string>>(addresses, expected)
  })

  it("uses all of a prefix, where the original skips from the 254th on", () => {
    const names = Array.from({ length: 300 }, (_, n) => `conduit-${n}`)
    const changes = Leases.setConduits(Leases.load(operatorV6, [], 0).leases, names, 0)[1]
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

  it("honours the stored pool while something is leased in it, then the configured one", () => {
    const root = entry("10.9.0.0/16")
    const used = Leases.load(operatorV4, [root, entry("10.9.16.0/20", "b")], 0)
    const [leases] = Leases.setConduits(used.leases, ["b", "a"], 0)
    assert.strictEqual(Result.getOrThrow(Leases.allocate(leases, ["a", "n", "x"], 0))[0], "10.9.0.1")
    assert.strictEqual(Leases.load(operatorV4, [root], 0).leases.pool.prefix, operatorV4.prefix)
  })

  it("rejects stored entries that overlap, are misplaced or have no parent", () => {
    const rejected = [
      entry("10.0.0.0/29", "gone", "n"),
      entry("10.0.0.16/27", "b"),
      entry("10.1.0.0/27", "outside"),
      entry("10.0.0.0/25", "as wide as the pool"),
      entry("10.0.0.0/28", "a", "overlapping"),
      entry("10.0.0.0/32", "a", "n", "network address"),
      entry("10.0.0.1/32", "a", "n", "taken"),
      entry("10.0.0.4/30", "a", "n", "no host")
    ]
    const kept = [
      entry("10.0.0.0/25"),
      entry("10.0.0.0/27", "a"),
      entry("10.0.0.0/29", "a", "n"),
      entry("10.0.0.1/32", "a", "n", "x")
    ]
    const loaded = Leases.load(small, [...kept, ...rejected], 0)
    assert.sameDeepMembers([...loaded.rejected], rejected)
    assert.sameDeepMembers([...Leases.entries(loaded.leases)], kept)
  })

  it("leaves an address with the youngest process that asked for it, whatever an older one releases late", () => {
    const path = ["a", "n", "x"] as const
    const [, old] = Result.getOrThrow(Leases.allocate(start(small, "a"), path, 0, 1_000))
    const [, taken, changes] = Result.getOrThrow(Leases.allocate(old, path, 0, 2_000))
    assert.deepStrictEqual(changes, [], "nothing of it is stored")
    const [, late] = Result.getOrThrow(Leases.allocate(taken, path, 60_000, 1_000))
    assert.deepStrictEqual(Leases.release(late, path, 1_000), [late, []])
    assert.isTrue(hasChild(late))
    assert.isFalse(hasChild(Leases.release(old, path, 1_000)[0]))
    assert.isFalse(hasChild(Leases.release(late, path, 2_000)[0]))
    assert.isFalse(hasChild(Leases.release(late, path)[0]), "who does not tell, as the original, is believed")
  })

  it("keeps a node in which something was renewed, however old the node itself is", () => {
    const [, leases] = Result.getOrThrow(Leases.allocate(start(small, "a"), ["a", "n", "bridge"], 0))
    const [, renewed] = Result.getOrThrow(Leases.allocate(leases, ["a", "n", "x"], 59_000))
    assert.strictEqual(Leases.sweep(renewed, 59_000)[0], renewed)
    assert.deepStrictEqual(Leases.sweep(renewed, 59_001)[1], [{ _tag: "DeleteEntry", family: "v4", path: ["a", "n"] }])
  })

  it("keeps what was cut with other lengths, and cuts what is new with the configured ones", () => {
    const entries = [
      entry("172.16.0.0/16"),
      entry("172.16.0.0/20", "a"),
      entry("172.16.0.0/25", "a", "n"),
      entry("172.16.0.3/32", "a", "n", "x"),
      entry("172.16.1.0/25", "a", "m")
    ]
    const { leases } = Leases.load({ ...operatorV4, conduitLength: 18, nodeLength: 24 }, entries, 0)
    const [withB] = Leases.setConduits(leases, ["a", "b"], 0)
    const addresses = ([["a", "n", "x"], ["a", "n", "y"], ["a", "new", "x"], ["b", "n", "x"]] as const).map((path) =>
      Result.getOrThrow(Leases.allocate(withB, path, 0))[0]
    )
    assert.deepStrictEqual<ReadonlyArray<string>>(addresses, ["172.16.0.3", "172.16.0.1", "172.16.2.1", "172.16.64.1"])
  })

  it("takes no lease for younger than now", () => {
    const future = { ...entry("10.0.0.0/27", "a"), touchedAt: 9_000 }
    assert.strictEqual(
      Leases.entries(Leases.load(small, [entry("10.0.0.0/25"), future], 5_000).leases)[1]?.touchedAt,
      5_000
    )
  })

  it("stays small and contiguous with many leases in one node", () => {
    for (
      const pool of [
        { ...operatorV4, prefix: Cidr.unsafe("10.0.0.0/8"), conduitLength: 10, nodeLength: 12 },
        operatorV6
      ]
    ) {
      const filled = fill(start(pool, "a"), "a", () => "node", 20_000)
      const expected = Ip.toBigInt(Cidr.ip(pool.prefix)) + 20_000n
      assert.strictEqual(filled.addresses.at(-1), Ip.fromBigInt(pool.family, expected))
      const node = HashMap.getUnsafe(HashMap.getUnsafe(filled.leases.conduits, "a").nodes, "node")
      assert.isBelow(splits(node.free), 128)
      const [released] = Leases.release(filled.leases, ["a", "node", "child-12345"])
      const [again] = Result.getOrThrow(Leases.allocate(released, ["a", "node", "new"], 0))
      assert.strictEqual(again, filled.addresses[12_345])
    }
  })
})

const splits = (free: Free.Free): number => typeof free === "string" ? 0 : 1 + splits(free.low) + splits(free.high)
