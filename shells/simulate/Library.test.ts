import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { library } from "../../scripts/library.ts"

const root = process.cwd()
const bin = (name: string): string => path.join(root, "node_modules/.bin", name)

/** A folder of a user, with the built package and nothing of the sources. */
const withPackage = async (use: (folder: string) => void): Promise<void> => {
  fs.mkdirSync(path.join(root, ".cache"), { recursive: true })
  const folder = fs.mkdtempSync(path.join(root, ".cache/sluice-user-"))
  try {
    const home = path.join(folder, "node_modules/sluice")
    await library(path.join(home, "dist"))
    fs.copyFileSync(path.join(root, "package.json"), path.join(home, "package.json"))
    fs.writeFileSync(path.join(folder, "package.json"), `{ "type": "module" }`)
    fs.writeFileSync(
      path.join(folder, "tsconfig.json"),
      JSON.stringify({
        compilerOptions: {
          module: "nodenext",
          target: "es2024",
          strict: true,
          exactOptionalPropertyTypes: true,
          noEmit: true,
          types: ["node"],
          typeRoots: [path.join(root, "node_modules/@types")]
        },
        include: ["*.ts"]
      })
    )
    use(folder)
  } finally {
    fs.rmSync(folder, { recursive: true })
  }
}

describe("The library sluice/simulation", () => {
  it("does in a user's project what docs/simulation.md says", async () => {
    const docs = fs.readFileSync(path.join(root, "docs/simulation.md"), "utf8")
    const [, example = "", printed = ""] = /```ts\n((?:(?!```)[^])*)```\n\nIt prints\n\n```\n([^]*?)```/.exec(docs) ??
      []
    assert.include(example, "sluice/simulation")
    await withPackage((folder) => {
      fs.writeFileSync(path.join(folder, "example.ts"), example)
      fs.writeFileSync(
        path.join(folder, "page.ts"),
        `import { Profiles, Recordings, Simulation, TracePage } from "sluice/simulation"
const life = Simulation.run({ profile: Profiles.profiles.calm, seed: 1, trace: true })
const page: string = await TracePage.html({ title: "calm", command: "" }, life)
const tapes = life.journal === undefined ? [] : Recordings.of(life.journal)
console.log(page.startsWith("<!doctype html>"), page.includes("application/octet-stream"), tapes.length > 20)
`
      )
      execFileSync(bin("tsc"), ["-p", folder], { encoding: "utf8" })
      const run = (file: string): string =>
        execFileSync(process.execPath, [file], { cwd: folder, encoding: "utf8", timeout: 120_000 })
      assert.strictEqual(run("example.ts"), printed)
      assert.strictEqual(run("page.ts"), "true true true\n")
    })
  }, 240_000)
})
