#!/usr/bin/env node
/**
 * `sluice` as it is built. Beside each of its files lies the code that V8 had made of it when the build had run it for a
 * while (see `scripts/codeCache.ts`), so that a start compiles nothing.
 *
 * Node's own compile cache holds only what is compiled when a file is loaded, not what it calls then: a sidecar took
 * 17 of 80 ms to compile that. Any user may read the code, and V8 leaves it if it is of another version.
 */
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname } from "node:path"
import vm from "node:vm"
import { run } from "./Sluice.ts"

/** What CommonJS makes of a file. */
type Body = (exports: unknown, require: NodeJS.Require, module: NodeJS.Module, file: string, folder: string) => void

const isBody = (value: unknown): value is Body => typeof value === "function"

const load = (module: NodeJS.Module, file: string): void => {
  const source = `(function(exports,require,module,__filename,__dirname){${readFileSync(file, "utf8")}\n})`
  const body: unknown = new vm.Script(source, { filename: file, cachedData: codeOf(file) }).runInThisContext()
  if (isBody(body)) body(module.exports, createRequire(file), module, file, dirname(file))
}

/** The name of a bundled file contains its hash, so that its code is never of another source. */
const codeOf = (file: string): Buffer | undefined => {
  try {
    return readFileSync(`${file}.code`)
  } catch {
    return undefined
  }
}

createRequire(import.meta.url).extensions[".cjs"] = load
void run(process.argv.slice(2))
