/** `sluice proxy`: the bridge of one conduit on one node. */
import { Clock, Effect, Layer, Stream } from "effect"
import { join } from "node:path"
import { Proxy, type Targets } from "../../core/proxy/index.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import type * as Client from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as SocketFolder from "../grpc/SocketFolder.ts"
import { Netlink } from "../netlink/Netlink.ts"
import * as Wire from "../nsp/Wire.ts"
import * as Process from "../runtime/Process.ts"
import * as Replies from "../runtime/Replies.ts"
import * as Runner from "../runtime/Runner.ts"
import { NsmClient } from "../sdk/Client.ts"
import * as Endpoint from "../sdk/Endpoint.ts"
import * as Identity from "../spiffe/Identity.ts"
import * as Config from "./Config.ts"
import * as Forwarding from "./Forwarding.ts"
import * as Interpreter from "./Interpreter.ts"
import * as Ipam from "./Ipam.ts"

type Send = (event: Proxy.Event) => void

/** Pause before a watch that has ended is opened again. Source: Meridio `cmd/proxy/main.go`. */
const reopenMs = 500

/** Runs the proxy until the process is asked to end, then takes leave of load balancers and IPAM. */
export const run = (settings: Config.Settings) =>
  Effect.gen(function*() {
    const health = yield* Health.Health
    yield* health.register(Health.probes.startup)
    yield* health.register(Health.probes.readiness, ["IPAMCli", "NSPCli", "NSMEndpoint", "Egress"])
    yield* health.register(Health.probes.liveness, ["NSMEndpoint"])
    yield* Forwarding.enable(Config.families(settings))

    const channel = { keepaliveMs: settings.keepaliveMs, maxBackoffMs: settings.maxBackoffMs, waitForReady: true }
    const ipam = yield* Identity.client({ ...channel, target: settings.ipamService })
    const nsp = yield* Identity.client({ ...channel, target: Config.nspTarget(settings) })
    yield* health.track("IPAMCli", ipam.ready)
    yield* health.track("NSPCli", nsp.ready)

    const nsm = yield* NsmClient
    const netlink = yield* Netlink
    const replies = Replies.make<Targets.Answer>()
    const socket = join(yield* SocketFolder.make("proxy"), "listen.on")
    const perform = yield* Interpreter.make({
      ipam: Ipam.make(ipam, {
        subnet: { ...settings, node: settings.host },
        timeoutMs: settings.requestTimeoutMs,
        startedAt: yield* Clock.currentTimeMillis
      }),
      replies,
      mtu: settings.mtu,
      serve: (handler) =>
        Effect.gen(function*() {
          yield* Endpoint.serve(endpointOptions(settings, socket), handler)
          yield* Effect.logInfo("Serving targets", { networkService: settings.serviceName })
          const { probeTimeoutMs: timeoutMs } = settings
          const address = `unix://${socket}`
          yield* Health.scopedProbe({ service: "NSMEndpoint", address, timeoutMs, dial: Identity.client })
        }).pipe(Effect.provideService(Health.Health, health))
    })
    const proxy = yield* Runner.start(Proxy.machine, {
      input: Config.ofMachine(settings),
      perform,
      keyOf: Interpreter.keyOf
    })

    yield* Effect.forkScoped(
      again(
        "kernel",
        Stream.runForEach(netlink.changes, () => Effect.sync(() => proxy.send({ _tag: "KernelChanged" })))
      )
    )
    yield* Effect.forkScoped(again("VIPs", watchVips(nsp, settings.trench, proxy.send)))
    yield* Effect.forkScoped(
      again(
        "load balancers",
        Stream.runForEach(nsm.find(settings.networkService), (endpoints) =>
          Effect.sync(() => proxy.send({ _tag: "EndpointsChanged", endpoints })))
      )
    )

    yield* Process.shutdownRequested
    proxy.send({ _tag: "CloseRequested" })
    yield* Stream.runDrain(Stream.takeUntil(proxy.changes, ({ phase }) =>
      phase._tag === "Closed"))
  })

const endpointOptions = (settings: Config.Settings, socket: string): Endpoint.Options => {
  // The client's node has to be the endpoint's, so that targets reach the proxy on their own node.
  const sameNode = { nodeName: "{{.nodeName}}" }
  return {
    name: settings.name,
    services: [{
      name: settings.serviceName,
      payload: "ETHERNET",
      matches: [{ source: sameNode, destinations: [sameNode], fallthrough: false }]
    }],
    labels: settings.host === "" ? {} : { nodeName: settings.host },
    socket,
    manager: settings.connectTo,
    requestTimeoutMs: settings.requestTimeoutMs,
    maxTokenLifetimeMs: settings.maxTokenLifetimeMs
  }
}

const watchVips = (nsp: Client.Client, trench: string, send: Send) =>
  Stream.runForEach(
    nsp.stream(ConfigurationManagerDefinition, "watchVip", { name: "", address: "", trench: { name: trench } }),
    (response) => {
      const { rejected, values } = Wire.vips(response.vips)
      send({ _tag: "VipsChanged", vips: values.map(({ address }) => address) })
      return Effect.forEach(rejected, (sentence) => Effect.logWarning(`Ignoring what the NSP sent: ${sentence}`), {
        discard: true
      })
    }
  )

/** A watch for ever: what ends or breaks is opened again. */
const again = <E extends { readonly message: string }>(what: string, watch: Effect.Effect<void, E>) =>
  watch.pipe(
    Effect.catch((error) => Effect.logWarning(`The watch of ${what} broke`, { error: error.message })),
    Effect.andThen(Effect.sleep(reopenMs)),
    Effect.forever
  )

const nsmClient = (settings: Config.Settings) =>
  NsmClient.layer({
    name: settings.name,
    manager: settings.connectTo,
    naming: "Service",
    dialTimeoutMs: settings.dialTimeoutMs,
    requestTimeoutMs: settings.requestTimeoutMs,
    maxTokenLifetimeMs: settings.maxTokenLifetimeMs
  })

export const command = Process.program({
  name: "proxy",
  summary: "Joins the load balancers of a conduit and the targets of a node.",
  serviceId: "Meridio-proxy",
  settings: Config.settings,
  logLevel: ({ logLevel }) => logLevel,
  validate: Config.validate,
  graceMs: 28_000,
  main: (settings) => Effect.provide(run(settings), Layer.merge(nsmClient(settings), Netlink.layer))
})
