/**
 * What a connection costs at the embedded NSM: gRPC, manager, endpoint and real veth pairs between real namespaces, in
 * one process. Ten connections share a namespace on each side, as targets of a node share its proxy. Needs root.
 */
import { Effect, Layer, References, Stream } from "effect"
import type { Scope } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Cidr } from "../core/net/index.ts"
import * as Model from "../core/nsm/Model.ts"
import * as Client from "../shells/grpc/Client.ts"
import * as Health from "../shells/grpc/Health.ts"
import * as Namespace from "../shells/netlink/Namespace.ts"
import * as Manager from "../shells/nsm/Main.ts"
import * as Endpoint from "../shells/sdk/Endpoint.ts"
import * as Peer from "../shells/sdk/Peer.ts"
import type * as Bench from "./Bench.ts"

const sizes = [1, 100, 1_000]
const inFlight = 4
const perNamespace = 10
const limits = { requestTimeoutMs: 60_000, maxTokenLifetimeMs: 3_600_000 }

/** What was measured with one number of connections; times in milliseconds. */
interface Figures {
  readonly connect: ReadonlyArray<number>
  readonly connectMs: number
  readonly refresh: ReadonlyArray<number>
  readonly refreshMs: number
  readonly bytes: number
}

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-bench-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

const serve = (name: string, at: string, manager: string, namespace: string) =>
  Effect.gen(function*() {
    const running = yield* Endpoint.serve({
      name,
      services: [{ name, payload: "ETHERNET", matches: [] }],
      labels: {},
      socket: join(at, `${name}.sock`),
      manager,
      namespace,
      ...limits
    }, {
      request: (connection) => {
        const ip = { ...connection.context.ip, srcAddrs: [Cidr.unsafe("10.9.0.2/24"), Cidr.unsafe("fd00:9::2/64")] }
        return Effect.succeed({ ...connection, context: { ...connection.context, ip } })
      },
      close: () => Effect.void
    })
    yield* Stream.runDrain(Stream.takeUntil(running.registered, (registered) => registered))
  })

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<readonly [A, number], E, R> =>
  Effect.gen(function*() {
    const begin = process.hrtime.bigint()
    const value = yield* effect
    return [value, Number(process.hrtime.bigint() - begin) / 1e6] as const
  })

const measure = (count: number): Effect.Effect<Figures, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const at = yield* folder
    const manager = `unix://${at}/nsm.sock`
    const tag = `sl-bench-${process.pid}-${count}`
    yield* Manager.serve({
      name: tag,
      listenOn: [manager],
      ...limits,
      endpointLifetimeMs: 600_000,
      statePath: join(at, "state.json"),
      nodeName: "",
      podName: "",
      clusterName: "",
      logLevel: "INFO"
    }).pipe(Effect.provide(Layer.fresh(Health.layer)))
    const groups = Array.from({ length: Math.ceil(count / perNamespace) }, (_, group) => group)
    const urls = yield* Effect.forEach(groups, (group) =>
      Effect.gen(function*() {
        const client = yield* Namespace.scoped(`${tag}-c${group}`)
        yield* serve(`service-${group}`, at, manager, yield* Namespace.scoped(`${tag}-e${group}`))
        return yield* Namespace.url(client)
      }))
    const channel = yield* Client.make({ target: manager })
    const ask = (connection: Model.Connection) => Peer.request(channel, connection, [], limits.requestTimeoutMs)
    const wanted = Array.from({ length: count }, (_, n): Model.Connection => {
      const group = Math.floor(n / perNamespace)
      return {
        ...Model.connection(`client-${n}`, `service-${group}`),
        mechanism: Model.kernelMechanism(urls[group] ?? "", `nsm-${n % perNamespace}`),
        path: { index: 0, segments: [{ name: "bench", id: `client-${n}`, token: "", metrics: {} }] }
      }
    })
    const before = process.memoryUsage().rss
    const [first, connectMs] = yield* timed(
      Effect.forEach(wanted, (one) => timed(ask(one)), { concurrency: inFlight })
    )
    const bytes = (process.memoryUsage().rss - before) / count
    const again = Array.from({ length: Math.max(20, Math.min(count, 200)) }, (_, n) => first[n % count]?.[0])
    const [second, refreshMs] = yield* timed(
      Effect.forEach(
        again.filter((one) => one !== undefined),
        (one) => timed(ask(one)),
        { concurrency: Math.min(count, inFlight) }
      )
    )
    yield* Effect.forEach(first, ([one]) => Peer.close(channel, one, limits.requestTimeoutMs), {
      concurrency: inFlight,
      discard: true
    })
    return { connect: first.map(([, ms]) => ms), connectMs, refresh: second.map(([, ms]) => ms), refreshMs, bytes }
  })

const quantile = (values: ReadonlyArray<number>, q: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN
}

const views: ReadonlyArray<readonly [metric: string, unit: string, view: (figures: Figures) => number]> = [
  ["connects", "1/s", ({ connect, connectMs }) => connect.length / connectMs * 1000],
  ["connect p50", "ms", ({ connect }) => quantile(connect, 0.5)],
  ["connect p99", "ms", ({ connect }) => quantile(connect, 0.99)],
  ["refreshes", "1/s", ({ refresh, refreshMs }) => refresh.length / refreshMs * 1000],
  ["refresh p50", "ms", ({ refresh }) => quantile(refresh, 0.5)],
  ["refresh p99", "ms", ({ refresh }) => quantile(refresh, 0.99)],
  ["memory per connection", "kB", ({ bytes }) => bytes / 1000]
]

const valueOf = (figures: Figures | undefined, view: (figures: Figures) => number): number =>
  figures === undefined ? Number.NaN : view(figures)

export const bench: Bench.Bench = {
  name: "nsm",
  summary: "connects and refreshes through manager and forwarder by number of connections, against one",
  rows: Effect.gen(function*() {
    // The first connection of a process pays for what is loaded and compiled once.
    yield* Effect.scoped(measure(perNamespace))
    const figures = yield* Effect.forEach(sizes, (size) => Effect.scoped(measure(size)))
    return views.flatMap(([metric, unit, view]) => {
      // What one connection takes is lost in the noise of the process, so it is no baseline for memory.
      const measured = sizes.map((size, n) => ({ size, value: valueOf(figures[n], view) }))
        .filter(({ size }) => size > 1 || unit !== "kB")
      const baseline = measured[0]?.value ?? Number.NaN
      return measured.map(({ size, value }) => ({
        bench: "nsm",
        metric: `${metric}, ${size.toLocaleString("en")} connections`,
        unit,
        value,
        baseline,
        ratio: value / baseline
      }))
    })
  }).pipe(Effect.orDie, Effect.provideService(References.MinimumLogLevel, "Error"))
}
