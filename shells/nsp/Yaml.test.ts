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

  it("keeps the source text of scalars, and knows null from its text", () => {
    const text = "a: 5000\nb: '5'\nc: 0x10\nd: 010\ne: true\nf: 1.10\ng: null\nh: ~\ni:\nj: 'null'\nk: [~, 1_000]\n"
    assert.deepStrictEqual(Yaml.sources("f", text), {
      value: {
        a: "5000",
        b: "5",
        c: "0x10",
        d: "010",
        e: "true",
        f: "1.10",
        g: null,
        h: null,
        i: null,
        j: "null",
        k: [null, "1_000"]
      }
    })
    for (const empty of ["", "# nothing\n", "null\n"]) {
      assert.deepStrictEqual(Yaml.sources("f", empty), { value: null })
    }
  })

  it.each([["a: 1\na: 2", "unique"], ["a: 1\n---\nb: 2", "2 documents"], ["a: [", "flow"]])(
    "names the mistake where one document with unique keys is expected: %j",
    (text, part) => {
      const document = Yaml.sources("data.flows", text)
      assert.isTrue("problem" in document && document.problem.startsWith("data.flows: "))
      assert.include("problem" in document ? document.problem.toLowerCase() : "", part)
    }
  )

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
