import { assert, describe, it } from "@effect/vitest"
import { Effect, Queue, Schedule } from "effect"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as ApiServer from "../../property-tests/fixtures/ApiServer.ts"
import * as Kubernetes from "../kubernetes/Kubernetes.ts"

const name = "meridio-configuration-t"
const configMap: ApiServer.Thing = {
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name },
  data: { trench: "name: t\n" }
}

const account = "/var/run/secrets/kubernetes.io/serviceaccount"

/**
 * The NSP of a pod: in a mount namespace of its own with the service account that Kubernetes mounts, which names the
 * authority and holds the token.
 */
const inPod = (api: ApiServer.ApiServer, ca: string) =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-pod-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    writeFileSync(join(folder, "ca.crt"), ca)
    writeFileSync(join(folder, "token"), "token-of-the-pod")
    writeFileSync(join(folder, "namespace"), "red")
    const mount = `mount -t tmpfs tmpfs /var/run/ && mkdir -p ${account} && cp ${folder}/* ${account}/ && exec "$@"`
    const program = [process.execPath, "shells/cli/Main.ts", "nsp"]
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn("unshare", ["--mount", "sh", "-ec", mount, "pod", ...program], {
          env: {
            PATH: process.env["PATH"],
            HOME: "/nonexistent",
            KUBERNETES_SERVICE_HOST: "127.0.0.1",
            KUBERNETES_SERVICE_PORT: String(api.port),
            NSP_CONFIG_MAP_NAME: name,
            NSP_NAMESPACE: "red",
            NSP_DATASOURCE: ":memory:",
            NSP_PORT: "0",
            SLUICE_HEALTH_SOCKET: join(folder, "health.sock")
          },
          stdio: ["ignore", "pipe", "inherit"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    let log = ""
    child.stdout.on("data", (data) => log += String(data))
    return {
      logs: (text: string) =>
        Effect.suspend(() => log.includes(text) ? Effect.void : Effect.fail(log)).pipe(
          Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 400 })
        )
    }
  })

describe.skipIf(process.getuid?.() !== 0)("the NSP in a pod", () => {
  it.live(
    "follows the ConfigMap over TLS with the authority and the token of its service account",
    () =>
      Effect.gen(function*() {
        const api = yield* ApiServer.start(Kubernetes.pathOf("red", "configmaps"), "https")
        yield* api.put(configMap)
        const nsp = yield* inPod(api, api.ca)
        yield* nsp.logs("Configuration of trench t is in force")
        const { authorization } = yield* Queue.take(api.asked)
        assert.strictEqual(authorization, "Bearer token-of-the-pod")
      }),
    40_000
  )

  it.live(
    "does not show its token to a server for which another authority vouches, and says why",
    () =>
      Effect.gen(function*() {
        const path = Kubernetes.pathOf("red", "configmaps")
        const [api, other] = [yield* ApiServer.start(path, "https"), yield* ApiServer.start(path, "https")]
        yield* api.put(configMap)
        const nsp = yield* inPod(api, other.ca)
        yield* nsp.logs("The ConfigMap cannot be watched, trying again")
        yield* nsp.logs("certificate")
        assert.strictEqual(yield* Queue.size(api.asked), 0)
      }),
    40_000
  )
})
