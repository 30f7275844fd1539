/**
 * One trench of the lab at work: its pods and programs, and what can be done to them. Every program is the real one,
 * told where its peers are by the environment that Meridio's operator would give it.
 */
import { Effect, type Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Host from "./Host.ts"
import type * as Identities from "./Identities.ts"
import * as Pods from "./Pods.ts"
import * as Program from "./Program.ts"
import type * as Router from "./Router.ts"
import * as Target from "./Target.ts"
import { clientLink, type FrontendPod, type Layout } from "./Topology.ts"
import * as Traffic from "./Traffic.ts"

export interface Trench {
  readonly layout: Layout
  readonly client: Pods.Pod
  readonly gateway: Pods.Pod
  readonly router: Router.Router
  readonly traffic: Traffic.Traffic
  readonly nsp: Program.Program
  readonly proxies: ReadonlyArray<Program.Program>
  readonly frontends: ReadonlyArray<Frontend>
  readonly targets: ReadonlyArray<Target.Target>
  readonly programs: ReadonlyArray<Program.Program>
}

export interface Frontend {
  readonly layout: FrontendPod
  readonly pod: Pods.Pod
  readonly frontend: Program.Program
  readonly loadBalancers: ReadonlyArray<Program.Program>
  /** The gateway's end of the link to the external network. */
  readonly port: string
}

/** What all trenches of a lab share. */
export interface Ground {
  readonly pods: Pods.Pods
  /** Sockets, databases, logs, recordings, manifests. */
  readonly folder: string
  /** Where pods get their identities; undefined for plain text. */
  readonly agents: Identities.Agents | undefined
  /** The folder of manifests that the NSPs watch. */
  readonly manifests: string
  readonly nsmSocket: string
  readonly startRouter: Router.Start
}

/** How soon dead things are noticed in the lab; production values are minutes. */
export const lifetimes = { targetS: 6, refreshS: 2, tokenS: 15 } as const

/** Builds a trench and starts everything in it; all of it ends with the scope. */
export const start = (ground: Ground, layout: Layout): Effect.Effect<Trench, Host.HostError, Scope.Scope> =>
  Effect.gen(function*() {
    const { pods } = ground
    const { namespace, trench } = layout
    const client = yield* pods.addOutside(`${trench}-client`)
    const gateway = yield* pods.addOutside(`${trench}-gateway`)
    const control = yield* pods.add(`${trench}-control`)
    yield* connectClient(client, gateway, layout)
    const segments = new Map<string, Pods.Segment>()
    for (const { bridge, gatewayAddresses } of layout.externals) {
      segments.set(bridge, yield* pods.addBridge(gateway, bridge, gatewayAddresses))
    }

    const names = [`nsp-service-${trench}`, `nsp-service-${trench}.${namespace}`, `ipam-service-${trench}`]
    const run = launcher(ground, [`${control.v4} ${names.join(" ")}`])

    const nsp = yield* run(control, "nsp", `${trench}-nsp`, {
      NSP_NAMESPACE: namespace,
      NSP_TRENCH: trench,
      NSP_CONFIG_PATH: ground.manifests,
      NSP_DATASOURCE: path.join(ground.folder, `${trench}-nsp.db`),
      NSP_ENTRY_TIMEOUT: `${lifetimes.targetS}s`
    })
    const ipam = yield* run(control, "ipam", `${trench}-ipam`, {
      IPAM_TRENCH_NAME: trench,
      IPAM_NAMESPACE: namespace,
      IPAM_NSP_SERVICE: `nsp-service-${trench}:7778`,
      IPAM_DATASOURCE: path.join(ground.folder, `${trench}-ipam.db`),
      IPAM_PREFIX_IPV4: "172.16.0.0/16",
      IPAM_IP_FAMILY: layout.ipFamily
    })

    const frontends: Array<Frontend> = []
    for (const [index, pod] of layout.frontends.entries()) {
      frontends.push(yield* startFrontend(ground, layout, pod, `x${index}`, segments, run))
    }

    const proxies: Array<Program.Program> = []
    for (const { conduit, name, node } of layout.proxies) {
      proxies.push(
        yield* run(yield* pods.add(name), "proxy", name, {
          NSM_NAME: name,
          NSM_SERVICE_NAME: `proxy.${conduit}.${trench}.${namespace}`,
          NSM_CONNECT_TO: `unix://${ground.nsmSocket}`,
          NSM_IPAM_SERVICE: `ipam-service-${trench}:7777`,
          NSM_HOST: `${trench}-${node}`,
          NSM_NETWORK_SERVICE_NAME: `${conduit}.${trench}.${namespace}`,
          NSM_NAMESPACE: namespace,
          NSM_TRENCH: trench,
          NSM_CONDUIT: conduit,
          NSM_NSP_SERVICE_NAME: "nsp-service",
          NSM_IP_FAMILY: layout.ipFamily,
          NSM_MAX_TOKEN_LIFETIME: `${lifetimes.tokenS}s`
        })
      )
    }

    const targets: Array<Target.Target> = []
    for (const { name, node } of layout.targets) {
      const pod = yield* pods.add(name)
      const socket = path.join(ground.folder, `${name}.sock`)
      const tapa = yield* run(pod, "tapa", name, {
        MERIDIO_NAME: name,
        MERIDIO_NODE: `${trench}-${node}`,
        MERIDIO_NAMESPACE: namespace,
        MERIDIO_SOCKET: socket,
        MERIDIO_NSM_SOCKET: `unix://${ground.nsmSocket}`,
        MERIDIO_NSP_SERVICE_NAME: "nsp-service",
        MERIDIO_NSP_SERVICE_PORT: "7778",
        MERIDIO_NSP_ENTRY_TIMEOUT: `${lifetimes.refreshS}s`,
        MERIDIO_MAX_TOKEN_LIFETIME: `${lifetimes.tokenS}s`
      })
      yield* Host.start({
        command: [
          process.execPath,
          Host.script("TargetApp"),
          name,
          ...new Set(layout.services.map(({ protocol, targetPort }) => `${protocol}:${targetPort}`))
        ],
        namespace: Pods.path(pod),
        logFile: path.join(ground.folder, "logs", `${name}-app.log`)
      })
      targets.push(yield* Target.make(name, pod, tapa, socket))
    }

    return {
      layout,
      client,
      gateway,
      router: yield* ground.startRouter(layout, gateway, path.join(ground.folder, `${trench}-gateway`)),
      traffic: yield* Traffic.start(client),
      nsp,
      proxies,
      frontends,
      targets,
      programs: [
        nsp,
        ipam,
        ...proxies,
        ...frontends.flatMap(({ frontend, loadBalancers }) => [frontend, ...loadBalancers]),
        ...targets.map(({ tapa }) => tapa)
      ]
    }
  })

const startFrontend = (
  ground: Ground,
  { ipFamily, namespace, trench }: Layout,
  layout: FrontendPod,
  port: string,
  segments: ReadonlyMap<string, Pods.Segment>,
  run: Run
): Effect.Effect<Frontend, Host.HostError, Scope.Scope> =>
  Effect.gen(function*() {
    const pod = yield* ground.pods.add(layout.name)
    const segment = segments.get(layout.external.bridge)
    if (segment !== undefined) yield* ground.pods.attach(pod, layout.link, layout.addresses, segment, port)
    const folder = path.join(ground.folder, layout.name)
    fs.mkdirSync(folder, { recursive: true })
    const socket = `unix://${path.join(folder, "lb.sock")}`
    const loadBalancers: Array<Program.Program> = []
    for (const conduit of layout.conduits) {
      loadBalancers.push(
        yield* run(pod, "stateless-lb", `${layout.name}-lb`, {
          NSM_NAME: layout.name,
          NSM_SERVICE_NAME: `${conduit}.${trench}.${namespace}`,
          NSM_CONNECT_TO: `unix://${ground.nsmSocket}`,
          NSM_NSP_SERVICE: `nsp-service-${trench}:7778`,
          NSM_CONDUIT_NAME: conduit,
          NSM_TRENCH_NAME: trench,
          NSM_NAMESPACE: namespace,
          NSM_SOCKET: socket,
          NSM_MAX_TOKEN_LIFETIME: `${lifetimes.tokenS}s`
        })
      )
    }
    const frontend = yield* run(pod, "frontend", `${layout.name}-frontend`, {
      NFE_EXTERNAL_INTERFACE: layout.link,
      NFE_BIRD_CONFIG_PATH: folder,
      NFE_BIRD_COMMUNICATION_SOCK: path.join(folder, "bird.ctl"),
      NFE_BIRD_LOG_FILE_SIZE: "0",
      NFE_LOG_BIRD: "true",
      NFE_ECMP: "true",
      NFE_NSP_SERVICE: `nsp-service-${trench}:7778`,
      NFE_NAMESPACE: namespace,
      NFE_TRENCH_NAME: trench,
      NFE_ATTRACTOR_NAME: layout.attractor.name,
      NFE_LB_SOCKET: socket,
      NFE_NSP_ENTRY_TIMEOUT: `${lifetimes.refreshS}s`,
      NFE_IP_FAMILY: ipFamily
    })
    return { layout, pod, frontend, loadBalancers, port }
  })

type Run = (
  pod: Pods.Pod,
  command: string,
  name: string,
  env: Readonly<Record<string, string>>
) => Effect.Effect<Program.Program, Host.HostError, Scope.Scope>

// The command that this process was started with: the sources or the bundle.
const [, sluice = "sluice"] = process.argv

/** Starts `sluice` programs in pods that know each other by name. */
export const launcher =
  (ground: Pick<Ground, "folder" | "agents">, hosts: ReadonlyArray<string>): Run => (pod, command, name, env) =>
    Effect.suspend(() => {
      const hostsFile = path.join(ground.folder, `${name}.hosts`)
      fs.writeFileSync(
        hostsFile,
        ["127.0.0.1 localhost", "::1 localhost", `${pod.v4} ${pod.name}`, ...hosts].join("\n") + "\n"
      )
      return Program.keep(name, {
        command: [process.execPath, sluice, command],
        namespace: Pods.path(pod),
        host: { name: pod.name, hosts: hostsFile },
        logFile: path.join(ground.folder, "logs", `${name}.log`),
        env: {
          SLUICE_HEALTH_SOCKET: `unix://${path.join(ground.folder, `${name}.health`)}`,
          NODE_COMPILE_CACHE: path.join(ground.folder, "compiled"),
          // What a killed program leaves in its temporary folder goes with the lab's.
          TMPDIR: ground.folder,
          ...(ground.agents === undefined
            ? {}
            : { SPIFFE_ENDPOINT_SOCKET: `unix://${ground.agents.socket(pod.name)}` }),
          SLUICE_RECORD: path.join(ground.folder, "recordings", name),
          ...env
        }
      })
    })

const connectClient = (client: Pods.Pod, gateway: Pods.Pod, layout: Layout): Effect.Effect<void, Host.HostError> =>
  Effect.gen(function*() {
    const sources = layout.extraSources
    yield* Host.ip([
      ["link", "add", "gw0", "type", "veth", "peer", "name", "client0", "netns", gateway.namespace],
      ["link", "set", "gw0", "up"],
      ...clientLink.client.map((address) => ["addr", "add", address, "dev", "gw0", ...nodad(address)]),
      ...sources.map((address) => ["addr", "add", address, "dev", "gw0", ...nodad(address)]),
      ["route", "replace", "default", "via", bare(clientLink.gateway[0])],
      ["route", "replace", "::/0", "via", bare(clientLink.gateway[1])]
    ], client.namespace)
    yield* Host.ip([
      ["link", "set", "client0", "up"],
      ...clientLink.gateway.map((address) => ["addr", "add", address, "dev", "client0", ...nodad(address)])
    ], gateway.namespace)
    yield* Host.ip(
      sources.map((
        address
      ) => ["route", "add", address, "via", bare(clientLink.client[address.includes(":") ? 1 : 0]), "dev", "client0"]),
      gateway.namespace
    )
  })

const nodad = (address: string): ReadonlyArray<string> => address.includes(":") ? ["nodad"] : []

const bare = (cidr: string): string => cidr.slice(0, cidr.indexOf("/"))
