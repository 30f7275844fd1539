import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync } from "node:fs"
import * as net from "node:net"
import { dirname, join } from "node:path"
import * as SocketFolder from "./SocketFolder.ts"

/** Listens in a folder of the kind in another process, which says where and stays. */
const listener = (kind: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const program = `
        import { Effect } from "effect"
        import { createServer } from "node:net"
        import * as SocketFolder from "${import.meta.dirname}/SocketFolder.ts"
        await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
          const path = (yield* SocketFolder.make("${kind}")) + "/own.sock"
          createServer().listen(path, () => console.log(path))
          yield* Effect.never
        })))`
      const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      const [path] = await once(child.stdout, "data")
      return { child, folder: dirname(String(path).trim()) }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

it.live("a folder for sockets outlives others of its kind, ends with its scope, and goes when its owner was killed", () =>
  Effect.gen(function*() {
    const kind = `test${process.pid}`
    const { child, folder } = yield* listener(kind)
    const own = yield* Effect.scoped(Effect.gen(function*() {
      const own = yield* SocketFolder.make(kind)
      assert.isTrue(existsSync(folder), "somebody listens there")
      const server = net.createServer().listen(join(own, "own.sock"))
      yield* Effect.promise(() => once(server, "listening"))
      yield* SocketFolder.make(kind)
      assert.isTrue(existsSync(own))
      server.close()
      return own
    }))
    assert.isFalse(existsSync(own))
    child.kill("SIGKILL")
    yield* Effect.promise(() => once(child, "exit"))
    assert.isTrue(existsSync(folder))
    yield* SocketFolder.make(kind)
    assert.isFalse(existsSync(folder))
  }))
