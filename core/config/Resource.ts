/**
 * The Kubernetes objects that configure a trench, as their custom resource definitions describe them: kinds of
 * `meridio.nordix.org/v1` (and `v1alpha1`, whose fields are the same) and network attachments. Texts are decoded to
 * addresses, port ranges, byte matches and durations on the way, so that what is left is known to be well formed.
 *
 * Source: Meridio `api/v1/*_types.go`. Rules between fields and objects are in `Admission.ts`.
 */
import { Result, Schema, SchemaGetter } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as ByteMatches from "./ByteMatches.ts"
import * as GoSyntax from "./GoSyntax.ts"
import { ByteMatch, IpFamily, Name, PortRange, Protocol, Uint32 } from "./Model.ts"
import * as Ports from "./Ports.ts"

/** Decodes a text by a parser whose failure is a sentence for people. */
export const text = <T>(to: Schema.Codec<T>, parse: (text: string) => Result.Result<T, string>) =>
  Schema.String.check(Schema.makeFilter((text) => {
    const parsed = parse(text)
    return Result.isFailure(parsed) ? parsed.failure : undefined
  })).pipe(Schema.decodeTo(to, {
    decode: SchemaGetter.transform((text) => Result.getOrThrow(parse(text))),
    encode: SchemaGetter.forbidden(() => "manifests are only read")
  }))

const matching = (pattern: RegExp, expected: string) => Schema.String.check(Schema.isPattern(pattern, { expected }))

const between = (minimum: number, maximum: number) =>
  Schema.Int.check(
    Schema.isBetween({ minimum, maximum }, { expected: `an integer from ${minimum} to ${maximum}` })
  )

const network = (text: string): Result.Result<Cidr.Cidr, string> =>
  Result.flatMap(Cidr.parse(text), (cidr) =>
    Cidr.network(cidr) === cidr
      ? Result.succeed(cidr)
      : Result.fail(`"${text}" has host bits; write ${Cidr.network(cidr)}`))

const Network = text(Cidr.Cidr, network)
const Address = text(Ip.Ip, Ip.parse)
const Range = text(PortRange, Ports.parse)
const Bytes = text(ByteMatch, ByteMatches.parse)
const Port = between(1, 65_535)
const dnsSubdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const Subdomain = matching(dnsSubdomain, "lower-case letters, digits, - and . (a DNS subdomain)").check(
  Schema.isMaxLength(253, { expected: "at most 253 characters" })
)
const InterfaceName = matching(/^[^:/\s]{1,13}$/, "a name of 1 to 13 characters without :, / and blanks")

const unitNs = { ms: 1_000_000n, s: 1_000_000_000n }

/** A duration of at least `minimumMs`, rounded to whole units half up, as Meridio's operator does. */
const duration = (unit: "ms" | "s", minimumMs: number, maximum: number) =>
  text(Schema.Natural, (text) => {
    const expected = `expected a duration from ${minimumMs}ms to ${maximum}${unit}, such as 500ms, 90s or 1m30s`
    const ns = Result.getOrUndefined(GoSyntax.durationNs(text))
    const units = ns === undefined ? -1 : Number((ns + unitNs[unit] / 2n) / unitNs[unit])
    return ns !== undefined && ns / unitNs.ms >= BigInt(minimumMs) && ns >= 0n && units <= maximum
      ? Result.succeed(units)
      : Result.fail(expected)
  })

const names = Schema.Array(Name)
const optional = Schema.optionalKey

/** `spec` of a Trench. Default family: dualstack. */
export const TrenchSpec = Schema.Struct({ "ip-family": optional(IpFamily) })

/** `spec` of a Conduit. */
export const ConduitSpec = Schema.Struct({
  type: optional(Schema.Literal("stateless-lb")),
  "destination-port-nats": optional(Schema.Array(Schema.Struct({
    port: between(0, 65_535),
    "target-port": between(0, 65_535),
    vips: names,
    protocol: Protocol
  })))
})

/** `spec` of a Stream. A stream without a conduit is not used yet. Default of max-targets: 100. */
export const StreamSpec = Schema.Struct({
  conduit: optional(Schema.String),
  "max-targets": optional(between(1, 10_000))
})

