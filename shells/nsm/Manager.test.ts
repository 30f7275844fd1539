import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Ref, Schedule, type Scope, Stream } from "effect"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { Cidr, Ip } from "../../core/net/index.ts"
import * as Cross from "../../core/nsm/Cross.ts"
import * as Model from "../../core/nsm/Model.ts"
import * as Grpc from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import * as Sysctl from "../netlink/Sysctl.ts"
import { NsmClient } from "../sdk/Client.ts"
import * as Endpoint from "../sdk/Endpoint.ts"
import { NsmError } from "../sdk/Error.ts"
import * as Peer from "../sdk/Peer.ts"

const cidr = Cidr.unsafe
let counter = 0

/** A manager as a process of its own, and two namespaces. */
const world = (lifetime = "10m") =>
  Effect.gen(function*() {
    const tag = `sl-nsm-${process.pid}-${counter++}`
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), `${tag}-`))
    yield* Effect.addFinalizer(() => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true })))
    const client = yield* Namespace.scoped(`${tag}-c`)
    const endpoint = yield* Namespace.scoped(`${tag}-e`)
    const url = `unix://${folder}/nsm.sock`
    let child: ChildProcess | undefined
    const start = Effect.gen(function*() {
      child = spawn(process.execPath, ["shells/cli/Main.ts", "nsmgr"], {
        stdio: process.env["SLUICE_TEST_LOG"] === undefined ? "ignore" : "inherit",
        env: {
          ...process.env,
          NSM_NAME: tag,
          NSM_LISTEN_ON: url,
          NSM_STATE_PATH: `${folder}/state.json`,
          NSM_MAX_TOKEN_LIFETIME: lifetime,
          NSM_LOG_LEVEL: "DEBUG",
          SLUICE_HEALTH_SOCKET: `${folder}/health.sock`
        }
      })
      yield* until("the manager serves", Health.check({ address: url, service: "networkservice.NetworkService" }))
    })
    const kill = Effect.callback<void>((resume) => {
      if (child === undefined || child.exitCode !== null) return resume(Effect.void)
      child.once("exit", () => resume(Effect.void))
      child.kill("SIGKILL")
    })
    yield* Effect.addFinalizer(() => kill)
    yield* start
    return { tag, folder, url, client, endpoint, start, kill }
  })
type World = Effect.Success<ReturnType<typeof world>>

/** Waits until the condition holds; its failures count as "not yet". */
const until = <E>(what: string, condition: Effect.Effect<boolean, E>) =>
  Effect.orElseSucceed(condition, () => false).pipe(
    Effect.flatMap((holds) => holds ? Effect.void : Effect.fail("not yet")),
    Effect.retry(Schedule.spaced("50 millis")),
    Effect.ignore,
    Effect.timeoutOrElse({ duration: "20 seconds", orElse: () => Effect.die(new Error(`timed out: ${what}`)) })
  )

const service: Model.NetworkService = {
  name: "proxy.conduit-a",
  payload: "ETHERNET",
  matches: [{
    source: { nodeName: "{{.nodeName}}" },
    destinations: [{ nodeName: "{{.nodeName}}" }],
    fallthrough: false
  }]
}
const bridge = ["172.16.0.1/24", "fd00::1/64"].map(cidr)

/** An endpoint that answers as Meridio's proxy: addresses on a link of its own, and what it closed. */
const proxy = ({ endpoint, folder, url }: World, name = "nse") =>
  Effect.gen(function*() {
    const closed = yield* Ref.make<ReadonlyArray<string>>([])
    const running = yield* Endpoint.serve({
      name,
      services: [service],
      labels: { nodeName: "a" },
      socket: `${folder}/${name}.sock`,
      manager: url,
      namespace: endpoint,
      requestTimeoutMs: 5_000,
      maxTokenLifetimeMs: 600_000
    }, {
      request: (connection) => {
        const { ip } = connection.context
        const own = ["172.16.0.2/24", "fd00::2/64"].map(cidr)
        const srcAddrs = [...own, ...ip.srcAddrs.filter((addr) => !own.includes(addr))]
        const dstAddrs = ["172.16.0.3/24", "fd00::3/64"].map(cidr)
        return Effect.succeed({
          ...connection,
          context: { ...connection.context, mtu: 1400, ip: { ...ip, srcAddrs, dstAddrs, extraPrefixes: bridge } }
        })
      },
      close: ({ path }) => Ref.update(closed, (ids) => [...ids, path.segments[0]?.id ?? ""])
    })
    yield* Stream.runDrain(Stream.takeUntil(running.registered, (registered) => registered))
    return { closed, running }
  })

