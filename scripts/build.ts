/**
 * Builds `dist/`: the `sluice` command with one bundle per subcommand, and the library, `core/` and the simulation, with types.
 *
 * Native add-ons stay outside of the bundle: they are resolved from node_modules at run time.
 */
import { execFileSync } from "node:child_process"
import { chmod, copyFile, readdir, rm, stat, writeFile } from "node:fs/promises"
import { commands } from "../shells/cli/Commands.ts"
import { bundle, bundleCommand } from "./bundle.ts"
import { fill } from "./codeCache.ts"
import { library } from "./library.ts"
import { page } from "./page.ts"

const started = Date.now()
await rm("dist", { recursive: true, force: true })
execFileSync("buf", ["generate"], { stdio: "inherit" })

await bundleCommand("dist")
await chmod("dist/sluice.cjs", 0o755)
// What the lab starts as processes of their own, and its default, lie beside it.
await bundle({ TargetApp: "shells/lab/TargetApp.ts", TrafficClient: "shells/lab/TrafficClient.ts" }, "dist/programs")
await copyFile("shells/lab/default-trench.yaml", "dist/programs/default-trench.yaml")
await writeFile("dist/programs/trace.html", await page())

await fill("dist/sluice.cjs", Object.keys(commands))

await library("dist")

let total = 0
for (const file of (await readdir("dist", { recursive: true })).filter((name) => /\.[cm]js$/.test(name))) {
  total += (await stat(`dist/${file}`)).size
}
process.stdout.write(`dist/sluice.cjs: ${Math.round(total / 1024)} kB with its programs, ${Date.now() - started} ms\n`)
