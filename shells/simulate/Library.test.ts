import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFileSync, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Profiles, Simulation } from "../../property-tests/simulation/index.ts"
import { library } from "../../scripts/library.ts"
import * as Replay from "../replay/Main.ts"
import * as Recordings from "./Recordings.ts"

const root = process.cwd()
const bin = (name: string): string => path.join(root, "node_modules/.bin", name)

/** The project of a user, somewhere else: with the built package, what it depends on, and nothing of the sources. */
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-user-"))
const home = path.join(folder, "node_modules/sluice")
const own = (...names: ReadonlyArray<string>): string => path.join(folder, ...names)
const write = (name: string, text: string): void => fs.writeFileSync(own(name), text)

beforeAll(async () => {
  fs.mkdirSync(home, { recursive: true })
  for (const name of fs.readdirSync(path.join(root, "node_modules"))) {
    if (!name.startsWith(".")) fs.symlinkSync(path.join(root, "node_modules", name), own("node_modules", name))
  }
  await library(path.join(home, "dist"))
  fs.copyFileSync(path.join(root, "package.json"), path.join(home, "package.json"))
  write("package.json", `{ "type": "module" }`)
  write(
    "tsconfig.json",
    JSON.stringify({
      compilerOptions: {
        module: "nodenext",
        target: "es2024",
        strict: true,
        exactOptionalPropertyTypes: true,
        noEmit: true,
        types: ["node"]
      },
      include: ["*.ts"]
    })
  )
}, 120_000)

afterAll(() => fs.rmSync(folder, { recursive: true }))

const run = (file: string): string =>
  execFileSync(process.execPath, [file], { cwd: folder, encoding: "utf8", timeout: 120_000 })

const runTests = () => {
  const { status, stderr, stdout } = spawnSync(bin("vitest"), ["run", "--root", folder], { encoding: "utf8" })
  return { status, text: `${stdout}${stderr}` }
}

const judgeTypes = (): void => void execFileSync(bin("tsc"), ["-p", folder], { encoding: "utf8" })

describe("The library sluice/simulation", () => {
  it("does in a user's project what docs/simulation.md says", () => {
    const docs = fs.readFileSync(path.join(root, "docs/simulation.md"), "utf8")
    const [, example = "", printed = ""] = /```ts\n((?:(?!```)[^])*)```\n\nIt prints\n\n```\n([^]*?)```/.exec(docs) ??
      []
    assert.include(example, "sluice/simulation")
    write("example.ts", example)
    write(
      "page.ts",
      `import { Profiles, Recordings, Simulation, TracePage } from "sluice/simulation"
const life = Simulation.run({ profile: Profiles.profiles.calm, seed: 1, trace: true })
const page: string = await TracePage.html({ title: "calm", command: "" }, life)
const tapes = life.journal === undefined ? [] : Recordings.of(life.journal)
console.log(page.startsWith("<!doctype html>"), page.includes("application/octet-stream"), tapes.length > 20)
`
    )
    judgeTypes()
    assert.strictEqual(run("example.ts"), printed)
    assert.strictEqual(run("page.ts"), "true true true\n")
  }, 240_000)
})

describe("A test that sluice replay writes", () => {
  it("holds in a user's project, and fails once the machine of the package decides otherwise", async () => {
    const { journal } = Simulation.run({ profile: Profiles.profiles.calm, seed: 1, trace: true })
    assert.isDefined(journal)
    if (journal !== undefined) Recordings.write(own("tapes"), journal)
    const tape = fs.readdirSync(own("tapes")).find((name) => name.startsWith("target-0.1.tapa-")) ?? ""
    const said: Array<string> = []
    const say = (line: string): void => void said.push(line)
    const words = [own("tapes", tape), "--to", "20", "--test", own("tapa.test.ts")]
    assert.strictEqual(await Replay.command.run(words, { env: {}, out: say, err: say }), 0, said.join("\n"))
    const text = fs.readFileSync(own("tapa.test.ts"), "utf8")
    assert.match(
      text,
      /import \{ Woken \} from "sluice\/core\/Machine"\nimport \{ Ambassador \} from "sluice\/core\/tapa"/
    )
    assert.notInclude(text, root)

    write("vitest.config.mjs", "export default {}\n")
    judgeTypes()
    const right = runTests()
    assert.strictEqual(right.status, 0, right.text)
    assert.match(right.text, /1 passed/)

    const module = path.join(home, "dist/core/tapa/Ambassador.js")
    const before = fs.readFileSync(module, "utf8")
    const after = before.replace("opened: opened + 1", "opened: opened + 2")
    assert.notStrictEqual(after, before)
    fs.writeFileSync(module, after)
    const wrong = runTests()
    fs.writeFileSync(module, before)
    assert.strictEqual(wrong.status, 1, wrong.text)
    assert.match(wrong.text, /AssertionError[^]*-\s+"opened": 1[^]*\+\s+"opened": 2/)
  }, 240_000)
})
