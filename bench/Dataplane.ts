/**
 * What the load balancer costs a packet, beside plain routing and the equal-cost routes of the kernel. Each variant has
 * namespaces of its own: a client, a load balancer, and one that holds the addresses of all targets.
 *
 * Packets are sent by one process with sendmmsg, whose system calls do the work of the whole way, and counted on the link
 * of the targets, which drop them there.
 */
import { Effect, type Scope } from "effect"
import { spawn } from "node:child_process"
import { Maglev, type Model, Ruleset } from "../core/loadbalancer/index.ts"
import { Cidr, Ip } from "../core/net/index.ts"
import * as Namespace from "../shells/netlink/Namespace.ts"
import * as Netlink from "../shells/netlink/Netlink.ts"
import * as Nftables from "../shells/nftables/Nftables.ts"
import * as Bench from "./Bench.ts"

const vips = { v4: "20.0.0.1", v6: "2000::1" }

/** How packets find a target. */
type Way = "plain" | "ecmp" | "general" | "fast"

interface Shape {
  readonly way: Way
  readonly targets: number
  readonly flows: number
}

const shapes: ReadonlyArray<Shape> = [
  { way: "plain", targets: 1, flows: 0 },
  ...[4, 100].flatMap((targets) =>
    (["ecmp", "general", "fast"] as const).map((way) => ({ way, targets, flows: way === "ecmp" ? 0 : 1 }))
  ),
  ...[10, 100].flatMap((flows) => (["general", "fast"] as const).map((way) => ({ way, targets: 4, flows })))
]

const title = ({ flows, targets, way }: Shape): string =>
  way === "plain" ? "plain routing" : `${way}, ${targets} targets${flows > 1 ? `, ${flows} flows` : ""}`

/** What runs in a namespace: `sink` and `echo` say "up", the others print a number. */
const program = `
  const koffi = require("koffi")
  const [, mode, host, count] = process.argv
  const lib = koffi.load("libc.so.6")
  const c = (text) => lib.func(text)
  const family = host.includes(":") ? 10 : 2
  const address = (port) => {
    const bytes = Buffer.alloc(family === 2 ? 16 : 28)
    bytes.writeUInt16LE(family, 0)
    bytes.writeUInt16BE(port, 2)
    if (family === 2) bytes.set(host.split(".").map(Number), 4)
    else {
      const [head, tail] = host.split("::").map((part) => part.split(":").filter(Boolean).map((word) => parseInt(word, 16)))
      head.forEach((word, n) => bytes.writeUInt16BE(word, 8 + 2 * n))
      tail.forEach((word, n) => bytes.writeUInt16BE(word, 24 - 2 * tail.length + 2 * n))
    }
    return bytes
  }
  const udp = () => c("int socket(int, int, int)")(family, 2, 0)
  if (mode === "sink") {
    require("net").createServer((socket) => socket.resume()).listen(4000, "::", () => console.log("up"))
  } else if (mode === "echo") {
    const socket = udp()
    const from = Buffer.alloc(28)
    const length = Buffer.alloc(4)
    const packet = Buffer.alloc(64)
    c("int bind(int, const uint8_t *, uint32_t)")(socket, address(4001), family === 2 ? 16 : 28)
    const receive = c("long recvfrom(int, uint8_t *, size_t, int, uint8_t *, uint8_t *)")
    const answer = c("long sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)")
    require("fs").writeSync(1, "up")
    while (true) {
      length.writeUInt32LE(28)
      const size = receive(socket, packet, 64, 0, from, length)
      answer(socket, packet, size, 0, from, length.readUInt32LE())
    }
  } else if (mode === "trip") {
    const socket = udp()
    c("int connect(int, const uint8_t *, uint32_t)")(socket, address(4001), family === 2 ? 16 : 28)
    const [send, receive] = ["long send(int, const uint8_t *, size_t, int)", "long recv(int, uint8_t *, size_t, int)"].map(c)
    const packet = Buffer.alloc(64)
    const times = []
    for (let n = 0; n < Number(count); n++) {
      const begin = process.hrtime.bigint()
      send(socket, packet, 64, 0)
      receive(socket, packet, 64, 0)
      times.push(Number(process.hrtime.bigint() - begin) / 1e3)
    }
    times.sort((a, b) => a - b)
    console.log(JSON.stringify([0.5, 0.99].map((share) => times[Math.floor(times.length * share)])))
  } else if (mode === "flood") {
    const batch = 64
    const payload = Buffer.alloc(64 - 28)
    const data = koffi.alloc("uint8_t", 64)
    const vectors = koffi.alloc("uint64_t", batch * 2)
    const names = koffi.alloc("uint8_t", batch * 28)
    const headers = koffi.alloc("uint64_t", batch * 8)
    const size = family === 2 ? 16 : 28
    for (let n = 0; n < batch; n++) koffi.encode(names, n * 28, koffi.array("uint8_t", size), [...address(5000 + n)])
    koffi.encode(vectors, koffi.array("uint64_t", 2), [koffi.address(data), BigInt(payload.length)])
    koffi.encode(headers, koffi.array("uint64_t", batch * 8), Array.from({ length: batch }, (_, n) => [
      koffi.address(names) + BigInt(n * 28), BigInt(size), koffi.address(vectors), 1n, 0n, 0n, 0n, 0n
    ]).flat())
    const send = c("int sendmmsg(int, void *, unsigned int, int)")
    const socket = udp()
    // The best of short stretches: what this machine can do when nobody else takes its time.
    let best = Infinity
    for (let sent = 0; sent < Number(count);) {
      const begin = process.hrtime.bigint()
      for (let n = 0; n < 16; n++, sent += batch) if (send(socket, headers, batch, 0) < 0) throw new Error("sendmmsg")
      best = Math.min(best, Number(process.hrtime.bigint() - begin) / 1e9 / (16 * batch))
    }
    console.log(best)
  } else if (mode === "stream") {
    const socket = require("net").connect(4000, host, () => {
      const chunk = Buffer.alloc(1 << 20)
      const begin = process.hrtime.bigint()
      let left = Number(count)
      const write = () => {
        while (left-- > 0) if (!socket.write(chunk)) return socket.once("drain", write)
        socket.end()
      }
      socket.resume().on("close", () => {
        console.log(Number(count) * chunk.length * 8 / Number(process.hrtime.bigint() - begin))
        process.exit()
      })
      write()
    })
  }`

