/**
 * What the lab builds for a trench, decided from its manifests before anything is started: pods, networks, addresses,
 * and the traffic that its flows let in. Pure.
 *
 *     client ─── gateway ═══ external network ═══ frontend + load balancer (one per replica)
 *                                                      │ NSM
 *                                                   proxies (one per node and conduit)
 *                                                      │ NSM
 *                                                   targets (round robin over the nodes)
 */
import { Array as Arr, Result, Schema } from "effect"
import type { AttractorPods, Deployment, ExternalInterface } from "../../core/config/Deployment.ts"
import type * as Model from "../../core/config/Model.ts"
import * as Cidr from "../../core/net/Cidr.ts"
import * as Ip from "../../core/net/Ip.ts"

/** How large the lab is. */
export interface Size {
  readonly targets: number
  readonly nodes: number
}

/** An external network: what an attractor's interface attaches to. */
export interface External {
  readonly bridge: string
  readonly prefixes: ReadonlyArray<Cidr.Cidr>
  /** The addresses of the gateways in it, with the length of the prefix. */
  readonly gatewayAddresses: ReadonlyArray<Cidr.Cidr>
}

/** One frontend with its load balancer. */
export interface FrontendPod {
  readonly name: string
  readonly attractor: Model.Attractor
  /** The conduits that the load balancers of this pod serve. */
  readonly conduits: ReadonlyArray<string>
  readonly link: string
  readonly external: External
  readonly addresses: ReadonlyArray<Cidr.Cidr>
}

/** Traffic that a flow lets in and that a lab target can answer. */
export interface Service {
  readonly conduit: string
  readonly stream: string
  readonly flow: string
  readonly vip: Model.Vip
  readonly protocol: "tcp" | "udp"
  readonly port: number
  /** Where the target listens: the other end of a port translation, else the same port. */
  readonly targetPort: number
  /** The address the client has to use, where the flow restricts sources. */
  readonly source?: Ip.Ip
}

/** The layout of one trench. */
export interface Layout {
  readonly trench: string
  readonly namespace: string
  readonly ipFamily: Model.IpFamily
  readonly families: ReadonlyArray<Ip.Family>
  readonly configuration: Model.Configuration
  readonly externals: ReadonlyArray<External>
  readonly frontends: ReadonlyArray<FrontendPod>
  readonly proxies: ReadonlyArray<{ readonly name: string; readonly node: string; readonly conduit: string }>
  readonly targets: ReadonlyArray<{ readonly name: string; readonly node: string }>
  readonly services: ReadonlyArray<Service>
  /** Addresses of the client besides its own: one in each subnet that a flow restricts its sources to. */
  readonly extraSources: ReadonlyArray<Cidr.Cidr>
}

