import { assert, describe, it } from "@effect/vitest"
import * as Finding from "./Finding.ts"
import type * as Model from "./Model.ts"

const endpoint = (name: string, expiresAt = 60_000): Model.Endpoint => ({
  name,
  networkServices: ["s"],
  labels: {},
  url: `unix:///${name}`,
  expiresAt
})
const names = (state: Finding.State) => Finding.view(state).map(({ name }) => name).join("")
const first = Finding.relist(Finding.nothing, [endpoint("b"), endpoint("a")], 0)

describe("Finding", () => {
  it("believes lists, changes and deletions at once", () => {
    assert.strictEqual(names(first), "ab")
    assert.strictEqual(names(Finding.change(first, endpoint("c"), false)), "abc")
    assert.strictEqual(names(Finding.change(first, endpoint("a"), true)), "b")
  })

  it("keeps what a restarted registry does not know yet", () => {
    const restarted = Finding.relist(first, [], 1_000)
    assert.strictEqual(names(restarted), "ab")
    const again = Finding.change(restarted, endpoint("a", 90_000), false)
    assert.strictEqual(names(Finding.forget(again, 60_000)), "a")
  })

  it("gives up what was deleted between two streams when it would have expired, even over several streams", () => {
    const second = Finding.relist(Finding.relist(first, [endpoint("b")], 1_000), [endpoint("b")], 2_000)
    assert.strictEqual(names(second), "ab")
    assert.strictEqual(Finding.forget(second, 59_999), second)
    assert.strictEqual(names(Finding.forget(second, 60_000)), "b")
    assert.strictEqual(names(Finding.change(second, endpoint("a"), true)), "b")
  })
})
