import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Ref, Schedule, Scope, Stream, SubscriptionRef } from "effect"
import { type ChildProcess, execFile, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Cidr, type Kernel } from "../../core/net/index.ts"
import * as Nsm from "../../core/nsm/Model.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import { NsmClient } from "../sdk/Client.ts"
import * as Endpoint from "../sdk/Endpoint.ts"

let counter = 0
const never = () => Stream.never

/** An NSP that lists the conduit and the VIPs in the reference. */
const fakeNsp = (address: string, vips: SubscriptionRef.SubscriptionRef<ReadonlyArray<string>>) =>
  Server.serve({
    address,
    services: [Server.service(ConfigurationManagerDefinition, {
      watchConduit: () =>
        Stream.concat(
          Stream.make({ conduits: [{ name: "conduit-a", trench: { name: "t" }, destinationPortNats: [] }] }),
          Stream.never
        ),
      watchVip: () =>
        Stream.map(SubscriptionRef.changes(vips), (addresses) => ({
          vips: addresses.map((address) => ({ name: address, address, trench: { name: "t" } }))
        })),
      watchTrench: never,
      watchStream: never,
      watchFlow: never,
      watchAttractor: never,
      watchGateway: never
    })]
  })

const ended = (child: ChildProcess, signal: NodeJS.Signals): Effect.Effect<number | null> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.succeed(child.exitCode))
    child.once("close", (code) => resume(Effect.succeed(code)))
    child.kill(signal)
  })

/** `sluice NAME` in a process of its own in a network namespace, killed with the scope. */
const program = (
  folder: string,
  namespace: string,
  name: string,
  env: { readonly [name: string]: string }
): Effect.Effect<ChildProcess, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn("nsenter", [`--net=${namespace}`, process.execPath, "shells/cli/Main.ts", name], {
        stdio: process.env["SLUICE_TEST_LOG"] === undefined ? "ignore" : "inherit",
        env: { ...process.env, SLUICE_HEALTH_SOCKET: `${folder}/${name}-health.sock`, ...env }
      })
    ),
    (child) => ended(child, "SIGKILL")
  )

/** Waits until the condition holds; its failures count as "not yet". */
const until = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>) =>
  Effect.orElseSucceed(condition, () => false).pipe(
    Effect.flatMap((holds) => holds ? Effect.void : Effect.fail("not yet")),
    Effect.retry(Schedule.spaced("100 millis")),
    Effect.ignore,
    Effect.timeoutOrElse({ duration: "30 seconds", orElse: () => Effect.die(new Error(`timed out: ${what}`)) })
  )

/** Runs a command in a namespace; whether it succeeded. */
const inside = (namespace: string, ...command: ReadonlyArray<string>): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    execFile("nsenter", [`--net=${namespace}`, ...command], (error) => resume(Effect.succeed(error === null)))
  })

const look = (namespace: string) => Effect.scoped(Effect.flatMap(Netlink.make(namespace), ({ snapshot }) => snapshot))

/** A manager and an NSP, and namespaces for the proxy, two load balancers and a target. */
const world = Effect.gen(function*() {
  const tag = `sl-px-${process.pid}-${counter++}`
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), `${tag}-`))
  yield* Effect.addFinalizer(() => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true })))
  const namespaces = {
    proxy: yield* Namespace.scoped(`${tag}-p`),
    lb1: yield* Namespace.scoped(`${tag}-1`),
    lb2: yield* Namespace.scoped(`${tag}-2`),
    target: yield* Namespace.scoped(`${tag}-t`)
  }
  const vips = yield* SubscriptionRef.make<ReadonlyArray<string>>(["20.0.0.1/32", "2000::1/128"])
  yield* fakeNsp(`unix://${folder}/nsp.sock`, vips)
  const manager = `unix://${folder}/nsm.sock`
  yield* program(folder, "/proc/self/ns/net", "nsmgr", {
    NSM_NAME: tag,
    NSM_LISTEN_ON: manager,
    NSM_STATE_PATH: "",
    NSM_LOG_LEVEL: "DEBUG"
  })
  yield* until("the manager serves", Health.check({ address: manager, service: "networkservice.NetworkService" }))
  yield* program(folder, namespaces.proxy, "ipam", {
    IPAM_TRENCH_NAME: "t",
    IPAM_NSP_SERVICE: `unix://${folder}/nsp.sock`,
    IPAM_DATASOURCE: `${folder}/ipam.db`
  })
  const proxy = program(folder, namespaces.proxy, "proxy", {
    NSM_NAME: "proxy-1",
    NSM_SERVICE_NAME: "proxy.conduit-a.t.red",
    NSM_NETWORK_SERVICE_NAME: "conduit-a.t.red",
    NSM_CONNECT_TO: manager,
    NSM_IPAM_SERVICE: "127.0.0.1:7777",
    SLUICE_NSP_ADDRESS: `unix://${folder}/nsp.sock`,
    NSM_HOST: "node-a",
    NSM_TRENCH: "t",
    NSM_CONDUIT: "conduit-a",
    NSM_MAX_TOKEN_LIFETIME: "10m",
    NSM_MTU: "1400"
  })
  const probe = (service: string) => Health.check({ address: `unix://${folder}/proxy-health.sock`, service })
  return { tag, folder, namespaces, vips, manager, proxy, probe }
})
type World = Effect.Success<typeof world>

