import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, type Scope, Stream, SubscriptionRef } from "effect"
import { execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { StreamAvailabilityServiceDefinition } from "../../proto/gen/api/loadbalancer/v1/stream.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import type { Attractor, Gateway } from "../../proto/gen/api/nsp/v1/model.ts"
import { TargetRegistryDefinition } from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as Bird from "../bird/Bird.ts"
import * as Control from "../bird/Control.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import * as Settings from "../runtime/Settings.ts"
import * as Config from "./Config.ts"
import * as Main from "./Main.ts"

const hostname = "fe-0"
const trench = { name: "trench-a" }
const password = "s3cret $&\\'{}"

const gateway: Gateway = {
  name: "gateway-v4",
  address: "169.254.100.150",
  ipFamily: "ipv4",
  protocol: "bgp",
  remoteASN: 4_248_829_953,
  localASN: 8103,
  remotePort: 10_179,
  localPort: 10_179,
  holdTime: 24,
  bfd: true,
  bfdSpec: { MinTx: 300, MinRx: 300, Multiplier: 5 },
  trench
}

const attractor: Attractor = {
  name: "attractor-a",
  trench,
  vips: [
    { name: "vip4", address: "20.0.0.1/32", trench },
    { name: "vip6", address: "2000::1/128", trench }
  ],
  gateways: [gateway, { ...gateway, name: "gateway-v6", address: "100:100::150", ipFamily: "ipv6" }]
}

const peer = (name: string, channel: string, local: string, range: string, net: string, extra: string) => `
protocol bgp ${name} {
  local ${local} port 10179 as 4248829953;
  neighbor range ${range} as 8103;
  passive; direct; hold time 24; dynamic name "${name}_";
  bfd { min rx interval 300 ms; min tx interval 300 ms; multiplier 5; };
  error wait time 1, 2; ${extra}
  ${channel} { import all; export where net = ${net}; next hop self; };
}`

/** The routers of the other side: they wait for the frontend and offer it a default route. */
const gatewayConfig = (md5: string): string => `
router id 198.51.100.1;
protocol device {}
protocol static { ipv4; route 0.0.0.0/0 unreachable; }
protocol static { ipv6; route ::/0 unreachable; }
protocol bfd { accept direct; interface "ext" { min rx interval 300 ms; min tx interval 300 ms; multiplier 5; }; }
${peer("fe4", "ipv4", "169.254.100.150", "169.254.100.0/24", "0.0.0.0/0", md5)}
${peer("fe6", "ipv6", "100:100::150", "100:100::/64", "::/0", "")}
`

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sl-frontend-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true }))
)

let counter = 0

const ip = (namespace: string, ...commands: ReadonlyArray<string>): void => {
  for (const command of commands) execFileSync("ip", ["-n", path.basename(namespace), ...command.split(" ")])
}

