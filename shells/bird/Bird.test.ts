import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as Namespace from "../netlink/Namespace.ts"
import * as Bird from "./Bird.ts"
import * as Control from "./Control.ts"

const base = "router id 10.0.0.1;\nlog stderr all;\nprotocol device 'DEVICE' { }\n" +
  "protocol bfd 'NBR-BFD' { accept direct; }\n"

let counter = 0

/** A BIRD in a namespace and a folder of its own, not yet started. */
const world = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sl-bird-"))),
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  )
  const namespace = yield* Namespace.scoped(`sl-bird-${process.pid}-${counter++}`)
  const options: Bird.Options = {
    command: ["nsenter", `--net=${namespace}`, "bird"],
    configFile: path.join(folder, "conf", "bird.conf"),
    socket: path.join(folder, "bird.ctl")
  }
  return options
})

describe("Bird", () => {
  it.live("runs, shows its sessions, takes a configuration, and ends with its scope", () =>
    Effect.gen(function*() {
      const options = yield* world
      const bird = Bird.make(options)
      const scope = yield* Scope.make()
      const { exited, version } = yield* Scope.provide(bird.start(base), scope)
      assert.match(version, /^[23]\.\d+/)
      assert.deepStrictEqual(yield* bird.sessions, {
        protocols: [{ name: "NBR-BFD", kind: "BFD", state: "up", info: "" }],
        sessions: []
      })
      const more = `${base}protocol static 'NBR-s' { ipv4; route 0.0.0.0/0 via 10.0.0.9%'x'; }\n`
      assert.deepStrictEqual(yield* bird.configure(more), { _tag: "Accepted" })
      assert.include((yield* bird.sessions).protocols.map(({ name }) => name), "NBR-s")
      assert.strictEqual(fs.readFileSync(options.configFile, "utf8"), more)
      assert.strictEqual(fs.statSync(options.configFile).mode & 0o777, 0o600)
      yield* Scope.close(scope, Exit.void)
      assert.match(yield* exited, /^exit code 0/)
    }))

  it.live("keeps its configuration when the next one is refused, and says where it is wrong", () =>
    Effect.gen(function*() {
      const options = yield* world
      const bird = Bird.make(options)
      yield* bird.start(base)
      const verdict = yield* bird.configure(`${base}protocol static {\n  ipv4; rout\n}\n`)
      assert.isTrue(verdict._tag === "Refused" && /bird\.conf\.new:6:\d+ syntax error/.test(verdict.message))
      assert.strictEqual(fs.readFileSync(options.configFile, "utf8"), base)
      assert.strictEqual((yield* bird.sessions).protocols.length, 1)
    }))

  it.live("says why it does not start", () =>
    Effect.gen(function*() {
      const bird = Bird.make(yield* world)
      const error = yield* Effect.flip(Effect.scoped(bird.start("nonsense\n")))
      assert.match(error.detail, /exit code 1, last words: .*syntax error/)
      const missing = Bird.make({ ...(yield* world), command: ["/nonexistent/bird"] })
      assert.match((yield* Effect.flip(Effect.scoped(missing.start(base)))).detail, /ENOENT/)
    }))

  it.live("ends when it is told to, and is started again over what an earlier life left", () =>
    Effect.gen(function*() {
      const options = yield* world
      const first = yield* Bird.make(options).start(base)
      // Another life of the program, which knows nothing of the first process.
      const bird = Bird.make(options)
      const second = yield* bird.start(base)
      assert.match(yield* first.exited, /^exit code 0/)
      yield* bird.stop
      assert.match(yield* second.exited, /^exit code 0/)
      assert.match((yield* Effect.flip(bird.sessions)).detail, /ENOENT|ECONNREFUSED/)
    }))

  it("joins the lines of a reply", () => {
    assert.deepStrictEqual(
      Control.parse(["1020-NBR-BFD:", " 10.0.0.1 x Up", "+a log line", "1020-again", "0000 "]),
      { code: 1020, text: "NBR-BFD:\n10.0.0.1 x Up\nagain\n" }
    )
    assert.deepStrictEqual(Control.parse(["0002-Reading configuration from x", "8002 x:1:1 no"]), {
      code: 8002,
      text: "Reading configuration from x\nx:1:1 no\n"
    })
  })
})
