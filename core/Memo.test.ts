import { assert, describe, it } from "@effect/vitest"
import * as Memo from "./Memo.ts"

const counted = <A, B>(f: (value: A) => B): { readonly call: (value: A) => B; readonly count: () => number } => {
  let calls = 0
  return {
    call: (value) => {
      calls++
      return f(value)
    },
    count: () => calls
  }
}

describe("A function that remembers", () => {
  it("computes once for each value", () => {
    const { call, count } = counted(({ n }: { readonly n: number }) => n > 0 ? n * 2 : undefined)
    const double = Memo.each(call)
    const [one, nothing] = [{ n: 1 }, { n: 0 }]
    assert.deepStrictEqual([double(one), double(one), double(nothing), double(nothing)], [2, 2, undefined, undefined])
    assert.strictEqual(double({ n: 1 }), 2)
    assert.strictEqual(count(), 3)
  })

  it("computes once for each text, and never holds more than its limit", () => {
    const { call, count } = counted((text: string) => text.length)
    const length = Memo.text(call, 2)
    assert.deepStrictEqual(["a", "bb", "a", "bb"].map(length), [1, 2, 1, 2])
    assert.strictEqual(count(), 2)
    assert.deepStrictEqual(["ccc", "a"].map(length), [3, 1])
    assert.strictEqual(count(), 4)
  })

  it("computes again when a field or an item is another", () => {
    interface Input {
      readonly owner: object
      readonly items: ReadonlyArray<string>
      readonly extra?: number
    }
    const { call, count } = counted(({ items }: Input) => items.join())
    const joined = Memo.last(({ owner }: Input) => owner, call)
    const owner = {}
    assert.strictEqual(joined({ owner, items: ["a", "b"] }), "a,b")
    assert.strictEqual(joined({ owner, items: ["a", "b"] }), "a,b")
    assert.strictEqual(count(), 1)
    assert.strictEqual(joined({ owner, items: ["a", "c"] }), "a,c")
    assert.strictEqual(joined({ owner, items: ["a"] }), "a")
    assert.strictEqual(joined({ owner, items: ["a"], extra: 1 }), "a")
    assert.strictEqual(joined({ owner: {}, items: ["b"] }), "b")
    assert.strictEqual(count(), 5)
  })
})
