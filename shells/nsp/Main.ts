/** The network service platform of one trench: serves its configuration and registers its targets. */
import { Effect } from "effect"
import * as Health from "../grpc/Health.ts"
import * as Process from "../runtime/Process.ts"
import * as Identity from "../spiffe/Identity.ts"
import { settings, validate } from "./Config.ts"
import * as Service from "./Service.ts"

export const command = Process.program({
  name: "nsp",
  summary: "Serves the configuration of one trench and registers its targets.",
  serviceId: "Meridio-nsp",
  settings,
  validate,
  logLevel: ({ logLevel }) => logLevel,
  main: (settings) =>
    Effect.gen(function*() {
      const health = yield* Health.Health
      yield* health.register(Health.probes.readiness)
      yield* health.register(Health.probes.liveness, ["NSP"])
      const { port } = yield* Service.start(settings)
      yield* Effect.logInfo("Listening", { port })
      const address = `localhost:${port}`
      yield* Effect.forkScoped(
        Health.selfProbe({ service: "NSP", address, timeoutMs: settings.probeTimeoutMs, dial: Identity.client })
      )
      yield* Process.shutdownRequested
    })
})
