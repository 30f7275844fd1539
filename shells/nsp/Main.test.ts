import { assert, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { stringify } from "yaml"
import { everything } from "../../property-tests/fixtures/Manifests.ts"
import { TargetRegistryDefinition } from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as Client from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as TargetWire from "./TargetWire.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sluice-nsp-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true }))
)

const spawned = (path: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["shells/cli/Main.ts", "nsp"], {
        env: {
          ...process.env,
          NSP_CONFIG_PATH: join(path, "trench.yaml"),
          NSP_DATASOURCE: join(path, "registry.db"),
          NSP_PORT: "0",
          SLUICE_HEALTH_SOCKET: join(path, "health.sock")
        }
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

/** The port from the log line of a process that serves. */
const portOf = (child: ChildProcess) =>
  Effect.callback<number>((resume) => {
    let log = ""
    child.stdout?.on("data", (data) => {
      const [, port] = /"message":"Listening".*"port":(\d+)/.exec(log += String(data)) ?? []
      if (port !== undefined) resume(Effect.succeed(Number(port)))
    })
  }).pipe(Effect.timeout("20 seconds"))

const ended = (child: ChildProcess, signal: NodeJS.Signals) =>
  Effect.callback<number | null>((resume) => {
    child.on("exit", (code) => resume(Effect.succeed(code)))
    child.kill(signal)
  })

it.live(
  "sluice nsp keeps its targets over kill -9, answers probes, and ends with 0 on SIGTERM",
  () =>
    Effect.gen(function*() {
      const path = yield* folder
      fs.writeFileSync(join(path, "trench.yaml"), everything.map((one) => stringify(one)).join("---\n"))
      const target = TargetWire.toTarget({
        kind: "default",
        stream: { trench: "t", conduit: "c", stream: "s" },
        ips: ["172.16.0.1/24"],
        context: { identifier: "7" },
        status: "enabled"
      })
      const first = yield* spawned(path)
      const before = yield* Client.make({ target: `127.0.0.1:${yield* portOf(first)}` })
      yield* before.call(TargetRegistryDefinition, "register", target)
      yield* before.call(TargetRegistryDefinition, "register", target)
      yield* ended(first, "SIGKILL")

      const second = yield* spawned(path)
      const after = yield* Client.make({ target: `127.0.0.1:${yield* portOf(second)}` })
      const answers = yield* Stream.runCollect(Stream.take(after.stream(TargetRegistryDefinition, "watch", target), 1))
      assert.deepStrictEqual(answers.map(({ targets }) => targets), [[target]])
      const probe = Health.check({ address: `unix://${path}/health.sock`, service: Health.probes.liveness })
      yield* Effect.timeout(Effect.repeat(probe, { until: (isServing) => isServing }), "5 seconds")
      assert.strictEqual(yield* ended(second, "SIGTERM"), 0)
    }),
  60_000
)
