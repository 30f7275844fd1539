/**
 * `sluice tapa`: the ambassador of a target, beside the application in its pod.
 *
 * It listens and reports health at once. What an application needs, from the machine to the clients of NSM and NSP, is
 * loaded and started with its first call: each pod has a sidecar, and until then it is as small as a server can be.
 */
import { Effect, Option } from "effect"
import type { Scope } from "effect"
import { TapDefinition } from "../../proto/gen/api/ambassador/v1/tap.ts"
import type * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as OnDemand from "../runtime/OnDemand.ts"
import * as Process from "../runtime/Process.ts"
import type { Ambassador } from "./Ambassador.ts"
import * as Config from "./Config.ts"

/** Serves the ambassador until the process is asked to end, then closes streams and connections. */
export const serve = <R>(
  settings: Config.Settings,
  start: Effect.Effect<Ambassador, never, R>
): Effect.Effect<void, GrpcError.GrpcError, R | Scope.Scope | Health.Health> =>
  Effect.gen(function*() {
    const health = yield* Health.Health
    yield* health.register(Health.probes.startup)
    yield* health.register(Health.probes.readiness)
    yield* health.register(Health.probes.liveness, ["Ambassador"])
    // The name of the constant in Meridio, which its documents use for the service.
    yield* health.register("AmbassadorSvc", ["Ambassador"])

    const ambassador = yield* OnDemand.make("ambassador", start)
    const address = `unix://${settings.socket}`
    const tap = Server.deferred(TapDefinition, Effect.map(ambassador.get, ({ handlers }) => handlers))
    yield* Server.serve({ address, services: [tap, Health.service(health)] })
    const probe = { service: "Ambassador", address, timeoutMs: settings.probeTimeoutMs, listens: true }
    yield* Effect.forkScoped(Health.selfProbe(probe))

    yield* Process.shutdownRequested
    yield* Effect.flatMap(
      ambassador.used,
      Option.match({ onNone: () => Effect.void, onSome: ({ drain }) => drain })
    )
  })

const code = Effect.promise(() => import("./Ambassador.ts"))

/** The machine drains in two steps, unregister and disconnect, and a second; then sockets and channels close. */
export const graceMs = ({ timeoutMs }: Config.Settings): number => 2 * timeoutMs + 5_000

export const command = Process.program({
  name: "tapa",
  summary: "Ambassador of a target: opens streams of external traffic for the application beside it.",
  serviceId: "Meridio-tapa",
  settings: Config.settings,
  validate: Config.validate,
  logLevel: ({ logLevel }) => logLevel,
  graceMs,
  main: (settings) => serve(settings, Effect.orDie(Effect.flatMap(code, ({ startWithNsm }) => startWithNsm(settings))))
})