/** The manifests ask for something that cannot be built on one machine. */
export class LayoutError extends Schema.TaggedError<LayoutError>()("LayoutError", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

/** The addresses between the client and the gateway: documentation prefixes (RFC 5737, RFC 3849). */
export const clientLink = {
  client: ["198.51.100.2/24", "2001:db8:c::2/64"],
  gateway: ["198.51.100.1/24", "2001:db8:c::1/64"]
} as const

/** The port that is opened where a flow takes any. */
const anyPort = 5000

/** Lays a trench out. */
export const layout = (deployment: Deployment, size: Size): Result.Result<Layout, LayoutError> => {
  const { attractors, configuration, ipFamily, namespace } = deployment
  const { trench } = configuration
  const families = Ip.families.filter((family) => ipFamily === "dualstack" || ipFamily === `ip${family}`)
  const nodes = Arr.makeBy(size.nodes, (index) => `node-${index + 1}`)
  const placed = placeFrontends(trench, configuration, attractors)
  if (Result.isFailure(placed)) return Result.fail(placed.failure)
  const services = configuration.flows.flatMap((flow) => flowServices(flow, configuration, families))
  return Result.succeed({
    trench,
    namespace,
    ipFamily,
    families,
    configuration,
    externals: placed.success.externals,
    frontends: placed.success.frontends,
    proxies: configuration.conduits.flatMap(({ conduit }) =>
      nodes.map((node) => ({ name: `${trench}-proxy-${conduit}-${node}`, node, conduit }))
    ),
    targets: Arr.makeBy(size.targets, (index) => ({
      name: `${trench}-target-${index + 1}`,
      node: nodes[index % nodes.length] ?? "node-1"
    })),
    services,
    extraSources: Arr.dedupe(services.flatMap(({ source }) => source === undefined ? [] : [Cidr.host(source)]))
  })
}

interface Placed {
  readonly externals: ReadonlyArray<External>
  readonly frontends: ReadonlyArray<FrontendPod>
}

const placeFrontends = (
  trench: string,
  configuration: Model.Configuration,
  pods: ReadonlyArray<AttractorPods>
): Result.Result<Placed, LayoutError> => {
  const networks = new Map<string, { prefixes: Array<Cidr.Cidr>; gateways: Set<Ip.Ip>; pods: Array<AttractorPods> }>()
  for (const attractor of pods) {
    const key = networkKey(attractor.interface)
    const prefixes = networkPrefixes(attractor.interface)
    if (prefixes.length === 0) {
      return Result.fail(
        new LayoutError({
          detail:
            `Attractor ${attractor.name}: its external network has no prefix; give spec.interface.ipv4-prefix or ` +
            "a NetworkAttachmentDefinition with an ipam range or subnet"
        })
      )
    }
    const network = networks.get(key) ?? { prefixes: [], gateways: new Set(), pods: [] }
    network.prefixes = Arr.dedupe([...network.prefixes, ...prefixes])
    network.pods.push(attractor)
    for (const { address } of attractorOf(configuration, attractor.name).gateways) network.gateways.add(address)
    networks.set(key, network)
  }

  const externals: Array<External> = []
  const frontends: Array<FrontendPod> = []
  for (const [index, network] of [...networks.values()].entries()) {
    const gatewayAddresses: Array<Cidr.Cidr> = []
    for (const address of network.gateways) {
      const prefix = network.prefixes.find((prefix) => Cidr.contains(prefix, Cidr.host(address)))
      if (prefix === undefined) {
        return Result.fail(
          new LayoutError({
            detail: `Gateway with address ${address}: it lies in none of the prefixes of the attractor's interface ` +
              `(${network.prefixes.join(", ")}); choose an address inside one of them`
          })
        )
      }
      gatewayAddresses.push(Cidr.make(address, Cidr.length(prefix)))
    }
    const external: External = { bridge: `ext${index}`, prefixes: network.prefixes, gatewayAddresses }
    externals.push(external)
    let number = 0
    for (const attractor of network.pods) {
      for (let replica = 0; replica < attractor.replicas; replica++) {
        number++
        frontends.push({
          name: `${trench}-${attractor.name}-${replica}`,
          attractor: attractorOf(configuration, attractor.name),
          conduits: attractor.conduits,
          link: attractor.interface.name,
          external,
          addresses: network.prefixes.map((prefix) => nthFree(prefix, number, network.gateways))
        })
      }
    }
  }
  return Result.succeed({ externals, frontends })
}

const attractorOf = (configuration: Model.Configuration, name: string): Model.Attractor =>
  configuration.attractors.find((attractor) => attractor.name === name) ?? { name, vips: [], gateways: [] }

const networkKey = (external: ExternalInterface): string =>
  external._tag === "NsmVlan"
    ? `vlan ${external.baseInterface} ${external.vlanId}`
    : `attachment ${external.attachment.namespace}/${external.attachment.name}`

const networkPrefixes = (external: ExternalInterface): ReadonlyArray<Cidr.Cidr> =>
  external._tag === "NsmVlan"
    ? [Cidr.network(external.ipv4Prefix), Cidr.network(external.ipv6Prefix)]
    : Arr.dedupe(cidrsIn(external.config?.["ipam"]).map(Cidr.network))

// host-local, whereabouts and static IPAM name their prefixes differently (range, subnet, address), at any depth.
const cidrsIn = (value: unknown): ReadonlyArray<Cidr.Cidr> => {
  if (Array.isArray(value)) return value.flatMap(cidrsIn)
  if (typeof value !== "object" || value === null) return []
  return Object.entries(value).flatMap(([key, inner]) => {
    if (typeof inner !== "string") return cidrsIn(inner)
    const parsed = Cidr.parse(inner)
    return ["range", "subnet", "address"].includes(key) && Result.isSuccess(parsed) ? [parsed.success] : []
  })
}

/** The n-th host address of a prefix (from 1) that no gateway has. */
const nthFree = (prefix: Cidr.Cidr, n: number, taken: ReadonlySet<Ip.Ip>): Cidr.Cidr => {
  const base = Ip.toBigInt(Cidr.ip(prefix))
  let left = n
  for (let offset = 1n;; offset++) {
    const candidate = Ip.fromBigInt(Cidr.family(prefix), base + offset)
    if (!taken.has(candidate) && --left === 0) return Cidr.make(candidate, Cidr.length(prefix))
  }
}

const flowServices = (
  flow: Model.Flow,
  configuration: Model.Configuration,
  families: ReadonlyArray<Ip.Family>
): ReadonlyArray<Service> => {
  const nats = configuration.conduits.find(({ conduit }) => conduit === flow.stream.conduit)?.portNats ?? []
  const port = openPort(flow.destinationPorts)
  return flow.vips.filter(({ address }) => families.includes(Cidr.family(address))).flatMap((vip) =>
    flow.protocols.flatMap((protocol) => {
      if (protocol === "sctp") return []
      const nat = nats.find((nat) =>
        nat.port === port && nat.protocol === protocol && nat.vips.some(({ name }) => name === vip.name)
      )
      return [{
        conduit: flow.stream.conduit,
        stream: flow.stream.stream,
        flow: flow.name,
        vip,
        protocol,
        port,
        targetPort: nat?.targetPort ?? port,
        ...sourceFor(flow.sourceSubnets, Cidr.family(vip.address))
      }]
    })
  )
}

const openPort = (ranges: ReadonlyArray<Model.PortRange>): number => {
  const [first] = ranges
  if (first === undefined || (first.from <= anyPort && anyPort <= first.to)) return anyPort
  return Math.max(1, first.from)
}

const sourceFor = (subnets: ReadonlyArray<Cidr.Cidr>, family: Ip.Family): { readonly source?: Ip.Ip } => {
  const own = Cidr.unsafe(clientLink.client[family === "v4" ? 0 : 1])
  const ofFamily = subnets.filter((subnet) => Cidr.family(subnet) === family)
  const [first] = ofFamily
  if (first === undefined || ofFamily.some((subnet) => Cidr.contains(subnet, Cidr.host(Cidr.ip(own))))) return {}
  const inside = Ip.toBigInt(Cidr.ip(first)) + (Cidr.length(first) === Ip.bits(family) ? 0n : 10n)
  return { source: Ip.fromBigInt(family, inside) }
}
