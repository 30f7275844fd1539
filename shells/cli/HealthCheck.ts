/** `sluice health`: asks a health server once, as a probe of Kubernetes does. */
import { Effect } from "effect"
import * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Settings from "../runtime/Settings.ts"
import * as Tool from "../runtime/Tool.ts"

const timeout = Settings.entry("--timeout", Settings.DurationMs, 1000, "Limit for connection and answer.")

export const command = Tool.tool({
  name: "health",
  summary: "Asks a program whether it is fit.",
  usage: `Usage: sluice health [--address ADDRESS] [--service NAME] [--timeout DURATION]

  --address  unix:///path or host:port (default: $SLUICE_HEALTH_SOCKET or ${Health.defaultAddress})
  --service  Startup, Readiness, Liveness or a sub-service (default: the process as a whole)
  --timeout  for connection and answer (default: ${timeout.shown})

Exit code: 0 SERVING, 1 anything else, 2 wrong usage.`,
  options: {
    address: { type: "string" },
    service: { type: "string", default: "" },
    timeout: { type: "string", default: timeout.shown }
  },
  main: ({ options }, world) =>
    Effect.gen(function*() {
      const timeoutMs = yield* Effect.mapError(
        Effect.fromResult(timeout.read(String(options["timeout"]))),
        (expected) => GrpcError.error("InvalidArgument", `--timeout must be ${expected}`)
      )
      const serving = yield* Health.check({
        address: typeof options["address"] === "string" ? options["address"] : Health.addressFrom(world.env),
        service: String(options["service"]),
        timeoutMs
      })
      world.out(serving ? "SERVING" : "NOT_SERVING")
      return serving ? 0 : 1
    })
})
