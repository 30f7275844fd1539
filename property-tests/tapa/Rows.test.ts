import { assert, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"

const folder = new URL("../../core/tapa/", import.meta.url)
const rows = Object.entries({ A: 17, C: 19, S: 29 }).flatMap(([letter, count]) =>
  Array.from({ length: count }, (_, i) => `${letter}${i + 1}`)
)

it("every row of the state machine's table has a test of its name", () => {
  const tests = readdirSync(folder).filter((file) => file.endsWith(".test.ts"))
  const names = tests.flatMap((file) =>
    [...readFileSync(new URL(file, folder), "utf8").matchAll(/\bit\("([^"]+)"/g)].map(([, name = ""]) => name)
  )
  const tested = new Set(names.flatMap((name) => name.match(/\b[ACS]\d+\b/g) ?? []))
  assert.deepStrictEqual(rows.filter((row) => !tested.has(row)), [])
})
