/** Work inside another network namespace. Apart from `Namespace.ts`, as it needs native code that few programs need. */
import koffi from "koffi"
import * as fs from "node:fs"
import * as Namespace from "./Namespace.ts"

/**
 * Runs a synchronous function in the namespace and returns to the previous one before anything else can run.
 *
 * The function must not hand work to other threads (no asynchronous file or DNS calls): they stay where they are.
 * Sockets made inside belong to that namespace for ever. Throws NamespaceError, or what the function throws.
 */
export const run = <A>(path: string, f: () => A): A => {
  const target = Namespace.openPath(path)
  const home = Namespace.openPath(Namespace.ownPath)
  try {
    enter(target, path)
    try {
      return f()
    } finally {
      // Should this fail, the process would go on in the wrong namespace: nothing it does afterwards can be right.
      if (setns(home, CLONE_NEWNET) !== 0) process.abort()
    }
  } finally {
    fs.closeSync(target)
    fs.closeSync(home)
  }
}

const CLONE_NEWNET = 0x40000000

const libc = koffi.load(null)
const setns: (fd: number, type: number) => number = libc.func("setns", "int", ["int", "int"])

const enter = (fd: number, path: string): void => {
  if (setns(fd, CLONE_NEWNET) === 0) return
  throw new Namespace.NamespaceError({
    namespace: path,
    detail: `cannot be entered (errno ${koffi.errno()}); it needs CAP_SYS_ADMIN and a path of a network namespace`
  })
}
