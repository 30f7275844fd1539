/** A frontend's surroundings for tests: namespaces, a gateway with BIRD, an NSP and a load balancer, all real. */
import { assert } from "@effect/vitest"
import { Effect, type Scope, Stream, SubscriptionRef } from "effect"
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
import { gatewayConfig } from "./Outside.ts"

export const hostname = "fe-0"
const trench = { name: "trench-a" }
export const password = "s3cret $&\\'{}"

export const gateway: Gateway = {
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

export const attractor: Attractor = {
  name: "attractor-a",
  trench,
  vips: [
    { name: "vip4", address: "20.0.0.1/32", trench },
    { name: "vip6", address: "2000::1/128", trench }
  ],
  gateways: [gateway, { ...gateway, name: "gateway-v6", address: "100:100::150", ipFamily: "ipv6" }]
}

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sl-frontend-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true }))
)

let counter = 0

export const ip = (namespace: string, ...commands: ReadonlyArray<string>): void => {
  for (const command of commands) execFileSync("ip", ["-n", path.basename(namespace), ...command.split(" ")])
}

export const routes = (namespace: string, family: "-4" | "-6", table: number): string => {
  try {
    const words = ["-n", path.basename(namespace), family, "route", "show", "table", String(table)]
    return execFileSync("ip", words, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
  } catch {
    return ""
  }
}

export const rules = (namespace: string, family: "-4" | "-6"): ReadonlyArray<string> =>
  execFileSync("ip", ["-n", path.basename(namespace), family, "rule", "show"], { encoding: "utf8" }).split("\n")
    .filter((line) => /^10[01]:/.test(line)).map((line) => line.replaceAll(/\s+/g, " ").trim())

export interface World {
  readonly frontend: string
  readonly outside: string
  readonly gatewaySocket: string
  readonly folder: string
  readonly settings: Config.Settings
  readonly attractors: SubscriptionRef.SubscriptionRef<ReadonlyArray<Attractor>>
  readonly forwarding: SubscriptionRef.SubscriptionRef<boolean>
  readonly registry: ReadonlyArray<string>
}

export interface Options {
  /** Variables of the frontend, before those of the world. */
  readonly env?: { readonly [name: string]: string }
  /** The families of the network between frontend and gateway. Default: both. */
  readonly families?: ReadonlyArray<"v4" | "v6">
}

/** Two namespaces joined by a veth pair, a gateway with BIRD (unless its configuration is empty), an NSP, a balancer. */
export const world = (
  config = gatewayConfig(""),
  { env = {}, families = ["v4", "v6"] }: Options = {}
): Effect.Effect<World, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const files = yield* folder
    const prefix = `sl-fe-${process.pid}-${counter++}`
    const frontend = yield* Namespace.scoped(`${prefix}-f`)
    const outside = yield* Namespace.scoped(`${prefix}-g`)
    ip(frontend, `link add ext-vlan type veth peer name ext netns ${path.basename(outside)}`)
    for (const [namespace, link, host] of [[frontend, "ext-vlan", "1"], [outside, "ext", "150"]] as const) {
      if (families.includes("v4")) ip(namespace, `address add 169.254.100.${host}/24 dev ${link}`)
      if (families.includes("v6")) ip(namespace, `address add 100:100::${host}/64 dev ${link} nodad`)
      ip(namespace, `link set ${link} up`)
    }
    const gatewaySocket = path.join(files, "gw.ctl")
    if (config !== "") {
      yield* Bird.make({
        command: ["nsenter", `--net=${outside}`, "bird"],
        configFile: path.join(files, "gw.conf"),
        socket: gatewaySocket
      }).start(config)
    }

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
      NFE_SECRETS_PATH: path.join(files, "secrets"),
      ...env
    })
    assert.isTrue(settings._tag === "Success", JSON.stringify(settings))
    if (settings._tag === "Failure") return assert.fail("settings")
    return {
      frontend,
      outside,
      gatewaySocket,
      folder: files,
      settings: settings.success,
      attractors,
      forwarding,
      registry
    }
  })

export const startFrontend = ({ frontend, settings }: World) =>
  Effect.flatMap(Netlink.make(frontend), (netlink) =>
    Effect.provideService(
      Main.start(settings, { hostname, bird: ["nsenter", `--net=${frontend}`, "bird"] }),
      Netlink.Netlink,
      netlink
    ))

/** Runs the program as a process, as an image does; a signal or the end of the scope ends it. */
export const startProcess = (lab: World, life: number) =>
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
export const learned = ({ gatewaySocket }: World): Effect.Effect<string> =>
  Effect.orElseSucceed(Control.askOk(gatewaySocket, "show route where source = RTS_BGP", 5000), () => "")

export const announces = (world: World, ...vips: ReadonlyArray<string>) =>
  Effect.map(learned(world), (text) => vips.every((vip) => text.includes(vip)))

export const announcesNothing = (world: World) => Effect.map(learned(world), (text) => !/20\.0\.0\.|2000::/.test(text))

export const healthy = Effect.map(
  Effect.flatMap(Health.Health, ({ state }) => state),
  ({ serving }) => serving["Readiness"] === true
)

/** The process that serves a control socket, or 0. */
export const birdOf = (socket: string): number => {
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
