/**
 * The way of a packet in a trench on one machine, in namespaces: client, gateway, frontend with load balancer, proxy (a
 * bridge) and the holder of all targets, joined by pairs of links. Frontend, proxy and targets have the rules for answers
 * that they have in a trench, whatever balances.
 */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { Maglev, type Model, Routes, Ruleset } from "../core/loadbalancer/index.ts"
import { Cidr, Ip } from "../core/net/index.ts"
import * as Namespace from "../shells/netlink/Namespace.ts"
import * as Netlink from "../shells/netlink/Netlink.ts"
import * as Nftables from "../shells/nftables/Nftables.ts"
import * as Ends from "./DataplaneEnds.ts"

export const vips = { v4: "20.0.0.1", v6: "2000::1" }

/** How packets find a target: without load balancer, by the kernel's equal-cost routes, or by our rules. */
export type Way = "plain" | "ecmp" | "general" | "fast"

export interface Shape {
  readonly way: Way
  readonly targets: number
  readonly streams: number
  readonly flows: number
}

/** What is measured. */
export interface Chain {
  readonly shape: Shape
  readonly ask: (question: Ends.Question) => Effect.Effect<unknown>
  /** Datagrams that came to sockets of the targets until now, also to those without room. */
  readonly received: Effect.Effect<number>
}

export const make = (shape: Shape, index: number) =>
  Effect.gen(function*() {
    const prefix = `sl-bench-${process.pid}-${index}`
    const namespace = (name: string) => Namespace.scoped(`${prefix}-${name}`)
    const [client, gateway, balancer] = [yield* namespace("c"), yield* namespace("gw"), yield* namespace("lb")]
    const [proxy, target] = [yield* namespace("px"), yield* namespace("t")]
    const wire = yield* Netlink.make()
    const join = (one: string, oneName: string, other: string, otherName: string) =>
      wire.createVeth({ namespace: one, name: oneName }, { namespace: other, name: otherName })
    yield* join(client, "eth0", gateway, "in")
    yield* join(gateway, "out", balancer, "ext")
    yield* join(balancer, "int", proxy, "lb")
    yield* join(proxy, "port", target, "eth0")
    yield* sh(
      client,
      [up("eth0", "192.0.2.2/24", "2001:db8::2/64"), ...defaults("192.0.2.1", "2001:db8::1")].join("\n")
    )
    yield* sh(
      gateway,
      [
        up("in", "192.0.2.1/24", "2001:db8::1/64"),
        up("out", "169.254.100.1/24", "100:100::1/64"),
        ...vipRoutes("169.254.100.2", "100:100::2")
      ].join("\n")
    )
    yield* sh(
      balancer,
      [
        up("ext", "169.254.100.2/24", "100:100::2/64"),
        up("int", "172.16.0.3/24", "fd00::3/64"),
        ...answers(100, 4_096, "169.254.100.1", "100:100::1"),
        ...Object.entries(vips).map(([family, vip]) =>
          `ip ${family === "v4" ? "" : "-6"} rule add priority 101 from ${vip} lookup 4097`
        ),
        ...shape.flows > 0 ? ["sysctl -qw net.ipv4.conf.all.accept_local=1"] : [],
        ...Ip.families.flatMap((family) => ways(shape, family))
      ].join("\n")
    )
    yield* sh(
      proxy,
      [
        "ip link add br0 type bridge",
        ...["lb", "port"].map((link) => `ip link set ${link} up master br0`),
        up("br0", "172.16.0.1/24", "fd00::1/64"),
        ...answers(32_000, 1, "172.16.0.3", "fd00::3")
      ].join("\n")
    )
    const own = Array.from({ length: shape.targets }, (_, n) => [`${ipOf(n, "v4")}/24`, `${ipOf(n, "v6")}/64`])
    yield* sh(
      target,
      [
        up("eth0", ...own.flat()),
        `ip addr add ${vips.v4}/32 dev eth0; ip addr add ${vips.v6}/128 dev eth0 nodad`,
        ...answers(32_000, 4_000, "172.16.0.1", "fd00::1")
      ].join("\n")
    )
    if (shape.flows > 0) {
      const kernel = yield* Netlink.make(balancer)
      yield* kernel.apply(Routes.plan.plan(routes(shape), yield* kernel.snapshot))
      yield* (yield* Nftables.make(balancer)).apply(Ruleset.script(undefined, rules(shape)))
    }
    yield* Ends.serve(target, Object.values(vips))
    const chain: Chain = {
      shape,
      ask: yield* Ends.asker(client),
      received: Effect.map(
        sh(
          target,
          "awk '$1 == \"Udp:\" { n = $2 + $4 } END { print n }' /proc/net/snmp; "
            + "awk '/^Udp6In(Datagrams|Errors)/ { n += $2 } END { print n }' /proc/net/snmp6"
        ),
        (text) => text.split("\n").reduce((sum, line) => sum + Number(line), 0)
      )
    }
    return chain
  })

