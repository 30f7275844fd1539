/** The program `frontend`: announces the VIPs of an attractor to its gateways and guards their egress. */
import { Effect, Layer, Result, Schema, type Scope, Stream } from "effect"
import * as os from "node:os"
import { Frontend, RouterId } from "../../core/frontend/index.ts"
import * as Bird from "../bird/Bird.ts"
import type { BirdError } from "../bird/Control.ts"
import type { GrpcError } from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Metrics from "../metrics/Metrics.ts"
import { Netlink } from "../netlink/Netlink.ts"
import type { NetlinkError } from "../netlink/NetlinkError.ts"
import * as Process from "../runtime/Process.ts"
import * as Runner from "../runtime/Runner.ts"
import * as Identity from "../spiffe/Identity.ts"
import * as Config from "./Config.ts"
import * as Gauges from "./Gauges.ts"
import * as Interpreter from "./Interpreter.ts"
import * as Secrets from "./Secrets.ts"
import * as Sources from "./Sources.ts"

/** Settings that are right by themselves, but not for BIRD. */
class SettingsError extends Schema.TaggedError<SettingsError>()("SettingsError", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

/** What stands around a frontend besides its settings; tests give their own. */
export interface Surroundings {
  readonly hostname: string
  /** Runs BIRD elsewhere, for example in a network namespace. */
  readonly bird?: readonly [string, ...ReadonlyArray<string>]
}

/** Starts a frontend that lives as long as the scope. */
export const start = (
  settings: Config.Settings,
  { bird, hostname }: Surroundings
): Effect.Effect<
  Runner.Running<Frontend.State, Frontend.Event>,
  GrpcError | NetlinkError | SettingsError | BirdError | Metrics.MetricsError,
  Scope.Scope | Health.Health | Netlink
> =>
  Effect.gen(function*() {
    const health = yield* Health.Health
    const netlink = yield* Netlink
    yield* health.register(Health.probes.readiness, ["NSPCli", "Egress"])
    const channel = { keepaliveMs: settings.keepaliveMs, maxBackoffMs: settings.maxBackoffMs, waitForReady: true }
    const nsp = yield* Identity.client({ target: settings.nspService, ...channel })
    const balancer = yield* Identity.client({ target: settings.lbSocket, ...channel })
    yield* health.track("NSPCli", nsp.ready)

    const { addresses } = yield* netlink.snapshot
    const routerId = RouterId.derive(addresses, settings.externalInterface, hostname)
    const birdSettings = Config.ofBird(settings, routerId)
    if (Result.isFailure(birdSettings)) return yield* new SettingsError({ detail: birdSettings.failure })
    yield* Effect.logInfo("The frontend starts", { hostname, routerId })

    const onLine = yield* birdLog(settings.logBird)
    const birdLayer = Bird.Bird.layer({
      configFile: Config.birdConfigFile(settings),
      socket: settings.birdSocket,
      onLine,
      ...(bird === undefined ? {} : { command: bird })
    })
    const secrets = Secrets.make({ folder: settings.secretsPath, namespace: settings.namespace })
    const running = yield* Runner.start(Frontend.machine, {
      input: Config.ofMachine(settings, birdSettings.success),
      perform: Interpreter.make({ nsp, health, hostname, secrets }),
      keyOf: Interpreter.keyOf
    }).pipe(Effect.provide(birdLayer))
    if (settings.metricsEnabled) {
      const collect = Effect.provideService(Gauges.collect(settings, running.current), Netlink, netlink)
      yield* Effect.logInfo("Metrics are served", {
        port: yield* Metrics.serve({ port: settings.metricsPort, collect })
      })
    }
    yield* Sources.attractor(nsp, settings, running.send)
    yield* Sources.loadBalancer(balancer, hostname, running.send)
    return running
  })

/** Withdraws, says goodbye and waits until nothing is left. */
export const drain = (running: Runner.Running<Frontend.State, Frontend.Event>): Effect.Effect<void> =>
  Effect.suspend(() => {
    running.send({ _tag: "StopRequested" })
    return Stream.runDrain(Stream.takeUntil(running.changes, ({ phase }) => phase._tag === "Stopped"))
  })

export const command = Process.program({
  name: "frontend",
  summary: "Announces the VIPs of an attractor to its gateways and guards their egress.",
  serviceId: "Meridio-frontend",
  settings: Config.settings,
  validate: Config.validate,
  logLevel: ({ logLevel }) => logLevel,
  main: (settings) =>
    Effect.gen(function*() {
      const running = yield* start(settings, { hostname: os.hostname() })
      yield* Process.shutdownRequested
      yield* drain(running)
    }).pipe(Effect.provide(Layer.orDie(Netlink.layer)))
})

/** Mistakes are shown always, the rest if the log of BIRD is wanted. Source: Meridio service.go, log following. */
const birdLog = (all: boolean): Effect.Effect<(line: string) => void> =>
  Effect.map(Effect.context(), (context) => {
    const run = Effect.runForkWith(context)
    return (line) => {
      const mistake = /<(ERR|BUG|FATAL)>|Error|syntax error/.test(line) && !line.endsWith("Shutdown completed")
      if (mistake) run(Effect.logError(`BIRD: ${line}`))
      else if (all && /<(INFO|WARN|RMT|AUTH)>/.test(line)) run(Effect.logInfo(`BIRD: ${line}`))
    }
  })
