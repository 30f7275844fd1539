import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Seed from "./Seed.ts"

describe("Seed", () => {
  it.prop("a draw stays in its range and leaves a valid seed", [Seed.Seed, Schema.Natural], ([seed, width]) => {
    const [value, after] = Seed.between(seed, 1, 1 + (width % 10_000))
    assert.isTrue(Number.isInteger(value) && value >= 1 && value <= 1 + (width % 10_000))
    assert.isTrue(Schema.is(Seed.Seed)(after))
  })

  it("draws every value about equally often", () => {
    const counts = [0, 0, 0, 0]
    let seed = 1
    for (let i = 0; i < 4000; i++) {
      const [value, after] = Seed.between(seed, 0, 3)
      counts[value] = (counts[value] ?? 0) + 1
      seed = after
    }
    for (const count of counts) assert.isTrue(count > 850 && count < 1150, String(counts))
  })

  it("gives a split generator another course than its parent", () => {
    const [child, parent] = Seed.split(7)
    assert.notStrictEqual(Seed.next(child)[0], Seed.next(parent)[0])
  })
})
