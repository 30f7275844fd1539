import { assert, it } from "@effect/vitest"
import { Effect, Layer, Option, Queue, Stream } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { HealthCheckResponse_ServingStatus as Status, HealthDefinition } from "../../proto/gen/grpc/health/v1/health.ts"
import * as Client from "./Client.ts"
import * as GrpcError from "./Error.ts"
import * as Health from "./Health.ts"

const path = join(mkdtempSync(join(tmpdir(), "sluice-health-")), "health.sock")
const address = `unix://${path}`

const served = <A, E>(body: Effect.Effect<A, E, Health.Health>) =>
  Effect.provide(body, Layer.fresh(Health.serve(address))).pipe(
    Effect.ensuring(Effect.sync(() => rmSync(path, { force: true })))
  )
const isServing = (service: string) => Health.check({ address, service })

it.live("the process as a whole serves and unknown services are NOT_FOUND", () =>
  served(Effect.gen(function*() {
    assert.isTrue(yield* isServing(""))
    assert.strictEqual((yield* Effect.flip(isServing("Nothing"))).code, GrpcError.Code.NotFound)
  })))

it.live("a probe without sub-services serves at once and can be set", () =>
  served(Effect.gen(function*() {
    const health = yield* Health.Health
    yield* health.register(Health.probes.startup)
    assert.isTrue(yield* isServing("Startup"))
    yield* health.set("Startup", false)
    assert.isFalse(yield* isServing("Startup"))
  })))

it.live("a probe serves when all of its sub-services do, however often they are registered", () =>
  served(Effect.gen(function*() {
    const health = yield* Health.Health
    yield* health.register("Readiness", ["NSPCli", "IPAMCli"])
    yield* health.register("Liveness", ["NSPCli"])
    yield* health.set("NSPCli", true)
    yield* health.set("Readiness", true)
    assert.deepStrictEqual([yield* isServing("Readiness"), yield* isServing("Liveness")], [false, true])
    yield* health.set("IPAMCli", true)
    yield* health.register("Readiness", ["NSPCli"])
    assert.isTrue(yield* isServing("Readiness"))
    yield* health.register("Readiness", ["Egress"])
    assert.isFalse(yield* isServing("Readiness"))
  })))

it.live("a watch of an unknown service tells when it becomes known and each change after", () =>
  served(Effect.scoped(Effect.gen(function*() {
    const health = yield* Health.Health
    const client = yield* Client.make({ target: address })
    const seen = yield* Queue.unbounded<Status>()
    yield* Effect.forkScoped(
      Stream.runForEach(
        client.stream(HealthDefinition, "watch", { service: "Liveness" }),
        ({ status }) => Queue.offer(seen, status)
      )
    )
    assert.strictEqual(yield* Queue.take(seen), Status.SERVICE_UNKNOWN)
    yield* health.register("Liveness", ["NSP"])
    assert.strictEqual(yield* Queue.take(seen), Status.NOT_SERVING)
    yield* health.set("NSP", true)
    assert.strictEqual(yield* Queue.take(seen), Status.SERVING)
  }))))

it.live("what a reader of the changes does not read is replaced by the newest state, not kept", () =>
  served(Effect.scoped(Effect.gen(function*() {
    const health = yield* Health.Health
    const pull = yield* Stream.toPull(health.changes)
    yield* pull
    for (let n = 0; n <= 10_000; n++) yield* health.set("NSP", n % 2 === 0)
    const unread = yield* pull
    assert.deepStrictEqual(unread.map(({ serving }) => serving), [{ "": true, NSP: true }])
  }))))

it.live(
  "a watcher that stops reading costs the server a bounded number of answers, and sees the last one later",
  () =>
    served(Effect.scoped(Effect.gen(function*() {
      const health = yield* Health.Health
      const client = yield* Client.make({ target: address })
      const pull = yield* Stream.toPull(client.stream(HealthDefinition, "watch", { service: "NSP" }))
      yield* pull
      for (let n = 0; n <= 50_000; n++) {
        yield* health.set("NSP", n % 2 === 0)
        // Lets the server write what it can.
        if (n % 10 === 0) yield* Effect.promise(() => new Promise(setImmediate))
      }
      let read = 0
      let last: Status | undefined
      while (true) {
        const more = yield* Effect.timeoutOption(pull, "1 second")
        if (Option.isNone(more)) break
        read += more.value.length
        last = more.value.at(-1)?.status
      }
      // As many as the windows of HTTP/2 and the buffers of both ends hold, however often the status changed.
      assert.isBelow(read, 30_000)
      assert.strictEqual(last, Status.SERVING)
    }))),
  60_000
)

it.live("a tracked channel and a probe of the process itself set their sub-services", () =>
  served(Effect.scoped(Effect.gen(function*() {
    const health = yield* Health.Health
    yield* health.register("Readiness", ["Tracked", "Probed"])
    const client = yield* Client.make({ target: address })
    yield* health.track("Tracked", client.ready)
    yield* Effect.forkScoped(Health.selfProbe({ service: "Probed", address }))
    yield* client.call(HealthDefinition, "check", { service: "" })
    const readiness = health.changes.pipe(Stream.map((state) => state.serving["Readiness"]), Stream.filter(Boolean))
    assert.isTrue(yield* Stream.runHead(readiness).pipe(Effect.map((head) => head._tag === "Some")))
  }))))

it("the socket is taken from the environment as a path or an address", () => {
  assert.deepStrictEqual(
    [{}, { SLUICE_HEALTH_SOCKET: "" }, { SLUICE_HEALTH_SOCKET: "/run/h" }, { SLUICE_HEALTH_SOCKET: "unix:///run/h" }]
      .map(Health.addressFrom),
    [Health.defaultAddress, Health.defaultAddress, "unix:///run/h", "unix:///run/h"]
  )
})
