import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Result, Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Free from "./Free.ts"

const bits = 4
const blocks = Array.from(
  { length: bits + 1 },
  (_, length) => Array.from({ length: 1 << length }, (_, n) => length === 0 ? "" : n.toString(2).padStart(length, "0"))
).flat()
const below = (block: string): ReadonlyArray<string> => blocks.filter((b) => b.length === bits && b.startsWith(block))

describe("Free", () => {
  it.prop(
    "agrees with the set of free addresses, for blocks of any size in any order",
    { picks: Arbitrary.array(Arbitrary.schema(Schema.Literals(blocks)), { maxLength: 60 }) },
    ({ picks }) => {
      const held = new Set<string>()
      let free: Free.Free = "all"
      const isFree = (address: string) => ![...held].some((block) => address.startsWith(block))
      for (const block of picks) {
        const claimed = Free.claim(free, block)
        assert.strictEqual(claimed !== undefined, below(block).every(isFree))
        if (claimed !== undefined) {
          free = claimed
          held.add(block)
        } else if (held.delete(block)) free = Free.give(free, block)
        for (let length = 0; length <= bits; length++) {
          const first = blocks.find((b) => b.length === length && below(b).every(isFree))
          assert.strictEqual(Free.lowest(free, length), first)
        }
        const rebuilt = below("").filter((address) => !isFree(address)).toReversed()
          .reduce<Free.Free>((rest, address) => Free.claim(rest, address) ?? rest, "all")
        assert.deepStrictEqual(rebuilt, free, "equal sets are equal tries")
      }
    }
  )

  it("leaves out the first and the last address", () => {
    const all = (free: Free.Free, found: ReadonlyArray<string> = []): ReadonlyArray<string> => {
      const block = Free.lowest(free, 3)
      return block === undefined ? found : all(Free.claim(free, block) ?? "none", [...found, block])
    }
    assert.deepStrictEqual(all(Free.inner(3)), ["001", "010", "011", "100", "101", "110"])
    assert.deepStrictEqual([Free.inner(1), Free.inner(0)], ["none", "none"])
  })

  it("names blocks of a prefix by their bits", () => {
    for (
      const [parent, network, block] of [
        ["10.0.0.0/29", "10.0.0.5/32", "101"],
        ["10.0.0.0/29", "10.0.0.4/31", "10"],
        ["fd00::/48", "fd00:0:0:100::/56", "00000001"],
        ["fd00::/120", "fd00::ff/128", "11111111"]
      ] as const
    ) {
      assert.strictEqual(Free.blockOf(Cidr.unsafe(parent), Cidr.unsafe(network)), block)
      assert.strictEqual<string>(Free.network(Cidr.unsafe(parent), block), network)
    }
    for (const wrong of ["10.0.0.8/32", "10.0.0.1/31", "10.0.0.0/29", "10.0.0.0/28", "fd00::/64"]) {
      assert.isUndefined(Free.blockOf(Cidr.unsafe("10.0.0.0/29"), Cidr.unsafe(wrong)))
    }
  })

  it("survives JSON", () => {
    const codec = Schema.toCodecJson(Free.Free)
    const free = Free.claim(Free.inner(64), "0".repeat(60) + "1010") ?? "none"
    const text = JSON.stringify(Schema.encodeSync(codec)(free))
    assert.deepStrictEqual(Result.getOrThrow(Schema.decodeUnknownResult(codec)(JSON.parse(text))), free)
  })
})
