/** The objects of a user's manifests as the beginning of simulated worlds: one for each conduit of each trench. */
import type * as Deployment from "../../core/config/Deployment.ts"
import type * as Model from "../../core/config/Model.ts"
import * as Problem from "../../core/config/Problem.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import type { Manifests as Simulated, Profiles } from "../../property-tests/simulation/index.ts"
import type * as Manifests from "../lab/Manifests.ts"

/** A world that is to be simulated. */
export interface World {
  /** `trench-a/conduit-a`. */
  readonly name: string
  readonly given: Simulated.Given
  /** What the objects say of the size: frontends, gateways, streams. */
  readonly size: Pick<Profiles.Profile["size"], "frontends" | "gateways" | "streams" | "maxTargets">
}

export interface Objects {
  readonly worlds: ReadonlyArray<World>
  /** What the manifests have and the worlds do not, each in a sentence. */
  readonly leftOut: ReadonlyArray<string>
}

/** Makes worlds of manifests that were read and judged as the lab does it. */
export const of = ({ dangling, deployments, ignored }: Manifests.Manifests): Objects => {
  const parts = deployments.map(worldsOf)
  return {
    worlds: parts.flatMap(({ worlds }) => worlds),
    leftOut: [
      ...parts.flatMap(({ leftOut }) => leftOut),
      ...ignored.map((object) => `${object} is no object of a trench`),
      ...dangling.map(Problem.format)
    ]
  }
}

const worldsOf = (deployment: Deployment.Deployment): Objects => {
  const { attractors: pods, configuration, ipFamily, namespace } = deployment
  const { attractors, conduits, trench } = configuration
  const families = Ip.families.filter((family) => ipFamily === "dualstack" || ipFamily === `ip${family}`)
  const leftOut: Array<string> = []
  const leave = (sentence: string): void => void leftOut.push(`trench ${trench}: ${sentence}`)
  if (conduits.length > 1) leave(`its ${conduits.length} conduits are simulated each in a world of its own`)
  const worlds = conduits.flatMap(({ conduit, ...rest }): ReadonlyArray<World> => {
    const [pod, ...others] = pods.filter((one) => one.conduits.includes(conduit))
    const attractor = attractors.find(({ name }) => name === pod?.name)
    const streams = configuration.streams.filter((stream) => stream.conduit === conduit)
    if (pod === undefined || attractor === undefined) {
      leave(`conduit ${conduit} is not simulated: no attractor has it among its composites`)
      return []
    }
    if (streams.length === 0 || pod.replicas === 0) {
      leave(`conduit ${conduit} is not simulated: it has no ${streams.length === 0 ? "stream" : "frontend"}`)
      return []
    }
    for (const { name } of others) leave(`attractor ${name}: conduit ${conduit} is simulated with ${pod.name} alone`)
    const { gateways } = attractor
    const count = (family: Ip.Family): number =>
      gateways.filter(({ _tag, address }) => _tag === "Bgp" && Ip.family(address) === family).length
    return [{
      name: `${trench}/${conduit}`,
      given: {
        namespace,
        families,
        external: prefixesOf(pod, gateways),
        configuration: {
          ...configuration,
          conduits: [{ conduit, ...rest }],
          streams,
          flows: configuration.flows.filter(({ stream }) => stream.conduit === conduit),
          attractors: [attractor],
          gateways
        }
      },
      size: {
        frontends: pod.replicas,
        gateways: Math.max(count("v4"), count("v6")),
        streams: streams.length,
        maxTargets: Math.max(...streams.map(({ maxTargets }) => maxTargets))
      }
    }]
  })
  for (const sentence of unmodelled(deployment)) leave(sentence)
  return { worlds, leftOut }
}

/** The prefixes of the interface; of a network attachment, which does not tell them, some around the gateways. */
const prefixesOf = (
  { interface: own }: Deployment.AttractorPods,
  gateways: ReadonlyArray<Model.Gateway>
): ReadonlyArray<Cidr.Cidr> =>
  own._tag === "NsmVlan"
    ? [own.ipv4Prefix, own.ipv6Prefix]
    : [
      ...new Set(
        gateways.map(({ address }) => Cidr.network(Cidr.make(address, Ip.family(address) === "v4" ? 24 : 64)))
      )
    ]

/** What is in the configuration and makes no difference in a simulated world. */
const unmodelled = ({ attractors, configuration }: Deployment.Deployment): ReadonlyArray<string> => {
  const { flows, gateways } = configuration
  const restricted = flows.filter((flow) => !takesAnyone(flow))
  const bytes = flows.filter(({ byteMatches }) => byteMatches.length > 0)
  const sctp = flows.filter(({ protocols }) => protocols.length === 1 && protocols[0] === "sctp")
  return [
    ...attractors.length === 0
      ? []
      : [`the external network of ${named(attractors)} is a link that works, without VLANs`],
    ...gateways.length === 0
      ? []
      : [
        `of ${
          named(gateways)
        } only addresses, kind and BFD at all are simulated, no AS numbers, ports, times or passwords`
      ],
    ...bytes.length === 0 ? [] : [`the byte matches of ${named(bytes)} are taken for fulfilled`],
    ...sctp.length === 0 ? [] : [`no packet of SCTP is followed: ${named(sctp)}`],
    ...restricted.length === 0
      ? []
      : [`packets to ${named(restricted)} are not followed: no simulated client may send them`]
  ]
}

/** The client of the simulation. */
const clients = ["198.18.0.9/32", "2001:db8::9/128"].map((text) => Cidr.unsafe(text))

const takesAnyone = ({ sourceSubnets }: Model.Flow): boolean =>
  sourceSubnets.length === 0 || sourceSubnets.some((subnet) => clients.some((client) => Cidr.contains(subnet, client)))

const named = (what: ReadonlyArray<{ readonly name: string }>): string => what.map(({ name }) => name).join(", ")
