import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Maglev from "./Maglev.ts"

const counts = (table: ReadonlyArray<number>): ReadonlyMap<number, number> => {
  const all = new Map<number, number>()
  for (const owner of table) all.set(owner, (all.get(owner) ?? 0) + 1)
  return all
}

const Identifier = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 20 }))
const Identifiers = Schema.Array(Identifier)

const shape = (maxTargets: number): Maglev.Shape => ({ maxTargets, slots: Maglev.size(maxTargets) })

describe("Maglev", () => {
  it("populates as nfqlb does, given its permutations", () => {
    const wishes = [[71, 71], [232, 68], [24, 4]].map(([offset = 0, skip = 0], identifier) => ({
      identifier,
      offset,
      skip
    }))
    const populate = (...active: ReadonlyArray<number>) =>
      Maglev.populate(293, wishes.filter(({ identifier }) => active.includes(identifier)))
    assert.deepStrictEqual(populate(0, 1).slice(0, 12), [1, 1, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1])
    assert.deepStrictEqual(populate(0, 1, 2).slice(0, 12), [1, 1, 2, 2, 0, 1, 1, 1, 0, 1, 1, 1])
    assert.deepStrictEqual(
      [...counts(populate(0, 1, 2)).values()]
        .toSorted((a, b) => a - b),
      [97, 98, 98]
    )
    assert.deepStrictEqual(populate(0, 2).slice(0, 12), [0, 2, 2, 2, 0, 0, 0, 0, 0, 2, 2, 2])
    const [before, after] = [populate(0, 1, 2), populate(0, 2)]
    assert.isTrue(before.every((owner, slot) => owner === after[slot] || owner === 1))
  })

  it("has prime sizes, about 100 slots per target", () => {
    assert.deepStrictEqual([1, 2, 3, 10, 100, 1_000, 10_000].map(Maglev.size), [
      101,
      211,
      307,
      1_009,
      10_007,
      100_003,
      100_003
    ])
  })

  it.prop(
    "22: gives every slot to one of those present, whatever their order",
    { identifiers: Identifiers },
    ({ identifiers }) => {
      const table = Maglev.table(shape(20), identifiers)
      assert.strictEqual(table.length, identifiers.length === 0 ? 0 : Maglev.size(20))
      assert.deepStrictEqual(new Set(counts(table).keys()), new Set(identifiers))
      assert.deepStrictEqual(Maglev.table(shape(20), identifiers.toReversed()), table)
    }
  )

  it.prop(
    "22: moves the slots of a target that leaves and no others",
    { identifiers: Identifiers, gone: Identifier },
    ({ identifiers, gone }) => {
      const stay = identifiers.filter((identifier) => identifier !== gone)
      if (stay.length === 0) return
      const before = Maglev.table(shape(20), [...stay, gone])
      const after = Maglev.table(shape(20), stay)
      assert.isTrue(before.every((owner, slot) => owner === gone || owner === after[slot]))
    }
  )

  it("is even to one slot when every target is there, and to a quarter for any number of them", () => {
    const everyone = Array.from({ length: 100 }, (_, n) => n + 1)
    for (const present of [1, 2, 3, 4, 10, 25, 50, 75, 99, 100]) {
      const shares = [...counts(Maglev.table(shape(100), everyone.slice(0, present))).values()]
      const even = Maglev.size(100) / present
      assert.strictEqual(shares.length, present)
      const allowed = present === 100 ? 1 : 0.25 * even
      for (const share of shares) assert.isAtMost(Math.abs(share - even), allowed, `${present} present`)
    }
  })

  it("is even for a few targets of a stream that may have thousands", () => {
    const shares = [...counts(Maglev.table(shape(5_000), [7, 1_234, 4_999])).values()]
    for (const share of shares) assert.isAtMost(Math.abs(share / Maglev.size(5_000) - 1 / 3), 0.01)
  })
})
