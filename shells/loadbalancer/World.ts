/** A load balancer's surroundings for tests: a client, targets behind a bridge, and an NSP, in namespaces of their own. */
import { Context, Effect, Layer, Schedule, type Scope, Stream, SubscriptionRef } from "effect"
import { execFile, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import type * as Message from "../../proto/gen/api/nsp/v1/model.ts"
import {
  type Target,
  Target_Status,
  Target_Type,
  TargetRegistryDefinition
} from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import { Nftables } from "../nftables/Nftables.ts"
import * as Settings from "../runtime/Settings.ts"
import * as Config from "./Config.ts"
import * as Gauges from "./Gauges.ts"
import * as Main from "./Main.ts"

export const hostname = "lb-0"
export const vips = { v4: "20.0.0.1", v6: "2000::1" }
export const clientAddresses = { v4: "192.0.2.2", v6: "2001:db8::2" }

const trench = { name: "trench-a" }
const conduit: Message.Conduit = { name: "conduit-a", trench, destinationPortNats: [] }
export const stream: Message.Stream = { name: "stream-a", conduit, maxTargets: 10 }
const wireVips: ReadonlyArray<Message.Vip> = [
  { name: "vip4", address: `${vips.v4}/32`, trench },
  { name: "vip6", address: `${vips.v6}/128`, trench }
]
export const flow: Message.Flow = {
  name: "flow-a",
  sourceSubnets: ["0.0.0.0/0", "::/0"],
  sourcePortRanges: ["any"],
  destinationPortRanges: ["0-5000"],
  protocols: ["tcp", "udp"],
  priority: 1,
  stream,
  vips: wireVips,
  byteMatches: []
}

/** A target by number, as its ambassador registers it. */
export const target = (n: number): Target => ({
  ips: [`172.16.0.${10 + n}/24`, `fd00::${10 + n}/64`],
  context: { identifier: String(n) },
  status: Target_Status.ENABLED,
  type: Target_Type.DEFAULT,
  stream
})

const frontend: Target = {
  ips: [hostname],
  context: { identifier: hostname },
  status: Target_Status.DISABLED,
  type: Target_Type.FRONTEND,
  stream: undefined
}

export const sh = (namespace: string, command: string): Effect.Effect<string, Error> =>
  Effect.callback((resume) => {
    const child = execFile("nsenter", [`--net=${namespace}`, "sh", "-ec", command], (error, stdout, stderr) => {
      resume(error === null ? Effect.succeed(stdout) : Effect.fail(new Error(`${command}: ${stdout}${stderr}`)))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Answers every TCP connection and every datagram with the number of the target, padded to the asked length. */
const server = `
  const name = process.argv[1]
  require("net").createServer((socket) => socket.on("error", () => 0).end(name)).listen(4000)
  const udp = require("dgram").createSocket("udp6")
  udp.on("message", (text, from) => udp.send(name.padEnd(Number(String(text).trim()) || 1), from.port, from.address))
  udp.bind(4000, () => console.log("up"))`

/** Sends a datagram from each source port, or makes a connection, and prints who answered, by port. */
const asker = `
  const [, protocol, host, first, count, length, payload, destination] = process.argv
  const answers = {}
  let left = Number(count)
  const done = (port, name) => {
    answers[port] = name
    if (--left === 0) { console.log(JSON.stringify(answers)); process.exit() }
  }
  const ask = (port) => {
    if (protocol === "tcp") {
      const socket = require("net").connect({ host, port: Number(destination), localPort: port })
      socket.on("data", (data) => done(port, String(data))).on("error", (error) => done(port, error.code))
      return
    }
    const socket = require("dgram").createSocket(host.includes(":") ? "udp6" : "udp4")
    let tries = 0
    const send = () => tries++ < 10 ? socket.send(length.padEnd(Number(payload)), Number(destination), host) : done(port, "none")
    const timer = setInterval(send, 300)
    socket.on("message", (data) => { clearInterval(timer); socket.close(); done(port, String(data)) })
    socket.bind(port, send)
  }
  for (let n = 0; n < Number(count); n++) ask(Number(first) + n)`

export interface Ask {
  readonly protocol: "tcp" | "udp"
  readonly host: string
  readonly firstPort: number
  readonly count: number
  /** Bytes of the answer and of the question. */
  readonly length?: number
  readonly payload?: number
  readonly port?: number
}

/** What the command prints in the namespace, once that does not match: routes stay for a moment after their rules. */
export const shUntilGone = (path: string, command: string, gone: RegExp) =>
  Effect.repeat(sh(path, command), { until: (text) => !gone.test(text), times: 100, schedule: Schedule.spaced(20) })

/**
 * Sends a datagram from each of many ports every few milliseconds until a file is there; prints who answered how often,
 * once all have or nothing has come for a while.
 */
const loader = `
  const [, host, first, count, file] = process.argv
  const flows = Array.from({ length: Number(count) }, (_, n) => {
    const socket = require("dgram").createSocket(host.includes(":") ? "udp6" : "udp4")
    const flow = { sent: 0, answers: {}, socket }
    socket.on("message", (data) => flow.answers[data] = (flow.answers[data] ?? 0) + 1).bind(Number(first) + n)
    return flow
  })
  const timer = setInterval(() => {
    const isOver = require("fs").existsSync(file)
    if (!isOver) return flows.forEach((flow) => flow.socket.send("1", 4000, host, () => flow.sent++))
    clearInterval(timer)
    let before = -1
    setInterval(() => {
      const left = flows.reduce((sum, { answers, sent }) => Object.values(answers).reduce((n, one) => n - one, sum + sent), 0)
      if (left > 0 && left !== before) return before = left
      console.log(JSON.stringify(flows.map(({ answers, sent }) => ({ answers, sent }))))
      process.exit()
    }, 1000)
  }, 10)`

/** Sends ICMP errors about the answer to each port: destination, VIP, first port, number of ports, words of the header. */
const complainer = `
  const koffi = require("koffi")
  const lib = koffi.load("libc.so.6")
  const socket = lib.func("int socket(int, int, int)")(2, 3, 1)
  const sendto = lib.func("long sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)")
  const [, vip, client, first, count, words] = process.argv
  const bytes = (ip) => ip.split(".").map(Number)
  for (let n = 0; n < Number(count); n++) {
    const inner = Buffer.alloc(Number(words) * 4 + 8, 1)
    inner.set([0x40 + Number(words), 0, 0, 100, 0, 0, 0, 0, 64, 17, 0, 0, ...bytes(vip), ...bytes(client)])
    inner.writeUInt16BE(4000, Number(words) * 4)
    inner.writeUInt16BE(Number(first) + n, Number(words) * 4 + 2)
    const message = Buffer.concat([Buffer.from([3, 4, 0, 0, 0, 0, 5, 120]), inner])
    let sum = 0
    for (let i = 0; i < message.length; i += 2) sum += message.readUInt16BE(i)
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
    message.writeUInt16BE(0xffff - sum, 2)
    const address = Buffer.from([2, 0, 0, 0, ...bytes(vip), 0, 0, 0, 0, 0, 0, 0, 0])
    if (sendto(socket, message, message.length, 0, address, 16) < 0) throw new Error("sendto")
  }`

/**
 * Sends an SCTP packet with a right checksum to the port of an address from a raw socket, and prints the destination port
 * and whether the checksum is right of the first that comes: `send HOST PORT`, `receive FAMILY`.
 */
const sctp = `
  const koffi = require("koffi")
  const lib = koffi.load("libc.so.6")
  const [, mode, host, port] = process.argv
  const crc = (bytes) => {
    let c = 0xffffffff
    for (const byte of bytes) { c ^= byte; for (let k = 0; k < 8; k++) c = (c >>> 1) ^ (0x82f63b78 & -(c & 1)) }
    return (c ^ 0xffffffff) >>> 0
  }
  const sum = (packet) => { const copy = Buffer.from(packet); copy.writeUInt32LE(0, 8); return crc(copy) }
  const v6 = host.includes(":")
  const socket = lib.func("int socket(int, int, int)")(v6 ? 10 : 2, 3, 132)
  if (mode === "receive") {
    const receive = lib.func("long recv(int, uint8_t *, size_t, int)")
    const data = Buffer.alloc(200)
    require("fs").writeSync(1, "up\\n")
    const length = receive(socket, data, 200, 0)
    const packet = data.subarray(v6 ? 0 : 20, length)
    console.log(packet.readUInt16BE(2), packet.readUInt32LE(8) === sum(packet) ? "right" : "wrong")
  } else {
    const packet = Buffer.alloc(28)
    packet.writeUInt16BE(20000, 0)
    packet.writeUInt16BE(Number(port), 2)
    packet.set([11, 0, 0, 16, 1, 2, 3], 12)
    packet.writeUInt32LE(sum(packet), 8)
    const address = Buffer.alloc(v6 ? 28 : 16)
    address.writeUInt16LE(v6 ? 10 : 2, 0)
    if (v6) { address.writeUInt16BE(0x2000, 8); address[23] = 1 } else address.set(host.split(".").map(Number), 4)
    const send = lib.func("long sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)")
    if (send(socket, packet, 28, 0, address, address.length) < 0) throw new Error("sendto")
  }`

/** What became of the datagrams of a port. */
export interface Load {
  readonly sent: number
  readonly answers: { readonly [target: string]: number }
}

let counter = 0

/** The namespaces, wired, with a server in each target and a load balancer in its own. */
export const make = (targets: number) =>
  Effect.gen(function*() {
    const prefix = `sl-lb-${process.pid}-${counter++}`
    const namespace = (name: string) => Namespace.scoped(`${prefix}-${name}`)
    const [client, balancer, proxy] = [yield* namespace("c"), yield* namespace("lb"), yield* namespace("px")]
    const wire = yield* Netlink.make()
    const join = (one: string, oneName: string, other: string, otherName: string) =>
      wire.createVeth({ namespace: one, name: oneName }, { namespace: other, name: otherName })

    for (const path of [client, balancer, proxy]) yield* sh(path, quiet)
    yield* join(client, "eth0", balancer, "ext")
    yield* join(balancer, "load-balan-1", proxy, "lb")
    yield* sh(client, up("eth0", "192.0.2.2/24", "2001:db8::2/64"))
    yield* sh(client, `ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8::1`)
    yield* sh(balancer, up("ext", "192.0.2.1/24", "2001:db8::1/64"))
    yield* sh(balancer, up("load-balan-1", "172.16.0.3/24", "fd00::3/64"))
    // As the frontend does.
    yield* sh(
      balancer,
      `ip rule add priority 100 from ${vips.v4} lookup 4096; ip route add default via 192.0.2.2 table 4096;`
        + `ip -6 rule add priority 100 from ${vips.v6} lookup 4096; ip -6 route add default via 2001:db8::2 table 4096`
    )
    yield* sh(
      balancer,
      "sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1 net.ipv4.fwmark_reflect=1 "
        + "net.ipv6.fwmark_reflect=1"
    )
    yield* sh(proxy, "ip link add br0 type bridge; ip link set br0 up; ip link set lb master br0 up")
    for (let n = 1; n <= targets; n++) {
      const path = yield* namespace(`t${n}`)
      yield* sh(path, quiet)
      yield* join(path, "nsm-0", proxy, `t${n}`)
      yield* sh(proxy, `ip link set t${n} master br0 up`)
      yield* sh(path, up("nsm-0", `172.16.0.${10 + n}/24`, `fd00::${10 + n}/64`))
      yield* sh(path, `ip addr add ${vips.v4}/32 dev lo; ip addr add ${vips.v6}/128 dev lo nodad`)
      yield* sh(path, "ip route add default via 172.16.0.3; ip -6 route add default via fd00::3")
      yield* serve(path, String(n))
    }
    const nsp = yield* fakeNsp
    const ask = ({ count, firstPort, host, length = 1, payload = 1, port = 4_000, protocol }: Ask) =>
      Effect.map(
        sh(
          client,
          `exec ${process.execPath} -e '${asker}' ${protocol} ${host} ${firstPort} ${count} ${length} ${payload} ${port}`
        ),
        (text): { readonly [port: string]: string } => JSON.parse(text)
      )
    const load = (host: string, count: number, file: string) =>
      Effect.map(
        sh(client, `exec ${process.execPath} -e '${loader}' ${host} 20000 ${count} ${file}`),
        (text): ReadonlyArray<Load> => JSON.parse(text)
      )
    // Datagrams that arrived, but found no room in the socket of a program that got no processor.
    const overflowed = Effect.map(
      Effect.forEach([client, ...numbers(targets).map((n) => Namespace.named(`${prefix}-t${n}`))], (path) =>
        sh(path, `awk '$1 == "Udp:" { n = $6 } END { print n }' /proc/net/snmp`)),
      (counts) =>
        counts.reduce((total, count) => total + Number(count), 0)
    )
    /** The port and checksum of an SCTP packet as it comes to the only target. */
    const sendSctp = (host: string, port: number) =>
      Effect.scoped(Effect.gen(function*() {
        const receiver = yield* Effect.acquireRelease(
          Effect.callback<{ readonly child: ReturnType<typeof spawn>; readonly output: Promise<string> }>((resume) => {
            const path = Namespace.named(`${prefix}-t1`)
            const child = spawn("nsenter", [`--net=${path}`, process.execPath, "-e", sctp, "receive", host])
            let text = ""
            const output = new Promise<string>((resolve) => child.on("close", () => resolve(text)))
            child.stdout.on("data", (data) => text += String(data))
            child.stdout.once("data", () => resume(Effect.succeed({ child, output })))
          }),
          ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
        )
        yield* sh(client, `exec ${process.execPath} -e '${sctp}' send ${host} ${port}`)
        return (yield* Effect.promise(() => receiver.output)).replace("up", "").trim()
      }))
    const complain = (first: number, count: number, words: number) =>
      sh(
        client,
        `exec ${process.execPath} -e '${complainer}' ${vips.v4} ${clientAddresses.v4} ${first} ${count} ${words}`
      )
    return {
      load,
      overflowed,
      complain,
      sendSctp,
      client,
      balancer,
      targetPath: (n: number) => Namespace.named(`${prefix}-t${n}`),
      nsp,
      ask
    }
  })

const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, n) => n + 1)

const quiet =
  "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv6.conf.all.accept_dad=0 "
  + "net.ipv6.conf.default.accept_dad=0"

const up = (link: string, ...addresses: ReadonlyArray<string>): string =>
  [
    `ip link set ${link} up`,
    ...addresses.map((address) => `ip addr add ${address} dev ${link}${address.includes(":") ? " nodad" : ""}`)
  ].join("; ")

const serve = (path: string, name: string): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<ReturnType<typeof spawn>>((resume) => {
      const child = spawn("nsenter", [`--net=${path}`, process.execPath, "-e", server, name])
      child.stdout.once("data", () => resume(Effect.succeed(child)))
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  ).pipe(Effect.asVoid)

const none = () => Stream.never

/** An NSP of a single conduit, whose lists can be set. */
export const fakeNsp = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-lb-test-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
  )
  const targets = yield* SubscriptionRef.make<ReadonlyArray<Target>>([])
  const frontends = yield* SubscriptionRef.make<ReadonlyArray<Target>>([frontend])
  const vips = yield* SubscriptionRef.make(wireVips)
  const streams = yield* SubscriptionRef.make<ReadonlyArray<Message.Stream>>([stream])
  const flows = yield* SubscriptionRef.make<ReadonlyArray<Message.Flow>>([flow])
  const nats = yield* SubscriptionRef.make<Message.Conduit["destinationPortNats"]>([])
  const address = `unix://${folder}/nsp.sock`
  yield* Server.serve({
    address,
    services: [
      Server.service(ConfigurationManagerDefinition, {
        watchTrench: none,
        watchAttractor: none,
        watchGateway: none,
        watchVip: () => Stream.map(SubscriptionRef.changes(vips), (vips) => ({ vips })),
        watchStream: () => Stream.map(SubscriptionRef.changes(streams), (streams) => ({ streams })),
        watchFlow: () => Stream.map(SubscriptionRef.changes(flows), (flows) => ({ flows })),
        watchConduit: () =>
          Stream.map(SubscriptionRef.changes(nats), (destinationPortNats) => ({
            conduits: [{ ...conduit, destinationPortNats }]
          }))
      }),
      Server.service(TargetRegistryDefinition, {
        register: () => Effect.succeed({}),
        unregister: () => Effect.succeed({}),
        watch: ({ type }) =>
          Stream.map(SubscriptionRef.changes(type === Target_Type.FRONTEND ? frontends : targets), (targets) => ({
            targets
          }))
      })
    ]
  })
  return { address, folder, vips, targets, frontends, streams, flows, nats, wireVips }
})

/** Starts a load balancer in the namespace; it lives as long as the scope. */
export const start = (
  balancer: string,
  nsp: { readonly address: string; readonly folder: string },
  env: { readonly [name: string]: string } = {}
) =>
  Effect.gen(function*() {
    const settings = yield* Effect.fromResult(Settings.decode(Config.settings, {
      NSM_NAME: hostname,
      NSM_SERVICE_NAME: "load-balancer.trench-a",
      NSM_NSP_SERVICE: nsp.address,
      NSM_CONDUIT_NAME: "conduit-a",
      NSM_TRENCH_NAME: "trench-a",
      NSM_CONNECT_TO: `unix://${nsp.folder}/nobody.sock`,
      NSM_SOCKET: `unix://${nsp.folder}/lb.sock`,
      ...env
    }))
    const services = yield* Layer.build(
      Layer.mergeAll(Netlink.Netlink.layerIn(balancer), Nftables.layerIn(balancer), Layer.fresh(Health.layer))
    )
    const running = yield* Effect.provideContext(Main.start(settings, { hostname, namespace: balancer }), services)
    const metrics = Effect.provideContext(Gauges.collect(settings, running.current), services)
    return { ...running, metrics, health: Context.get(services, Health.Health) }
  })
