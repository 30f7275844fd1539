import { assert, describe, it } from "@effect/vitest"
import * as fs from "node:fs"
import * as path from "node:path"
import { pathToFileURL } from "node:url"

const root = path.join(import.meta.dirname, "..")
const readme = fs.readFileSync(path.join(root, "README.md"), "utf8")

describe("The README", () => {
  it("has an example that gives what it says", async () => {
    const [, example = ""] = /```ts\n([\s\S]*?)```/.exec(readme) ?? []
    const [, expression = "", expected = ""] = /^(.*) \/\/ => (.*)$/m.exec(example) ?? []
    const source = example
      .replaceAll(
        /"sluice\/core\/(\w+)"/g,
        (_, name: string) => JSON.stringify(path.join(root, `core/${name}/index.ts`))
      )
      .replace(`${expression} // => ${expected}`, `export const actual = ${expression}`)
    const folder = fs.mkdtempSync(path.join(root, ".cache-readme-"))
    try {
      const file = path.join(folder, "example.ts")
      fs.writeFileSync(file, source)
      const module: unknown = await import(pathToFileURL(file).href)
      assert.isTrue(typeof module === "object" && module !== null && "actual" in module && module.actual === expected)
    } finally {
      fs.rmSync(folder, { recursive: true })
    }
  })

  it("names only npm scripts that exist", () => {
    const scripts: unknown = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8")).scripts
    assert.isTrue(typeof scripts === "object" && scripts !== null)
    for (const [, name = ""] of readme.matchAll(/npm run ([\w-]+)/g)) assert.property(scripts, name)
  })
})
