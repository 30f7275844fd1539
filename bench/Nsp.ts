/**
 * The NSP at scale, as a process of its own: 100 streams with 100 targets each and 1 000 watchers, against an empty
 * registry with one watcher. What registering costs may depend on the stream and its watchers, not on the rest.
 */
import { Effect, Queue, Stream } from "effect"
import type { Scope } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Target } from "../core/config/index.ts"
import type { Registry } from "../core/nsp/index.ts"
import { TargetRegistryDefinition } from "../proto/gen/api/nsp/v1/targetregistry.ts"
import * as Client from "../shells/grpc/Client.ts"
import type * as Definition from "../shells/grpc/Definition.ts"
import * as TargetWire from "../shells/nsp/TargetWire.ts"
import * as Bench from "./Bench.ts"

const streams = 100
const targetsPerStream = 100
const watchersPerStream = 9
const frontendWatchers = 100
const registrations = 500
const fanOuts = 30

/** What is in the registry before anything is measured. Measured is what happens in stream 0. */
interface Load {
  readonly name: string
  readonly streams: number
  readonly targetsPerStream: number
  /** Of each stream; at least one of stream 0. */
  readonly watchersPerStream: number
  /** Watchers of the frontends of all streams, as load balancers are. */
  readonly frontendWatchers: number
}

const loads: ReadonlyArray<Load> = [
  { name: "empty, 1 watcher", streams: 0, targetsPerStream: 0, watchersPerStream: 0, frontendWatchers: 0 },
  { name: "100 targets, 9 watchers", streams: 1, targetsPerStream, watchersPerStream, frontendWatchers: 0 },
  { name: "10 000 targets, 1 watcher", streams, targetsPerStream, watchersPerStream: 0, frontendWatchers: 0 },
  { name: "10 000 targets, 1 000 watchers", streams, targetsPerStream, watchersPerStream, frontendWatchers }
]

/** An NSP under load. */
interface Loaded {
  readonly name: string
  /** Registrations in stream 0 in a second, 50 at a time. Each changes what watchers see. */
  readonly registrationsPerSecond: Effect.Effect<number>
  /** Milliseconds from a registration until the last watcher of its stream has heard of it; the median of several. */
  readonly fanOutMs: Effect.Effect<number>
  readonly memoryMb: Effect.Effect<number>
}

const started = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sluice-bench-"))),
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  )
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["shells/cli/Main.ts", "nsp"], {
        env: {
          PATH: process.env["PATH"],
          NSP_CONFIG_PATH: join(folder, "none.yaml"),
          NSP_DATASOURCE: join(folder, "registry.db"),
          NSP_ENTRY_TIMEOUT: "1h",
          NSP_PORT: "0",
          SLUICE_HEALTH_SOCKET: join(folder, "health.sock")
        }
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const port = yield* Effect.callback<string>((resume) => {
    let log = ""
    child.stdout.on("data", (data) => {
      const [, port] = /"message":"Listening".*"port":(\d+)/.exec(log += String(data)) ?? []
      if (port !== undefined) resume(Effect.succeed(port))
    })
  })
  return { address: `127.0.0.1:${port}`, pid: child.pid ?? 0 }
})

const keyOf = (stream: number) => ({ trench: "t", conduit: "c", stream: `s${stream}` })

const target = (stream: number, host: number, status: Target.Status): Target.Target => ({
  kind: "default",
  stream: keyOf(stream),
  ips: [`172.16.${stream}.${host}/16`, `fd00::${stream.toString(16)}:${host.toString(16)}/64`],
  context: { identifier: String(host + 1) },
  status
})

/** The registry as a watcher sees it that does not look into the lists: the client must not be what is measured. */
const blind = {
  fullName: TargetRegistryDefinition.fullName,
  methods: {
    watch: {
      ...TargetRegistryDefinition.methods.watch,
      responseType: {
        encode: () => ({ finish: () => new Uint8Array() }),
        decode: (bytes: Uint8Array): number => bytes.length
      }
    }
  }
} satisfies Definition.Definition

