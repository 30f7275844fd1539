/** Makes the library: `core/` and the simulation as modules with types, so that a user's own bundler drops what is not imported. */
import { execFileSync } from "node:child_process"
import { writeFile } from "node:fs/promises"
import { page } from "./page.ts"

/** Writes it into a folder, from which the `exports` of the package take it. */
export const library = async (folder: string): Promise<void> => {
  execFileSync("tsc", ["-p", "scripts/tsconfig.library.json", "--outDir", folder], { stdio: "inherit" })
  await writeFile(`${folder}/shells/simulate/trace.html`, await page())
}
