/**
 * The leases beside a model that knows no better than sets and loops: what each path holds, and nothing else.
 */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Equal, Result, Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Leases from "./Leases.ts"
import type { Change, Entry, Pool } from "./Model.ts"

/** Full at every level after a few moves, and so wide that only a tree can hold them: up to 2^64 addresses a node. */
const pools: Record<string, Pool> = {
  "a small v4 pool": { family: "v4", prefix: Cidr.unsafe("10.0.0.0/25"), conduitLength: 27, nodeLength: 29 },
  "a small v6 pool": { family: "v6", prefix: Cidr.unsafe("fd00::fe00/121"), conduitLength: 123, nodeLength: 125 },
  "millions of v4 addresses": { family: "v4", prefix: Cidr.unsafe("10.0.0.0/8"), conduitLength: 9, nodeLength: 10 },
  "a v6 pool": { family: "v6", prefix: Cidr.unsafe("fd00::/48"), conduitLength: 56, nodeLength: 64 }
}

// Weighted so that every level of a small pool runs out of space now and then.
const Move = Schema.Struct({
  kind: Schema.Literals([...Array.from({ length: 24 }, () => "allocate" as const), "release", "sweep", "conduits"]),
  conduit: Schema.Literals(["a", "a", "a", "a", "b", "e"]),
  node: Schema.Literals(["n1", "n1", "n1", "n2", "n3", "n4", "n5"]),
  child: Schema.Literals(["bridge", "k1", "k2", "k3", "k4", "k5", "k6", "k7"]),
  pauseMs: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000 }))
})

const leaseMs = 150_000

interface Block {
  readonly first: bigint
  readonly length: number
}
interface Held extends Block {
  readonly touchedAt: number
}

const key = (path: ReadonlyArray<string>): string => path.join("/")

class Model {
  readonly held = new Map<string, Held>()
  readonly bits: number
  readonly pool: Pool

  constructor(pool: Pool) {
    this.pool = pool
    this.bits = Ip.bits(pool.family)
  }

  /** The lowest block below the parent that overlaps no child of it, by trying one after the other. */
  free(path: ReadonlyArray<string>, length: number): Block | undefined {
    const parent = path.length === 1
      ? { first: Ip.toBigInt(Cidr.ip(this.pool.prefix)), length: Cidr.length(this.pool.prefix) }
      : this.held.get(key(path.slice(0, -1)))
    if (parent === undefined) return undefined
    const taken = new Set(
      [...this.held].flatMap(([other, { first }]) =>
        other.split("/").length === path.length && other.startsWith(key([...path.slice(0, -1), ""])) ? [first] : []
      )
    )
    const size = 1n << BigInt(this.bits - length)
    const margin = path.length === 3 ? 1n : 0n
    const end = parent.first + (1n << BigInt(this.bits - parent.length)) - margin
    for (let first = parent.first + margin; first + size <= end; first += size) {
      if (!taken.has(first)) return { first, length }
    }
    return undefined
  }

  hold(path: ReadonlyArray<string>, block: Block | undefined, touchedAt: number): void {
    if (block !== undefined) this.held.set(key(path), { first: block.first, length: block.length, touchedAt })
  }

  drop(path: string): void {
    for (const other of this.held.keys()) {
      if (other === path || other.startsWith(`${path}/`)) this.held.delete(other)
    }
  }

  setConduits(listed: ReadonlyArray<string>, now: number): void {
    for (const path of this.held.keys()) if (!listed.includes(path.split("/")[0] ?? "")) this.held.delete(path)
    for (const name of listed) {
      if (!this.held.has(name)) this.hold([name], this.free([name], this.pool.conduitLength), now)
    }
  }

  /** The address, or undefined if there is none to be had; in that case nothing changes. */
  allocate([conduit, node, child]: readonly [string, string, string], now: number): bigint | undefined {
    if (!this.held.has(conduit)) return undefined
    const before = this.held.get(key([conduit, node]))
    if (before === undefined) this.hold([conduit, node], this.free([conduit, node], this.pool.nodeLength), now)
    const path = [conduit, node, child]
    const known = this.held.get(key(path))
    const address = known ?? this.free(path, this.bits)
    if (address === undefined) return undefined
    if (known !== undefined && now - known.touchedAt < 60_000) return address.first
    if (before !== undefined && now - before.touchedAt >= 60_000) this.hold([conduit, node], before, now)
    this.hold(path, address, now)
    return address.first
  }

  sweep(before: number): void {
    const stale = ([, { touchedAt }]: readonly [string, Held]) => touchedAt < before
    for (const entry of [...this.held].filter(([path]) => path.split("/").length === 2)) {
      const below = [...this.held].filter(([path]) => path.startsWith(`${entry[0]}/`))
      if (stale(entry) && below.every(stale)) this.drop(entry[0])
      else for (const child of below) if (stale(child) && !child[0].endsWith("/bridge")) this.drop(child[0])
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

const shuffled = (entries: ReadonlyArray<Entry>, seed: number): ReadonlyArray<Entry> =>
  entries.map((entry, n) => [(n * 7919 + seed * 104_729) % 1_009, entry] as const).toSorted(([a], [b]) => a - b)
    .map(([, entry]) => entry)

describe.each(Object.entries(pools))("Leases of %s, compared with sets", (_, pool) => {
  it.prop(
    "I1 I2 I3 I4 I5 I6 I7: agree on every answer, on what expires, and on what a restart finds",
    { moves: Arbitrary.array(Arbitrary.schema(Move), { minLength: 60, maxLength: 120 }) },
    ({ moves }) => {
      const model = new Model(pool)
      let { leases } = Leases.load(pool, [], 0)
      let stored: ReadonlyArray<Entry> = Leases.entries(leases)
      let now = 1_000_000
      const follow = ([next, changes]: Leases.Changed) => {
        if (changes.length === 0) assert.strictEqual(next, leases, "without a change the leases are the same")
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
            model.setConduits(listed, now)
            break
          }
          case "allocate": {
            const leased = Leases.allocate(leases, path, now)
            const address = model.allocate(path, now)
            assert.strictEqual(
              Result.isSuccess(leased) ? leased.success[0] : undefined,
              address === undefined ? undefined : Ip.fromBigInt(pool.family, address)
            )
            if (Result.isSuccess(leased)) follow([leased.success[1], leased.success[2]])
            break
          }
          case "release": {
            follow(Leases.release(leases, path))
            model.drop(key(path))
            break
          }
          case "sweep": {
            follow(Leases.sweep(leases, now - leaseMs))
            model.sweep(now - leaseMs)
          }
        }
        const entries = Leases.entries(leases)
        assert.deepStrictEqual(
          byPath(entries).slice(1).map(({ network, path, touchedAt }) => [key(path), network, touchedAt]),
          [...model.held].toSorted(([a], [b]) => a < b ? -1 : 1).map(([path, { first, length, touchedAt }]) => [
            path,
            Cidr.make(Ip.fromBigInt(pool.family, first), length),
            touchedAt
          ])
        )
        assert.deepStrictEqual(byPath(stored), byPath(entries), "the changes tell the whole story")
      }
      const reloaded = Leases.load(pool, shuffled(stored, now), now)
      assert.isTrue(Equal.equals(reloaded, { leases, rejected: [] }), "reloading changes nothing")
    },
    { arbitrary: { runs: 100 } }
  )
})
