import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Maglev from "./Maglev.ts"

const counts = (table: ReadonlyArray<number>): ReadonlyMap<number, number> => {
  const all = new Map<number, number>()
  for (const owner of table) all.set(owner, (all.get(owner) ?? 0) + 1)
  return all
}

const Identifiers = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 20 })))

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
    "fills every slot evenly, whatever the order of the identifiers",
    { identifiers: Identifiers },
    ({ identifiers }) => {
      const table = Maglev.table(Maglev.size(20), identifiers)
      const shares = [...counts(table).values()]
      assert.strictEqual(table.length, identifiers.length === 0 ? 0 : Maglev.size(20))
      assert.deepStrictEqual(new Set(counts(table).keys()), new Set(identifiers))
      if (shares.length > 0) assert.isAtMost(Math.max(...shares) - Math.min(...shares), 1)
      assert.deepStrictEqual(Maglev.table(Maglev.size(20), identifiers.toReversed()), table)
    }
  )

  it("moves few slots of those who stay when one of 100 leaves", () => {
    const all = Array.from({ length: 100 }, (_, n) => n + 1)
    const before = Maglev.table(Maglev.size(100), all)
    let worst = 0
    for (const gone of all) {
      const after = Maglev.table(Maglev.size(100), all.filter((identifier) => identifier !== gone))
      const moved = before.filter((owner, slot) => owner !== gone && owner !== after[slot]).length
      worst = Math.max(worst, moved / before.length)
    }
    assert.isBelow(worst, 0.025)
  })
})
