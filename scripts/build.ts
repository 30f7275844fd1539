/**
 * Builds `dist/`: the `sluice` command with one lazily loaded chunk per subcommand, and `core/` as a library with types.
 *
 * Native add-ons stay outside of the bundle: they are resolved from node_modules at run time.
 */
import { execFileSync } from "node:child_process"
import { chmod, copyFile, readdir, rm, stat } from "node:fs/promises"
import { bundle } from "./bundle.ts"

const started = Date.now()
await rm("dist", { recursive: true, force: true })
execFileSync("buf", ["generate"], { stdio: "inherit" })

await bundle({
  sluice: "shells/cli/Main.ts",
  // Plain scripts that the lab starts as processes of their own; they lie beside the chunk that starts them.
  "chunks/TargetApp": "shells/lab/TargetApp.ts",
  "chunks/TrafficClient": "shells/lab/TrafficClient.ts"
}, "dist")
await chmod("dist/sluice.mjs", 0o755)
await copyFile("shells/lab/default-trench.yaml", "dist/chunks/default-trench.yaml")

// The library keeps its modules, so that a user's own bundler drops what is not imported.
execFileSync("tsc", ["-p", "scripts/tsconfig.library.json"], { stdio: "inherit" })

let total = 0
for (const file of (await readdir("dist", { recursive: true })).filter((name) => name.endsWith(".mjs"))) {
  total += (await stat(`dist/${file}`)).size
}
process.stdout.write(`dist/sluice.mjs: ${Math.round(total / 1024)} kB with its chunks, ${Date.now() - started} ms\n`)
