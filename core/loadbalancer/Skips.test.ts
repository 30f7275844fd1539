import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import * as Lookup from "../../property-tests/kernel/Lookup.ts"
import { Cidr, Ip, type Kernel } from "../net/index.ts"
import * as Skips from "./Skips.ts"

const target = (mark: number): Kernel.Rule => ({
  family: "v4",
  priority: Skips.priorityOf(mark),
  table: mark,
  mark,
  foreign: false
})

/** Those of the frontend and the main table. */
const others: ReadonlyArray<Kernel.Rule> = [
  { family: "v4", priority: 100, table: 4_096, from: Cidr.unsafe("20.0.0.1/32"), foreign: false },
  { family: "v4", priority: 32_766, table: 254, foreign: false }
]

const Mark = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100_000 }))
const Sources = Schema.Literals(["20.0.0.1", "192.0.2.1"])
const skips = Skips.rules("v4")

describe("Skips", () => {
  it.prop(
    "lead every packet where it would go without them, whichever of them are there",
    {
      marks: Arbitrary.schema(Schema.UniqueArray(Mark)),
      mark: Arbitrary.schema(Schema.Union([Schema.Literal(0), Mark])),
      source: Arbitrary.schema(Sources),
      left: Arbitrary.schema(
        Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: skips.length - 1 })))
      )
    },
    ({ left, mark, marks, source }) => {
      const plain = [...marks.map(target), ...others]
      const some = skips.filter((_, index) => !left.includes(index))
      for (const packet of [mark, ...marks].map((mark) => ({ mark, source: Ip.unsafe(source), iif: undefined }))) {
        const way = Lookup.tables(plain, packet)
        assert.deepStrictEqual(Lookup.tables([...plain, ...skips], packet), way)
        assert.deepStrictEqual(Lookup.tables([...plain, ...some], packet), way)
        if (marks.includes(packet.mark)) assert.strictEqual(way[0], packet.mark)
      }
    }
  )

  it("stand between local traffic and the frontend, and skip only forwards", () => {
    for (const { goto = 0, priority } of skips) {
      assert.isTrue(Skips.first <= priority && priority <= Skips.last && priority < goto && goto <= 100)
    }
    assert.strictEqual(new Set(skips.map(({ priority }) => priority)).size, skips.length)
    for (let mark = 1; mark < 1_000; mark++) {
      assert.isFalse(skips.some(({ priority }) => priority === Skips.priorityOf(mark)))
      assert.isTrue(Skips.first < Skips.priorityOf(mark) && Skips.priorityOf(mark) < Skips.last)
    }
  })
})
