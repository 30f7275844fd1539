/** `sluice stateless-lb`: spreads the traffic of a conduit over its targets. */
import { Effect, Layer, type Scope, Stream } from "effect"
import * as os from "node:os"
import { join } from "node:path"
import { LoadBalancer } from "../../core/loadbalancer/index.ts"
import { Ip } from "../../core/net/index.ts"
import type { GrpcError } from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as SocketFolder from "../grpc/SocketFolder.ts"
import * as Metrics from "../metrics/Metrics.ts"
import { Netlink } from "../netlink/Netlink.ts"
import * as Sysctl from "../netlink/Sysctl.ts"
import { Nftables } from "../nftables/Nftables.ts"
import * as Forwarding from "../proxy/Forwarding.ts"
import * as Process from "../runtime/Process.ts"
import * as Runner from "../runtime/Runner.ts"
import * as Endpoint from "../sdk/Endpoint.ts"
import * as Identity from "../spiffe/Identity.ts"
import * as Availability from "./Availability.ts"
import * as Config from "./Config.ts"
import * as Gauges from "./Gauges.ts"
import * as Interpreter from "./Interpreter.ts"
import * as Sources from "./Sources.ts"

/** What stands around a load balancer besides its settings; tests give their own. */
export interface Surroundings {
  readonly hostname: string
  /** Path of the network namespace of the endpoint. Default: that of this process. */
  readonly namespace?: string
}

type Running = Runner.Running<LoadBalancer.State, LoadBalancer.Event>

/** Starts a load balancer that lives as long as the scope; what it made in the kernel stays. */
export const start = (
  settings: Config.Settings,
  { hostname, namespace }: Surroundings
): Effect.Effect<Running, GrpcError | Metrics.MetricsError, Scope.Scope | Health.Health | Netlink | Nftables> =>
  Effect.gen(function*() {
    const health = yield* Health.Health
    yield* health.register(Health.probes.startup)
    yield* health.register(Health.probes.readiness, ["NSPCli", "NSMEndpoint", "Egress", "Stream", "Flow"])
    yield* health.register(Health.probes.liveness, ["NSMEndpoint"])
    const nsp = yield* Identity.client({
      target: settings.nspService,
      keepaliveMs: settings.keepaliveMs,
      maxBackoffMs: settings.maxBackoffMs,
      waitForReady: true
    })
    yield* health.track("NSPCli", nsp.ready)

    const socket = join(yield* SocketFolder.make("lb"), "listen.on")
    const running = yield* Runner.start(LoadBalancer.machine, {
      input: Config.ofMachine(settings, hostname),
      perform: yield* Interpreter.make({
        serve: Effect.gen(function*() {
          yield* Endpoint.serve(endpointOptions(settings, socket, namespace), {
            request: Effect.succeed,
            close: () => Effect.void
          })
          yield* Effect.logInfo("Serving proxies", { networkService: settings.serviceName })
          const { probeTimeoutMs: timeoutMs } = settings
          const address = `unix://${socket}`
          yield* Health.scopedProbe({ service: "NSMEndpoint", address, timeoutMs, dial: Identity.client })
        }).pipe(Effect.provideService(Health.Health, health))
      })
    })
    if (settings.metricsEnabled) {
      const services = yield* Effect.context<Netlink | Nftables>()
      const collect = Effect.provideContext(Gauges.collect(settings, running.current), services)
      yield* Effect.logInfo("Metrics are served", {
        port: yield* Metrics.serve({ port: settings.metricsPort, collect })
      })
    }
    const changes = <A>(view: (state: LoadBalancer.State) => A) => Stream.changes(Stream.map(running.changes, view))
    yield* health.track("Egress", changes(LoadBalancer.isServing))
    yield* health.track("Stream", changes(({ lists }) => (lists.streams ?? []).length > 0))
    yield* health.track(
      "Flow",
      Stream.takeUntil(changes(({ lists }) => (lists.flows ?? []).length > 0), Boolean).pipe(
        // Once there was a flow, its absence is a configuration, not a weakness (as in the original).
        (first) => Stream.concat(first, Stream.never)
      )
    )
    yield* Effect.forkScoped(Stream.runForEach(
      changes((state) => LoadBalancer.oversized(state).join(", ")),
      (streams) =>
        streams === "" ? Effect.void : Effect.logError(`Streams with too many targets are left out: ${streams}`)
    ))
    yield* Server.serve({
      address: settings.socket,
      services: [Availability.service(hostname, changes(LoadBalancer.isAvailable))],
      ...(yield* Identity.credentials)
    })
    const conduit = { trench: settings.trench, conduit: settings.conduit }
    yield* Effect.forkScoped(Sources.follow(nsp, conduit, running.send))
    yield* Effect.logInfo("The load balancer starts", { hostname, ...conduit })
    return running
  })

/** Tells the frontend, unregisters the endpoint, and waits until nothing is under way. */
export const drain = (running: Running): Effect.Effect<void> =>
  Effect.suspend(() => {
    running.send({ _tag: "CloseRequested" })
    return Stream.runDrain(Stream.takeUntil(running.changes, LoadBalancer.isClosed))
  })

const endpointOptions = (
  settings: Config.Settings,
  socket: string,
  namespace: string | undefined
): Endpoint.Options => ({
  name: settings.name,
  services: [{ name: settings.serviceName, payload: "ETHERNET", matches: [] }],
  labels: {},
  socket,
  manager: settings.connectTo,
  requestTimeoutMs: settings.requestTimeoutMs,
  maxTokenLifetimeMs: settings.maxTokenLifetimeMs,
  ...(namespace === undefined ? {} : { namespace })
})

export const command = Process.program({
  name: "stateless-lb",
  summary: "Spreads the traffic of a conduit over its targets.",
  serviceId: "Meridio-LB",
  settings: Config.settings,
  logLevel: ({ logLevel }) => logLevel,
  validate: Config.validate,
  main: (settings) =>
    Effect.gen(function*() {
      yield* Forwarding.enable(Ip.families)
      // Without it the kernel asks for each packet whether somebody poses as this node, past one rule per target.
      yield* Effect.ignore(Sysctl.write("net/ipv4/conf/all/accept_local", "1"))
      const running = yield* start(settings, { hostname: os.hostname() })
      yield* Process.shutdownRequested
      yield* drain(running)
    }).pipe(Effect.provide(Layer.orDie(Layer.merge(Netlink.layer, Nftables.layer))))
})
