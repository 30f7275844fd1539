import { assert, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Queue, Ref, Scope, Stream } from "effect"
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { TapDefinition } from "../../proto/gen/api/ambassador/v1/tap.ts"
import type { Stream as TapStream, StreamResponse } from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as Client from "./Client.ts"
import * as GrpcError from "./Error.ts"
import * as Server from "./Server.ts"

const stream: TapStream = { name: "s", conduit: { name: "c", trench: { name: "t" } } }
const snapshot = (name: string): StreamResponse => ({ streamStatus: [{ status: 1, stream: { name } }] })

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-grpc-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

const quiet: Server.Handlers<typeof TapDefinition, never> = {
  open: () => Effect.succeed({}),
  close: () => Effect.succeed({}),
  watch: () => Stream.empty
}
const tap = (handlers: Partial<Server.Handlers<typeof TapDefinition, never>>) =>
  Server.service(TapDefinition, { ...quiet, ...handlers })

/** A client of a server with these handlers, over a socket of its own. */
const connected = (handlers: Partial<Server.Handlers<typeof TapDefinition, never>>) =>
  Effect.gen(function*() {
    const path = yield* folder
    const server = yield* Server.serve({ address: `unix://${path}/tap.sock`, services: [tap(handlers)] })
    return yield* Client.make({ target: server.target })
  })

class Greeting extends Context.Service<Greeting, { readonly word: string }>()("test/Greeting") {}

for (const kind of ["a unix socket", "TCP"]) {
  it.live(`a unary call over ${kind} carries request, metadata and services of the handler`, () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const path = yield* folder
      const server = yield* Server.serve({
        address: kind === "TCP" ? "tcp://127.0.0.1:0" : `unix://${path}/made/on/the/way/tap.sock`,
        services: [Server.service(TapDefinition, {
          ...quiet,
          open: (request, call) =>
            Effect.map(Greeting, ({ word }) => {
              const leftMs = (call.deadline ?? 0) - Date.now()
              seen.push(request.conduit?.trench?.name, call.metadata["token"], word, leftMs > 4000 && leftMs <= 5000)
              return {}
            })
        })]
      }).pipe(Effect.provideService(Greeting, { word: "hello" }))
      const client = yield* Client.make({ target: server.target, metadata: Effect.succeed({ token: "x" }) })
      yield* client.call(TapDefinition, "open", stream, { timeoutMs: 5000 })
      assert.deepStrictEqual(seen, ["t", "x", "hello", true])
    }))
}

it.live("an error of a handler arrives with its code and its details", () =>
  Effect.gen(function*() {
    const client = yield* connected({
      open: () => Effect.fail(GrpcError.error("FailedPrecondition", "another trench is already connected")),
      watch: () => Stream.fail(GrpcError.error("NotFound", "no such stream"))
    })
    const open = yield* Effect.flip(client.call(TapDefinition, "open", stream))
    assert.deepStrictEqual([open.code, open.details], [9, "another trench is already connected"])
    assert.strictEqual(GrpcError.reason(open)._tag, "Conflict")
    const watch = yield* Effect.flip(Stream.runDrain(client.stream(TapDefinition, "watch", stream)))
    assert.deepStrictEqual([watch.code, watch.details], [5, "no such stream"])
  }))

it.live("a defect of a handler arrives as INTERNAL without telling what happened", () =>
  Effect.gen(function*() {
    const client = yield* connected({
      open: () => Effect.die(new Error("secret")),
      watch: () => {
        throw new Error("secret")
      }
    })
    const open = yield* Effect.flip(client.call(TapDefinition, "open", stream))
    const watch = yield* Effect.flip(Stream.runDrain(client.stream(TapDefinition, "watch", stream)))
    assert.deepStrictEqual([open.code, watch.code], [13, 13])
    assert.notInclude(open.details + watch.details, "secret")
  }))

/** A handler that never answers, with a view of its life. */
const hanging = Effect.gen(function*() {
  const started = yield* Deferred.make<void>()
  const interrupted = yield* Deferred.make<void>()
  const run = Deferred.succeed(started, undefined).pipe(
    Effect.andThen(Effect.never),
    Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
  )
  return { started: Deferred.await(started), interrupted: Deferred.await(interrupted), run }
})

