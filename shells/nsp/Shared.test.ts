import { assert, it } from "@effect/vitest"
import * as Shared from "./Shared.ts"

it("answers equal questions about one state with one value, and asks anew about another state", () => {
  let asked = 0
  const look = Shared.make((state: { readonly of: string }, question: { readonly name: string }) => {
    asked++
    return [`${question.name} of ${state.of}`]
  })
  const [one, other] = [{ of: "one" }, { of: "other" }]
  const first = look(one, { name: "x" })
  for (let n = 0; n < 1000; n++) assert.strictEqual(look(one, { name: "x" }), first)
  assert.strictEqual(asked, 1)
  assert.deepStrictEqual([look(one, { name: "y" }), look(other, { name: "x" })], [["y of one"], ["x of other"]])
  assert.strictEqual(asked, 3)
})