const defaults = (v4: string, v6: string): ReadonlyArray<string> => [
  `ip route add default via ${v4}`,
  `ip -6 route add default via ${v6}`
]

const vipRoutes = (v4: string, v6: string): ReadonlyArray<string> => [
  `ip route add ${vips.v4} via ${v4}`,
  `ip -6 route add ${vips.v6} via ${v6}`
]

const answers = (priority: number, table: number, v4: string, v6: string): ReadonlyArray<string> => [
  `ip rule add priority ${priority} from ${vips.v4} lookup ${table}; ip route add default via ${v4} table ${table}`,
  `ip -6 rule add priority ${priority} from ${vips.v6} lookup ${table}; ip -6 route add default via ${v6} table ${table}`
]

const ipOf = (n: number, family: Ip.Family): string => family === "v4" ? `172.16.0.${10 + n}` : `fd00::${10 + n}`

// Every stream has room for as many targets as there are; each target is in one of them.
const rules = ({ flows, streams, targets, way }: Shape): Model.Ruleset => {
  const all = Object.entries(vips).map(([name, ip]) => ({ name, address: Cidr.host(Ip.unsafe(ip)) }))
  const width = Ends.ports.count / flows
  return {
    table: "sluice-bench",
    vips: all.map(({ address }) => address),
    flows: Array.from({ length: flows }, (_, n) => ({
      name: `flow-${n}`,
      stream: { trench: "t", conduit: "c", stream: `s-${n % streams}` },
      vips: all,
      sourceSubnets: [],
      sourcePorts: [],
      // The last flow of a stream also takes what connects or is repeated.
      destinationPorts: [
        { from: Ends.ports.first + n * width, to: Ends.ports.first + (n + 1) * width - 1 },
        ...n === 0 ? [{ from: 4_000, to: 4_001 }] : []
      ],
      protocols: ["tcp" as const, "udp" as const],
      byteMatches: [],
      priority: n
    })),
    streams: Array.from({ length: streams }, (_, n) => ({
      name: `s-${n}`,
      maxTargets: targets,
      slots: Maglev.size(targets),
      offset: offsetOf(n, targets),
      identifiers: members(n, streams, targets).map((member) => member + 1)
    })),
    portNats: [],
    guard: { linkPrefix: "int", inside: ["eth0"] },
    ...(way === "fast"
      ? {
        fastPath: {
          externals: ["ext"],
          hops: marks({ streams, targets }).flatMap(({ mark, n }) =>
            Ip.families.map((family) => ({ mark, ip: Ip.unsafe(ipOf(n, family)), link: "int" }))
          )
        }
      }
      : {})
  }
}

const offsetOf = (stream: number, targets: number): number => 5_000 + stream * targets

const members = (stream: number, streams: number, targets: number): ReadonlyArray<number> =>
  Array.from({ length: targets }, (_, n) => n).filter((n) => n % streams === stream)

const marks = ({ streams, targets }: Pick<Shape, "streams" | "targets">) =>
  Array.from(
    { length: streams },
    (_, stream) => members(stream, streams, targets).map((n) => ({ mark: offsetOf(stream, targets) + n + 1, n }))
  ).flat()

const routes = (shape: Shape): Routes.Desired => ({
  targets: marks(shape).map(({ mark, n }) => ({ mark, ips: Ip.families.map((family) => Ip.unsafe(ipOf(n, family))) })),
  keep: undefined,
  range: [offsetOf(0, shape.targets), offsetOf(shape.streams, shape.targets)],
  linkPrefix: "int",
  serves: true
})

// What leads to the targets without load balancer.
const ways = ({ flows, targets, way }: Shape, family: Ip.Family): ReadonlyArray<string> => {
  if (flows > 0) return []
  const route = `ip ${family === "v4" ? "" : "-6"} route add ${vips[family]}`
  const hops = Array.from({ length: targets }, (_, n) => ipOf(n, family))
  return [way === "plain" ? `${route} via ${hops[0]}` : `${route} ${hops.map((hop) => `nexthop via ${hop}`).join(" ")}`]
}

const quiet =
  "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv6.conf.all.accept_dad=0 "
  + "net.ipv6.conf.default.accept_dad=0 net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1 "
  + "net.ipv4.fib_multipath_hash_policy=1 net.ipv6.fib_multipath_hash_policy=1"

const up = (link: string, ...addresses: ReadonlyArray<string>): string =>
  [
    quiet,
    "ip link set lo up",
    `ip link set ${link} up`,
    ...addresses.map((address) => `ip addr add ${address} dev ${link}${address.includes(":") ? " nodad" : ""}`)
  ].join("\n")

const sh = (namespace: string, script: string): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const child = spawn("nsenter", [`--net=${namespace}`, "sh", "-e"])
    let [output, errors] = ["", ""]
    child.stdout.on("data", (data) => output += String(data))
    child.stderr.on("data", (data) => errors += String(data))
    child.on(
      "close",
      (code) => resume(code === 0 ? Effect.succeed(output) : Effect.die(new Error(errors)))
    )
    child.stdin.end(script)
  })