it.live("deferred handlers are made with the first call, and their failures arrive", () =>
  Effect.gen(function*() {
    let made = 0
    const handlers = yield* Effect.cached(Effect.sync((): Server.Handlers<typeof TapDefinition, never> => {
      made++
      return {
        ...quiet,
        close: () => Effect.fail(GrpcError.error("NotFound", "no such stream")),
        watch: () => Stream.succeed(snapshot("s"))
      }
    }))
    const address = `unix://${yield* folder}/tap.sock`
    const server = yield* Server.serve({ address, services: [Server.deferred(TapDefinition, handlers)] })
    const client = yield* Client.make({ target: server.target })
    assert.strictEqual(made, 0)
    assert.deepStrictEqual(yield* client.call(TapDefinition, "open", stream), {})
    assert.strictEqual((yield* Effect.flip(client.call(TapDefinition, "close", stream))).details, "no such stream")
    const lists = yield* Stream.runCollect(client.stream(TapDefinition, "watch", stream))
    assert.deepStrictEqual(lists.map(({ streamStatus }) => streamStatus[0]?.stream?.name), ["s"])
    assert.strictEqual(made, 1)
  }))

it.live("a deadline ends the call with DEADLINE_EXCEEDED and interrupts the handler", () =>
  Effect.gen(function*() {
    const handler = yield* hanging
    const client = yield* connected({ open: () => handler.run })
    const error = yield* Effect.flip(client.call(TapDefinition, "open", stream, { timeoutMs: 50 }))
    assert.strictEqual(error.code, GrpcError.Code.DeadlineExceeded)
    yield* handler.interrupted
  }))

it.live("interrupting a call interrupts its handler", () =>
  Effect.gen(function*() {
    const handler = yield* hanging
    const client = yield* connected({ open: () => handler.run })
    const fiber = yield* Effect.forkChild(client.call(TapDefinition, "open", stream))
    yield* handler.started
    yield* Fiber.interrupt(fiber)
    yield* handler.interrupted
  }))

it.live("leaving a stream interrupts its handler", () =>
  Effect.gen(function*() {
    const handler = yield* hanging
    const client = yield* connected({
      watch: () => Stream.concat(Stream.make(snapshot("a"), snapshot("b")), Stream.fromEffect(handler.run))
    })
    const read = yield* Stream.runCollect(Stream.take(client.stream(TapDefinition, "watch", stream), 2))
    assert.deepStrictEqual(read.map((each) => each.streamStatus[0]?.stream?.name), ["a", "b"])
    yield* handler.interrupted
  }))

it.live("a stream is produced only as fast as it is read", () =>
  Effect.gen(function*() {
    const produced = yield* Ref.make(0)
    const client = yield* connected({
      watch: () =>
        Stream.range(1, 100_000).pipe(
          Stream.rechunk(1),
          Stream.tap(() => Ref.update(produced, (n) => n + 1)),
          Stream.map(() => snapshot("x".repeat(10_000)))
        )
    })
    const read = client.stream(TapDefinition, "watch", stream).pipe(Stream.rechunk(1), Stream.take(5))
    yield* Stream.runForEach(read, () => Effect.sleep("30 millis"))
    assert.isBelow(yield* Ref.get(produced), 2000)
  }))

it.live("without a server a call fails at once, or waits until its deadline when told so", () =>
  Effect.gen(function*() {
    const client = yield* Client.make({ target: `unix://${yield* folder}/nobody.sock` })
    const now = yield* Effect.flip(client.call(TapDefinition, "open", stream))
    assert.strictEqual(now.code, GrpcError.Code.Unavailable)
    const patient = client.call(TapDefinition, "open", stream, { waitForReady: true, timeoutMs: 80 })
    assert.strictEqual((yield* Effect.flip(patient)).code, GrpcError.Code.DeadlineExceeded)
  }))

