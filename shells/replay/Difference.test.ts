import { assert, describe, it } from "@effect/vitest"
import { HashMap, Redacted } from "effect"
import * as Difference from "./Difference.ts"

describe("The difference of two values", () => {
  it("names the path, what was there and what is", () => {
    const found = Difference.between({ a: { b: 1, c: 2, "x/y": 1 } }, { a: { b: 1, c: 3, "x/y": 2 }, d: [] })
    assert.deepStrictEqual(found, [
      { path: "a.c", before: 2, after: 3 },
      { path: "a[\"x/y\"]", before: 1, after: 2 },
      { path: "d", before: undefined, after: [] }
    ])
  })

  it("shows only what came or went in a list", () => {
    assert.deepStrictEqual(Difference.between([1, 2, 3], [1, 3]), [{ path: "[1]", before: 2, after: undefined }])
    assert.deepStrictEqual(
      Difference.between(["a", "d"], ["a", "b", "c", "d"]).map(({ after, path }) => [path, after]),
      [
        ["[1]", "b"],
        ["[2]", "c"]
      ]
    )
    assert.deepStrictEqual(Difference.between([{ a: 1 }, 2], [{ a: 3 }, 2]), [{ path: "[0].a", before: 1, after: 3 }])
  })

  it("looks into maps and keeps secrets", () => {
    const before = { map: HashMap.make(["k", { n: 1 }]), secret: Redacted.make("one") }
    const after = { map: HashMap.set(before.map, "l", { n: 2 }), secret: Redacted.make("two") }
    const found = Difference.between(before, after)
    assert.deepStrictEqual(found[0], { path: "map.l", before: undefined, after: { n: 2 } })
    assert.notInclude(JSON.stringify(found), "two")
  })

  it("finds nothing between equal values, the same or not", () => {
    const value = { a: [1, { b: 2n }], c: new Map([["d", new Set([1])]]) }
    assert.deepStrictEqual(Difference.between(value, value), [])
    assert.deepStrictEqual(Difference.between(value, structuredClone(value)), [])
  })
})
