import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Result, type Scope, Stream } from "effect"
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Cidr } from "../../core/net/index.ts"
import * as Model from "../../core/nsm/Model.ts"
import * as RegistryPath from "../../core/nsm/RegistryPath.ts"
import * as Token from "../../core/nsm/Token.ts"
import { NetworkServiceDefinition } from "../../proto/gen/networkservice.ts"
import { NetworkServiceEndpointRegistryDefinition } from "../../proto/gen/registry.ts"
import * as Grpc from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import { NsmClient } from "../sdk/Client.ts"
import * as Endpoint from "../sdk/Endpoint.ts"
import * as Peer from "../sdk/Peer.ts"
import * as WorkloadApi from "../spiffe/dev/WorkloadApi.ts"
import * as Identity from "../spiffe/Identity.ts"
import * as SpiffeId from "../spiffe/SpiffeId.ts"
import * as Manager from "./Main.ts"
import * as Wire from "./Wire.ts"

const who = ["nsmgr", "client", "endpoint", "stranger"] as const
type Who = typeof who[number]
const idOf = (name: Who) => `spiffe://k8s.test/ns/red/pod/${name}`
const service: Model.NetworkService = { name: "lb.red", payload: "ETHERNET", matches: [] }
const wanted: Model.Connection = { ...Model.connection("client-0", "lb.red"), payload: "ETHERNET" }
const limits = { requestTimeoutMs: 5_000, maxTokenLifetimeMs: 600_000 }
let counter = 0

/** An agent with an identity for each, two namespaces, and a manager with its identity. */
const world = Effect.gen(function*() {
  const tag = `sl-ids-${process.pid}-${counter++}`
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), `${tag}-`))
  yield* Effect.addFinalizer(() => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true })))
  const socket = (name: Who) => `unix://${folder}/${name}.agent`
  const agent = yield* WorkloadApi.serve({
    identities: who.map((name) => ({ id: Result.getOrThrow(SpiffeId.parse(idOf(name))), address: socket(name) })),
    ttlMs: 3_600_000
  })
  const as = (name: Who) => Effect.provide(Identity.layer(socket(name)))
  const scope = yield* Effect.scope
  const identity = (name: Who) => Layer.buildWithScope(Identity.layer(socket(name)), scope).pipe(Effect.orDie)
  const client = yield* Namespace.scoped(`${tag}-c`)
  const endpoint = yield* Namespace.scoped(`${tag}-e`)
  const url = `unix://${folder}/nsm.sock`
  yield* Manager.serve({
    name: tag,
    listenOn: [url],
    ...limits,
    endpointLifetimeMs: 60_000,
    statePath: "",
    nodeName: "node-a",
    podName: "",
    clusterName: "",
    logLevel: "INFO"
  }).pipe(Effect.provide(yield* identity("nsmgr")), Effect.provide(Health.layer))

  const serve = (name: Who, over: Partial<Endpoint.Options> = {}) =>
    Effect.gen(function*() {
      const seen: Array<Model.Connection> = []
      const running = yield* Endpoint.serve({
        name: "nse",
        services: [service],
        labels: {},
        socket: `${folder}/nse.sock`,
        manager: url,
        namespace: endpoint,
        ...limits,
        ...over
      }, {
        request: (connection) => {
          seen.push(connection)
          const ip = { ...connection.context.ip, srcAddrs: [Cidr.unsafe("10.9.0.2/24")] }
          return Effect.succeed({ ...connection, context: { ...connection.context, ip } })
        },
        close: () => Effect.void
      }).pipe(Effect.provide(yield* identity(name)))
      return { running, seen }
    })
  const use = <A, E, R>(name: Who, body: (nsm: NsmClient["Service"]) => Effect.Effect<A, E, R>) =>
    Effect.flatMap(NsmClient, body).pipe(
      Effect.provide(NsmClient.layer({ name: "tapa", manager: url, namespace: client, naming: "Counter", ...limits })),
      as(name)
    )
  const channel = (name: Who, tokens: Pick<Parameters<typeof Identity.client>[0], "maxTokenLifetimeMs">) =>
    Effect.flatMap(
      identity(name),
      (context) => Effect.provide(Identity.client({ target: url, ...tokens }), context)
    )
  return { tag, agent, agentOf: socket, folder, url, client, endpoint, as, identity, serve, use, channel }
})

const links = (namespace: string) =>
  Effect.scoped(Effect.flatMap(Netlink.make(namespace), ({ snapshot }) => snapshot)).pipe(
    Effect.map(({ links }) => links.filter(({ kind }) => kind === "veth").length)
  )
const run = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.scoped(effect)
const registered = ({ registered }: Endpoint.Running) =>
  Stream.runDrain(Stream.takeUntil(registered, (registered) => registered)).pipe(Effect.timeoutOption("10 seconds"))
const claims = ({ path }: Model.Connection) =>
  path.segments.map(({ token }) => Result.getOrThrow(Token.decode(token)).claims)