const without = (id: string) => (all: ReadonlyArray<Nsm.Connection>) => all.filter((one) => one.id !== id)

/** A load balancer: an endpoint that takes the addresses it is given. Its connections end up in the reference. */
const loadBalancer = ({ folder, manager }: World, namespace: string, name: string) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const connections = yield* Ref.make<ReadonlyArray<Nsm.Connection>>([])
    yield* Scope.provide(scope)(Endpoint.serve({
      name,
      services: [{ name: "conduit-a.t.red", payload: "ETHERNET", matches: [] }],
      labels: {},
      socket: `${folder}/${name}.sock`,
      manager,
      namespace,
      requestTimeoutMs: 5_000,
      maxTokenLifetimeMs: 600_000
    }, {
      request: (connection) =>
        Effect.as(Ref.update(connections, (all) => [...without(connection.id)(all), connection]), connection),
      close: ({ id }) => Ref.update(connections, without(id))
    }))
    return { connections, leave: Scope.close(scope, Exit.void) }
  })

const isDefault = ({ destination, family, table, type }: Kernel.Route): boolean =>
  table === 1 && type === "unicast" && destination === Cidr.defaultRoute(family)

/** The next hops in the table of the VIPs, as text. */
const hops = ({ routes }: Kernel.Snapshot): ReadonlyArray<string> =>
  routes.filter(isDefault).flatMap(({ hops }) => hops.map(({ link, via }) => `${via} ${link}`)).toSorted()

const rules = (snapshot: Kernel.Snapshot): ReadonlyArray<string> =>
  snapshot.rules.filter(({ table }) => table === 1).map(({ from, priority }) => `${priority} ${from}`).toSorted()

const ports = ({ links }: Kernel.Snapshot): number => links.filter(({ master }) => master === "bridge0").length

const sees = (here: World, condition: (snapshot: Kernel.Snapshot) => boolean) =>
  Effect.map(look(here.namespaces.proxy), condition)

const same = (found: ReadonlyArray<string>, ...expected: ReadonlyArray<string>) =>
  found.join("|") === expected.toSorted().join("|")

const target = ({ manager, namespaces }: World) =>
  NsmClient.layer({
    name: "target-1",
    manager,
    namespace: namespaces.target,
    naming: "Counter",
    requestTimeoutMs: 5_000,
    maxTokenLifetimeMs: 600_000
  })

const wanted: Nsm.Connection = {
  ...Nsm.connection("target-1-proxy.conduit-a.t.red-0", "proxy.conduit-a.t.red"),
  labels: { nodeName: "node-a" },
  payload: "ETHERNET"
}

const vips = ["20.0.0.1/32", "2000::1/128"].map(Cidr.unsafe)

/** The request of a target that has VIPs: they leave through the gateways. */
const withVips = (connection: Nsm.Connection): Nsm.Connection => {
  const { ip } = connection.context
  const policies = vips.map((from): Nsm.Policy => ({
    from,
    routes: ip.extraPrefixes.filter((gateway) => Cidr.family(gateway) === Cidr.family(from)).map((gateway) => ({
      prefix: Cidr.defaultRoute(Cidr.family(from)),
      nextHop: Cidr.ip(gateway)
    }))
  }))
  return {
    ...connection,
    context: { ...connection.context, ip: { ...ip, srcAddrs: [...ip.srcAddrs, ...vips], policies } }
  }
}

/** Makes a load balancer answer for an address outside, and know the way back to the target. */
const outside = (namespace: string, targetAddresses: ReadonlyArray<Cidr.Cidr>) =>
  Effect.gen(function*() {
    const [v4, v6] = targetAddresses.map((address) => String(Cidr.ip(address)))
    yield* inside(namespace, "ip", "address", "add", "100.100.0.1/32", "dev", "lo")
    yield* inside(namespace, "ip", "-6", "address", "add", "3000::1/128", "dev", "lo")
    yield* inside(namespace, "ip", "route", "replace", "20.0.0.1/32", "via", v4 ?? "")
    yield* inside(namespace, "ip", "-6", "route", "replace", "2000::1/128", "via", v6 ?? "")
    for (const name of ["all", "default"]) {
      yield* inside(namespace, "sysctl", "-qw", `net.ipv4.conf.${name}.rp_filter=0`)
    }
  })

