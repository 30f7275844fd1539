/** What tests of the TAPA share: an NSP and a manager without disks and kernel, and TAPAs on sockets of their own. */
import { Effect, Logger, Result, Scope, Stream, SubscriptionRef } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import * as Registry from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as Client from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Wire from "../nsp/Wire.ts"
import * as Settings from "../runtime/Settings.ts"
import * as Ambassador from "./Ambassador.ts"
import * as Config from "./Config.ts"
import { serve } from "./Main.ts"
import * as ManagerInMemory from "./ManagerInMemory.ts"

const trench = { name: "t" }
export const streamOf = (name: string, trenchName = "t", conduitName = "c"): Tap.Stream => ({
  name,
  conduit: { name: conduitName, trench: { name: trenchName } }
})

const nameOf = ({ stream }: { readonly stream?: Registry.Target["stream"] }) =>
  `${stream?.name}.${stream?.conduit?.name}.${stream?.conduit?.trench?.name}`
const same = (a: Registry.Target, b: Registry.Target) => a.ips.join(";") === b.ips.join(";") && nameOf(a) === nameOf(b)
const never = () => Stream.never

/** The NSP of a trench as the protocol wants it: an unknown target is stored disabled, watches repeat everything. */
export const nsp = (address: string) =>
  Effect.gen(function*() {
    const targets = yield* SubscriptionRef.make<ReadonlyArray<Registry.Target>>([])
    const streams = yield* SubscriptionRef.make<ReadonlyArray<string>>(["s"])
    const vips = yield* SubscriptionRef.make<ReadonlyArray<string>>(["20.0.0.1/32"])
    const requests: Array<string> = []
    yield* Server.serve({
      address,
      services: [
        Server.service(Registry.TargetRegistryDefinition, {
          register: (target) =>
            Effect.as(
              SubscriptionRef.update(targets, (all) => {
                const known = all.some((other) => same(other, target))
                requests.push(`${target.status === 0 ? "enabled" : "disabled"} ${target.context["identifier"]}`)
                const stored = known ? target : { ...target, status: Registry.Target_Status.DISABLED }
                return [...all.filter((other) => !same(other, target)), stored]
              }),
              {}
            ),
          unregister: (target) =>
            Effect.as(SubscriptionRef.update(targets, (all) => all.filter((other) => !same(other, target))), {}),
          watch: (filter) =>
            Stream.map(SubscriptionRef.changes(targets), (targets) => ({
              targets: targets.filter((target) => nameOf(target) === nameOf(filter))
            }))
        }),
        Server.service(ConfigurationManagerDefinition, {
          watchTrench: never,
          watchConduit: never,
          watchVip: never,
          watchAttractor: never,
          watchGateway: never,
          watchStream: (filter) =>
            Stream.map(SubscriptionRef.changes(streams), (names) => ({
              streams: names.map((name) => ({ ...filter, name, maxTargets: 2 }))
            })),
          watchFlow: () =>
            Stream.map(SubscriptionRef.changes(vips), (addresses) => ({
              flows: [{
                ...Wire.toFlowsOf({ trench: "t", conduit: "c" }),
                name: "f",
                vips: addresses.map((address) => ({ name: address, address, trench }))
              }]
            }))
        })
      ]
    })
    return { targets, streams, vips, requests }
  })

/** A folder of its own, the NSP, the manager, and TAPAs that can be started again in it. */
export const world = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "tapa-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  )
  const socket = join(folder, "ambassador.sock")
  const settings = Result.getOrThrow(Settings.decode(Config.settings, {
    MERIDIO_NAME: "target-1",
    MERIDIO_NODE: "node-1",
    MERIDIO_SOCKET: socket,
    SLUICE_NSP_ADDRESS: `unix://${folder}/nsp-{trench}.sock`
  }))
  const registry = yield* nsp(`unix://${folder}/nsp-t.sock`)
  const nsm = yield* ManagerInMemory.make("172.16.0.2/24")
  const start = Effect.gen(function*() {
    const scope = yield* Scope.make()
    const fiber = yield* Effect.forkIn(
      serve(settings, Ambassador.start(settings)).pipe(
        Effect.provide([nsm.layer, Health.serve(`unix://${folder}/health.sock`)]),
        Effect.provideService(Scope.Scope, scope),
        Effect.provide(Logger.layer([]))
      ),
      scope
    )
    const client = yield* Client.make({ target: `unix://${socket}`, waitForReady: true, maxBackoffMs: 50 })
    return { client, scope, fiber }
  })
  return { registry, nsm, start, socket, folder, settings }
})

/** The statuses of a watch, by stream, until one of them fits. */
export const until = (client: Client.Client, fits: (statuses: { readonly [stream: string]: number }) => boolean) =>
  client.stream(Tap.TapDefinition, "watch", Tap.Stream.fromPartial({})).pipe(
    Stream.map(({ streamStatus }) =>
      Object.fromEntries(streamStatus.map(({ status, stream }): [string, number] => [stream?.name ?? "", status]))
    ),
    Stream.takeUntil(fits),
    Stream.runLast,
    Effect.timeout("20 seconds")
  )

export const isOpen = (name: string) => (statuses: { readonly [stream: string]: number }) =>
  statuses[name] === Tap.StreamStatus_Status.OPEN

export const when = <A>(ref: SubscriptionRef.SubscriptionRef<A>, holds: (value: A) => boolean) =>
  SubscriptionRef.changes(ref).pipe(Stream.filter(holds), Stream.runHead, Effect.timeout("20 seconds"))