/** The status of a request with this token. */
const ask = (client: Grpc.Client, token?: string) =>
  client.call(NetworkServiceDefinition, "request", {
    connection: Wire.connectionTo({
      ...wanted,
      path: { index: 0, segments: [{ name: "tapa", id: wanted.id, token: "", metrics: {} }] }
    }),
    mechanismPreferences: [Model.kernelMechanism("inode://4/1", "nsm-0")]
  }, {
    timeoutMs: 5_000,
    ...(token === undefined ? {} : { metadata: Token.toMetadata(token, Date.now() + 60_000) })
  }).pipe(Effect.flip, Effect.map(({ code, details }) => [code, details]))

describe("nsmgr with SPIFFE identities", () => {
  it.live(
    "T4: a strict client is served by those who prove every hop, and by nobody else",
    () =>
      run(Effect.gen(function*() {
        const here = yield* world
        const { running } = yield* here.serve("endpoint")
        yield* registered(running)
        const options = { name: "tapa", namespace: here.client, naming: "Counter", ...limits } as const
        const ask = (manager: string, isStrict: boolean) =>
          Effect.flatMap(NsmClient, (nsm) => Effect.result(nsm.request(wanted))).pipe(
            Effect.provide(NsmClient.layer({ ...options, manager, isStrict })),
            here.as("client")
          )
        const served = yield* ask(here.url, true)
        assert.isTrue(Result.isSuccess(served))
        assert.strictEqual(yield* links(here.client), 1)

        // It answers what it was asked, so nobody after the client shows a token.
        const ended: Array<string> = []
        const careless = `unix://${here.folder}/careless.sock`
        yield* Effect.gen(function*() {
          const credentials = yield* Identity.credentials
          yield* Server.serve({
            address: careless,
            ...credentials,
            services: [Server.service(NetworkServiceDefinition, {
              request: ({ connection }) => Effect.succeed(Wire.connectionTo(Wire.connectionFrom(connection))),
              close: ({ id }) => Effect.as(Effect.sync(() => ended.push(id)), {})
            })]
          })
        }).pipe(Effect.provide(yield* here.identity("stranger")))
        const refused = yield* Effect.flip(Effect.flatMap(ask(careless, true), Effect.fromResult))
        assert.strictEqual(refused.reason, "Denied")
        assert.deepStrictEqual(ended, ["client-0"])
        assert.isTrue(Result.isSuccess(yield* ask(careless, false)))
      })),
    30_000
  )

  it.live(
    "connects over mutual TLS: each token is addressed to the maker of the next, also after the identities rotate",
    () =>
      run(Effect.gen(function*() {
        const here = yield* world
        const { running, seen } = yield* here.serve("endpoint")
        yield* registered(running)
        yield* here.use("client", (nsm) =>
          Effect.gen(function*() {
            const found = Option.getOrThrow(yield* Stream.runHead(nsm.find("lb.red")))
            assert.match(found[0]?.url ?? "", /^inode:\/\/\d+\/\d+$/, "the socket is registered by descriptor")
            const connection = yield* nsm.request(wanted)
            assert.deepStrictEqual(claims(connection).map(({ aud, sub }) => [sub, aud]), [
              [idOf("client"), [idOf("nsmgr")]],
              [idOf("nsmgr"), [idOf("nsmgr")]],
              [idOf("nsmgr"), [idOf("endpoint")]],
              [idOf("endpoint"), [idOf("nsmgr")]]
            ])
            assert.strictEqual(yield* links(here.client), 1)
            assert.strictEqual(yield* links(here.endpoint), 1)
            assert.strictEqual(seen[0]?.labels["nodeName"], "node-a")

            yield* here.agent.rotate
            const again = yield* nsm.request({ ...wanted, context: { ...connection.context, mtu: 1400 } })
            assert.strictEqual(again.context.mtu, 1400)
            assert.deepStrictEqual(
              again.path.segments.map(({ id }) => id),
              connection.path.segments.map(({ id }) => id)
            )
            yield* nsm.close("client-0")
            assert.strictEqual(yield* links(here.client), 0)
          }))
      })),
    30_000
  )

  it.live(
    "shows a connection to those on its way only, and lets nobody else change it",
    () =>
      run(Effect.gen(function*() {
        const here = yield* world
        const { running } = yield* here.serve("endpoint")
        yield* registered(running)
        yield* here.use("client", (nsm) => nsm.request(wanted))
        const seen = (name: Who) => Effect.map(here.use(name, (nsm) => nsm.query("client-0")), Option.isSome)
        assert.isTrue(yield* seen("client"))
        assert.isTrue(yield* seen("endpoint"))
        assert.isFalse(yield* seen("stranger"))
        const refused = yield* here.use("stranger", (nsm) => Effect.flip(nsm.request(wanted)))
        assert.deepInclude(refused, { reason: "Denied", message: "no sufficient privileges" })
        assert.strictEqual(yield* links(here.client), 1)
        yield* here.use("client", (nsm) => nsm.close("client-0"))
        assert.strictEqual(yield* links(here.client), 0)
      })),
    30_000
  )

  it.live("tells a probe with an identity how it is", () =>
    run(Effect.gen(function*() {
      const here = yield* world
      const probe = (...flags: ReadonlyArray<string>) =>
        Effect.callback<string>((resume) => {
          const line = ["shells/cli/Main.ts", "health", "--address", here.url, "--timeout", "10s", ...flags]
          const env = { ...process.env, SPIFFE_ENDPOINT_SOCKET: here.agentOf("client") }
          execFile(process.execPath, line, { env }, (_, out, err) => resume(Effect.succeed(out === "" ? err : out)))
        })
      assert.strictEqual(yield* probe("--spiffe", "--service", "networkservice.NetworkService"), "SERVING\n")
      assert.include(yield* probe(), "UNAVAILABLE", "the socket does not speak plain text")
    })), 30_000)

  it.live(
    "T1 T2 T3: refuses plain text, calls without token, and expired, stolen or foreign tokens",
    () =>
      run(Effect.gen(function*() {
        const here = yield* world
        const { running } = yield* here.serve("endpoint")
        yield* registered(running)
        const plain = yield* Grpc.make({ target: here.url })
        assert.strictEqual((yield* ask(plain))[0], 14, "the server does not speak plain text")

        const connection = yield* here.use("client", (nsm) => nsm.request(wanted))
        const stolen = connection.path.segments[0]?.token ?? ""
        const denied = [7, "no sufficient privileges"]
        const noToken = yield* here.channel("stranger", {})
        assert.deepStrictEqual(yield* ask(noToken), denied)
        assert.deepStrictEqual(yield* ask(noToken, stolen), denied)
        // Whole seconds: a token that lives for a millisecond has ended when it is made.
        const late = yield* here.channel("client", { maxTokenLifetimeMs: 1 })
        assert.deepStrictEqual(yield* ask(late), denied)
        const behind = { ...connection, path: { ...connection.path, segments: connection.path.segments.slice(1) } }
        const fresh = yield* here.channel("client", limits)
        assert.strictEqual((yield* Effect.flip(Peer.request(fresh, behind, [], 5_000))).reason, "Denied")
        assert.strictEqual(yield* links(here.client), 1)
      })),
    30_000
  )

  it.live(
    "G9: keeps the name of an endpoint for the identity that registered it, and tells the path of the registration",
    () =>
      run(Effect.gen(function*() {
        const here = yield* world
        const { running } = yield* here.serve("endpoint")
        yield* registered(running)
        const stranger = yield* here.channel("stranger", limits)
        const mine = { ...Peer.anyEndpoint, name: "nse", url: "unix:///tmp/other", networkServices: ["lb.red"] }
        const refused = yield* Effect.flip(Peer.registerEndpoint(stranger, mine, 5_000))
        assert.strictEqual(refused.reason, "Denied")
        assert.strictEqual((yield* Effect.flip(Peer.unregisterEndpoint(stranger, mine, 5_000))).reason, "Denied")
        const owner = yield* here.channel("endpoint", limits)
        const found = yield* Stream.runCollect(Peer.findEndpoints(owner, { ...Peer.anyEndpoint, name: "nse" }, false))
        assert.deepStrictEqual(found.map(({ endpoint }) => endpoint.pathIds), [[idOf("endpoint"), idOf("nsmgr")]])
        const other = yield* Peer.registerEndpoint(stranger, { ...mine, name: "other" }, 5_000)
        assert.deepStrictEqual(other.pathIds, [idOf("stranger"), idOf("nsmgr")])
        const withoutPath = yield* stranger.call(
          NetworkServiceEndpointRegistryDefinition,
          "register",
          Wire.endpointTo({ ...mine, name: "third" }),
          { timeoutMs: 5_000, metadata: { path: "nonsense" } }
        )
        assert.deepStrictEqual(withoutPath.pathIds, [idOf("stranger"), idOf("nsmgr")])

        // What the registry answered is what it hears next.
        const paths: Peer.Paths = new Map()
        const answered = () => Result.getOrThrow(RegistryPath.decode(paths.get("endpoint fourth") ?? ""))
        for (let round = 0; round < 3; round++) {
          const fourth = yield* Peer.registerEndpoint(stranger, { ...mine, name: "fourth" }, 5_000, paths)
          assert.deepStrictEqual(fourth.pathIds, [idOf("stranger"), idOf("nsmgr")])
          assert.strictEqual(answered().index, 0)
          const subjects = answered().tokens.map((token) => Result.getOrThrow(Token.decode(token)).claims.sub)
          assert.deepStrictEqual(subjects, [idOf("stranger"), idOf("nsmgr")])
        }
        yield* Peer.unregisterEndpoint(stranger, { ...mine, name: "fourth" }, 5_000, paths)
      })),
    30_000
  )
})