const clientOf = ({ client, url }: World, maxTokenLifetimeMs = 600_000) =>
  NsmClient.layer({
    name: "tapa",
    manager: url,
    namespace: client,
    naming: "Counter",
    requestTimeoutMs: 5_000,
    maxTokenLifetimeMs
  })

const wanted: Model.Connection = {
  ...Model.connection("target-0", service.name),
  labels: { nodeName: "a" },
  payload: "ETHERNET"
}

const vips = ["20.0.0.1/32", "2000::1/128"].map(cidr)
const withVips = (connection: Model.Connection): Model.Connection => ({
  ...connection,
  context: {
    ...connection.context,
    ip: {
      ...connection.context.ip,
      srcAddrs: [...connection.context.ip.srcAddrs, ...vips],
      policies: vips.map((from) => {
        const nextHops = bridge.filter((gateway) => Cidr.family(gateway) === Cidr.family(from)).map(Cidr.ip)
        return { from, routes: nextHops.map((nextHop) => ({ prefix: Cidr.defaultRoute(Cidr.family(from)), nextHop })) }
      })
    }
  }
})

/** The namespace without neighbours and link-local routes, which come and go by themselves. */
const look = (namespace: string) =>
  Effect.scoped(Effect.flatMap(Netlink.make(namespace), ({ snapshot }) => snapshot)).pipe(
    Effect.map((seen) => {
      const routes = seen.routes.filter(({ destination }) => destination !== "fe80::/64")
      return { ...seen, routes, neighbours: [] }
    })
  )
const addresses = (namespace: string, link: string) =>
  Effect.map(
    look(namespace),
    (seen) => seen.addresses.filter((address) => address.link === link).map(({ cidr }) => cidr).toSorted()
  )
const isEmpty = (namespace: string) =>
  Effect.map(
    look(namespace),
    ({ links, rules }) =>
      links.every(({ kind }) => kind !== "veth") && rules.every(({ priority }) => !Cross.isPriority(priority))
  )

const run = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.scoped(effect)