const routes = (namespace: string, family: "-4" | "-6", table: number): string => {
  try {
    const words = ["-n", path.basename(namespace), family, "route", "show", "table", String(table)]
    return execFileSync("ip", words, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
  } catch {
    return ""
  }
}

const rules = (namespace: string, family: "-4" | "-6"): ReadonlyArray<string> =>
  execFileSync("ip", ["-n", path.basename(namespace), family, "rule", "show"], { encoding: "utf8" }).split("\n")
    .filter((line) => /^10[01]:/.test(line)).map((line) => line.replaceAll(/\s+/g, " ").trim())

/** Waits until the condition says nothing more is missing. */
const eventually = <R = never>(
  what: string,
  condition: () => Effect.Effect<boolean, never, R> | boolean,
  withinMs = 20_000
): Effect.Effect<void, never, R> =>
  Effect.gen(function*() {
    const deadline = (yield* Clock.currentTimeMillis) + withinMs
    while (true) {
      const now = condition()
      if (typeof now === "boolean" ? now : yield* now) return
      if ((yield* Clock.currentTimeMillis) > deadline) assert.fail(`not in time: ${what}`)
      yield* Effect.sleep(50)
    }
  })

interface World {
  readonly frontend: string
  readonly gatewaySocket: string
  readonly folder: string
  readonly settings: Config.Settings
  readonly attractors: SubscriptionRef.SubscriptionRef<ReadonlyArray<Attractor>>
  readonly forwarding: SubscriptionRef.SubscriptionRef<boolean>
  readonly registry: ReadonlyArray<string>
}

/** Two namespaces joined by a veth pair, a gateway with BIRD, an NSP and a load balancer. */
const world = (md5 = ""): Effect.Effect<World, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const files = yield* folder
    const prefix = `sl-fe-${process.pid}-${counter++}`
    const frontend = yield* Namespace.scoped(`${prefix}-f`)
    const outside = yield* Namespace.scoped(`${prefix}-g`)
    ip(frontend, `link add ext-vlan type veth peer name ext netns ${path.basename(outside)}`)
    for (const [namespace, link, host] of [[frontend, "ext-vlan", "1"], [outside, "ext", "150"]] as const) {
      ip(namespace, `address add 169.254.100.${host}/24 dev ${link}`)
      ip(namespace, `address add 100:100::${host}/64 dev ${link} nodad`, `link set ${link} up`)
    }
    const gatewaySocket = path.join(files, "gw.ctl")
    yield* Bird.make({
      command: ["nsenter", `--net=${outside}`, "bird"],
      configFile: path.join(files, "gw.conf"),
      socket: gatewaySocket
    }).start(gatewayConfig(md5))

    const attractors = yield* SubscriptionRef.make<ReadonlyArray<Attractor>>([attractor])
    const forwarding = yield* SubscriptionRef.make(false)
    const registry: Array<string> = []
    const note = (word: string) => (target: { readonly ips: ReadonlyArray<string>; readonly type: number }) =>
      Effect.sync(() => {
        registry.push(`${word} ${target.ips.join()} ${target.type}`)
        return {}
      })
    const nsp = yield* Server.serve({
      address: `unix://${files}/nsp.sock`,
      services: [
        Server.service(ConfigurationManagerDefinition, {
          watchTrench: () => Stream.empty,
          watchConduit: () => Stream.empty,
          watchStream: () => Stream.empty,
          watchFlow: () => Stream.empty,
          watchVip: () => Stream.empty,
          watchGateway: () => Stream.empty,
          watchAttractor: () => Stream.map(SubscriptionRef.changes(attractors), (attractors) => ({ attractors }))
        }),
        Server.service(TargetRegistryDefinition, {
          register: note("register"),
          unregister: note("unregister"),
          watch: () => Stream.empty
        })
      ]
    })
    const balancer = yield* Server.serve({
      address: `unix://${files}/lb.sock`,
      services: [
        Server.service(StreamAvailabilityServiceDefinition, {
          watch: () =>
            Stream.map(SubscriptionRef.changes(forwarding), (yes) => ({
              targets: [{ context: yes ? { identifier: hostname } : {} }]
            }))
        })
      ]
    })
    const settings = Settings.decode(Config.settings, {
      NFE_TRENCH_NAME: "trench-a",
      NFE_ATTRACTOR_NAME: "attractor-a",
      NFE_BIRD_CONFIG_PATH: files,
      NFE_BIRD_COMMUNICATION_SOCK: path.join(files, "fe.ctl"),
      NFE_BIRD_LOG_FILE_SIZE: "0",
      NFE_DELAY_CONNECTIVITY: "200ms",
      NFE_DELAYNOCONNECTIVITY: "500ms",
      NFE_NSP_SERVICE: nsp.target,
      NFE_LB_SOCKET: balancer.target,
      NFE_SECRETS_PATH: path.join(files, "secrets")
    })
    assert.isTrue(settings._tag === "Success", JSON.stringify(settings))
    if (settings._tag === "Failure") return assert.fail("settings")
    return { frontend, gatewaySocket, folder: files, settings: settings.success, attractors, forwarding, registry }
  })

const startFrontend = ({ frontend, settings }: World) =>
  Effect.flatMap(Netlink.make(frontend), (netlink) =>
    Effect.provideService(
      Main.start(settings, { hostname, bird: ["nsenter", `--net=${frontend}`, "bird"] }),
      Netlink.Netlink,
      netlink
    ))