/** `spec` of a Flow. A flow without a stream is not used yet. */
export const FlowSpec = Schema.Struct({
  stream: optional(Schema.String),
  vips: names,
  "source-subnets": optional(Schema.Array(Network)),
  "source-ports": optional(Schema.Array(Range)),
  "destination-ports": optional(Schema.Array(Range)),
  protocols: Schema.Array(Protocol),
  priority: between(0, 2_147_483_647),
  "byte-matches": optional(Schema.Array(Bytes))
})

/** `spec` of a Vip. */
export const VipSpec = Schema.Struct({ address: Network })

/** Settings of BFD. Times in milliseconds after decoding. Only the multiplier's upper bound is ours, for BIRD. */
export const BfdSpec = Schema.Struct({
  switch: optional(Schema.Boolean),
  "min-tx": optional(duration("ms", 0, 4_294_967_295)),
  "min-rx": optional(duration("ms", 0, 4_294_967_295)),
  multiplier: optional(between(1, 255))
})

/** `spec` of a Gateway. Defaults: protocol bgp, ports 179; hold-time in seconds after decoding. */
export const GatewaySpec = Schema.Struct({
  address: Address,
  protocol: optional(Schema.Literals(["bgp", "static"])),
  bgp: optional(Schema.Struct({
    "remote-asn": optional(Uint32),
    "local-asn": optional(Uint32),
    "remote-port": optional(Port),
    "local-port": optional(Port),
    "hold-time": optional(duration("s", 3_000, 65_535)),
    bfd: optional(BfdSpec),
    auth: optional(Schema.Struct({
      "key-name": matching(/^[-._a-zA-Z0-9]+$/, "letters, digits, -, . and _"),
      "key-source": Subdomain
    }))
  })),
  static: optional(Schema.Struct({ bfd: optional(BfdSpec) }))
})

/** `spec` of an Attractor. Defaults: replicas 1, interface type nsm-vlan. */
export const AttractorSpec = Schema.Struct({
  replicas: optional(between(0, 2_147_483_647)),
  composites: names,
  gateways: optional(names),
  vips: optional(names),
  interface: Schema.Struct({
    name: InterfaceName,
    "ipv4-prefix": optional(Network),
    "ipv6-prefix": optional(Network),
    type: optional(Schema.Literals(["nsm-vlan", "network-attachment"])),
    "nsm-vlan": optional(Schema.Struct({ "base-interface": optional(Name), "vlan-id": optional(between(0, 4_094)) })),
    "network-attachments": optional(Schema.Array(Schema.Struct({
      name: Subdomain,
      namespace: optional(matching(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "a DNS label")),
      interface: optional(InterfaceName)
    })))
  })
})

/** `spec` of a NetworkAttachmentDefinition: a CNI configuration as JSON text. */
export const NetworkAttachmentSpec = Schema.Struct({
  config: Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown))
})

/** Where an object lives, and the trench it belongs to by its label. */
export const Metadata = Schema.Struct({
  name: Subdomain,
  namespace: optional(Schema.NonEmptyString),
  labels: optional(Schema.Record(Schema.String, Schema.String))
})

const common = { namespace: Name, name: Name, trench: optional(Schema.String) }

/** An Attractor as its author writes it: with the interface of its pods. */
export const WholeAttractor = Schema.TaggedStruct("Attractor", { ...common, spec: AttractorSpec })

/** `spec` of an Attractor whose pods are somebody else's business, as for an NSP that reads its ConfigMap. */
const ServedAttractorSpec = Schema.Struct({
  ...AttractorSpec.fields,
  interface: optional(AttractorSpec.fields.interface)
})

/** One object; the tag is its kind. */
export const Resource = Schema.TaggedUnion({
  Trench: { ...common, spec: TrenchSpec },
  Conduit: { ...common, spec: ConduitSpec },
  Stream: { ...common, spec: StreamSpec },
  Flow: { ...common, spec: FlowSpec },
  Vip: { ...common, spec: VipSpec },
  Attractor: { ...common, spec: ServedAttractorSpec },
  Gateway: { ...common, spec: GatewaySpec },
  NetworkAttachmentDefinition: { ...common, spec: NetworkAttachmentSpec }
})
export type Resource = typeof Resource.Type

/** The object of one kind. */
export type Of<Kind extends Resource["_tag"]> = Extract<Resource, { readonly _tag: Kind }>
