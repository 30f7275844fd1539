import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, SubscriptionRef } from "effect"
import { execFileSync } from "node:child_process"
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { Child, IpamDefinition, IPFamily } from "../../proto/gen/api/ipam/v1/ipam.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as ProxyIpam from "../proxy/Ipam.ts"
import { allocate, child, ended, folder, program, release, world } from "./Specimen.ts"

const subnet = (more: Partial<NonNullable<Child["subnet"]>>): Child => {
  const usual = child("x")
  return { ...usual, subnet: { node: "", ipFamily: IPFamily.IPV4, conduit: undefined, ...usual.subnet, ...more } }
}
const conduit = (trench: { readonly name: string } | undefined) => ({
  name: "conduit-a",
  trench,
  destinationPortNats: []
})

/** Writes until the disk is full. */
const fill = (file: string): void => {
  const fd = openSync(file, "w")
  try {
    for (let size = 65_536; size >= 1; size = Math.floor(size / 2)) {
      try {
        while (true) writeSync(fd, Buffer.alloc(size))
      } catch {
        // No room for so much; there may be for less.
      }
    }
  } finally {
    closeSync(fd)
  }
}

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
      assert.strictEqual(yield* Effect.promise(() => ended(process, "SIGTERM")), 0)
    }), 60_000)

  it.live("answers each request as Meridio does", () =>
    Effect.gen(function*() {
      const { path } = yield* world
      const { client } = yield* program(path, { IPAM_IP_FAMILY: "ipv4" })
      for (
        const [request, text] of [
          [child("x", { family: IPFamily.IPV6 }), "IP family v6 is not served"],
          // A family of 7, as only a foreign client can send it.
          [Child.decode(Uint8Array.of(0x12, 0x02, 0x18, 0x07)), "subnet.ipFamily=7: write IPV4 or IPV6"],
          [subnet({ conduit: undefined }), "the request names no conduit"],
          [subnet({ conduit: conduit(undefined) }), "the request names no trench"],
          [subnet({ conduit: conduit({ name: "trench-b" }) }), "trench trench-b is not served"],
          [{ name: "x", subnet: undefined }, "the request names no conduit"]
        ] as const
      ) {
        const refused = yield* Effect.flip(client.call(IpamDefinition, "allocate", request, { timeoutMs: 10_000 }))
        assert.strictEqual(refused.code, GrpcError.Code.Unknown)
        assert.include(refused.details, text)
        yield* release(client, request)
      }
      yield* release(client, child("x", { conduit: "unknown" }))
      yield* release(client, child("x", { node: "never-seen" }))
      yield* release(client, child("never-seen"))
      assert.strictEqual(yield* allocate(client, child("", { node: "" })), "169.255.0.1/24")
      assert.strictEqual(yield* allocate(client, child("x", { node: "" })), "169.255.0.2/24")
      yield* release(client, child("", { node: "" }))
      assert.strictEqual(yield* allocate(client, child("y", { node: "" })), "169.255.0.1/24")
      assert.strictEqual(yield* allocate(client, child("x", { node: "next" })), "169.255.1.1/24", "no node was made")
    }), 60_000)

  it.live("leaves an address with the proxy that has it when that before releases late", () =>
    Effect.gen(function*() {
      const { path } = yield* world
      const { client } = yield* program(path, { IPAM_IP_FAMILY: "ipv4" })
      const subnet = { trench: "trench-a", conduit: "conduit-a", node: "node-1" }
      const proxy = (startedAt: number) => ProxyIpam.make(client, { subnet, timeoutMs: 10_000, startedAt })
      const children = [{ name: "x", family: "v4" }] as const
      const [before, after] = [proxy(1_000), proxy(2_000)]
      yield* before.allocate(children)
      yield* after.allocate(children)
      yield* before.release(children)
      assert.strictEqual(yield* allocate(client, child("y")), "169.255.0.2/24")
      yield* after.release(children)
      assert.strictEqual(yield* allocate(client, child("z")), "169.255.0.1/24")
    }), 60_000)

  it.live("says at once that a conduit is full", () =>
    Effect.gen(function*() {
      const { path } = yield* world
      const { client } = yield* program(path)
      for (let n = 0; n < 16; n++) yield* allocate(client, child("bridge", { node: `node-${n}` }))
      const refused = yield* Effect.flip(allocate(client, child("bridge", { node: "node-16" })))
      assert.deepStrictEqual([refused.code, refused.details], [
        GrpcError.Code.Unknown,
        "no node of length /24 is free in 169.255.0.0/20: enlarge the prefix"
      ])
    }), 60_000)

  it.live("is started, ready, and alive while its own port answers", () =>
    Effect.gen(function*() {
      const { path } = yield* world
      const { client } = yield* program(path)
      const check = (service: string) =>
        Health.check({ address: `unix://${path}/health.sock`, service, timeoutMs: 5_000 })
      assert.isTrue(yield* check("Startup"))
      assert.isTrue(yield* check("Readiness"))
      yield* Effect.repeat(Effect.andThen(Effect.sleep(20), check("Liveness")), { until: (isAlive) => isAlive })
      assert.isTrue(yield* Health.check({ address: client.target, service: "", timeoutMs: 5_000 }))
    }), 60_000)

  it.live(
    "frees conduits that were removed while it was down once nobody holds an address in them, and keeps the rest",
    () =>
      Effect.gen(function*() {
        const { conduits, path } = yield* world
        yield* SubscriptionRef.set(conduits, ["conduit-a", "conduit-b"])
        yield* Effect.scoped(Effect.gen(function*() {
          const { child: process, client } = yield* program(path)
          assert.strictEqual(yield* allocate(client, child("x")), "169.255.0.1/24")
          assert.strictEqual(yield* allocate(client, child("x", { conduit: "conduit-b" })), "169.255.16.1/24")
          yield* Effect.promise(() => ended(process, "SIGKILL"))
        }))
        yield* SubscriptionRef.set(conduits, ["conduit-b", "conduit-c"])
        const { client } = yield* program(path)
        assert.strictEqual(yield* allocate(client, child("y", { conduit: "conduit-c" })), "169.255.32.1/24")
        assert.strictEqual(yield* allocate(client, child("x", { conduit: "conduit-b" })), "169.255.16.1/24")
        yield* release(client, child("x"))
        yield* SubscriptionRef.set(conduits, ["conduit-b", "conduit-c", "conduit-d"])
        assert.strictEqual(yield* allocate(client, child("y", { conduit: "conduit-d" })), "169.255.0.1/24")
        const unknown = yield* Effect.flip(allocate(client, child("x"), 200))
        assert.strictEqual(unknown.code, GrpcError.Code.DeadlineExceeded)
      }),
    60_000
  )

  it.live("keeps the stored prefix while it is in use, and says so", () =>
    Effect.gen(function*() {
      const { path } = yield* world
      yield* Effect.scoped(Effect.flatMap(program(path), ({ client }) => allocate(client, child("x"))))
      const { client, text } = yield* program(path, { IPAM_PREFIX_IPV4: "172.16.0.0/16" })
      assert.strictEqual(yield* allocate(client, child("y")), "169.255.0.2/24")
      assert.include(text(), "leased in 169.255.0.0/16, which stays in use; the configured prefix 172.16.0.0/16 counts")
    }), 60_000)

  it.live("refuses prefixes that do not fit before it starts", () =>
    Effect.gen(function*() {
      const path = yield* folder
      const exit = yield* Effect.exit(program(path, { IPAM_NODE_PREFIX_LENGTH_IPV4: "16" }))
      assert.include(String(exit), "IPAM_NODE_PREFIX_LENGTH_IPV4=16 do not fit")
    }), 30_000)

  it.live("ends with code 1 and the reason when its database cannot be used", () =>
    Effect.gen(function*() {
      const { path } = yield* world
      mkdirSync(`${path}/data`)
      const file = `${path}/data/registry.db`
      writeFileSync(file, "precious ".repeat(200))
      assert.match(
        String(yield* Effect.exit(program(path))),
        /code 1 .*Program ended: .*registry\.db: is not a database; name another file or move it away/s
      )
    }), 30_000)

  it.live.skipIf(process.getuid?.() !== 0)(
    "is not ready while its disk is full, refuses requests, and goes on when there is room again",
    () =>
      Effect.gen(function*() {
        const { path } = yield* world
        const disk = `${path}/data`
        mkdirSync(disk)
        yield* Effect.acquireRelease(
          Effect.sync(() => execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", disk])),
          () => Effect.sync(() => execFileSync("umount", ["-l", disk]))
        )
        const { client } = yield* program(path)
        const isReady = Health.check({ address: `unix://${path}/health.sock`, service: "Readiness", timeoutMs: 5_000 })
        assert.strictEqual(yield* allocate(client, child("x")), "169.255.0.1/24")
        assert.isTrue(yield* isReady)
        fill(`${disk}/ballast`)
        let n = 0
        const failing = Effect.suspend(() => Effect.exit(allocate(client, child(`y${n++}`))))
        const refused = yield* Effect.repeat(failing, { until: Exit.isFailure })
        assert.include(String(refused), "UNAVAILABLE")
        assert.isFalse(yield* isReady)
        rmSync(`${disk}/ballast`)
        yield* Effect.repeat(Effect.andThen(Effect.sleep(20), isReady), { until: (ready) => ready })
        assert.strictEqual(yield* allocate(client, child("x")), "169.255.0.1/24")
      }),
    60_000
  )

  it.live("starts afresh beside a database of another program, and says so", () =>
    Effect.gen(function*() {
      const { path } = yield* world
      mkdirSync(`${path}/data`)
      const other = new DatabaseSync(`${path}/data/registry.db`)
      other.exec("CREATE TABLE targets (id text)")
      other.close()
      const { client, text } = yield* program(path)
      assert.include(text(), "registry.db is a database of another program; the leases are kept in")
      assert.strictEqual(yield* allocate(client, child("x")), "169.255.0.1/24")
    }), 30_000)
})