describe("nsmgr with real namespaces", () => {
  it.live(
    "plugs a client to an endpoint, follows its VIPs, and leaves nothing after the close",
    () =>
      run(Effect.gen(function*() {
        const here = yield* world()
        const { closed } = yield* proxy(here)
        yield* Effect.gen(function*() {
          const nsm = yield* NsmClient
          const connection = yield* nsm.request(wanted)
          assert.strictEqual(Model.interfaceName(connection), "nsm-0")
          assert.strictEqual(connection.endpointName, "nse")
          assert.deepStrictEqual(yield* addresses(here.client, "nsm-0"), ["172.16.0.2/24", "fd00::2/64"].map(cidr))
          const before = yield* look(here.client)
          const link = before.links.find(({ name }) => name === "nsm-0")
          assert.deepInclude(link, { up: true, carrier: true, mtu: 1400, alias: `nsm:${here.tag}/target-0` })
          const far = (yield* look(here.endpoint)).links.find(({ kind }) => kind === "veth")
          assert.match(far?.name ?? "", /^proxy\.cond-[0-9a-f]{4}$/)
          // Whoever has to look for the neighbour twice waits a second.
          for (const there of ["fd00::3", "172.16.0.3"]) {
            execFileSync("nsenter", [`--net=${here.client}`, "ping", "-c1", "-W0.5", there])
          }
          for (const namespace of [here.client, here.endpoint]) {
            const groups = yield* Sysctl.read("net/ipv4/ping_group_range", namespace)
            assert.strictEqual(groups, "0\t2147483647", "everybody may ping, as upstream's clients do")
          }

          assert.deepStrictEqual((yield* nsm.request(wanted)).id, connection.id)
          assert.deepStrictEqual(yield* look(here.client), before, "a refresh changes nothing")

          yield* nsm.request(withVips(connection))
          const update = yield* look(here.client)
          assert.includeMembers([...yield* addresses(here.client, "nsm-0")], vips)
          const rules = update.rules.filter(({ priority }) => priority === Cross.rulePriority)
          assert.sameMembers(rules.map(({ from }) => from), vips)
          for (const { from, table } of rules) {
            const gateway = bridge.map(Cidr.ip).find((ip) => Ip.family(ip) === Cidr.family(from ?? cidr("::/0")))
            const hops = update.routes.filter((route) => route.table === table).flatMap((route) => route.hops)
            assert.deepStrictEqual(hops.map(({ link, via }) => [link, via]), [["nsm-0", gateway]])
          }
          const routes = (yield* look(here.endpoint)).routes.map(({ destination }) => destination)
          assert.notIncludeMembers(routes, vips, "the endpoint gets no route to a VIP")

          yield* nsm.request(connection)
          assert.deepStrictEqual(yield* addresses(here.client, "nsm-0"), ["172.16.0.2/24", "fd00::2/64"].map(cidr))
          assert.deepStrictEqual((yield* look(here.client)).rules, before.rules)

          yield* nsm.close("target-0")
          assert.isTrue(yield* isEmpty(here.client))
          assert.isTrue(yield* isEmpty(here.endpoint))
          assert.deepStrictEqual(yield* Ref.get(closed), ["target-0"])
          assert.isTrue(Option.isNone(yield* nsm.query("target-0")))
        }).pipe(Effect.provide(clientOf(here)))
      })),
    60_000
  )

  it.live(
    "adopts what stands after it was killed, and clients keep their connection",
    () =>
      run(Effect.gen(function*() {
        const here = yield* world()
        yield* proxy(here)
        yield* Effect.gen(function*() {
          const nsm = yield* NsmClient
          const connection = yield* nsm.request(withVips(wanted))
          const before = yield* look(here.client)
          yield* here.kill
          const orphan = Cross.alias(here.tag, "gone")
          yield* Effect.scoped(Effect.flatMap(Netlink.make(here.client), ({ createVeth }) =>
            createVeth(
              { namespace: here.client, name: "orphan", alias: orphan },
              { namespace: here.endpoint, name: "orphan", alias: orphan }
            )))
          yield* here.start
          yield* until(
            "leftovers are swept",
            Effect.map(look(here.client), ({ links }) => links.every(({ name }) => name !== "orphan"))
          )
          const found = Option.getOrThrow(yield* nsm.query("target-0"))
          assert.strictEqual(found.state, "Up")
          assert.strictEqual(found.mechanism?.parameters["name"], "nsm-0")
          yield* until(
            "the endpoint registers again",
            Effect.map(
              Stream.runHead(Stream.filter(nsm.find(service.name), (found) => found.length > 0)),
              Option.isSome
            )
          )
          yield* nsm.request(withVips(connection))
          assert.deepStrictEqual(yield* look(here.client), before)
          yield* nsm.close("target-0")
          assert.isTrue(yield* isEmpty(here.client))
        }).pipe(Effect.provide(clientOf(here)))
      })),
    60_000
  )

  it.live(
    "ends the connection of a client that went away, by expiry, and that of a dead namespace at once",
    () =>
      run(Effect.gen(function*() {
        const here = yield* world("3s")
        const { closed } = yield* proxy(here)
        // The scope of the client ends without a close, as that of a killed process.
        yield* Effect.flatMap(NsmClient, (nsm) => nsm.request(withVips(wanted))).pipe(
          Effect.provide(clientOf(here, 3_000))
        )
        assert.isFalse(yield* isEmpty(here.client))
        yield* until("it expires", isEmpty(here.client))
        assert.isTrue(yield* isEmpty(here.endpoint))
        yield* until("the endpoint hears of it", Effect.map(Ref.get(closed), (ids) => ids.length === 1))

        const name = `${here.tag}-x`
        const doomed = yield* Namespace.scoped(name)
        yield* Effect.flatMap(NsmClient, (nsm) => nsm.request({ ...wanted, id: "target-1" })).pipe(
          Effect.provide(clientOf({ ...here, client: doomed }))
        )
        assert.isFalse(yield* isEmpty(here.endpoint))
        yield* Namespace.remove(name)
        yield* until("the link goes with its namespace", isEmpty(here.endpoint))
        yield* until("the endpoint hears of it", Effect.map(Ref.get(closed), (ids) => ids.includes("target-1")))
      })),
    60_000
  )

  it.live(
    "heals a link that somebody deleted, and moves to another endpoint when one dies",
    () =>
      run(Effect.gen(function*() {
        const here = yield* world()
        yield* Effect.gen(function*() {
          const nsm = yield* NsmClient
          yield* Effect.scoped(Effect.gen(function*() {
            yield* proxy(here, "first")
            yield* nsm.request(wanted)
            execFileSync("ip", ["-n", path.basename(here.client), "link", "del", "nsm-0"])
            yield* until(
              "the link is made again",
              Effect.map(look(here.client), ({ links }) => links.some(({ name, up }) => name === "nsm-0" && up))
            )
            yield* proxy(here, "second")
          }))
          const moved = yield* Effect.scoped(Effect.gen(function*() {
            yield* proxy(here, "third")
            return yield* nsm.changes("target-0").pipe(
              Stream.filter(({ endpointName, state }) => state === "Up" && endpointName === "third"),
              Stream.runHead,
              Effect.timeoutOption("20 seconds")
            )
          }))
          assert.isTrue(Option.isSome(Option.flatten(moved)))
          assert.strictEqual((yield* look(here.endpoint)).links.filter(({ kind }) => kind === "veth").length, 1)
        }).pipe(Effect.provide(clientOf(here)))
      })),
    60_000
  )

  it.live("gives the next endpoint a chance when one takes calls and never answers", () =>
    run(Effect.gen(function*() {
      const here = yield* world()
      yield* proxy(here)
      const silent = net.createServer(() => {}).listen(`${here.folder}/mute.sock`)
      yield* Effect.addFinalizer(() => Effect.sync(() => silent.close()))
      const mute = { name: "mute", networkServices: [service.name], labels: { [service.name]: { nodeName: "a" } } }
      const channel = yield* Grpc.make({ target: here.url })
      yield* Peer.registerEndpoint(channel, { ...mute, url: `unix://${here.folder}/mute.sock` }, 5_000)
      yield* Effect.gen(function*() {
        const nsm = yield* NsmClient
        // One of the two finds the silent one first in its round.
        for (const id of ["target-0", "target-1"]) {
          assert.strictEqual((yield* nsm.request({ ...wanted, id })).endpointName, "nse")
        }
      }).pipe(Effect.provide(clientOf(here)))
    })), 60_000)

  it.live("refuses at once what cannot be, with the reason", () =>
    run(Effect.gen(function*() {
      const here = yield* world()
      yield* proxy(here)
      yield* Effect.gen(function*() {
        const nsm = yield* NsmClient
        const reason = (connection: Model.Connection, interfaceName: string) =>
          Effect.map(
            Effect.flip(nsm.request(connection, { interfaceName })),
            (error) => error instanceof NsmError ? error.reason : undefined
          )
        assert.strictEqual(yield* reason({ ...wanted, labels: { nodeName: "b" } }, "nsm-0"), "NotFound")
        assert.strictEqual(yield* reason({ ...wanted, networkService: "nobody" }, "nsm-0"), "NotFound")
        assert.strictEqual(yield* reason(wanted, "lo"), "Conflict")
        assert.isTrue(yield* isEmpty(here.endpoint))
      }).pipe(Effect.provide(clientOf(here)))
    })), 60_000)
})