describe("sluice proxy", () => {
  it.live(
    "joins load balancers and targets, follows what changes, survives kill -9, and takes leave on SIGTERM",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const here = yield* world
        const first = yield* here.proxy
        yield* until("the endpoint is alive", here.probe("Liveness"))
        assert.isFalse(yield* here.probe("Readiness"), "without a load balancer it is not ready")
        const idle = yield* look(here.namespaces.proxy)
        const bridge = idle.addresses.filter(({ link }) => link === "bridge0").map(({ cidr }) => String(cidr))
        assert.sameMembers(bridge, ["169.255.0.1/24", "fd00::1/64"])
        yield* until(
          "the VIPs have rules",
          sees(here, (seen) => same(rules(seen), "32000 20.0.0.1/32", "32000 2000::1/128"))
        )
        assert.lengthOf(idle.routes.filter(({ table, type }) => table === 1 && type === "unreachable"), 2)

        const lb1 = yield* loadBalancer(here, here.namespaces.lb1, "lb-1")
        const hops1 = ["169.255.0.2 bridge0", "fd00::2 bridge0"]
        yield* until("the first load balancer is the default", sees(here, (seen) => same(hops(seen), ...hops1)))
        yield* until("it is ready", here.probe("Readiness"))
        const lb2 = yield* loadBalancer(here, here.namespaces.lb2, "lb-2")
        const hops2 = ["169.255.0.4 bridge0", "fd00::4 bridge0"]
        yield* until("both are", sees(here, (seen) => same(hops(seen), ...hops1, ...hops2)))

        yield* Effect.gen(function*() {
          const nsm = yield* NsmClient
          const connection = yield* nsm.request(wanted)
          const { dstAddrs, extraPrefixes, srcAddrs } = connection.context.ip
          assert.deepStrictEqual(srcAddrs.map(String), ["169.255.0.6/24", "fd00::6/64"])
          assert.deepStrictEqual(dstAddrs.map(String), ["169.255.0.7/24", "fd00::7/64"])
          assert.deepStrictEqual(extraPrefixes.map(String), ["169.255.0.1/24", "fd00::1/64"])
          assert.strictEqual(connection.context.mtu, 1400)
          const asked = withVips(connection)
          const updated = yield* nsm.request(asked)
          assert.deepStrictEqual(updated.context.ip, asked.context.ip, "VIPs stay as the target set them")
          yield* until("the target is a port", sees(here, (seen) => ports(seen) === 3))

          const { lb1: ns1, lb2: ns2, target } = here.namespaces
          yield* outside(ns1, srcAddrs)
          yield* outside(ns2, srcAddrs)
          const ping4 = inside(target, "ping", "-c1", "-W1", "-I", "20.0.0.1", "100.100.0.1")
          const ping6 = inside(target, "ping", "-6", "-c1", "-W1", "-I", "2000::1", "3000::1")
          yield* until("a load balancer reaches the target", inside(ns1, "ping", "-c1", "-W1", "169.255.0.6"))
          yield* until("IPv4 from the VIP reaches the outside", ping4)
          yield* until("IPv6 from the VIP reaches the outside", ping6)

          yield* lb1.leave
          yield* until("the route shrinks", sees(here, (seen) => same(hops(seen), ...hops2)))
          yield* until("traffic goes on through the other", ping4)
          yield* SubscriptionRef.set(here.vips, ["20.0.0.1/32", "20.0.0.9/32"])
          yield* until(
            "the rules follow",
            sees(here, (seen) => same(rules(seen), "32000 20.0.0.1/32", "32000 20.0.0.9/32"))
          )

          yield* ended(first, "SIGKILL")
          assert.isTrue(yield* ping4, "traffic does not need the process")
          yield* inside(here.namespaces.proxy, "ip", "rule", "add", "from", "20.0.0.1", "lookup", "1")
          const before = yield* Ref.get(lb2.connections)
          const second = yield* here.proxy
          yield* until("it is ready again", here.probe("Readiness"))
          yield* until(
            "all is as before",
            sees(
              here,
              (seen) =>
                same(hops(seen), ...hops2) && same(rules(seen), "32000 20.0.0.1/32", "32000 20.0.0.9/32") &&
                ports(seen) === 2
            )
          )
          const after = yield* Ref.get(lb2.connections)
          assert.lengthOf(after, 1)
          assert.notStrictEqual(Nsm.interfaceName(after[0] ?? wanted), Nsm.interfaceName(before[0] ?? wanted))
          yield* outside(ns2, srcAddrs)
          yield* until("traffic flows over the new interface", ping4)

          assert.strictEqual(yield* ended(second, "SIGTERM"), 0)
          assert.lengthOf(yield* Ref.get(lb2.connections), 0, "the load balancer was told")
          const left = yield* look(here.namespaces.proxy)
          assert.deepStrictEqual(hops(left), [])
          const fallbacks = left.routes.filter(({ table, type }) => table === 1 && type === "unreachable")
          assert.lengthOf(fallbacks, 2, "VIP traffic does not leave by another way")
        }).pipe(Effect.provide(target(here)))
      })),
    180_000
  )
})
