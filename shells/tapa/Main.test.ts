import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schedule, Stream } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Ambassador } from "../../core/tapa/index.ts"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as Client from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as Settings from "../runtime/Settings.ts"
import * as Config from "./Config.ts"
import { graceMs } from "./Main.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "tapa-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

describe("sluice tapa", () => {
  it.live(
    "serves at once, without NSP and NSM, reports health, and drains when it is told to end",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const files = yield* folder
        const health = `unix://${files}/health.sock`
        const child = spawn(process.execPath, [join(import.meta.dirname, "../cli/Main.ts"), "tapa"], {
          env: {
            PATH: process.env["PATH"],
            SLUICE_HEALTH_SOCKET: health,
            MERIDIO_SOCKET: `${files}/ambassador.sock`,
            MERIDIO_NSM_SOCKET: `unix://${files}/nsm.sock`,
            SLUICE_NSP_ADDRESS: `unix://${files}/nsp-{trench}.sock`
          },
          stdio: ["ignore", "pipe", "inherit"]
        })
        yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
        let log = ""
        child.stdout.on("data", (chunk: Buffer) => (log += chunk.toString()))
        const ended = once(child, "exit")
        for (const service of ["Startup", "Readiness", "Liveness", "Ambassador", "AmbassadorSvc"]) {
          const serving = yield* Health.check({ address: health, service }).pipe(
            Effect.filterOrFail((serving) => serving, () => "not serving yet"),
            Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 150 })
          )
          assert.isTrue(serving, service)
        }
        const client = yield* Client.make({ target: `unix://${files}/ambassador.sock`, waitForReady: true })
        const stream: Tap.Stream = { name: "s", conduit: { name: "c", trench: { name: "t" } } }
        yield* client.call(Tap.TapDefinition, "open", stream)
        const statuses = yield* client.stream(Tap.TapDefinition, "watch", stream).pipe(
          Stream.take(1),
          Stream.runCollect
        )
        assert.deepStrictEqual(statuses, [
          { streamStatus: [{ status: Tap.StreamStatus_Status.UNAVAILABLE, stream }] }
        ])
        child.kill("SIGTERM")
        assert.deepStrictEqual(yield* Effect.promise(() => ended), [0, null])
        for (const line of log.trim().split("\n")) assert.include(line, "\"service_id\":\"Meridio-tapa\"")
      })),
    30_000
  )
})

const decode = (env: Settings.Environment) => Result.getOrThrow(Settings.decode(Config.settings, env))

describe("The settings of the TAPA", () => {
  it("have Meridio's defaults", () => {
    const settings = decode({})
    assert.deepStrictEqual(Config.validate(settings), [])
    assert.strictEqual(Config.nspTarget(settings, "trench-a"), "nsp-service-trench-a.default:7778")
    assert.deepStrictEqual(Config.ofMachine(settings), {
      name: "nsc",
      node: "",
      namespace: "default",
      timeoutMs: 15_000,
      tokenLifetimeMs: 86_400_000,
      entryTimeoutMs: 30_000
    })
  })

  it("understand fallbacks and the misspelt names of old documents, in this order", () => {
    assert.strictEqual(decode({ MERIDIO_NSP_ETRY_TIMEOUT: "10s" }).entryTimeoutMs, 10_000)
    assert.strictEqual(decode({ MERIDIO_NSP_ETRY_TIMEOUT: "10s", NSP_ENTRY_TIMEOUT: "20s" }).entryTimeoutMs, 20_000)
    assert.strictEqual(decode({ MERIDO_GRPC_MAX_BACKOFF: "1s" }).maxBackoffMs, 1_000)
    assert.strictEqual(decode({ NSP_SERVICE_PORT: "tcp://10.0.0.1:1" }).nspServicePort, 7778)
    assert.strictEqual(decode({ NSM_SOCKET: "unix:///a" }).nsmSocket, "unix:///a")
  })

  it("leave the time to drain that MERIDIO_TIMEOUT asks for, and some for the sockets", () => {
    for (const MERIDIO_TIMEOUT of ["1ms", "15s", "2m"]) {
      const settings = decode({ MERIDIO_TIMEOUT })
      const stream = { trench: "t", conduit: "c", stream: "s" }
      const [idle] = Ambassador.init({ settings: Config.ofMachine(settings), seed: 1 })
      const [open] = Ambassador.step(idle, { _tag: "OpenRequested", reply: 0, stream }, 0)
      const at = { trench: "t", conduit: "c" }
      const [requesting] = Ambassador.step(open, { _tag: "QuerySucceeded", at, call: 0, connection: null }, 0)
      let [draining] = Ambassador.step(requesting, { _tag: "ShutdownRequested" }, 0)
      let now = 0
      while (!Ambassador.isStopped(draining)) {
        now = Ambassador.wake(draining) ?? Infinity
        assert.isBelow(now, graceMs(settings))
        draining = Ambassador.step(draining, { _tag: "Woken" }, now)[0]
      }
      assert.isAtLeast(now, 2 * settings.timeoutMs)
    }
  })

  it("refuse durations that leave no time", () => {
    const [problem] = Config.validate(decode({ MERIDIO_TIMEOUT: "-1s" }))
    assert.include(problem, "MERIDIO_TIMEOUT")
  })
})
