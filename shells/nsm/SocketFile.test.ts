import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import * as SocketFile from "./SocketFile.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sl-socket-"))),
  (at) => Effect.sync(() => fs.rmSync(at, { recursive: true, force: true }))
)

const program = `
  const fs = require("node:fs"), net = require("node:net")
  net.createServer((socket) => socket.end("hidden")).listen(process.argv[1], () => {
    const { dev, ino } = fs.statSync(process.argv[1])
    console.log("inode://" + dev + "/" + ino)
  })`

/** A server in a mount and network namespace of its own; gives the name of its socket. */
const hidden = (at: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ readonly url: string; readonly stop: () => void }>((resume) => {
        const script = `mount -t tmpfs none ${at} && exec ${process.execPath} -e '${program}' ${at}/x.sock`
        const child = spawn("unshare", ["--mount", "--net", "sh", "-c", script], {
          stdio: ["ignore", "pipe", "inherit"]
        })
        child.stdout.once("data", (line: Buffer) =>
          resume(Effect.succeed({
            url: line.toString().trim(),
            stop: () => void child.kill("SIGKILL")
          })))
      }),
      ({ stop }) => Effect.sync(stop)
    ),
    ({ url }) => url
  )

const read = (file: string) =>
  Effect.callback<string>((resume) => {
    const socket = net.connect(file)
    socket.once("data", (bytes) => resume(Effect.succeed(bytes.toString())))
    socket.once("error", ({ message }) => resume(Effect.succeed(message)))
  })

describe("SocketFile", () => {
  it.live("finds a socket that only another mount namespace has", () =>
    Effect.gen(function*() {
      const at = yield* folder
      const url = yield* hidden(at)
      assert.isFalse(fs.existsSync(`${at}/x.sock`))
      for (const _ of ["found", "remembered"]) {
        const said = yield* Effect.scoped(Effect.flatMap(SocketFile.open(url), read))
        assert.strictEqual(said, "hidden")
      }
    }))

  it.live("says that nobody listens on a name that no socket has", () =>
    Effect.gen(function*() {
      const { details } = yield* Effect.flip(SocketFile.open("inode://0/1"))
      assert.include(details, "inode://0/1")
      assert.isFalse(SocketFile.isNamed("unix:///x.sock"))
    }))
})
