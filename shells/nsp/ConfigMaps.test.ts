import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, Queue, Stream } from "effect"
import { spawn } from "node:child_process"
import { join } from "node:path"
import * as ApiServer from "../../property-tests/fixtures/ApiServer.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import * as Client from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as Kubernetes from "../kubernetes/Kubernetes.ts"
import * as Service from "./Service.ts"
import * as Wire from "./Wire.ts"

const name = "meridio-configuration-t"
const path = Kubernetes.pathOf("red", "configmaps")

/** As the operator writes it, with ports as the Helm chart does: plain numbers. */
const data = {
  trench: "name: t\n",
  conduits: "items:\n- name: c\n  trench: t\n- name: stranger\n  trench: other\n",
  streams: "items:\n- name: s\n  conduit: c\n  max-targets: 100\n",
  flows: [
    "items:",
    "- name: f",
    "  source-subnets: []",
    "  destination-port-ranges:",
    "  - 5000",
    "  - 6000-6001",
    "  source-port-ranges: [any]",
    "  protocols: [tcp]",
    "  vips: [v4]",
    "  priority: 1",
    "  stream: s\n"
  ].join("\n"),
  vips: "items:\n- {name: v4, address: 20.0.0.1/32, trench: t}\n",
  attractors: "items:\n- {name: a, vips: [v4], gateways: [g], trench: t}\n",
  gateways: [
    "items:",
    "- name: g",
    "  address: 2.3.4.5",
    "  remote-asn: 4294967295",
    "  local-asn: 2",
    "  remote-port: 10179",
    "  local-port: 10179",
    "  ip-family: ipv4",
    "  bfd: true",
    "  min-tx: 300",
    "  min-rx: 300",
    "  multiplier: 3",
    "  protocol: bgp",
    "  hold-time: 24",
    "  trench: t",
    "  bgp-auth: {key: k, source: secret}\n"
  ].join("\n")
}
const moreVips = `${data.vips}- {name: w4, address: 20.0.0.9/32, trench: t}\n`

const configMap = (changed: { readonly [key: string]: string } = {}): ApiServer.Thing => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name },
  data: { ...data, ...changed }
})

/** An API server, an NSP that follows it, its log and a client. */
const running = Effect.gen(function*() {
  const api = yield* ApiServer.start(path)
  process.env["KUBECONFIG"] = api.kubeconfig
  const log = yield* Queue.unbounded<string>()
  const logger = Logger.make(({ message }) => void Queue.offerUnsafe(log, JSON.stringify(message)))
  const { port } = yield* Service.start({
    namespace: "red",
    port: 0,
    configPath: "",
    configMapName: name,
    trench: "",
    datasource: ":memory:",
    logLevel: "DEBUG",
    entryTimeoutMs: 60_000,
    probeTimeoutMs: 1000
  }).pipe(Effect.provide(Health.layer), Effect.provide(Logger.layer([logger])))
  const client = yield* Client.make({ target: `127.0.0.1:${port}` })
  const logged = (part: string) =>
    Queue.take(log).pipe(Effect.repeat({ until: (line) => line.includes(part) }), Effect.timeout("5 seconds"))
  return { api, client, logged }
})

/** The names of the VIPs, in one answer after the other. */
const vips = (client: Client.Client) =>
  Effect.gen(function*() {
    const answers = yield* Queue.unbounded<ReadonlyArray<string>>()
    const request = { name: "", address: "", trench: Wire.toTrench("t") }
    yield* Effect.forkScoped(
      Stream.runForEach(
        client.stream(ConfigurationManagerDefinition, "watchVip", request),
        ({ vips }) => Queue.offer(answers, vips.map(({ name }) => name))
      )
    )
    return { next: Effect.timeout(Queue.take(answers), "5 seconds"), size: Queue.size(answers) }
  })

const first = <A, E>(answers: Stream.Stream<A, E>) =>
  Effect.map(Stream.runCollect(Stream.take(answers, 1)), ([one]) => one)

