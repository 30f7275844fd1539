import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, Option, Result, Scope, Stream, SubscriptionRef } from "effect"
import { mkdtempSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Cidr } from "../../core/net/index.ts"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import * as Registry from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as Client from "../grpc/Client.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Wire from "../nsp/Wire.ts"
import * as Settings from "../runtime/Settings.ts"
import { command as target } from "../target/Main.ts"
import * as Config from "./Config.ts"
import { serve } from "./Main.ts"
import * as ManagerInMemory from "./ManagerInMemory.ts"

const trench = { name: "t" }
const conduit = { name: "c", trench, destinationPortNats: [] }
const streamOf = (name: string, trenchName = "t"): Tap.Stream => ({
  name,
  conduit: { name: "c", trench: { name: trenchName } }
})

const same = (a: Registry.Target, b: Registry.Target) =>
  a.ips.join(";") === b.ips.join(";") && a.stream?.name === b.stream?.name
const never = () => Stream.never

/** The NSP of a trench as the protocol wants it: an unknown target is stored disabled, watches repeat everything. */
const nsp = (address: string) =>
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
          watch: () => Stream.map(SubscriptionRef.changes(targets), (targets) => ({ targets }))
        }),
        Server.service(ConfigurationManagerDefinition, {
          watchTrench: never,
          watchConduit: never,
          watchVip: never,
          watchAttractor: never,
          watchGateway: never,
          watchStream: () =>
            Stream.map(SubscriptionRef.changes(streams), (names) => ({
              streams: names.map((name) => ({ name, conduit, maxTargets: 2 }))
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
const world = Effect.gen(function*() {
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
      serve(settings).pipe(
        Effect.provide([nsm.layer, Health.serve(`unix://${folder}/health.sock`)]),
        Effect.provideService(Scope.Scope, scope),
        Effect.provide(Logger.layer([]))
      ),
      scope
    )
    const client = yield* Client.make({ target: `unix://${socket}`, waitForReady: true, maxBackoffMs: 50 })
    return { client, scope, fiber }
  })
  return { registry, nsm, start, socket }
})

/** The statuses of a watch, by stream, until one of them fits. */
const until = (client: Client.Client, fits: (statuses: { readonly [stream: string]: number }) => boolean) =>
  client.stream(Tap.TapDefinition, "watch", Tap.Stream.fromPartial({})).pipe(
    Stream.map(({ streamStatus }) =>
      Object.fromEntries(streamStatus.map(({ status, stream }): [string, number] => [stream?.name ?? "", status]))
    ),
    Stream.takeUntil(fits),
    Stream.runLast,
    Effect.timeout("20 seconds")
  )

const isOpen = (name: string) => (statuses: { readonly [stream: string]: number }) =>
  statuses[name] === Tap.StreamStatus_Status.OPEN

const when = <A>(ref: SubscriptionRef.SubscriptionRef<A>, holds: (value: A) => boolean) =>
  SubscriptionRef.changes(ref).pipe(Stream.filter(holds), Stream.runHead, Effect.timeout("20 seconds"))

describe("The TAPA on real sockets", () => {
  it.live("opens a stream: connected, registered in two phases, with the VIPs of its flows", () =>
    Effect.scoped(Effect.gen(function*() {
      const { nsm, registry, socket, start } = yield* world
      const { client } = yield* start
      yield* client.call(Tap.TapDefinition, "open", streamOf("s"))
      yield* until(client, isOpen("s"))
      assert.strictEqual(statSync(socket).mode & 0o777, 0o777)
      const [target] = yield* SubscriptionRef.get(registry.targets)
      const identifier = Number(target?.context["identifier"])
      assert.isTrue(identifier === 1 || identifier === 2)
      assert.deepStrictEqual(target?.ips, ["172.16.0.2/24"])
      assert.deepStrictEqual(registry.requests, [`disabled ${identifier}`, `enabled ${identifier}`])
      yield* when(nsm.connections, (all) => Object.values(all).some(({ context }) => context.ip.policies.length > 0))
      const [first, second] = nsm.requests
      assert.deepStrictEqual(
        [first?.id, first?.networkService, first?.payload, first?.labels],
        ["target-1-proxy.c.t.default-0", "proxy.c.t.default", "ETHERNET", { nodeName: "node-1" }]
      )
      assert.deepStrictEqual(second?.context.ip.srcAddrs, [Cidr.unsafe("172.16.0.2/24"), Cidr.unsafe("20.0.0.1/32")])
      assert.deepStrictEqual(JSON.parse(JSON.stringify(second?.context.ip.policies)), [
        { from: "20.0.0.1/32", routes: [{ prefix: "0.0.0.0/0", nextHop: "172.16.0.1" }] }
      ])
    })))

  it.live("closes a stream: unregistered, disconnected, and free for another trench", () =>
    Effect.scoped(Effect.gen(function*() {
      const { nsm, registry, start } = yield* world
      const { client } = yield* start
      yield* client.call(Tap.TapDefinition, "open", streamOf("s"))
      yield* until(client, isOpen("s"))
      const conflict = yield* Effect.flip(client.call(Tap.TapDefinition, "open", streamOf("s", "other")))
      assert.deepStrictEqual(
        [conflict.code, conflict.details],
        [GrpcError.Code.FailedPrecondition, "open failed to set trench: another trench is already connected"]
      )
      yield* client.call(Tap.TapDefinition, "close", streamOf("s"))
      yield* client.call(Tap.TapDefinition, "open", streamOf("s", "other"))
      assert.deepStrictEqual(yield* SubscriptionRef.get(registry.targets), [])
      const ids = Object.keys(yield* SubscriptionRef.get(nsm.connections))
      assert.isFalse(ids.includes("target-1-proxy.c.t.default-0"))
    })))

  it.live("tells a watcher the list at once, then each change, filtered", () =>
    Effect.scoped(Effect.gen(function*() {
      const { registry, start } = yield* world
      const { client } = yield* start
      const empty = yield* Stream.runHead(client.stream(Tap.TapDefinition, "watch", streamOf("s")))
      assert.deepStrictEqual(Option.map(empty, ({ streamStatus }) => streamStatus), Option.some([]))
      yield* client.call(Tap.TapDefinition, "open", streamOf("s"))
      yield* client.call(Tap.TapDefinition, "open", streamOf("unknown"))
      yield* until(client, (statuses) =>
        isOpen("s")(statuses) && statuses["unknown"] === Tap.StreamStatus_Status.UNDEFINED)
      const one = yield* Stream.runHead(client.stream(Tap.TapDefinition, "watch", streamOf("s")))
      assert.deepStrictEqual(
        Option.map(one, ({ streamStatus }) =>
          streamStatus),
        Option.some([{ status: Tap.StreamStatus_Status.OPEN, stream: streamOf("s") }])
      )
      yield* SubscriptionRef.set(registry.streams, ["s", "unknown"])
      yield* until(client, isOpen("unknown"))
      yield* SubscriptionRef.set(registry.streams, ["unknown"])
      yield* until(client, (statuses) => statuses["s"] === Tap.StreamStatus_Status.UNDEFINED)
      yield* when(registry.targets, (targets) => targets.every(({ stream }) => stream?.name !== "s"))
    })))

  it.live("refuses what can never be", () =>
    Effect.scoped(Effect.gen(function*() {
      const { start } = yield* world
      const { client } = yield* start
      const ask = (stream: object) =>
        Effect.flip(client.call(Tap.TapDefinition, "open", Tap.Stream.fromPartial(stream)))
      const errors = [
        yield* ask({ name: "s" }),
        yield* ask({ name: "s", conduit: { name: "c" } }),
        yield* ask(streamOf(""))
      ]
      assert.deepStrictEqual(errors.map(({ code, details }) => [code, details]), [
        [GrpcError.Code.InvalidArgument, "conduit cannot be nil"],
        [GrpcError.Code.InvalidArgument, "trench cannot be nil"],
        [GrpcError.Code.InvalidArgument, "the name of the stream cannot be empty"]
      ])
    })))

  it.live("is spoken to by sluice target", () =>
    Effect.scoped(Effect.gen(function*() {
      const { registry, socket, start } = yield* world
      const { client } = yield* start
      const out: Array<string> = []
      const err: Array<string> = []
      const run = (...argv: ReadonlyArray<string>) =>
        Effect.promise(() =>
          target.run(argv, {
            env: { MERIDIO_AMBASSADOR_SOCKET: `unix://${socket}` },
            out: (text) => void out.push(text),
            err: (text) => void err.push(text)
          })
        )
      const names = ["-t", "t", "-c", "c", "-s", "s"]
      yield* until(client, () => true)
      assert.strictEqual(yield* run("open", ...names), 0)
      yield* until(client, isOpen("s"))
      assert.strictEqual(yield* run("watch", "--once"), 0)
      assert.strictEqual(yield* run("watch", "--once", "--json", "--socket", socket), 0)
      assert.strictEqual(yield* run("close", ...names, "--json"), 0)
      yield* when(registry.targets, (targets) => targets.length === 0)
      assert.deepStrictEqual(out.slice(0, 2), [
        "asked for stream s of conduit c in trench t",
        "OPEN         stream s of conduit c in trench t"
      ])
      const named = { name: "s", conduit: { name: "c", trench: { name: "t" } } }
      assert.deepStrictEqual(out.slice(2).map((line): unknown => JSON.parse(line)), [
        { streamStatus: [{ status: "OPEN", stream: named }] },
        named
      ])
      assert.deepStrictEqual(err, [])
      assert.strictEqual(yield* run("open", "-t", "t"), 2)
      assert.strictEqual(yield* run("opne", ...names), 2)
      assert.strictEqual(yield* run("open", ...names, "--socket", "/nowhere/ambassador.sock"), 1)
      assert.strictEqual(err.length, 3)
    })))

  it.live("takes its connection over after a crash", () =>
    Effect.scoped(Effect.gen(function*() {
      const { nsm, start } = yield* world
      const first = yield* start
      yield* first.client.call(Tap.TapDefinition, "open", streamOf("s"))
      yield* until(first.client, isOpen("s"))
      yield* when(nsm.connections, (all) => Object.values(all).some(({ context }) => context.ip.policies.length > 0))
      // The process is gone without a word: its scope ends, nothing is drained.
      yield* Fiber.interrupt(first.fiber)
      yield* Scope.close(first.scope, yield* Effect.exit(Effect.void))
      const before = nsm.requests.length
      const second = yield* start
      yield* second.client.call(Tap.TapDefinition, "open", streamOf("s"))
      yield* until(second.client, isOpen("s"))
      const recovered = nsm.requests[before]
      assert.deepStrictEqual(recovered?.context.ip.srcAddrs, [Cidr.unsafe("172.16.0.2/24"), Cidr.unsafe("20.0.0.1/32")])
      assert.deepStrictEqual(recovered?.mechanism?.parameters, {})
    })))
})