const execute = (namespace: string, command: ReadonlyArray<string>, input = ""): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const child = spawn("nsenter", [`--net=${namespace}`, ...command])
    let [output, errors] = ["", ""]
    child.stdout.on("data", (data) => output += String(data))
    child.stderr.on("data", (data) => errors += String(data))
    child.on(
      "close",
      (code) =>
        resume(
          code === 0 ? Effect.succeed(output) : Effect.die(new Error(`${command.slice(0, 2).join(" ")}: ${errors}`))
        )
    )
    child.stdin.end(input)
  })

const sh = (namespace: string, script: string) => execute(namespace, ["sh", "-e"], script)

const measure = (namespace: string, mode: string, host: string, count: number): Effect.Effect<unknown> =>
  Effect.map(
    execute(namespace, [process.execPath, "-e", program, mode, host, String(count)]),
    (text): unknown => JSON.parse(text)
  )

const serve = (namespace: string, mode: string, host: string): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(Effect.acquireRelease(
    Effect.callback<ReturnType<typeof spawn>>((resume) => {
      const child = spawn("nsenter", [`--net=${namespace}`, process.execPath, "-e", program, mode, host])
      child.stdout.once("data", () => resume(Effect.succeed(child)))
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  ))

interface Chain {
  readonly shape: Shape
  readonly client: string
  readonly target: string
}

const ipOf = (n: number, family: Ip.Family): string => family === "v4" ? `172.16.0.${10 + n}` : `fd00::${10 + n}`

const rules = ({ flows, targets, way }: Shape): Model.Ruleset => {
  const all = Object.entries(vips).map(([name, ip]) => ({ name, address: Cidr.host(Ip.unsafe(ip)) }))
  const identifiers = Array.from({ length: targets }, (_, n) => n + 1)
  const width = flows === 10 ? 8 : 1
  return {
    table: "sluice-bench",
    vips: all.map(({ address }) => address),
    flows: Array.from({ length: flows }, (_, n) => ({
      name: `flow-${n}`,
      stream: { trench: "t", conduit: "c", stream: "s" },
      vips: all,
      sourceSubnets: [],
      sourcePorts: [],
      destinationPorts: flows === 1 ? [] : [{ from: 5_000 + n * width, to: 5_000 + n * width + width - 1 }],
      protocols: ["tcp" as const, "udp" as const],
      byteMatches: [],
      priority: n
    })),
    streams: [{ name: "s", maxTargets: targets, slots: Maglev.size(targets), offset: 5_000, identifiers }],
    portNats: [],
    ...(way === "fast"
      ? {
        fastPath: {
          externals: ["ext"],
          hops: identifiers.flatMap((n) =>
            Ip.families.map((family) => ({ mark: 5_000 + n, ip: Ip.unsafe(ipOf(n, family)), link: "int" }))
          )
        }
      }
      : {})
  }
}

const ways = (shape: Shape): string => {
  const numbers = Array.from({ length: shape.targets }, (_, n) => n + 1)
  return Ip.families.map((family) => {
    const ip = family === "v4" ? "ip" : "ip -6"
    const hops = numbers.map((n) => ipOf(n, family))
    if (shape.way === "plain") return `${ip} route add ${vips[family]} via ${hops.join()}`
    if (shape.way === "ecmp") {
      return `${ip} route add ${vips[family]} ${hops.map((hop) => `nexthop via ${hop}`).join(" ")}`
    }
    const lines = hops.flatMap((hop, n) => [
      `route add default via ${hop} dev int table ${5_001 + n}`,
      `rule add priority 90 fwmark ${5_001 + n} lookup ${5_001 + n}`
    ])
    return `${ip} -batch - <<'END'\n${lines.join("\n")}\nEND`
  }).join("\n")
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

const make = (shape: Shape, index: number) =>
  Effect.gen(function*() {
    const prefix = `sl-bench-${process.pid}-${index}`
    const [client, balancer, target] = [
      yield* Namespace.scoped(`${prefix}-c`),
      yield* Namespace.scoped(`${prefix}-lb`),
      yield* Namespace.scoped(`${prefix}-t`)
    ]
    const wire = yield* Netlink.make()
    yield* wire.createVeth({ namespace: client, name: "eth0" }, { namespace: balancer, name: "ext" })
    yield* wire.createVeth({ namespace: balancer, name: "int" }, { namespace: target, name: "eth0" })
    yield* sh(
      client,
      `${up("eth0", "192.0.2.2/24", "2001:db8::2/64")}
      ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8::1`
    )
    yield* sh(balancer, up("ext", "192.0.2.1/24", "2001:db8::1/64"))
    yield* sh(balancer, `${up("int", "172.16.0.3/24", "fd00::3/64")}\n${ways(shape)}`)
    const own = Array.from({ length: shape.targets }, (_, n) => [`${ipOf(n + 1, "v4")}/24`, `${ipOf(n + 1, "v6")}/64`])
    yield* sh(
      target,
      `${up("eth0", ...own.flat())}
      ip addr add ${vips.v4}/32 dev lo; ip addr add ${vips.v6}/128 dev lo nodad
      ip route add default via 172.16.0.3; ip -6 route add default via fd00::3
      nft add table netdev sink
      nft add chain netdev sink in '{ type filter hook ingress device eth0 priority 0; }'
      nft add rule netdev sink in udp dport 5000-5063 drop`
    )
    if (shape.flows > 0) yield* Nftables.make(balancer).apply(Ruleset.script(undefined, rules(shape)))
    return { shape, client, target }
  })

const packets = 64 * 16 * 60

const received = (target: string): Effect.Effect<number> =>
  Effect.map(sh(target, "cat /proc/net/dev"), (text) => Number(/eth0:\s*\d+\s+(\d+)/.exec(text)?.[1]))

/** Thousands of packets per second that arrive, by the best stretch of a thousand. */
const rate = (family: Ip.Family) => ({ client, shape, target }: Chain): Bench.Variant<never> => ({
  name: title(shape),
  run: Effect.gen(function*() {
    const before = yield* received(target)
    const secondsEach = Number(yield* measure(client, "flood", vips[family], packets))
    return ((yield* received(target)) - before) / packets / secondsEach / 1e3
  })
})

const throughput = (family: Ip.Family) => ({ client, shape }: Chain): Bench.Variant<never> => ({
  name: title(shape),
  run: Effect.map(measure(client, "stream", vips[family], 400), Number)
})

const trip = (family: Ip.Family, which: 0 | 1) => ({ client, shape }: Chain): Bench.Variant<never> => ({
  name: title(shape),
  run: Effect.map(measure(client, "trip", vips[family], 3_000), (both) => Array.isArray(both) ? Number(both[which]) : 0)
})

const rows = (
  metric: string,
  unit: string,
  chains: ReadonlyArray<Chain>,
  variant: (chain: Chain) => Bench.Variant<never>
) => Bench.rows("dataplane", metric, unit, chains.map(variant))

export const bench: Bench.Bench = {
  name: "dataplane",
  summary: "packets, bytes and round trips through the load balancer, against plain routing",
  rows: Effect.scoped(Effect.gen(function*() {
    const chains = yield* Effect.forEach(shapes, make)
    const few = chains.filter(({ shape }) => shape.targets <= 4 && shape.flows <= 1)
    const each = chains.filter(({ shape }) => shape.flows <= 1)
    for (const { target } of each) {
      yield* serve(target, "sink", vips.v4)
      yield* serve(target, "echo", vips.v4)
    }
    return [
      ...yield* rows("UDP v4", "kpps", chains, rate("v4")),
      ...yield* rows("UDP v6", "kpps", few, rate("v6")),
      ...yield* rows("TCP v4", "Gbit/s", few, throughput("v4")),
      ...yield* rows("TCP v6", "Gbit/s", few, throughput("v6")),
      ...yield* rows("round trip p50", "us", each, trip("v4", 0)),
      ...yield* rows("round trip p99", "us", each, trip("v4", 1))
    ]
  })).pipe(Effect.orDie)
}
