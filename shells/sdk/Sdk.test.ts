import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Option, Scope, Stream, SubscriptionRef } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as Model from "../../core/nsm/Model.ts"
import * as Health from "../grpc/Health.ts"
import * as Manager from "../nsm/Main.ts"
import { NsmClient } from "./Client.ts"
import * as Endpoint from "./Endpoint.ts"

const service: Model.NetworkService = { name: "lb", payload: "ETHERNET", matches: [] }

/** A manager in this process that can be stopped and started, and a folder for sockets. */
const world = Effect.gen(function*() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sl-sdk-"))
  yield* Effect.addFinalizer(() => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true })))
  const url = `unix://${folder}/nsm.sock`
  const outer = yield* Effect.scope
  const start = Effect.gen(function*() {
    const scope = yield* Scope.fork(outer)
    const health = yield* Layer.build(Health.layer).pipe(Scope.provide(scope))
    yield* Manager.serve({
      name: path.basename(folder),
      listenOn: [url],
      maxTokenLifetimeMs: 600_000,
      requestTimeoutMs: 5_000,
      endpointLifetimeMs: 60_000,
      statePath: "",
      nodeName: "",
      podName: "",
      clusterName: "",
      logLevel: "INFO"
    }).pipe(Effect.provide(health), Scope.provide(scope))
    return Scope.close(scope, Exit.void)
  })
  const offer = (name: string) =>
    Endpoint.serve({
      name,
      services: [service],
      labels: {},
      socket: `${folder}/${name}.sock`,
      manager: url,
      requestTimeoutMs: 5_000,
      maxTokenLifetimeMs: 600_000
    }, { request: Effect.succeed, close: () => Effect.void })
  const client = NsmClient.layer({
    name: "proxy",
    manager: url,
    naming: "Service",
    requestTimeoutMs: 5_000,
    maxTokenLifetimeMs: 600_000
  })
  return { start, offer, client }
})

const within = Effect.timeoutOrElse({
  duration: "20 seconds",
  orElse: () => Effect.die(new Error("what is waited for does not come"))
})

describe("The NSM SDK", () => {
  it.live(
    "finds endpoints as they come and go, and keeps them over a restart of the manager",
    () =>
      Effect.gen(function*() {
        const { client, offer, start } = yield* world
        const stop = yield* start
        yield* Effect.gen(function*() {
          const nsm = yield* NsmClient
          const seen = yield* SubscriptionRef.make("?")
          const history: Array<string> = []
          yield* Effect.forkScoped(Stream.runForEach(nsm.find("lb"), (endpoints) => {
            history.push(endpoints.map(({ name }) => name).join())
            return SubscriptionRef.set(seen, history.at(-1) ?? "?")
          }))
          const sees = (names: string) =>
            within(Stream.runDrain(Stream.takeUntil(SubscriptionRef.changes(seen), (now) => now === names)))
          yield* sees("")
          const first = yield* offer("a")
          yield* sees("a")
          yield* Effect.scoped(Effect.andThen(offer("b"), sees("a,b")))
          yield* sees("a")
          yield* stop
          yield* within(Stream.runDrain(Stream.takeUntil(first.registered, (registered) => !registered)))
          yield* start
          yield* within(Stream.runDrain(Stream.takeUntil(first.registered, (registered) => registered)))
          yield* offer("c")
          yield* sees("a,c")
          assert.deepStrictEqual(history, ["", "a", "a,b", "a", "a,c"])
        }).pipe(Effect.provide(client))
      }),
    60_000
  )

  it.live("waits for a manager that comes up later, and closes what it does not know", () =>
    Effect.gen(function*() {
      const { client, start } = yield* world
      yield* Effect.gen(function*() {
        const nsm = yield* NsmClient
        const early = yield* Effect.forkScoped(nsm.query("x"))
        yield* start
        assert.isTrue(Option.isNone(yield* within(Fiber.join(early))))
        yield* nsm.close("x")
        assert.strictEqual((yield* nsm.registerService(service)).name, "lb")
        const refused = yield* Effect.flip(nsm.request(Model.connection("x", "lb")))
        assert.strictEqual(refused.reason, "NotFound")
        assert.deepStrictEqual(yield* Stream.runCollect(nsm.changes("x")), [])
      }).pipe(Effect.provide(client))
    }), 60_000)
})