it.live("waiting for a connection ends with the dial timeout, also at a server that accepts and stays silent", () =>
  Effect.gen(function*() {
    const path = yield* folder
    yield* Effect.acquireRelease(
      Effect.callback<ReturnType<typeof createServer>>((resume) => {
        const server = createServer().listen(`${path}/silent.sock`, () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    )
    for (const name of ["nobody", "silent"]) {
      const client = yield* Client.make({
        target: `unix://${path}/${name}.sock`,
        waitForReady: true,
        dialTimeoutMs: 80
      })
      const calls = [
        client.call(TapDefinition, "open", stream, { timeoutMs: 60_000 }),
        Stream.runDrain(client.stream(TapDefinition, "watch", stream))
      ]
      for (const call of calls) {
        const error = yield* Effect.flip(Effect.asVoid(call))
        assert.strictEqual(error.code, GrpcError.Code.Unavailable)
        assert.include(error.details, `${name}.sock within 80 ms`)
      }
    }
  }))

it.live("a stopping server lets calls finish, ends streams and removes its socket", () =>
  Effect.gen(function*() {
    const path = `${yield* folder}/tap.sock`
    const scope = yield* Scope.make()
    const entered = yield* Deferred.make<void>()
    const release = yield* Deferred.make<void>()
    const service = tap({
      open: () => Effect.as(Effect.andThen(Deferred.succeed(entered, undefined), Deferred.await(release)), {}),
      watch: () => Stream.concat(Stream.make(snapshot("a")), Stream.never)
    })
    yield* Scope.provide(Server.serve({ address: `unix://${path}`, services: [service] }), scope)
    const client = yield* Client.make({ target: `unix://${path}` })
    const call = yield* Effect.forkChild(client.call(TapDefinition, "open", stream))
    const events = yield* Queue.unbounded<string>()
    const watch = yield* client.stream(TapDefinition, "watch", stream).pipe(
      Stream.runForEach(() => Queue.offer(events, "snapshot")),
      Effect.flip,
      Effect.forkChild
    )
    yield* Queue.take(events)
    yield* Deferred.await(entered)
    const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
    assert.strictEqual((yield* Fiber.join(watch)).code, GrpcError.Code.Unavailable)
    yield* Deferred.succeed(release, undefined)
    assert.deepStrictEqual(yield* Fiber.join(call), {})
    yield* Fiber.join(closing)
    assert.isFalse(existsSync(path))
  }))

it.live("a client finds a restarted server again and tells when it is ready", () =>
  Effect.gen(function*() {
    const address = `unix://${yield* folder}/tap.sock`
    const start = Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Scope.provide(Server.serve({ address, services: [tap({})] }), scope)
      return Scope.close(scope, Exit.void)
    })
    const client = yield* Client.make({ target: address, maxBackoffMs: 100 })
    const ready = yield* Queue.unbounded<boolean>()
    yield* Effect.forkScoped(Stream.runForEach(client.ready, (now) => Queue.offer(ready, now)))
    const stop = yield* start
    assert.isFalse(yield* Queue.take(ready))
    yield* client.call(TapDefinition, "open", stream)
    assert.isTrue(yield* Queue.take(ready))
    yield* stop
    assert.isFalse(yield* Queue.take(ready))
    yield* Effect.acquireRelease(start, (stop) => stop)
    yield* client.call(TapDefinition, "open", stream, { waitForReady: true, timeoutMs: 5000 })
    assert.isTrue(yield* Queue.take(ready))
  }))

/** Leaves a socket file behind as a crash does. */
const crash = (path: string) =>
  Effect.promise(() => import("node:child_process")).pipe(Effect.flatMap(({ execFileSync }) =>
    Effect.sync(() => {
      const program = `require("net").createServer().listen(${
        JSON.stringify(path)
      }, () => process.kill(process.pid, 9))`
      assert.throws(() => execFileSync(process.execPath, ["-e", program]))
      assert.isTrue(existsSync(path))
    })
  ))

it.live("a socket left by a crash is replaced, and every user may connect", () =>
  Effect.gen(function*() {
    const path = `${yield* folder}/tap.sock`
    yield* crash(path)
    const server = yield* Server.serve({ address: `unix://${path}`, services: [tap({})] })
    const client = yield* Client.make({ target: server.target })
    yield* client.call(TapDefinition, "open", stream)
    assert.strictEqual(statSync(path).mode & 0o777, 0o777)
  }))

it.live("a file that is no socket and a socket that is served are left alone", () =>
  Effect.gen(function*() {
    const path = yield* folder
    const attempt = (name: string) =>
      Effect.flip(Server.serve({ address: `unix://${path}/${name}`, services: [tap({})] }))
    writeFileSync(`${path}/file`, "precious")
    assert.include((yield* attempt("file")).details, "is not a socket")
    assert.isTrue(existsSync(`${path}/file`))
    yield* Effect.acquireRelease(
      Effect.callback<ReturnType<typeof createServer>>((resume) => {
        const server = createServer().listen(`${path}/served`, () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    )
    assert.include((yield* attempt("served")).details, "served by another process")
  }))

it.live("a wrong address is refused with the forms that are right", () =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(Client.make({ target: "nowhere" }))
    assert.strictEqual(error.details, `"nowhere" is not an address; write unix:///path/of.sock or tcp://host:port`)
  }))
