import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Stream, SubscriptionRef } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { type Child, IpamDefinition, IPFamily } from "../../proto/gen/api/ipam/v1/ipam.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import * as Client from "../grpc/Client.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Sqlite from "../storage/Sqlite.ts"
import * as Store from "./Store.ts"

const folder = Effect.acquireRelease(
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

const world = Effect.gen(function*() {
  const path = yield* folder
  const conduits = yield* SubscriptionRef.make<ReadonlyArray<string>>(["conduit-a"])
  yield* fakeNsp(`unix://${path}/nsp.sock`, conduits)
  return { path, conduits }
})

/** `sluice ipam` in a process of its own, serving on a free port. */
const program = (path: string, env: { readonly [name: string]: string } = {}) =>
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
    child.on("close", () => Deferred.doneUnsafe(serving, Effect.fail(text)))
    const port = yield* Effect.orDie(Deferred.await(serving))
    return { child, client: yield* Client.make({ target: `127.0.0.1:${port}` }) }
  })

const ended = (child: ChildProcess, signal: NodeJS.Signals) =>
  new Promise<number | null>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode)
    child.once("close", (code) => resolve(code))
    child.kill(signal)
  })

const child = (name: string, more: { conduit?: string; node?: string; family?: IPFamily } = {}): Child => ({
  name,
  subnet: {
    conduit: { name: more.conduit ?? "conduit-a", trench: { name: "trench-a" }, destinationPortNats: [] },
    node: more.node ?? "node-1",
    ipFamily: more.family ?? IPFamily.IPV4
  }
})

const allocate = (client: Client.Client, request: Child, timeoutMs = 10_000) =>
  Effect.map(
    client.call(IpamDefinition, "allocate", request, { timeoutMs }),
    ({ address, prefixLength }) => `${address}/${prefixLength}`
  )
const release = (client: Client.Client, request: Child) =>
  client.call(IpamDefinition, "release", request, { timeoutMs: 10_000 })

describe("sluice ipam", () => {
  it.live("serves both families, waits for conduits, and ends with code 0 on SIGTERM", () =>
    Effect.gen(function*() {
      const { conduits, path } = yield* world
      const { child: process, client } = yield* program(path)
      assert.strictEqual(yield* allocate(client, child("bridge")), "169.255.0.1/24")
      assert.strictEqual(yield* allocate(client, child("bridge", { family: IPFamily.IPV6 })), "fd00::1/64")
      assert.strictEqual(yield* allocate(client, child("bridge", { node: "node-2" })), "169.255.1.1/24")
      assert.strictEqual(yield* allocate(client, child("bridge")), "169.255.0.1/24")

      const impatient = yield* Effect.flip(allocate(client, child("x", { conduit: "conduit-b" }), 200))
      assert.strictEqual(impatient.code, GrpcError.Code.DeadlineExceeded)
      const patient = yield* Effect.forkChild(allocate(client, child("y", { conduit: "conduit-b" })))
      assert.strictEqual(yield* allocate(client, child("x")), "169.255.0.2/24")
      yield* SubscriptionRef.set(conduits, ["conduit-a", "conduit-b"])
      assert.strictEqual(yield* Fiber.join(patient), "169.255.16.1/24")

      const wrong = yield* Effect.flip(client.call(IpamDefinition, "allocate", { name: "x" }))
      assert.deepStrictEqual([wrong.code, wrong.details], [
        GrpcError.Code.Unknown,
        "the request names no conduit: set subnet.conduit.name"
      ])
      assert.isTrue(
        yield* Health.check({ address: `unix://${path}/health.sock`, service: "Liveness", timeoutMs: 5_000 })
      )
      assert.isTrue(yield* Health.check({ address: client.target, service: "", timeoutMs: 5_000 }))
      assert.strictEqual(yield* Effect.promise(() => ended(process, "SIGTERM")), 0)
    }), 60_000)

  it.live(
    "keeps every lease that it answered over kill -9, and frees the conduits removed meanwhile",
    () =>
      Effect.gen(function*() {
        const { conduits, path } = yield* world
        const leases = new Map<string, string>()
        let next = 0
        for (let round = 0; round < 4; round++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const { child: process, client } = yield* program(path)
            for (const [name, address] of [...leases].slice(-20)) {
              assert.strictEqual(yield* allocate(client, child(name)), address)
            }
            const before = next
            const worker = Effect.forever(Effect.gen(function*() {
              const name = `child-${next++}`
              leases.set(name, yield* allocate(client, child(name)))
              if (next % 3 === 0) {
                leases.delete(name)
                yield* release(client, child(name))
              }
            }))
            const work = yield* Effect.forkChild(
              Effect.exit(Effect.all([worker, worker, worker, worker], { concurrency: "unbounded" }))
            )
            yield* Effect.repeat(Effect.sleep(5), { until: () => next > before + 20 * (round + 1) })
            yield* Effect.promise(() => ended(process, "SIGKILL"))
            yield* Fiber.join(work)
          }))
        }
        const addresses = [...leases.values()]
        assert.strictEqual(new Set(addresses).size, addresses.length)
        assert.isAbove(addresses.length, 60)

        yield* SubscriptionRef.set(conduits, ["conduit-b"])
        const { client } = yield* program(path)
        assert.strictEqual(yield* allocate(client, child("x", { conduit: "conduit-b" })), "169.255.0.1/24")
        yield* SubscriptionRef.set(conduits, ["conduit-b", "conduit-a"])
        assert.strictEqual(yield* allocate(client, child("newcomer")), "169.255.16.1/24")
      }),
    60_000
  )

  it.live("refuses prefixes that do not fit before it starts", () =>
    Effect.gen(function*() {
      const path = yield* folder
      const exit = yield* Effect.exit(program(path, { IPAM_NODE_PREFIX_LENGTH_IPV4: "16" }))
      assert.include(String(exit), "IPAM_NODE_PREFIX_LENGTH_IPV4=16 do not fit")
    }), 30_000)
})

