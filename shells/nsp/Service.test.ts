import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Logger, Queue, Scope, Stream } from "effect"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { stringify } from "yaml"
import type { Target } from "../../core/config/index.ts"
import { conduit, everything, flow, stream, trench, vip } from "../../property-tests/fixtures/Manifests.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import { Target_Status, TargetRegistryDefinition } from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as Client from "../grpc/Client.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as Health from "../grpc/Health.ts"
import type { Config } from "./Config.ts"
import * as Service from "./Service.ts"
import * as TargetWire from "./TargetWire.ts"
import * as Wire from "./Wire.ts"

const yaml = (objects: ReadonlyArray<unknown>): string => objects.map((one) => stringify(one)).join("---\n")

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sluice-nsp-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true }))
)

/** Replaces a file the way editors and Kubernetes do. */
const replace = (file: string, text: string) =>
  Effect.sync(() => {
    fs.writeFileSync(`${file}.new`, text)
    fs.renameSync(`${file}.new`, file)
  })

interface Options {
  readonly objects?: ReadonlyArray<unknown>
  readonly settings?: Partial<Config>
}

/** A folder with manifests, and a way to start an NSP on it, several times if need be. */
const prepared = ({ objects = everything, settings = {} }: Options = {}) =>
  Effect.gen(function*() {
    const path = yield* folder
    const manifests = join(path, "trench.yaml")
    const log = yield* Queue.unbounded<string>()
    const logger = Logger.make(({ message }) => void Queue.offerUnsafe(log, JSON.stringify(message)))
    const refusal = Queue.take(log).pipe(
      Effect.repeat({ until: (line) => line.includes("refused") }),
      Effect.timeout("5 seconds")
    )
    yield* replace(manifests, yaml(objects))
    const start = Effect.gen(function*() {
      const { port } = yield* Service.start({
        namespace: "default",
        port: 0,
        configPath: manifests,
        configMapName: "",
        trench: "",
        datasource: join(path, "data", "registry.db"),
        logLevel: "DEBUG",
        entryTimeoutMs: 60_000,
        probeTimeoutMs: 1000,
        ...settings
      })
      return yield* Client.make({ target: `127.0.0.1:${port}` })
    }).pipe(Effect.provide(Health.layer), Effect.provide(Logger.layer([logger])))
    return { manifests, path, refusal, start }
  })

/** An NSP at work and a client. */
const running = (options: Options = {}) =>
  Effect.gen(function*() {
    const { start, ...rest } = yield* prepared(options)
    return { ...rest, client: yield* start }
  })

/** The answers of a watch, one by one. */
const reading = <A, E>(answers: Stream.Stream<A, E>) =>
  Effect.gen(function*() {
    const queue = yield* Queue.unbounded<A, E>()
    yield* Effect.forkScoped(
      Effect.catchCause(Stream.runForEach(answers, (one) => Queue.offer(queue, one)), (cause) =>
        Queue.failCause(queue, cause))
    )
    const next = Effect.timeout(Queue.take(queue), "5 seconds")
    return { next, size: Queue.size(queue) }
  })

const first = <A, E>(answers: Stream.Stream<A, E>) => Effect.flatMap(reading(answers), ({ next }) => next)

const key = { trench: "t", conduit: "c", stream: "s" }
const target = (fields: Partial<Target.Target> = {}): Target.Target => ({
  kind: "default",
  stream: key,
  ips: ["172.16.0.1/24", "fd00::1/64"],
  context: { identifier: "1" },
  status: "enabled",
  ...fields
})

const register = (client: Client.Client, fields: Partial<Target.Target> = {}) =>
  client.call(TargetRegistryDefinition, "register", TargetWire.toTarget(target(fields)))

const any = TargetWire.toFilter({ kind: "default", status: "any", stream: key })

const watching = (client: Client.Client, filter = any) =>
  reading(
    client.stream(TargetRegistryDefinition, "watch", filter).pipe(
      Stream.map(({ targets }) => TargetWire.targets(targets).values)
    )
  )

const statuses = (targets: ReadonlyArray<Target.Target>) => targets.map(({ status }) => status)

