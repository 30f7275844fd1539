/**
 * Loaded ahead of a built command by `codeCache.ts`: writes the code of each bundled file when the process ends, with
 * all that has run until then. A file whose code is already there is left alone.
 */
import { writeFileSync } from "node:fs"
import vm from "node:vm"

class Script extends vm.Script {
  constructor(source: string, options: vm.ScriptOptions) {
    super(source, options)
    if (this.cachedDataRejected === false) return
    process.on("exit", () => writeFileSync(`${options.filename}.code`, this.createCachedData()))
  }
}

Object.assign(vm, { Script })