describe("The store of the IPAM", () => {
  it.live("takes over the database of the original", () =>
    Effect.gen(function*() {
      const file = `${yield* folder}/registry.db`
      const original = new DatabaseSync(file)
      original.exec(`
        CREATE TABLE prefixes (id text, name text, cidr text, parent_id text, updated_at datetime,
          expirable numeric DEFAULT false, PRIMARY KEY (id));
        INSERT INTO prefixes VALUES
          ('trench-a-0', 'trench-a-0', '172.16.0.0/16', '', '2026-03-04 10:00:00.123456789+00:00', 0),
          ('trench-a-1', 'trench-a-1', 'fd00::/48', '', '2026-03-04 10:00:00.123456789+00:00', 0),
          ('conduit-a-trench-a-0', 'conduit-a', '172.16.0.0/20', 'trench-a-0', '2026-03-04 10:00:00+00:00', 0),
          ('node-1-conduit-a-trench-a-0', 'node-1', '172.16.0.0/24', 'conduit-a-trench-a-0', '2026-03-04 10:00:01+00:00', 1),
          ('bridge-node-1-conduit-a-trench-a-0', 'bridge', '172.16.0.1/32', 'node-1-conduit-a-trench-a-0', NULL, 0)`)
      original.close()
      const entries = yield* Effect.provide(Store.load, Layer.fresh(Sqlite.layer(Store.options(file))))
      assert.deepStrictEqual(
        entries.map(({ family, network, path }) => `${family} /${path.join("/")} ${network}`).toSorted(),
        [
          "v4 / 172.16.0.0/16",
          "v4 /conduit-a 172.16.0.0/20",
          "v4 /conduit-a/node-1 172.16.0.0/24",
          "v4 /conduit-a/node-1/bridge 172.16.0.1/32",
          "v6 / fd00::/48"
        ]
      )
      assert.strictEqual(entries.find(({ path }) => path.length === 2)?.touchedAt, Date.UTC(2026, 2, 4, 10, 0, 1))
    }))
})
