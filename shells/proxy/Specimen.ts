/** The proxy among the real programs, with load balancers and targets that are played, for its tests. */
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

export const ended = (child: ChildProcess, signal: NodeJS.Signals): Effect.Effect<number | null> =>
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
export const until = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>) =>
  Effect.orElseSucceed(condition, () => false).pipe(
    Effect.flatMap((holds) => holds ? Effect.void : Effect.fail("not yet")),
    Effect.retry(Schedule.spaced("100 millis")),
    Effect.ignore,
    Effect.timeoutOrElse({ duration: "30 seconds", orElse: () => Effect.die(new Error(`timed out: ${what}`)) })
  )

/** Runs a command in a namespace; whether it succeeded. */
export const inside = (namespace: string, ...command: ReadonlyArray<string>): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    execFile("nsenter", [`--net=${namespace}`, ...command], (error) => resume(Effect.succeed(error === null)))
  })

export const look = (namespace: string) =>
  Effect.scoped(Effect.flatMap(Netlink.make(namespace), ({ snapshot }) => snapshot))

/** Namespaces for the proxy, two load balancers and a target, and the programs, to be started, which end with the scope. */
export const world = Effect.gen(function*() {
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
  const nsp = fakeNsp(`unix://${folder}/nsp.sock`, vips)
  const manager = `unix://${folder}/nsm.sock`
  const nsmgr = program(folder, "/proc/self/ns/net", "nsmgr", {
    NSM_NAME: tag,
    NSM_LISTEN_ON: manager,
    NSM_STATE_PATH: `${folder}/nsm.json`,
    NSM_LOG_LEVEL: "DEBUG"
  }).pipe(
    Effect.tap(() =>
      until("the manager serves", Health.check({ address: manager, service: "networkservice.NetworkService" }))
    )
  )
  const ipam = program(folder, namespaces.proxy, "ipam", {
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
  return { tag, folder, namespaces, vips, manager, nsp, nsmgr, ipam, proxy, probe }
})
export type World = Effect.Success<typeof world>

const without = (id: string) => (all: ReadonlyArray<Nsm.Connection>) => all.filter((one) => one.id !== id)

/** A load balancer: an endpoint that takes the addresses it is given. Its connections end up in the reference. */
export const loadBalancer = ({ folder, manager }: World, namespace: string, name: string) =>
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
export const hops = ({ routes }: Kernel.Snapshot): ReadonlyArray<string> =>
  routes.filter(isDefault).flatMap(({ hops }) => hops.map(({ link, via }) => `${via} ${link}`)).toSorted()

export const rules = (snapshot: Kernel.Snapshot): ReadonlyArray<string> =>
  snapshot.rules.filter(({ from, table }) => table === 1 && from !== undefined).map(({ from, priority }) =>
    `${priority} ${from}`
  ).toSorted()

export const ports = ({ links }: Kernel.Snapshot): number => links.filter(({ master }) => master === "bridge0").length

export const sees = (here: World, condition: (snapshot: Kernel.Snapshot) => boolean) =>
  Effect.map(look(here.namespaces.proxy), condition)

export const same = (found: ReadonlyArray<string>, ...expected: ReadonlyArray<string>) =>
  found.join("|") === expected.toSorted().join("|")

export const target = ({ manager, namespaces }: World) =>
  NsmClient.layer({
    name: "target-1",
    manager,
    namespace: namespaces.target,
    naming: "Counter",
    requestTimeoutMs: 5_000,
    maxTokenLifetimeMs: 600_000
  })

export const wanted: Nsm.Connection = {
  ...Nsm.connection("target-1-proxy.conduit-a.t.red-0", "proxy.conduit-a.t.red"),
  labels: { nodeName: "node-a" },
  payload: "ETHERNET"
}

const vips = ["20.0.0.1/32", "2000::1/128"].map(Cidr.unsafe)

/** The request of a target that has VIPs: they leave through the gateways. */
export const withVips = (connection: Nsm.Connection): Nsm.Connection => {
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
export const outside = (namespace: string, targetAddresses: ReadonlyArray<Cidr.Cidr>) =>
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
