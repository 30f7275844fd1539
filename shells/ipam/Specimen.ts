/** The world of the IPAM's tests: an NSP that lists conduits, and the program in a process of its own. */
import { Deferred, Effect, Stream, SubscriptionRef } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Child, IpamDefinition, IPFamily } from "../../proto/gen/api/ipam/v1/ipam.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import * as Client from "../grpc/Client.ts"
import * as Server from "../grpc/Server.ts"

/** A folder that goes with the scope. */
export const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-ipam-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

const none = () => Stream.never

/** An NSP that lists the conduits in the reference. */
const fakeNsp = (address: string, conduits: SubscriptionRef.SubscriptionRef<ReadonlyArray<string>>) => {
  return Server.serve({
    address,
    services: [Server.service(ConfigurationManagerDefinition, {
      watchConduit: () =>
        Stream.map(SubscriptionRef.changes(conduits), (names) => ({
          conduits: names.map((name) => ({ name, trench: { name: "trench-a" }, destinationPortNats: [] }))
        })),
      watchTrench: none,
      watchStream: none,
      watchFlow: none,
      watchVip: none,
      watchAttractor: none,
      watchGateway: none
    })]
  })
}

/** A folder with an NSP that lists `conduit-a`. */
export const world = Effect.gen(function*() {
  const path = yield* folder
  const conduits = yield* SubscriptionRef.make<ReadonlyArray<string>>(["conduit-a"])
  yield* fakeNsp(`unix://${path}/nsp.sock`, conduits)
  return { path, conduits }
})

/** `sluice ipam` in a process of its own, serving on a free port. */
export const program = (path: string, env: { readonly [name: string]: string } = {}) =>
  Effect.gen(function*() {
    const serving = yield* Deferred.make<number, string>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, ["shells/cli/Main.ts", "ipam"], {
          env: {
            ...process.env,
            IPAM_PORT: "0",
            IPAM_TRENCH_NAME: "trench-a",
            IPAM_NSP_SERVICE: `unix://${path}/nsp.sock`,
            IPAM_DATASOURCE: `${path}/data/registry.db`,
            SLUICE_HEALTH_SOCKET: `${path}/health.sock`,
            ...env
          }
        })
      ),
      (child) => Effect.promise(() => ended(child, "SIGKILL"))
    )
    let text = ""
    child.stdout.on("data", (data) => {
      text += String(data)
      const port = /"message":"Serving"[^\n]*:(\d+)"/.exec(text)?.[1]
      if (port !== undefined) Deferred.doneUnsafe(serving, Effect.succeed(Number(port)))
    })
    child.stderr.on("data", (data) => text += String(data))
    child.on("close", (code) => Deferred.doneUnsafe(serving, Effect.fail(`code ${code} ${text}`)))
    const port = yield* Effect.orDie(Deferred.await(serving))
    return { child, text: () => text, client: yield* Client.make({ target: `127.0.0.1:${port}` }) }
  })

/** Sends the signal and waits for the end; the result is the exit code. */
export const ended = (child: ChildProcess, signal: NodeJS.Signals) =>
  new Promise<number | null>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode)
    child.once("close", (code) => resolve(code))
    child.kill(signal)
  })

/** A request; all but the name is usual. */
export const child = (name: string, more: { conduit?: string; node?: string; family?: IPFamily } = {}): Child => ({
  name,
  subnet: {
    conduit: { name: more.conduit ?? "conduit-a", trench: { name: "trench-a" }, destinationPortNats: [] },
    node: more.node ?? "node-1",
    ipFamily: more.family ?? IPFamily.IPV4
  }
})

/** Allocates; the result is `address/length`. */
export const allocate = (client: Client.Client, request: Child, timeoutMs = 10_000) =>
  Effect.map(
    client.call(IpamDefinition, "allocate", request, { timeoutMs }),
    ({ address, prefixLength }) => `${address}/${prefixLength}`
  )
export const release = (client: Client.Client, request: Child) =>
  client.call(IpamDefinition, "release", request, { timeoutMs: 10_000 })
