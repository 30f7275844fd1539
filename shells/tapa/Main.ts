/** `sluice tapa`: the ambassador of a target, beside the application in its pod. */
import { Effect, Stream } from "effect"
import type { Scope } from "effect"
import { randomInt } from "node:crypto"
import { Ambassador } from "../../core/tapa/index.ts"
import type * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Memory from "../runtime/Memory.ts"
import * as Process from "../runtime/Process.ts"
import * as Replies from "../runtime/Replies.ts"
import * as Runner from "../runtime/Runner.ts"
import { NsmClient } from "../sdk/Client.ts"
import * as Config from "./Config.ts"
import * as Interpreter from "./Interpreter.ts"
import * as Tap from "./Server.ts"

/** Serves the ambassador until the process is asked to end, then closes streams and connections. */
export const serve = (
  settings: Config.Settings
): Effect.Effect<void, GrpcError.GrpcError, Scope.Scope | Health.Health | NsmClient> =>
  Effect.gen(function*() {
    const health = yield* Health.Health
    yield* health.register(Health.probes.startup)
    yield* health.register(Health.probes.readiness)
    yield* health.register(Health.probes.liveness, ["Ambassador"])
    // The name of the constant in Meridio, which its documents use for the service.
    yield* health.register("AmbassadorSvc", ["Ambassador"])

    const replies = Replies.make<Ambassador.Answer>()
    const machine = yield* Runner.start(Ambassador.machine, {
      input: { settings: Config.ofMachine(settings), seed: randomInt(0xffff_ffff) },
      perform: yield* Interpreter.make(settings, replies)
    })
    const address = `unix://${settings.socket}`
    yield* Server.serve({ address, services: [Tap.service(machine, replies), Health.service(health)] })
    const probe = { service: "Ambassador", address, timeoutMs: settings.probeTimeoutMs, listens: true }
    yield* Effect.forkScoped(Health.selfProbe(probe))
    yield* Effect.forkScoped(Memory.giveBackWhenQuiet(machine.changes))

    yield* Process.shutdownRequested
    machine.send({ _tag: "ShutdownRequested" })
    yield* Stream.runHead(Stream.filter(machine.changes, Ambassador.isStopped))
  })

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
  main: (settings) =>
    Effect.provide(
      serve(settings),
      NsmClient.layer({
        name: settings.name,
        manager: settings.nsmSocket,
        naming: "Counter",
        dialTimeoutMs: settings.dialTimeoutMs,
        requestTimeoutMs: settings.timeoutMs,
        maxTokenLifetimeMs: settings.maxTokenLifetimeMs
      })
    )
})
