import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Offsets from "./Offsets.ts"

describe("Offsets", () => {
  const Streams = Schema.Array(
    Schema.Struct({
      stream: Schema.Literals(["a", "b", "c", "d"]),
      maxTargets: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 300 }))
    })
  )
  it.prop("21: never overlap, and stay", { lists: Schema.Array(Streams) }, ({ lists }) => {
    let offsets: Offsets.Offsets = {}
    for (const list of lists) {
      const streams = [...new Map(list.map((each) => [each.stream, each])).values()]
      const next = Offsets.assign(offsets, streams, 5_000)
      const ranges = Object.values(next).toSorted((a, b) => a.offset - b.offset)
      assert.sameMembers(Object.keys(next), streams.map(({ stream }) => stream))
      for (const [i, { offset }] of ranges.entries()) {
        const before = ranges[i - 1]
        assert.isAtLeast(offset, before === undefined ? 5_000 : before.offset + before.maxTargets)
      }
      for (const [name, range] of Object.entries(next)) {
        if (offsets[name]?.maxTargets === range.maxTargets) assert.deepStrictEqual(range, offsets[name])
      }
      offsets = next
    }
  })

  it("are left out when they end beyond the last mark", () => {
    const offsets = { a: { offset: 5_000, maxTargets: 100 }, b: { offset: 5_100, maxTargets: 100 } }
    assert.deepStrictEqual(Object.keys(Offsets.upTo(offsets, 5_199)), ["a"])
    assert.deepStrictEqual(Object.keys(Offsets.upTo(offsets, 5_200)), ["a", "b"])
  })
})