describe("the target registry over TCP", () => {
  it.live("stores a new target disabled, believes it the second time, and forgets it when it leaves", () =>
    Effect.gen(function*() {
      const { client } = yield* running()
      const all = yield* watching(client)
      const enabled = yield* watching(client, { ...any, status: 0 })
      assert.deepStrictEqual(yield* all.next, [])
      assert.deepStrictEqual(yield* enabled.next, [])
      yield* register(client)
      assert.deepStrictEqual(yield* all.next, [target({ status: "disabled" })])
      yield* register(client)
      assert.deepStrictEqual(yield* all.next, [target()])
      assert.deepStrictEqual(yield* enabled.next, [target()])
      yield* client.call(TargetRegistryDefinition, "unregister", {
        ...TargetWire.toTarget(target({ ips: target().ips.toReversed(), context: {} })),
        status: Target_Status.ANY
      })
      assert.deepStrictEqual(yield* all.next, [])
      assert.deepStrictEqual(yield* enabled.next, [])
    }))

  it.live("shows a registration to whoever lists after it was answered", () =>
    Effect.gen(function*() {
      const { client } = yield* running()
      for (let n = 1; n <= 20; n++) {
        yield* register(client, { ips: [`172.16.0.${n}/24`] })
        const { next } = yield* watching(client)
        assert.strictEqual((yield* next).length, n)
      }
    }).pipe(Effect.scoped))

  it.live("removes a target that is not registered again in time", () =>
    Effect.gen(function*() {
      const { client } = yield* running({ settings: { entryTimeoutMs: 150 } })
      const { next } = yield* watching(client)
      yield* next
      yield* register(client)
      assert.deepStrictEqual(statuses(yield* next), ["disabled"])
      assert.deepStrictEqual(yield* next, [])
    }))

  it.live("tells the watchers of a stream and those of all streams, and nobody else", () =>
    Effect.gen(function*() {
      const { client } = yield* running()
      const other = { ...key, stream: "other" }
      const [ofStream, ofOther] = [
        yield* watching(client),
        yield* watching(client, TargetWire.toFilter({ kind: "default", status: "any", stream: other }))
      ]
      const ofAll = yield* watching(client, TargetWire.toFilter({ kind: "default", status: "any" }))
      const frontends = yield* watching(client, TargetWire.toFilter({ kind: "frontend", status: "any" }))
      for (const { next } of [ofStream, ofOther, ofAll, frontends]) assert.deepStrictEqual(yield* next, [])
      yield* register(client)
      assert.strictEqual((yield* ofStream.next).length, 1)
      assert.strictEqual((yield* ofAll.next).length, 1)
      const frontend: Target.Target = {
        kind: "frontend",
        ips: ["host"],
        context: { identifier: "host" },
        status: "enabled"
      }
      yield* client.call(TargetRegistryDefinition, "register", TargetWire.toTarget(frontend))
      assert.deepStrictEqual(yield* frontends.next, [{ ...frontend, status: "disabled" }])
      yield* register(client, { stream: other })
      assert.strictEqual((yield* ofOther.next).length, 1)
      assert.strictEqual((yield* ofAll.next).length, 2)
      assert.strictEqual(yield* ofStream.size, 0)
    }))

  it.live("gives a new watcher its targets at once after a restart, with their status", () =>
    Effect.gen(function*() {
      const { start } = yield* prepared()
      const life = yield* Scope.make()
      const before = yield* Scope.provide(start, life)
      yield* register(before)
      yield* register(before)
      yield* register(before, { ips: ["172.16.0.2/24"] })
      yield* register(before, { ips: ["172.16.0.3/24"] })
      const gone = TargetWire.toTarget(target({ ips: ["172.16.0.3/24"] }))
      yield* before.call(TargetRegistryDefinition, "unregister", gone)
      yield* Scope.close(life, Exit.void)
      const { next } = yield* watching(yield* start)
      assert.deepStrictEqual(statuses(yield* next).toSorted(), ["disabled", "enabled"])
    }))

  it.live("refuses what is no target with INVALID_ARGUMENT and a reason", () =>
    Effect.gen(function*() {
      const { client } = yield* running()
      const message = { ...TargetWire.toTarget(target()), stream: Wire.toStreamKey({ ...key, trench: "" }) }
      const { code, details } = yield* Effect.flip(client.call(TargetRegistryDefinition, "register", message))
      assert.strictEqual(code, GrpcError.Code.InvalidArgument)
      assert.match(details, /trench/)
    }))
})

