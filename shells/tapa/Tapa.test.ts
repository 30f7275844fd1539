import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Scope, Stream, SubscriptionRef } from "effect"
import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { Cidr } from "../../core/net/index.ts"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as Recording from "../replay/Recording.ts"
import * as FlightRecorder from "../runtime/FlightRecorder.ts"
import { command as target } from "../target/Main.ts"
import * as ManagerInMemory from "./ManagerInMemory.ts"
import { isOpen, streamOf, until, when, world } from "./Rig.ts"

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
      assert.strictEqual(yield* run("watch", "--once"), 0)
      assert.deepStrictEqual(out.splice(0), ["New stream list:"])
      assert.strictEqual(yield* run("open", ...names), 0)
      yield* until(client, isOpen("s"))
      assert.strictEqual(yield* run("watch", "--once"), 0)
      assert.strictEqual(yield* run("watch", "--once", "--json", "--socket", socket), 0)
      assert.strictEqual(yield* run("close", ...names, "--json"), 0)
      yield* when(registry.targets, (targets) => targets.length === 0)
      assert.deepStrictEqual(out.slice(0, 2), [
        "asked for stream s of conduit c in trench t",
        "New stream list:\nOPEN - s - c - t"
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

  it.live("records what it decides without the tokens of NSM, and the recording replays", () =>
    Effect.scoped(Effect.gen(function*() {
      const { folder, nsm, start } = yield* world
      const tapes = join(folder, "tapes")
      const { client, scope } = yield* Effect.provideService(
        start,
        FlightRecorder.FlightRecorder,
        FlightRecorder.toFolder(tapes)
      )
      yield* client.call(Tap.TapDefinition, "open", streamOf("s"))
      yield* until(client, isOpen("s"))
      yield* when(nsm.connections, (all) => Object.values(all).some(({ context }) => context.ip.policies.length > 0))
      yield* client.call(Tap.TapDefinition, "close", streamOf("s"))
      yield* when(nsm.connections, (all) => Object.values(all).length === 0)
      assert.include(JSON.stringify(nsm.requests), ManagerInMemory.token, "the token went back to the manager")
      yield* Scope.close(scope, Exit.void)
      const [file = ""] = readdirSync(tapes)
      const text = readFileSync(join(tapes, file), "utf8")
      assert.include(text, "RequestSucceeded")
      assert.notInclude(text, "secret")
      const { replay } = yield* Recording.open(join(tapes, file))
      assert.strictEqual(replay()._tag, "Same")
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
