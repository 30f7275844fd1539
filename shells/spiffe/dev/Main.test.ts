import { assert, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import * as Spiffe from "../Spiffe.ts"
import { command } from "./Main.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-spiffe-dev-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** The program with its lines; it gets SIGTERM when the scope ends. */
const started = (words: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const lines = yield* Queue.unbounded<string>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(process.execPath, ["shells/cli/Main.ts", "spiffe-dev", ...words])),
      (child) =>
        Effect.callback<void>((resume) => {
          child.once("close", (code) => {
            assert.strictEqual(code, 143)
            resume(Effect.void)
          })
          child.kill("SIGTERM")
        })
    )
    createInterface(child.stdout).on("line", (line) => Queue.offerUnsafe(lines, line))
    return lines
  })

it.live(
  "sluice spiffe-dev gives each identity on its own socket, and says that it is for development",
  () =>
    Effect.gen(function*() {
      const at = yield* folder
      const [a, b] = ["spiffe://example.org/a", "spiffe://example.org/b"]
      const words = ["--id", a, "--socket", `${at}/a.sock`, "--identity", `${b}=${at}/b.sock`, "--ttl", "10m"]
      const lines = yield* started(words)
      assert.strictEqual(yield* Queue.take(lines), `${b} at unix://${at}/b.sock (development only)`)
      assert.strictEqual(yield* Queue.take(lines), `${a} at unix://${at}/a.sock (development only)`)
      for (const [id, file] of [[a, "a"], [b, "b"]] as const) {
        const spiffe = yield* Spiffe.make({ endpoint: `unix://${at}/${file}.sock` })
        const svid = yield* spiffe.current
        assert.strictEqual(svid.id.text, id)
        assert.isBelow(svid.notAfter, Date.now() + 600_001)
      }
    }),
  30_000
)

it.live("what cannot be served is refused with a reason and code 2", () =>
  Effect.gen(function*() {
    const refusals = [
      [[], "no identity is given"],
      [["--id", "spiffe://a/b"], "belong together"],
      [["--identity", "spiffe://a=/x.sock"], "no path"],
      [["--identity", "https://a/b=/x.sock"], "not a SPIFFE id"],
      [["--identity", "spiffe://a/b=x.sock"], "not an absolute path"],
      [["--identity", "spiffe://a/b=/x.sock", "--ttl", "soon"], "--ttl"],
      [["--identity", "spiffe://a/b=/x.sock", "--ttl", "1ms"], "--ttl"]
    ] as const
    for (const [words, reason] of refusals) {
      const said: Array<string> = []
      const world = { env: {}, out: () => undefined, err: (line: string) => void said.push(line) }
      assert.strictEqual(yield* Effect.promise(() => command.run(words, world)), 2)
      assert.include(said[0], reason)
    }
  }))