const vipNames = (client: Client.Client) =>
  reading(
    client.stream(ConfigurationManagerDefinition, "watchVip", { name: "", address: "", trench: { name: "t" } }).pipe(
      Stream.map(({ vips }) => vips.map(({ name }) => name))
    )
  )

const named = (objects: ReadonlyArray<{ readonly name: string }>) => objects.map(({ name }) => name)

describe("the configuration manager over TCP", () => {
  it.live("answers all seven watches", () =>
    Effect.gen(function*() {
      const { client } = yield* running()
      const c = { trench: "t", conduit: "c" }
      const parent = { name: "", trench: Wire.toTrench("t") }
      const manager = ConfigurationManagerDefinition
      const trenches = yield* first(client.stream(manager, "watchTrench", { name: "t" }))
      assert.strictEqual(trenches.trench?.name, "t")
      assert.deepStrictEqual(yield* first(client.stream(manager, "watchTrench", { name: "x" })), { trench: undefined })
      const conduits = yield* first(client.stream(manager, "watchConduit", Wire.toConduitKey(c)))
      assert.deepStrictEqual(Wire.conduits(conduits.conduits).values.map(({ conduit }) => conduit), ["c"])
      const streams = yield* first(client.stream(manager, "watchStream", Wire.toStreamKey({ ...c, stream: "" })))
      assert.deepStrictEqual(Wire.streams(streams.streams).values, [{ ...key, maxTargets: 100 }])
      const flows = yield* first(client.stream(manager, "watchFlow", Wire.toFlowsOf(c)))
      assert.deepStrictEqual(Wire.flows(flows.flows).values.map(({ stream }) => stream), [key])
      const none = yield* first(client.stream(manager, "watchFlow", Wire.toFlowsOf({ ...c, conduit: "x" })))
      assert.deepStrictEqual(none.flows, [])
      const attractors = yield* first(
        client.stream(manager, "watchAttractor", { ...parent, name: "a", vips: [], gateways: [] })
      )
      assert.deepStrictEqual(
        Wire.attractors(attractors.attractors).values.map(({ gateways, vips }) => [gateways.length, vips.length]),
        [[1, 2]]
      )
      const [gateway] = Wire.attractors(attractors.attractors).values.flatMap(({ gateways }) => gateways)
      assert.isDefined(gateway)
      const gateways = yield* first(client.stream(manager, "watchGateway", Wire.toGateway("t")(gateway)))
      assert.deepStrictEqual(Wire.gateways(gateways.gateways).values, [gateway])
      const { next } = yield* vipNames(client)
      assert.deepStrictEqual(yield* next, ["v4", "v6"])
    }))

  it.live("takes missing parents for any, however deep", () =>
    Effect.gen(function*() {
      const objects = [
        ...everything,
        conduit("d"),
        stream("s2", { conduit: "d" }),
        flow("f2", { stream: "s2", vips: [] })
      ]
      const { client } = yield* running({ objects })
      const manager = ConfigurationManagerDefinition
      const none = { name: "", vips: [], gateways: [], address: "" }
      assert.deepStrictEqual(yield* first(client.stream(manager, "watchTrench", none)), { trench: undefined })
      const { conduits } = yield* first(client.stream(manager, "watchConduit", { name: "", destinationPortNats: [] }))
      assert.deepStrictEqual(named(conduits), ["c", "d"])
      const ofD = { name: "d", destinationPortNats: [] }
      for (const [conduit, expected] of [[undefined, ["s", "s2"]], [ofD, ["s2"]]] as const) {
        const { streams } = yield* first(client.stream(manager, "watchStream", { name: "", maxTargets: 0, conduit }))
        assert.deepStrictEqual<ReadonlyArray<string>>(named(streams), expected)
        const request = { ...Wire.toFlowsOf({ trench: "", conduit: "" }), stream: { name: "", maxTargets: 0, conduit } }
        const { flows } = yield* first(client.stream(manager, "watchFlow", request))
        assert.deepStrictEqual(named(flows), expected.map((name) => name.replace("s", "f")))
        // A flow carries its whole line of parents.
        assert.isTrue(flows.every(({ stream }) => stream?.maxTargets === 100 && stream.conduit?.trench?.name === "t"))
      }
      const { flows } = yield* first(
        client.stream(manager, "watchFlow", { ...Wire.toFlowsOf({ trench: "", conduit: "" }), stream: undefined })
      )
      assert.deepStrictEqual(named(flows), ["f", "f2"])
      assert.deepStrictEqual(named((yield* first(client.stream(manager, "watchVip", none))).vips), ["v4", "v6"])
      assert.deepStrictEqual(named((yield* first(client.stream(manager, "watchAttractor", none))).attractors), ["a"])
      const [gateway] = (yield* first(client.stream(manager, "watchAttractor", none))).attractors.flatMap((
        { gateways }
      ) => gateways)
      assert.isDefined(gateway)
      const request = { ...gateway, name: "", trench: undefined }
      assert.deepStrictEqual(named((yield* first(client.stream(manager, "watchGateway", request))).gateways), ["g"])
    }))

  it.live("tells a change of the file to those whom it concerns", () =>
    Effect.gen(function*() {
      const { client, manifests } = yield* running()
      const [vips, streams] = [
        yield* vipNames(client),
        yield* reading(
          client.stream(ConfigurationManagerDefinition, "watchStream", Wire.toStreamKey({ ...key, stream: "" }))
        )
      ]
      yield* vips.next
      yield* streams.next
      yield* replace(manifests, yaml([...everything, vip("w4", "20.0.0.9/32")]))
      assert.deepStrictEqual(yield* vips.next, ["v4", "v6", "w4"])
      assert.strictEqual(yield* streams.size, 0)
      yield* replace(manifests, yaml([...everything, stream("s2")]))
      assert.strictEqual((yield* streams.next).streams.length, 2)
      assert.deepStrictEqual(yield* vips.next, ["v4", "v6"])
    }))

  it.live("keeps the last good configuration while the file is broken, forbidden or gone", () =>
    Effect.gen(function*() {
      const { client, manifests, refusal } = yield* running()
      const { next, size } = yield* vipNames(client)
      yield* next
      const broken: ReadonlyArray<readonly [text: string, reason: string]> = [
        ["kind: [", "trench.yaml"],
        [yaml([...everything, vip("v4", "1.1.1.1/32")]), "Vip red/v4: metadata.name"],
        [
          yaml(everything.map((one) => one.kind === "Stream" ? stream("s", { "max-targets": 7 }) : one)),
          "cannot change"
        ],
        [yaml([...everything, flow("f2", { priority: -1 })]), "Flow red/f2: spec.priority is -1"],
        [yaml([conduit()]), "Conduit red/c: metadata.labels.trench"],
        ["", "hold no trench"]
      ]
      for (const [text, reason] of broken) {
        yield* replace(manifests, text)
        assert.include(yield* refusal, reason)
        // A watcher that comes now gets the old one, too.
        const again = yield* vipNames(client)
        assert.deepStrictEqual(yield* again.next, ["v4", "v6"])
      }
      fs.rmSync(manifests)
      assert.include(yield* refusal, "ENOENT")
      yield* replace(manifests, yaml([...everything, vip("w4", "20.0.0.9/32")]))
      assert.deepStrictEqual(yield* next, ["v4", "v6", "w4"])
      assert.strictEqual(yield* size, 0)
    }))

  it.live("holds the first answer until there is a configuration", () =>
    Effect.gen(function*() {
      const path = yield* folder
      const { client } = yield* running({ settings: { configPath: path } })
      const { next } = yield* vipNames(client)
      fs.writeFileSync(join(path, "10-trench.yaml"), yaml([trench]))
      fs.writeFileSync(join(path, "20-rest.yml"), yaml(everything.slice(1)))
      fs.writeFileSync(join(path, "notes.txt"), "not: [yaml")
      assert.deepStrictEqual(yield* next, ["v4", "v6"])
    }))

  it.live("serves the trench that NSP_TRENCH names when the manifests hold several", () =>
    Effect.gen(function*() {
      const other = { ...trench, metadata: { ...trench.metadata, name: "other" } }
      const { client } = yield* running({ objects: [...everything, other], settings: { trench: "t" } })
      const { next } = yield* vipNames(client)
      assert.deepStrictEqual(yield* next, ["v4", "v6"])
    }))
})