describe("the NSP in Kubernetes", () => {
  it.live("holds the first answer until there is a ConfigMap, and serves it in full", () =>
    Effect.gen(function*() {
      const { api, client } = yield* running
      const { next, size } = yield* vips(client)
      yield* Queue.take(api.asked)
      assert.strictEqual(yield* size, 0)
      yield* api.put(configMap())
      assert.deepStrictEqual(yield* next, ["v4"])
      const manager = ConfigurationManagerDefinition
      const flows = yield* first(client.stream(manager, "watchFlow", Wire.toFlowsOf({ trench: "t", conduit: "c" })))
      assert.deepStrictEqual(flows?.flows.map((flow) => [flow.destinationPortRanges, flow.sourcePortRanges]), [
        [["5000", "6000-6001"], ["0-65535"]]
      ])
      const parent = { name: "", trench: undefined, vips: [], gateways: [] }
      const attractors = yield* first(client.stream(manager, "watchAttractor", parent))
      assert.deepStrictEqual(attractors?.attractors.flatMap(({ gateways }) => gateways), [{
        name: "g",
        address: "2.3.4.5",
        ipFamily: "ipv4",
        protocol: "bgp",
        remoteASN: 4_294_967_295,
        localASN: 2,
        remotePort: 10_179,
        localPort: 10_179,
        holdTime: 24,
        bfd: true,
        bfdSpec: { MinTx: 300, MinRx: 300, Multiplier: 3 },
        trench: { name: "t" },
        bgpAuth: { keyName: "k", keySource: "secret" }
      }])
      const conduits = yield* first(
        client.stream(manager, "watchConduit", Wire.toConduitKey({ trench: "", conduit: "" }))
      )
      assert.deepStrictEqual(conduits?.conduits.map(({ name }) => name), ["c"])
    }))

  it.live("passes on changes, also those that happen between two watches", () =>
    Effect.gen(function*() {
      const { api, client } = yield* running
      const { next, size } = yield* vips(client)
      yield* api.put(configMap())
      assert.deepStrictEqual(yield* next, ["v4"])
      yield* api.put(configMap({ vips: moreVips }))
      assert.deepStrictEqual(yield* next, ["v4", "w4"])
      yield* api.end("well")
      yield* api.put(configMap())
      assert.deepStrictEqual(yield* next, ["v4"])
      assert.strictEqual(yield* size, 0)
    }))

  const refusals: ReadonlyArray<readonly [changed: { readonly [key: string]: string }, reason: string]> = [
    [{ flows: "items: [" }, "data.flows: "],
    [{ vips: `${data.vips}- {name: x, address: 1.1.1.1/32, trench: t, address: 1.1.1.2/32}\n` }, "unique"],
    [{ streams: `${data.streams}  max-target: 5\n` }, "data.streams.items[0].max-target is"],
    [{ gateways: data.gateways.replace("10179", "65536") }, "data.gateways.items[0].remote-port is"],
    [{ flows: data.flows.replace("priority: 1", "priority: 2147483648") }, "data.flows.items[0].priority is"],
    [{ vips: data.vips.replace("/32", "/8") }, "Vip red/v4: spec.address"],
    [{ trench: "" }, "data.trench.name is missing"]
  ]
  it.live("keeps the last good configuration when an update is bad, says what is wrong, and takes the next good one", () =>
    Effect.gen(function*() {
      const { api, client, logged } = yield* running
      const { next, size } = yield* vips(client)
      yield* api.put(configMap())
      yield* next
      for (const [changed, reason] of refusals) {
        yield* api.put(configMap(changed))
        const line = yield* logged("Configuration refused, the last good one stays in force")
        assert.include(line, reason)
        assert.include(line, `red/${name}`)
        assert.deepStrictEqual(yield* (yield* vips(client)).next, ["v4"])
      }
      yield* api.put(configMap({ vips: moreVips }))
      assert.deepStrictEqual(yield* next, ["v4", "w4"])
      assert.strictEqual(yield* size, 0)
    }))

  it.live("keeps the configuration of a deleted ConfigMap until there is another", () =>
    Effect.gen(function*() {
      const { api, client, logged } = yield* running
      const { next } = yield* vips(client)
      yield* api.put(configMap())
      yield* next
      yield* api.remove(name)
      yield* logged("has been deleted")
      yield* Queue.take(api.asked)
      yield* api.end("well")
      yield* Queue.take(api.asked)
      yield* api.end("well")
      yield* logged("Nothing is heard of the ConfigMap")
      assert.deepStrictEqual(yield* (yield* vips(client)).next, ["v4"])
      yield* api.put(configMap({ vips: moreVips }))
      assert.deepStrictEqual(yield* next, ["v4", "w4"])
    }))

  it.live("says why the API cannot be watched, and goes on when it can", () =>
    Effect.gen(function*() {
      const { api, client, logged } = yield* running
      yield* Queue.take(api.asked)
      yield* api.answer(403)
      yield* api.end("well")
      yield* logged("403 Forbidden")
      yield* api.put(configMap())
      yield* api.answer(200)
      assert.deepStrictEqual(yield* (yield* vips(client)).next, ["v4"])
    }))
})

const processOf = (env: { readonly [name: string]: string }) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["shells/cli/Main.ts", "nsp"], { env: { PATH: process.env["PATH"], ...env } })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

describe("sluice nsp without NSP_CONFIG_PATH", () => {
  it.live("follows the ConfigMap that NSP_CONFIG_MAP_NAME and NSP_NAMESPACE name", () =>
    Effect.gen(function*() {
      const api = yield* ApiServer.start(path)
      yield* api.put(configMap())
      const child = yield* processOf({
        KUBECONFIG: api.kubeconfig,
        NSP_CONFIG_MAP_NAME: name,
        NSP_NAMESPACE: "red",
        NSP_DATASOURCE: ":memory:",
        NSP_PORT: "0",
        SLUICE_HEALTH_SOCKET: join(api.kubeconfig, "..", "health.sock")
      })
      const inForce = Effect.callback<void>((resume) => {
        let log = ""
        child.stdout.on("data", (data) => {
          if ((log += String(data)).includes("Configuration of trench t is in force")) resume(Effect.void)
        })
      })
      yield* Effect.timeout(inForce, "20 seconds")
    }))

  it.live("ends with a sentence that names the way out where there is no Kubernetes", () =>
    Effect.gen(function*() {
      const child = yield* processOf({ HOME: "/nonexistent", NSP_DATASOURCE: ":memory:", NSP_PORT: "0" })
      const ended = Effect.callback<readonly [code: number | null, log: string]>((resume) => {
        let log = ""
        child.stdout.on("data", (data) => log += String(data))
        child.on("close", (code) => resume(Effect.succeed([code, log])))
      })
      const [code, log] = yield* Effect.timeout(ended, "20 seconds")
      assert.strictEqual(code, 1)
      assert.match(log, /"critical".*there is no Kubernetes.*NSP_CONFIG_PATH/)
    }))
})
