/**
 * What the NSM is measured in: the manager as a process of its own, namespaces with an endpoint or a client of the SDK
 * in this process, and a bare gRPC server as the baseline.
 */
import { Context, Effect, Layer, Result, Schedule, Stream } from "effect"
import type { Scope } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Cidr } from "../core/net/index.ts"
import * as Model from "../core/nsm/Model.ts"
import { HealthDefinition } from "../proto/gen/grpc/health/v1/health.ts"
import * as Client from "../shells/grpc/Client.ts"
import * as Health from "../shells/grpc/Health.ts"
import * as Namespace from "../shells/netlink/Namespace.ts"
import { NsmClient } from "../shells/sdk/Client.ts"
import * as Endpoint from "../shells/sdk/Endpoint.ts"
import * as WorkloadApi from "../shells/spiffe/dev/WorkloadApi.ts"
import * as Identity from "../shells/spiffe/Identity.ts"
import * as SpiffeId from "../shells/spiffe/SpiffeId.ts"

const limits = { requestTimeoutMs: 60_000, maxTokenLifetimeMs: 3_600_000 }

/** A program beside this one. */
interface Program {
  /** User and system time so far. */
  readonly cpuMs: () => number
  readonly kB: () => number
}

const run = (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, args, { env: { PATH: process.env["PATH"], ...env }, stdio: "ignore" })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  ).pipe(Effect.map(({ pid }) => ({
    cpuMs: () => {
      const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8")
      const [user = "", system = ""] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(11, 13)
      return (Number(user) + Number(system)) * 10
    },
    kB: () => {
      const [, kB = "NaN"] = /^VmRSS:\s+(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8")) ?? []
      return Number(kB)
    }
  })))

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sluice-bench-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true }))
)

const patiently = Schedule.spaced("50 millis")

/** The least that a gRPC server can be, and a call of it. */
export interface Bare extends Program {
  readonly call: Effect.Effect<void>
}

export const bare: Effect.Effect<Bare, Error, Scope.Scope> = Effect.gen(function*() {
  const socket = join(yield* folder, "bare.sock")
  const program = yield* run(["bench/bare/GrpcServer.ts", socket], {})
  const client = yield* Client.make({ target: `unix://${socket}` })
  const call = Effect.asVoid(client.call(HealthDefinition, "check", { service: "" }))
  yield* Effect.retry(call, patiently)
  return { ...program, call: Effect.orDie(call) }
})

/** A client in a namespace of its own, before an endpoint that only it uses. */
export interface Pair {
  /** Asks for a connection, or refreshes the one that stands. */
  readonly request: (id: string) => Effect.Effect<void>
  readonly close: (id: string) => Effect.Effect<void>
}

export interface World extends Program {
  readonly pair: Effect.Effect<Pair, Error, Scope.Scope>
}

/** A manager, in plain text or with identities of an agent and mutual TLS. */
export const make = (isSecure: boolean): Effect.Effect<World, Error, Scope.Scope> =>
  Effect.gen(function*() {
    const at = yield* folder
    const tag = `sl-bench-${process.pid}-${at.slice(-6)}`
    const manager = `unix://${at}/nsm.sock`
    const agents = isSecure ? yield* agentsOf(at) : undefined
    const program = yield* run(["shells/cli/Main.ts", "nsmgr"], {
      NSM_NAME: tag,
      NSM_LISTEN_ON: manager,
      NSM_STATE_PATH: join(at, "state.json"),
      NSM_ENDPOINT_LIFETIME: "1h",
      NSM_MAX_TOKEN_LIFETIME: "1h",
      NSM_REQUEST_TIMEOUT: "1m",
      SLUICE_HEALTH_SOCKET: join(at, "health.sock"),
      ...(agents === undefined ? {} : { SPIFFE_ENDPOINT_SOCKET: agents.manager })
    })
    const identity = yield* Layer.build(Identity.layer(agents?.workload ?? ""))
    const serves = Health.check({ address: `unix://${at}/health.sock`, service: "Readiness" })
    yield* Effect.retry(Effect.filterOrFail(serves, (isServing) => isServing, () => new Error("not yet")), patiently)
    let pairs = 0
    const pair = Effect.gen(function*() {
      const name = `service-${pairs++}`
      yield* endpoint(name, at, manager, yield* Namespace.scoped(`${tag}-e${pairs}`))
      const namespace = yield* Namespace.scoped(`${tag}-c${pairs}`)
      const client = NsmClient.layer({ name: "bench", manager, namespace, naming: "Counter", ...limits })
      const nsm = Context.get(yield* Layer.build(client), NsmClient)
      return {
        request: (id: string) => Effect.asVoid(Effect.orDie(nsm.request(Model.connection(id, name)))),
        close: (id: string) => Effect.orDie(nsm.close(id))
      }
    })
    return { ...program, pair: Effect.provide(pair, identity) }
  })

const agentsOf = (at: string) =>
  Effect.gen(function*() {
    const addresses = { manager: `unix://${at}/manager.agent`, workload: `unix://${at}/workload.agent` }
    const identities = Object.entries(addresses).map(([name, address]) => ({
      id: Result.getOrThrow(SpiffeId.parse(`spiffe://bench/${name}`)),
      address
    }))
    yield* WorkloadApi.serve({ identities, ttlMs: 3_600_000 })
    return addresses
  })

const endpoint = (name: string, at: string, manager: string, namespace: string) =>
  Effect.gen(function*() {
    const known = new Map<string, number>()
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
        const id = Model.clientId(connection)
        const n = known.get(id) ?? known.size
        known.set(id, n)
        const ip = { ...connection.context.ip, srcAddrs: addresses(n, 1), dstAddrs: addresses(n, 2) }
        return Effect.succeed({ ...connection, context: { ...connection.context, ip } })
      },
      close: () => Effect.void
    })
    yield* Stream.runDrain(Stream.takeUntil(running.registered, (registered) => registered))
  })

/** A network of its own for each connection, of which the client has the first address. */
const addresses = (connection: number, side: 1 | 2): ReadonlyArray<Cidr.Cidr> => [
  Cidr.unsafe(`10.9.${connection >> 6}.${(connection & 63) * 4 + side}/30`),
  Cidr.unsafe(`fd00:9::${(connection * 4 + side).toString(16)}/126`)
]
