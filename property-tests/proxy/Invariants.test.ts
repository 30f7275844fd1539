import { assert, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"

const root = new URL("../../", import.meta.url)
const folders = ["core/ipam/", "core/proxy/", "property-tests/proxy/", "shells/netlink/", "shells/proxy/"]

it("every invariant of IPAM and proxy has a test of its name", () => {
  const sources = folders.flatMap((folder) =>
    readdirSync(new URL(folder, root))
      .filter((file) => file.endsWith(".test.ts"))
      .map((file) => readFileSync(new URL(`${folder}${file}`, root), "utf8"))
  )
  const names = sources.flatMap((text) =>
    [...text.matchAll(/\b(?:it|describe)[.\w]*\(\s*"([^"]+)"/g)].map(([, name = ""]) => name)
  )
  const tested = new Set(names.flatMap((name) => name.match(/\bI\d+\b/g) ?? []))
  const invariants = Array.from({ length: 19 }, (_, i) => `I${i + 1}`)
  assert.deepStrictEqual(invariants.filter((invariant) => !tested.has(invariant)), [])
})
