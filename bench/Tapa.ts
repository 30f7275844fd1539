/**
 * What the sidecar costs each pod, as it is shipped: from its spawn until it serves, until an application has the answer to
 * its first call, and resident memory, beside a bare gRPC server and a bare listener.
 *
 * The bare ones are bundled as well and have the compile cache of Node, warm; with its code kept as ours is, the bare gRPC
 * server would start 2 ms sooner. A profile of a start to SERVING, in ms of
 * the main thread: Node itself 23, its modules for HTTP/2 and TLS 20, grpc-js 6, socket and first answer 4, which
 * is the bare gRPC server; Effect, Schema and ours come on top with 4 to take over compiled code, 3 to evaluate and 3 to
 * run. The machine and the clients of NSM and NSP are not among them: they come with the first call.
 */
import { Effect, Option, Schedule, Schema, Stream, SubscriptionRef } from "effect"
import { execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import { createConnection } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Tap from "../proto/gen/api/ambassador/v1/tap.ts"
import { MonitorConnectionDefinition } from "../proto/gen/connection.ts"
import { NetworkServiceDefinition } from "../proto/gen/networkservice.ts"
import { bundle } from "../scripts/bundle.ts"
import * as Client from "../shells/grpc/Client.ts"
import * as Health from "../shells/grpc/Health.ts"
import * as Server from "../shells/grpc/Server.ts"
import * as Wire from "../shells/nsm/Wire.ts"
import { NsmClient } from "../shells/sdk/Client.ts"
import * as Peer from "../shells/sdk/Peer.ts"
import * as ManagerInMemory from "../shells/tapa/ManagerInMemory.ts"
import * as Rig from "../shells/tapa/Rig.ts"
import * as Bench from "./Bench.ts"

const streams = Array.from({ length: 10 }, (_, n) => `s${n}`)

/** How long a process rests before its memory is read. */
const restMs = 3_000

class NotYet extends Schema.TaggedError<NotYet>()("NotYet", {}) {}

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sluice-bench-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true }))
)

/** Whether somebody accepts connections on the socket. */
const accepts = (socket: string): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const connection = createConnection(socket)
    const end = (accepted: boolean) => {
      connection.destroy()
      resume(Effect.succeed(accepted))
    }
    connection.once("connect", () => end(true)).once("error", () => end(false))
  })

const serves = (service: string) => (socket: string): Effect.Effect<boolean> =>
  Effect.orElseSucceed(Health.check({ address: `unix://${socket}`, service }), () => false)

/** Whether the ambassador answers an application. */
const answers = (socket: string): Effect.Effect<boolean> =>
  Effect.gen(function*() {
    const client = yield* Client.make({ target: `unix://${socket}`, waitForReady: true })
    const lists = client.stream(Tap.TapDefinition, "watch", Tap.Stream.fromPartial({}), { timeoutMs: 1_000 })
    return Option.isSome(yield* Stream.runHead(lists))
  }).pipe(Effect.scoped, Effect.orElseSucceed(() => false))

/** A server to be measured; `files` is a folder of its own, in which its socket is `server.sock`. */
interface Subject {
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly env: (files: string) => { readonly [name: string]: string }
  /** Whether it does what it is there for. */
  readonly isUp: (socket: string) => Effect.Effect<boolean>
  /** Gives it work before its memory is read. */
  readonly burden?: (socket: string) => Effect.Effect<void>
}

const socketIn = (files: string) => join(files, "server.sock")

/** Starts it and waits until it serves; the result is its process id and how many milliseconds that took. */
const started = ({ args, env, isUp }: Subject) =>
  Effect.gen(function*() {
    const files = yield* folder
    const socket = socketIn(files)
    const begin = process.hrtime.bigint()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, args.map((arg) => arg.replace("SOCKET", socket)), {
          env: { PATH: process.env["PATH"], ...env(files) },
          stdio: ["ignore", "ignore", "inherit"]
        })
      ),
      (child) =>
        // Compile caches are written at the end, and only at an orderly one.
        Effect.callback<void>((resume) => {
          const timer = setTimeout(() => child.kill("SIGKILL"), 500)
          child.once("exit", () => {
            clearTimeout(timer)
            resume(Effect.void)
          })
          child.kill("SIGTERM")
        })
    )
    yield* Effect.suspend(() => fs.existsSync(socket) ? isUp(socket) : Effect.succeed(false)).pipe(
      Effect.filterOrFail((up) => up, () => new NotYet()),
      Effect.retry(Schedule.spaced("2 millis"))
    )
    return { ms: Number(process.hrtime.bigint() - begin) / 1e6, pid: child.pid ?? 0, socket }
  })

