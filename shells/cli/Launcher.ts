#!/usr/bin/env node
/**
 * `sluice` as it is built: the command with the compile cache beside it, which the build fills and which may be
 * read-only. `NODE_COMPILE_CACHE=FOLDER` names another, `NODE_DISABLE_COMPILE_CACHE=1` does without.
 */
import { enableCompileCache } from "node:module"
import { join } from "node:path"
import { run } from "./Sluice.ts"

enableCompileCache(join(import.meta.dirname, "cache"))
await run(process.argv.slice(2))