/** Runs the program as a process, as an image does; a signal or the end of the scope ends it. */
const startProcess = (lab: World, life: number) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const main = fileURLToPath(new URL("../cli/Main.ts", import.meta.url))
      // The host name of a process is its UTS namespace's.
      const command = [
        "--uts",
        "sh",
        "-c",
        `hostname ${hostname} && exec "$@"`,
        "sh",
        process.execPath,
        main,
        "frontend"
      ]
      const log = fs.openSync(path.join(lab.folder, `log-${life}`), "a")
      const child = spawn("nsenter", [`--net=${lab.frontend}`, "unshare", ...command], {
        env: {
          ...process.env,
          ...Settings.encode(Config.settings, lab.settings),
          SLUICE_HEALTH_SOCKET: path.join(lab.folder, `health-${life}.sock`)
        },
        stdio: ["ignore", log, log]
      })
      fs.closeSync(log)
      const exited = new Promise<string>((resolve) => {
        child.on("exit", (code, signal) => resolve(signal ?? `code ${code}`))
      })
      return { child, exited: Effect.promise(() => exited) }
    }),
    ({ child, exited }) =>
      Effect.andThen(
        Effect.sync(() => child.exitCode === null && child.signalCode === null && child.kill("SIGKILL")),
        exited
      )
  )

/** What the gateway learned. */
const learned = ({ gatewaySocket }: World): Effect.Effect<string> =>
  Effect.orElseSucceed(Control.askOk(gatewaySocket, "show route where source = RTS_BGP", 5000), () => "")

const announces = (world: World, ...vips: ReadonlyArray<string>) =>
  Effect.map(learned(world), (text) => vips.every((vip) => text.includes(vip)))

const announcesNothing = (world: World) => Effect.map(learned(world), (text) => !/20\.0\.0\.|2000::/.test(text))

const healthy = Effect.map(
  Effect.flatMap(Health.Health, ({ state }) => state),
  ({ serving }) => serving["Readiness"] === true
)

