import { assert, describe, it } from "@effect/vitest"
import { Equal, Schema } from "effect"
import * as Same from "./Same.ts"

interface Data {
  readonly a?: number | undefined
  readonly b?: string | ReadonlyArray<Data>
}
const Data = Schema.Struct({
  a: Schema.optionalKey(Schema.UndefinedOr(Schema.Literals([0, 1]))),
  b: Schema.optionalKey(Schema.Union([
    Schema.Literals(["x", "y"]),
    Schema.Array(Schema.suspend((): Schema.Codec<Data> => Data))
  ]))
})

describe("Same", () => {
  it.prop("says what Equal says of data", [Data, Data], ([one, other]) => {
    assert.strictEqual(Same.equals(one, other), Equal.equals(one, other))
    assert.isTrue(Same.equals(one, structuredClone(one)))
  })

  it("tells zeros alike, NaN like itself, and a missing key from an undefined one", () => {
    assert.isTrue(Same.equals([0, Number.NaN], [-0, Number.NaN]))
    assert.isFalse(Same.equals({ a: undefined }, { b: undefined }))
    assert.isFalse(Same.equals({}, { a: undefined }))
    assert.isFalse(Same.equals([], {}))
    assert.isFalse(Same.equals(null, {}))
  })
})
