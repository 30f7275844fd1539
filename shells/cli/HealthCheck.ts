/** `sluice health`: asks a health server once, as a probe of Kubernetes does. */
import { Effect } from "effect"
import * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Settings from "../runtime/Settings.ts"
import * as Tool from "../runtime/Tool.ts"
import * as Identity from "../spiffe/Identity.ts"

const timeout = Settings.entry("--timeout", Settings.DurationMs, 1000, "Limit for connection and answer.")

export const command = Tool.tool({
  name: "health",
  summary: "Asks a program whether it is fit.",
  usage: `Usage: sluice health [--address ADDRESS] [--service NAME] [--timeout DURATION] [--spiffe]

  --address  unix:///path or host:port (default: $SLUICE_HEALTH_SOCKET or ${Health.defaultAddress})
  --service  Startup, Readiness, Liveness or a sub-service (default: the process as a whole)
  --timeout  for connection and answer (default: ${timeout.shown})
  --spiffe   speaks mutual TLS with the identity from $${Identity.endpointVariable}, as the socket of sluice nsmgr
             needs it then; health sockets answer in plain text always

Exit code: 0 SERVING, 1 anything else, 2 wrong usage.`,
  options: {
    address: { type: "string" },
    service: { type: "string", default: "" },
    timeout: { type: "string", default: timeout.shown },
    spiffe: { type: "boolean", default: false }
  },
  main: ({ options }, world) =>
    Effect.gen(function*() {
      const timeoutMs = yield* Effect.mapError(
        Effect.fromResult(timeout.read(String(options["timeout"]))),
        (expected) => GrpcError.error("InvalidArgument", `--timeout must be ${expected}`)
      )
      const agent = options["spiffe"] === true ? world.env[Identity.endpointVariable] ?? "" : undefined
      if (agent === "") {
        return yield* GrpcError.error(
          "InvalidArgument",
          `--spiffe needs the address of the agent in ${Identity.endpointVariable}`
        )
      }
      const check = Health.check({
        address: typeof options["address"] === "string" ? options["address"] : Health.addressFrom(world.env),
        service: String(options["service"]),
        timeoutMs,
        dial: Identity.client
      })
      const serving = yield* agent === undefined ? check : check.pipe(
        Effect.provide(Identity.layer(agent)),
        Effect.catchTag("SpiffeError", ({ message }) => Effect.fail(GrpcError.error("Unauthenticated", message))),
        // The agent has to answer too.
        Effect.timeoutOrElse({
          duration: timeoutMs,
          orElse: () => Effect.fail(GrpcError.error("DeadlineExceeded", `no answer within ${timeoutMs} ms`))
        })
      )
      world.out(serving ? "SERVING" : "NOT_SERVING")
      return serving ? 0 : 1
    })
})
