import { assert, describe, it } from "@effect/vitest"
import * as Yaml from "./Yaml.ts"

describe("Yaml", () => {
  it("reads several documents, empty ones as null", () => {
    assert.deepStrictEqual(Yaml.parse("f", "a: 1\n---\n---\nb: [x]\n"), [{ value: { a: 1 } }, { value: null }, {
      value: { b: ["x"] }
    }])
  })

  it("reads quoted texts that are indented no deeper than their key, as Go does", () => {
    const text = "spec:\n  config: '{\n      \"it''s\": [\n\"a\"\n    ]\n  }'\n  other: \"x\n  \\\" y\"\n---\nb: 1\n"
    assert.deepStrictEqual(Yaml.parse("f", text), [
      { value: { spec: { config: "{ \"it's\": [ \"a\" ] }", other: "x \" y" } } },
      { value: { b: 1 } }
    ])
  })

  it.each([
    ["a: [", "flow"],
    ["a: 'x", "quote"],
    ["a: 1\na: 2", "unique"],
    ["a: &x [1]\nb: [*y]", "y"],
    [
      `a: &a [x]\n${
        Array.from({ length: 9 }, (_, n) => `b${n}: &b${n} [${`*${n === 0 ? "a" : `b${n - 1}`},`.repeat(9)}]`).join(
          "\n"
        )
      }`,
      "alias"
    ]
  ])("names file and mistake of %j", (text, part) => {
    const [document] = Yaml.parse("f.yaml", text)
    assert.isDefined(document)
    assert.isTrue("problem" in document && document.problem.startsWith("f.yaml: "))
    assert.include("problem" in document ? document.problem.toLowerCase() : "", part)
  })
})
