/** `sluice nsmgr`: the embedded Network Service Mesh of one machine, manager, registry and kernel forwarder in one. */
import { Effect, type Scope } from "effect"
import * as Manager from "../../core/nsm/Manager.ts"
import type * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Process from "../runtime/Process.ts"
import * as Replies from "../runtime/Replies.ts"
import * as Runner from "../runtime/Runner.ts"
import { type Config, settings } from "./Config.ts"
import { Forwarder } from "./Forwarder.ts"
import * as Interpreter from "./Interpreter.ts"
import { Records } from "./Records.ts"
import * as Service from "./Service.ts"

/** Runs a manager in the scope: adopts the recorded connections, sweeps leftovers, serves. */
export const serve = (
  { endpointLifetimeMs, listenOn, maxTokenLifetimeMs, name, requestTimeoutMs, statePath }: Config
): Effect.Effect<Runner.Running<Manager.State, Manager.Event>, GrpcError.GrpcError, Scope.Scope | Health.Health> =>
  Effect.gen(function*() {
    const health = yield* Health.Health
    const records = yield* Records
    const waiting: Interpreter.Waiting = { connections: Replies.make(), registrations: Replies.make() }
    const running = yield* Runner.start(Manager.machine, {
      input: {
        settings: { name, maxTokenLifetimeMs, requestTimeoutMs, endpointLifetimeMs },
        records: records.initial
      },
      perform: Interpreter.perform(waiting)
    })
    const services = [...Service.make(running, waiting), Health.service(health)]
    for (const address of listenOn) {
      yield* Server.serve({ address, services })
      yield* Effect.logInfo(`Serving network services on ${address}`)
    }
    for (const service of Service.names) {
      yield* health.register(service)
      yield* health.set(service, true)
    }
    return running
  }).pipe(Effect.provide([Forwarder.layer(name), Records.layer(statePath)]))

export const command = Process.program({
  name: "nsmgr",
  summary: "Connects clients and endpoints of one machine: NSM manager, registry and kernel forwarder in one.",
  serviceId: "Sluice-nsmgr",
  settings,
  logLevel: ({ logLevel }) => logLevel,
  main: (settings) =>
    Effect.gen(function*() {
      const health = yield* Health.Health
      yield* serve(settings)
      for (const probe of Object.values(Health.probes)) yield* health.register(probe)
      yield* Process.shutdownRequested
    })
})
