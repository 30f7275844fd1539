/** `sluice nsmgr`: the embedded Network Service Mesh of one machine, manager, registry and kernel forwarder in one. */
import { Effect, Layer, PubSub, type Scope, Stream } from "effect"
import * as Manager from "../../core/nsm/Manager.ts"
import * as Naming from "../../core/nsm/Naming.ts"
import type * as Registry from "../../core/nsm/Registry.ts"
import type * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Process from "../runtime/Process.ts"
import * as Replies from "../runtime/Replies.ts"
import * as Runner from "../runtime/Runner.ts"
import * as Identity from "../spiffe/Identity.ts"
import { type Config, settings } from "./Config.ts"
import * as Dial from "./Dial.ts"
import { Forwarder } from "./Forwarder.ts"
import * as Guard from "./Guard.ts"
import * as Interpreter from "./Interpreter.ts"
import * as Monitors from "./Monitors.ts"
import { Records } from "./Records.ts"
import * as Service from "./Service.ts"

/** Runs a manager in the scope: adopts the recorded connections, sweeps leftovers, serves. */
export const serve = (
  config: Config
): Effect.Effect<Runner.Running<Manager.State, Manager.Event>, GrpcError.GrpcError, Scope.Scope | Health.Health> =>
  Effect.gen(function*() {
    // For the scope of the manager, which outlives the call of this function.
    const parts = yield* Layer.build(Layer.merge(Forwarder.layer(config.name), Records.layer(config.statePath)))
    return yield* Effect.provide(start(config), parts)
  })

const start = (config: Config) =>
  Effect.gen(function*() {
    const { endpointLifetimeMs, listenOn, maxTokenLifetimeMs, name, requestTimeoutMs } = config
    const health = yield* Health.Health
    const records = yield* Records
    const waiting: Interpreter.Waiting = { connections: Replies.make(), registrations: Replies.make() }
    const running = yield* Runner.start(Manager.machine, {
      input: {
        settings: { name, maxTokenLifetimeMs, requestTimeoutMs, endpointLifetimeMs, labels: labels(config) },
        records: records.initial
      },
      perform: Interpreter.perform(waiting, yield* Dial.make(maxTokenLifetimeMs))
    })
    const guard = yield* Guard.make({ name, next: Naming.forwarder(name), maxTokenLifetimeMs })
    const monitors = yield* Monitors.make(running, Manager.standing)
    const registry = yield* follow(running)
    const services = [...Service.make({ running, waiting, guard, monitors, registry }), Health.service(health)]
    const credentials = yield* Identity.credentials
    for (const address of listenOn) {
      yield* Server.serve({ address, services, ...credentials })
      yield* Effect.logInfo(`Serving network services on ${address}`)
    }
    for (const service of Service.names) {
      yield* health.register(service)
      yield* health.set(service, true)
    }
    return running
  })

/** The registry after each change of it: watchers of endpoints are not woken by each connection. */
const follow = (running: Runner.Running<Manager.State, Manager.Event>) =>
  Effect.gen(function*() {
    const registries = yield* PubSub.sliding<Registry.State>({ capacity: 1, replay: 1 })
    yield* running.changes.pipe(
      Stream.map(({ registry }) => registry),
      Stream.changesWith((before, after) => before === after),
      Stream.runForEach((registry) => PubSub.publish(registries, registry)),
      Effect.forkScoped
    )
    return Stream.fromPubSub(registries)
  })

/** As upstream's manager describes those who do not describe themselves. */
const labels = ({ clusterName, nodeName, podName }: Config) =>
  Object.fromEntries(Object.entries({ nodeName, podName, clusterName }).filter(([, value]) => value !== ""))

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