describe("The frontend with BIRD and a gateway", { timeout: 120_000 }, () => {
  it.live("announces while the load balancer forwards, guards egress, survives the death of BIRD, leaves nothing", () =>
    Effect.gen(function*() {
      const lab = yield* world()
      const running = yield* startFrontend(lab)

      yield* eventually("the sessions are up", () => running.current().connectivity.connected)
      yield* eventually(
        "registered twice",
        () => lab.registry.filter((line) => line.startsWith("register")).length >= 2
      )
      assert.deepStrictEqual(lab.registry.slice(0, 3), [
        "unregister fe-0 1",
        "register fe-0 1",
        "register fe-0 1"
      ])
      yield* eventually("ready", () => healthy)
      assert.isTrue(yield* announcesNothing(lab), "nothing is announced before the load balancer forwards")
      yield* eventually(
        "default routes are learned",
        () =>
          /default via 169.254.100.150 dev ext-vlan proto bird/.test(routes(lab.frontend, "-4", 4096)) &&
          /default via 100:100::150 dev ext-vlan proto bird/.test(routes(lab.frontend, "-6", 4096))
      )
      assert.match(routes(lab.frontend, "-4", 4097), /blackhole default .*metric 4294967295/)
      assert.match(routes(lab.frontend, "-6", 4097), /blackhole default .*metric 4294967295/)
      assert.deepStrictEqual(rules(lab.frontend, "-4"), [
        "100: from 20.0.0.1 lookup 4096",
        "101: from 20.0.0.1 lookup 4097"
      ])
      assert.deepStrictEqual(rules(lab.frontend, "-6"), [
        "100: from 2000::1 lookup 4096",
        "101: from 2000::1 lookup 4097"
      ])

      yield* SubscriptionRef.set(lab.forwarding, true)
      yield* eventually("the VIPs are announced", () => announces(lab, "20.0.0.1/32", "2000::1/128"))
      yield* SubscriptionRef.set(lab.forwarding, false)
      yield* eventually("the VIPs are withdrawn", () => announcesNothing(lab))
      assert.isTrue(running.current().connectivity.connected, "the sessions stay")
      yield* SubscriptionRef.set(lab.forwarding, true)
      yield* eventually("the VIPs are announced again", () => announces(lab, "20.0.0.1/32", "2000::1/128"))

      const pid = birdOf(lab.settings.birdSocket)
      process.kill(pid, "SIGKILL")
      yield* eventually("the loss is noticed", () => !running.current().connectivity.connected)
      assert.match(routes(lab.frontend, "-4", 4097), /blackhole default/)
      assert.strictEqual(rules(lab.frontend, "-4").length, 2)
      yield* eventually("another BIRD runs", () => {
        const other = birdOf(lab.settings.birdSocket)
        return other !== 0 && other !== pid
      })
      yield* eventually("the VIPs are back", () => announces(lab, "20.0.0.1/32", "2000::1/128"), 40_000)

      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, vips: attractor.vips.slice(0, 1) }])
      yield* eventually(
        "one VIP is gone",
        () => Effect.map(learned(lab), (text) => text.includes("20.0.0.1/32") && !text.includes("2000::1"))
      )
      yield* eventually("and its rules", () => rules(lab.frontend, "-6").length === 0)

      yield* Main.drain(running)
      assert.isTrue(yield* announcesNothing(lab))
      assert.strictEqual(lab.registry.at(-1), "unregister fe-0 1")
      assert.strictEqual(birdOf(lab.settings.birdSocket), 0, "BIRD is gone")
      for (const family of ["-4", "-6"] as const) {
        assert.deepStrictEqual(rules(lab.frontend, family), [])
        assert.strictEqual(routes(lab.frontend, family, 4096) + routes(lab.frontend, family, 4097), "")
      }
    }).pipe(Effect.provide(Health.layer)))

  it.live("as a process comes back over what a killed one left, and leaves nothing after a signal", () =>
    Effect.gen(function*() {
      const lab = yield* world()
      yield* SubscriptionRef.set(lab.forwarding, true)
      const first = yield* startProcess(lab, 1)
      yield* eventually("the VIPs are announced", () => announces(lab, "20.0.0.1/32", "2000::1/128"))
      first.child.kill("SIGKILL")
      assert.strictEqual(yield* first.exited, "SIGKILL")
      yield* eventually(
        "BIRD dies with it, and the VIPs are withdrawn",
        () => birdOf(lab.settings.birdSocket) === 0 ? announcesNothing(lab) : false
      )
      assert.match(routes(lab.frontend, "-4", 4097), /blackhole default/)

      // Meanwhile a VIP was removed, so that its rules must go.
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, vips: attractor.vips.slice(1) }])
      const second = yield* startProcess(lab, 2)
      yield* eventually(
        "the remaining VIP is announced, the other not",
        () => Effect.map(learned(lab), (text) => text.includes("2000::1/128") && !text.includes("20.0.0.1"))
      )
      yield* eventually("and its rules are gone", () => rules(lab.frontend, "-4").length === 0)

      second.child.kill("SIGTERM")
      assert.strictEqual(yield* second.exited, "code 0")
      assert.strictEqual(birdOf(lab.settings.birdSocket), 0)
      assert.strictEqual(lab.registry.at(-1), "unregister fe-0 1")
      for (const family of ["-4", "-6"] as const) {
        assert.deepStrictEqual(rules(lab.frontend, family), [])
        assert.strictEqual(routes(lab.frontend, family, 4096) + routes(lab.frontend, family, 4097), "")
      }
    }))

  it.live("authenticates with a secret that comes later, and hides it", () =>
    Effect.gen(function*() {
      const lab = yield* world(`password "${password}";`)
      const guarded = { ...gateway, bgpAuth: { keyName: "gw.key", keySource: "bgp-keys" } }
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, gateways: [guarded] }])
      const running = yield* startFrontend(lab)
      yield* eventually("the missing secret is known", () => running.current().complaints.length === 1)
      assert.include(running.current().complaints[0], "there is no key gw.key in the secret bgp-keys")

      const secret = path.join(lab.folder, "secrets", "bgp-keys")
      fs.mkdirSync(secret, { recursive: true })
      fs.writeFileSync(path.join(secret, "gw.key"), `${password}\n`)
      yield* eventually("the line break is refused", () =>
        running.current().complaints.some((complaint) => complaint.includes("holds a line break")))
      fs.writeFileSync(path.join(secret, "gw.key"), password)
      yield* eventually("the session is up", () =>
        running.current().connectivity.connected)

      const file = Config.birdConfigFile(lab.settings)
      assert.include(fs.readFileSync(file, "utf8"), `password "${password}";`)
      assert.strictEqual(fs.statSync(file).mode & 0o777, 0o600)
      assert.notInclude(JSON.stringify(running.current()), "s3cret")
    }).pipe(Effect.provide(Health.layer)))
})

/** The process that serves a control socket, or 0. */
const birdOf = (socket: string): number => {
  for (const pid of fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const words = fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
      if (words[0] === "bird" && words.includes(socket)) return Number(pid)
    } catch {
      // It has ended meanwhile.
    }
  }
  return 0
}
