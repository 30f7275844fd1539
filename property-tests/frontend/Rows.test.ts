import { assert, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"

const folders = ["../../core/frontend/", "../../core/loadbalancer/", "./", "../loadbalancer/"]
  .map((folder) => new URL(folder, import.meta.url))
const invariants = Array.from({ length: 24 }, (_, i) => String(i + 1))

it("every invariant of frontend and load balancer has a property that names it", () => {
  const texts = folders.flatMap((folder) =>
    readdirSync(folder).filter((file) => file.endsWith(".test.ts")).map((file) =>
      readFileSync(new URL(file, folder), "utf8")
    )
  )
  // In the title of a property, or in an assertion of the invariant that every step of the machine is held to.
  const named = texts.filter((text) => text.includes("it.prop(")).flatMap((text) =>
    [...text.matchAll(/"(\d+): [a-z]/gi)].map(([, number = ""]) => number)
  )
  assert.deepStrictEqual(invariants.filter((each) => !named.includes(each)), [])
})
