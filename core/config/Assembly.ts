/**
 * From valid objects to deployments: defaults filled in, references resolved, lists ordered by name. What refers to an
 * object that does not exist is left out, or served without it, as the original's configuration reader does.
 *
 * Source: Meridio `pkg/controllers/trench/configmap.go`, `pkg/configuration/reader/converter.go`.
 */
import { Record } from "effect"
import type { AttractorPods, Deployment, ExternalInterface } from "./Deployment.ts"
import * as Model from "./Model.ts"
import type * as Resource from "./Resource.ts"

/** One deployment per trench, ordered by namespace and name. */
export const assemble = (resources: ReadonlyArray<Resource.Resource>): ReadonlyArray<Deployment> => {
  const sorted = resources.toSorted((a, b) => compare(a.namespace, b.namespace) || compare(a.name, b.name))
  const attachments = ofKind(sorted, "NetworkAttachmentDefinition")
  return ofKind(sorted, "Trench").map((trench) =>
    deployment(
      trench,
      sorted.filter((one) => one.namespace === trench.namespace && one.trench === trench.name),
      attachments
    )
  )
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

const ofKind = <Kind extends Resource.Resource["_tag"]>(
  resources: ReadonlyArray<Resource.Resource>,
  kind: Kind
): ReadonlyArray<Resource.Of<Kind>> =>
  resources.filter((resource): resource is Resource.Of<Kind> => resource._tag === kind)

const deployment = (
  trench: Resource.Of<"Trench">,
  members: ReadonlyArray<Resource.Resource>,
  attachments: ReadonlyArray<Resource.Of<"NetworkAttachmentDefinition">>
): Deployment => {
  const vips = ofKind(members, "Vip").map(({ name, spec }): Model.Vip => ({ name, address: spec.address }))
  const gateways = ofKind(members, "Gateway").map(gateway)
  const conduits = ofKind(members, "Conduit").map((one) => conduit(trench.name, one, vips))
  const streams = ofKind(members, "Stream").flatMap((one) => stream(one, conduits))
  const attractors = ofKind(members, "Attractor")
  return {
    namespace: trench.namespace,
    ipFamily: trench.spec["ip-family"] ?? "dualstack",
    configuration: {
      trench: trench.name,
      conduits,
      streams,
      flows: ofKind(members, "Flow").flatMap((one) => flow(one, streams, vips)),
      vips,
      attractors: attractors.map(({ name, spec }) => ({
        name,
        vips: resolve(spec.vips, vips),
        gateways: resolve(spec.gateways, gateways)
      })),
      gateways
    },
    attractors: attractors.flatMap((one) => pods(one, attachments))
  }
}

/** The named objects in the order of the names; unknown names are dropped. */
const resolve = <A extends { readonly name: string }>(
  names: ReadonlyArray<string> = [],
  known: ReadonlyArray<A>
): ReadonlyArray<A> => names.flatMap((name) => known.find((one) => one.name === name) ?? [])

const conduit = (
  trench: string,
  { name, spec }: Resource.Of<"Conduit">,
  vips: ReadonlyArray<Model.Vip>
): Model.Conduit => ({
  trench,
  conduit: name,
  portNats: (spec["destination-port-nats"] ?? []).map((nat) => ({
    port: nat.port,
    targetPort: nat["target-port"],
    protocol: nat.protocol,
    vips: resolve(nat.vips, vips)
  }))
})

const stream = (
  { name, spec }: Resource.Of<"Stream">,
  conduits: ReadonlyArray<Model.Conduit>
): ReadonlyArray<Model.Stream> => {
  const parent = conduits.find(({ conduit }) => conduit === spec.conduit)
  if (parent === undefined) return []
  const { conduit, trench } = parent
  return [{ trench, conduit, stream: name, maxTargets: spec["max-targets"] ?? Model.defaultMaxTargets }]
}

const flow = (
  { name, spec }: Resource.Of<"Flow">,
  streams: ReadonlyArray<Model.Stream>,
  vips: ReadonlyArray<Model.Vip>
): ReadonlyArray<Model.Flow> => {
  const parent = streams.find(({ stream }) => stream === spec.stream)
  if (parent === undefined) return []
  const { conduit, stream, trench } = parent
  return [{
    name,
    stream: { trench, conduit, stream },
    vips: resolve(spec.vips, vips),
    sourceSubnets: spec["source-subnets"] ?? [],
    sourcePorts: spec["source-ports"] ?? [],
    destinationPorts: spec["destination-ports"] ?? [],
    protocols: spec.protocols,
    byteMatches: spec["byte-matches"] ?? [],
    priority: spec.priority
  }]
}

const defaultBgpPort = 179

const gateway = ({ name, spec: { address, bgp, protocol, static: fixed } }: Resource.Of<"Gateway">): Model.Gateway => {
  if (protocol === "static") return { _tag: "Static", name, address, ...bfd(fixed?.bfd) }
  const auth = bgp?.auth
  return {
    _tag: "Bgp",
    name,
    address,
    ...bfd(bgp?.bfd),
    ...defined("remoteAsn", bgp?.["remote-asn"]),
    ...defined("localAsn", bgp?.["local-asn"]),
    remotePort: bgp?.["remote-port"] ?? defaultBgpPort,
    localPort: bgp?.["local-port"] ?? defaultBgpPort,
    ...defined("holdTimeS", bgp?.["hold-time"]),
    ...(auth === undefined ? {} : { auth: { keyName: auth["key-name"], keySource: auth["key-source"] } })
  }
}

type BfdSpec = NonNullable<NonNullable<Resource.Of<"Gateway">["spec"]["static"]>["bfd"]>

const bfd = (spec: BfdSpec | undefined): { readonly bfd?: Model.Bfd } =>
  spec?.switch !== true ? {} : {
    bfd: {
      ...defined("minTxMs", spec["min-tx"]),
      ...defined("minRxMs", spec["min-rx"]),
      ...defined("multiplier", spec.multiplier)
    }
  }

/** An optional field: absent when there is no value. */
const defined = <Key extends string, A>(
  key: Key,
  value: A | undefined
): Partial<Record.ReadonlyRecord<Key, A>> => value === undefined ? {} : Record.singleton(key, value)

const pods = (
  { name, spec }: Resource.Of<"Attractor">,
  attachments: ReadonlyArray<Resource.Of<"NetworkAttachmentDefinition">>
): ReadonlyArray<AttractorPods> =>
  (spec.interface === undefined ? [] : external(spec.interface, attachments)).map((one) => ({
    name,
    replicas: spec.replicas ?? 1,
    conduits: spec.composites,
    interface: one
  }))

/** The interface; none if it is incomplete, which admission has refused. */
const external = (
  spec: NonNullable<Resource.Of<"Attractor">["spec"]["interface"]>,
  attachments: ReadonlyArray<Resource.Of<"NetworkAttachmentDefinition">>
): ReadonlyArray<ExternalInterface> => {
  if (spec.type === "network-attachment") {
    return (spec["network-attachments"] ?? []).map(({ interface: requested, name, namespace = "default" }) => {
      const definition = attachments.find((one) => one.name === name && one.namespace === namespace)
      return {
        _tag: "NetworkAttachment",
        name: spec.name,
        attachment: { namespace, name, ...defined("interface", requested) },
        ...defined("config", definition?.spec.config)
      }
    })
  }
  const { "ipv4-prefix": ipv4Prefix, "ipv6-prefix": ipv6Prefix, "nsm-vlan": vlan } = spec
  const { "base-interface": baseInterface, "vlan-id": vlanId } = vlan ?? {}
  return ipv4Prefix === undefined || ipv6Prefix === undefined || baseInterface === undefined || vlanId === undefined
    ? []
    : [{ _tag: "NsmVlan", name: spec.name, ipv4Prefix, ipv6Prefix, baseInterface, vlanId }]
}