const orDie = <A, R>(call: Effect.Effect<A, Error, R>): Effect.Effect<A, never, R> => Effect.orDie(call)

const loaded = ({ name, ...load }: Load): Effect.Effect<Loaded, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { address, pid } = yield* started
    const client = yield* orDie(Client.make({ target: address }))
    const listener = yield* orDie(Client.make({ target: address }))
    const register = (stream: number, host: number, status: Target.Status) =>
      orDie(client.call(TargetRegistryDefinition, "register", TargetWire.toTarget(target(stream, host, status))))
    const watch = (filter: Registry.Filter) =>
      Effect.gen(function*() {
        const heard = yield* Queue.sliding<number>(1)
        yield* Effect.forkScoped(
          orDie(Stream.runForEach(
            listener.stream(blind, "watch", TargetWire.toFilter(filter)),
            (length) => Queue.offer(heard, length)
          ))
        )
        yield* Queue.take(heard)
        return heard
      })
    const watchAll = (filter: Registry.Filter, count: number) =>
      Effect.forEach(Array.from({ length: count }), () => watch(filter), { concurrency: 10 })

    const all = Array.from({ length: load.streams * load.targetsPerStream }, (_, n) => n)
    yield* Effect.forEach(
      all,
      (n) => register(Math.floor(n / load.targetsPerStream), n % load.targetsPerStream, "disabled"),
      { concurrency: 200, discard: true }
    )
    const watchers: Array<Queue.Dequeue<number>> = []
    for (let stream = 0; stream < Math.max(1, load.streams); stream++) {
      const count = load.watchersPerStream === 0 && stream === 0 ? 1 : load.watchersPerStream
      const some = yield* watchAll({ kind: "default", status: "any", stream: keyOf(stream) }, count)
      if (stream === 0) watchers.push(...some)
    }
    yield* watchAll({ kind: "frontend", status: "any" }, load.frontendWatchers)

    let turn = 0
    // The status changes with every registration of a target, so that none is a mere refresh.
    const change = Effect.suspend(() => {
      const n = turn++
      return register(0, n % 10, Math.floor(n / 10) % 2 === 0 ? "enabled" : "disabled")
    })
    for (let n = 0; n < 20; n++) yield* change
    const settle = Effect.andThen(Effect.sleep("300 millis"), Effect.forEach(watchers, Queue.clear, { discard: true }))
    const fanOutOnce = Effect.gen(function*() {
      const begin = process.hrtime.bigint()
      yield* Effect.all([change, ...watchers.map((heard) => Queue.take(heard))], { concurrency: "unbounded" })
      return Number(process.hrtime.bigint() - begin) / 1e6
    })
    return {
      name,
      registrationsPerSecond: Effect.andThen(
        settle,
        Bench.perSecond(
          registrations,
          Effect.forEach(Array.from({ length: registrations }), () => change, { concurrency: 50, discard: true })
        )
      ),
      fanOutMs: Effect.andThen(
        settle,
        Effect.map(Effect.replicateEffect(fanOutOnce, fanOuts), Bench.median)
      ),
      memoryMb: Effect.sync(() => {
        const [, kB = "NaN"] = /^VmRSS:\s+(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8")) ?? []
        return Number(kB) / 1024
      })
    }
  })

export const bench: Bench.Bench = {
  name: "nsp",
  summary: "registrations, fan-out and memory of the NSP at scale, against an empty registry with one watcher",
  rows: Effect.scoped(Effect.gen(function*() {
    const worlds = yield* Effect.forEach(loads, loaded)
    const rows = (metric: string, unit: string, run: (world: Loaded) => Effect.Effect<number>, rounds?: number) =>
      Bench.rows("nsp", metric, unit, worlds.map((world) => ({ name: world.name, run: run(world) })), rounds)
    return [
      ...(yield* rows("memory", "MB", ({ memoryMb }) => memoryMb, 1)),
      ...(yield* rows("registrations", "1/s", ({ registrationsPerSecond }) => registrationsPerSecond)),
      ...(yield* rows("fan-out", "ms", ({ fanOutMs }) => fanOutMs))
    ]
  }))
}