const startMs = (subject: Subject): Effect.Effect<number> =>
  Effect.scoped(Effect.map(Effect.orDie(started(subject)), ({ ms }) => ms))

const memoryMb = (subject: Subject): Effect.Effect<number> =>
  Effect.scoped(Effect.gen(function*() {
    const { pid, socket } = yield* Effect.orDie(started(subject))
    yield* subject.burden?.(socket) ?? Effect.void
    yield* Effect.sleep(restMs)
    const [, kB = "NaN"] = /^VmRSS:\s+(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8")) ?? []
    return Number(kB) / 1024
  }))

/** A manager that grants every request, over the wire. */
const manager = (address: string) =>
  Effect.gen(function*() {
    const nsm = yield* ManagerInMemory.make("172.16.0.2/24")
    const client = yield* Effect.provide(NsmClient, nsm.layer)
    const failed = Effect.mapError(Peer.toGrpc)
    yield* Server.serve({
      address,
      services: [
        Server.service(NetworkServiceDefinition, {
          request: ({ connection }) =>
            failed(Effect.map(client.request(Wire.connectionFrom(connection)), Wire.connectionTo)),
          close: ({ id }) => failed(Effect.as(client.close(id), {}))
        }),
        Server.service(MonitorConnectionDefinition, {
          monitorConnections: () => Stream.concat(Stream.succeed({ type: 0, connections: {} }), Stream.never)
        })
      ]
    })
  })

const openAll = (socket: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    const client = yield* Client.make({ target: `unix://${socket}`, waitForReady: true })
    yield* Effect.forEach(streams, (name) => client.call(Tap.TapDefinition, "open", Rig.streamOf(name)), {
      concurrency: "unbounded"
    })
    yield* Rig.until(client, (all) => streams.every((name) => Rig.isOpen(name)(all)))
  }).pipe(Effect.scoped, Effect.orDie)

export const bench: Bench.Bench = {
  name: "tapa",
  summary: "start and memory of the sidecar as it is shipped, beside a bare gRPC server and a bare listener",
  rows: Effect.scoped(Effect.gen(function*() {
    execFileSync(process.execPath, ["scripts/build.ts"], { stdio: ["ignore", "ignore", "inherit"] })
    const shared = yield* folder
    yield* Effect.promise(() =>
      bundle({ listener: "bench/bare/Listener.ts", grpc: "bench/bare/GrpcServer.ts" }, shared)
    )
    const registry = yield* Rig.nsp(`unix://${shared}/nsp.sock`)
    yield* SubscriptionRef.set(registry.streams, streams)
    yield* manager(`unix://${shared}/nsm.sock`)

    const bare = () => ({ NODE_COMPILE_CACHE: join(shared, "cache") })
    const grpc: Subject = {
      name: "bare gRPC server",
      args: [join(shared, "grpc.mjs"), "SOCKET"],
      env: bare,
      isUp: serves("")
    }
    const listener: Subject = {
      name: "bare listener",
      args: [join(shared, "listener.mjs"), "SOCKET"],
      env: bare,
      isUp: accepts
    }
    const tapa: Subject = {
      name: "TAPA",
      args: ["dist/sluice.cjs", "tapa"],
      env: (files) => ({
        MERIDIO_SOCKET: socketIn(files),
        MERIDIO_NSM_SOCKET: `unix://${shared}/nsm.sock`,
        SLUICE_NSP_ADDRESS: `unix://${shared}/nsp.sock`,
        SLUICE_HEALTH_SOCKET: join(files, "health.sock")
      }),
      isUp: serves("AmbassadorSvc")
    }
    const busy: Subject = { ...tapa, name: `TAPA, ${streams.length} open streams`, burden: openAll }
    return [
      ...yield* Bench.rows(
        "tapa",
        "start",
        "ms",
        [grpc, listener, tapa].map((each) => ({
          name: each.name,
          run: startMs(each)
        }))
      ),
      ...yield* Bench.rows(
        "tapa",
        "first answer",
        "ms",
        [grpc, { ...tapa, isUp: answers }].map((each) => ({
          name: each.name,
          run: startMs(each)
        }))
      ),
      ...yield* Bench.rows(
        "tapa",
        "memory",
        "MB",
        [grpc, listener, tapa, busy].map((each) => ({
          name: each.name,
          run: memoryMb(each)
        }))
      )
    ]
  })).pipe(Effect.orDie)
}
