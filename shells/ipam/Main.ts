/** The IPAM of a trench. */
import { Effect, Stream } from "effect"
import { Ipam, type Model, Notices } from "../../core/ipam/index.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import type * as Client from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Process from "../runtime/Process.ts"
import * as Replies from "../runtime/Replies.ts"
import * as Runner from "../runtime/Runner.ts"
import * as Identity from "../spiffe/Identity.ts"
import * as Config from "./Config.ts"
import * as Interpreter from "./Interpreter.ts"
import * as Service from "./Service.ts"
import * as Store from "./Store.ts"

const reopenMs = 500

const main = (values: Config.Values) =>
  Effect.gen(function*() {
    const health = yield* Health.Health
    yield* health.register(Health.probes.startup)
    yield* health.register(Health.probes.readiness, ["Store"])
    yield* health.register(Health.probes.liveness, ["IPAM"])
    const nsp = yield* Identity.client({
      target: values.nspService,
      keepaliveMs: values.keepaliveMs,
      maxBackoffMs: values.maxBackoffMs,
      waitForReady: true
    })
    yield* health.track("NSPCli", nsp.ready)

    const { entries, unusable } = yield* Store.load
    for (const sentence of unusable) yield* Effect.logError(`${values.dataSource}: ${sentence}`)
    const input = { settings: Config.toMachine(values), entries }
    yield* Effect.logInfo("Leases loaded", { leases: input.entries.length, file: values.dataSource })
    for (const notice of [...Config.notices(values), ...Notices.notices(input)]) yield* Effect.logWarning(notice)
    const replies = Replies.make<Model.Answer>()
    const ipam = yield* Runner.start(Ipam.machine, {
      input,
      perform: Interpreter.make(replies)
    })
    yield* health.track("Store", Stream.changes(Stream.map(ipam.changes, Ipam.isStoring)))
    yield* Effect.forkScoped(watchConduits(nsp, values.trench, ipam.send))
    const server = yield* Server.serve({
      address: `:${values.port}`,
      services: [Service.make(ipam.send, replies), Health.service(health)],
      ...(yield* Identity.credentials)
    })
    const own = {
      service: "IPAM",
      address: `localhost:${server.port}`,
      timeoutMs: values.probeTimeoutMs,
      dial: Identity.client
    }
    yield* Effect.forkScoped(Health.selfProbe(own))
    yield* Effect.logInfo("Serving", { address: server.target })

    yield* Process.shutdownRequested
    ipam.send({ _tag: "CloseRequested" })
    yield* Stream.runDrain(Stream.takeUntil(ipam.changes, Ipam.isClosed))
  }).pipe(Effect.provide(Store.layer({ file: values.dataSource, trench: values.trench })))

const watchConduits = (nsp: Client.Client, trench: string, send: (event: Ipam.Event) => void) =>
  nsp.stream(ConfigurationManagerDefinition, "watchConduit", {
    name: "",
    trench: { name: trench },
    destinationPortNats: []
  }).pipe(
    Stream.runForEach(({ conduits }) =>
      Effect.sync(() => send({ _tag: "ConduitsChanged", conduits: conduits.map(({ name }) => name) }))
    ),
    Effect.catch((error) => Effect.logWarning("The watch of conduits ended", { reason: error.message })),
    Effect.andThen(Effect.sleep(reopenMs)),
    Effect.forever
  )

export const command = Process.program({
  name: "ipam",
  summary: "Hands out the addresses of a trench.",
  serviceId: "Meridio-ipam",
  settings: Config.settings,
  logLevel: ({ logLevel }) => logLevel,
  validate: Config.validate,
  main
})
