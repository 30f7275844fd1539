/**
 * The objects a user configures (trench, conduit, stream, flow, vip, attractor, gateway) as every component sees them:
 * references resolved, addresses canonical, durations in units of their wire fields.
 *
 * Two sources make these values, and both refuse what does not fit: manifests (`Manifest.ts`) and the messages of
 * `nsp.v1` (`shells/nsp/Wire.ts`). Source of the vocabulary: Meridio `api/v1` and `nsp.v1`.
 */
import { Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"

/** The name of a configured object. Unique among the objects of its kind in one trench. */
export const Name = Schema.NonEmptyString
export type Name = typeof Name.Type

const bounded = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

/** A transport port. 0 only appears as an end of a range. */
export const Port = bounded(0, 65_535)
export type Port = typeof Port.Type

/** An unsigned 32-bit number, such as an AS number. */
export const Uint32 = bounded(0, 4_294_967_295)

/** Transport protocols that flows and port translations know. */
export const Protocol = Schema.Literals(["tcp", "udp", "sctp"])
export type Protocol = typeof Protocol.Type

export const protocols: ReadonlyArray<Protocol> = ["tcp", "udp", "sctp"]

/** The address families of a trench. */
export const IpFamily = Schema.Literals(["dualstack", "ipv4", "ipv6"])
export type IpFamily = typeof IpFamily.Type

/** Identifies a conduit everywhere. A structured key, because a joined `conduit.trench` is ambiguous with dots. */
export const ConduitKey = Schema.Struct({ trench: Name, conduit: Name })
export type ConduitKey = typeof ConduitKey.Type

/** Identifies a stream everywhere. */
export const StreamKey = Schema.Struct({ trench: Name, conduit: Name, stream: Name })
export type StreamKey = typeof StreamKey.Type

/** Whether two keys name the same stream. */
export const sameStream = (a: StreamKey, b: StreamKey): boolean =>
  a.stream === b.stream && a.conduit === b.conduit && a.trench === b.trench

/** Whether two keys name the same conduit; a stream key names its conduit too. */
export const sameConduit = (a: ConduitKey, b: ConduitKey): boolean => a.conduit === b.conduit && a.trench === b.trench

/** An address range that attracts traffic. The host bits are zero; nearly always /32 or /128. */
export const Vip = Schema.Struct({ name: Name, address: Cidr.Cidr })
export type Vip = typeof Vip.Type

/** An inclusive range of ports, `from` ≤ `to`. `any` is 0 to 65535. */
export const PortRange = Schema.Struct({ from: Port, to: Port })
export type PortRange = typeof PortRange.Type

/** The range of all ports. */
export const anyPort: PortRange = { from: 0, to: 65_535 }

/** Rewrites a destination port of the VIPs to the port the targets listen on (and back in replies). */
export const PortNat = Schema.Struct({
  port: Port,
  targetPort: Port,
  protocol: Protocol,
  vips: Schema.Array(Vip)
})
export type PortNat = typeof PortNat.Type

/** A network service of the trench: load balancers on one side, targets on the other. */
export const Conduit = Schema.Struct({
  ...ConduitKey.fields,
  portNats: Schema.Array(PortNat)
})
export type Conduit = typeof Conduit.Type

/** A set of targets between which traffic is spread. `maxTargets` is also the number of identifiers, 1 to it. */
export const Stream = Schema.Struct({
  ...StreamKey.fields,
  maxTargets: bounded(1, 4_294_967_295)
})
export type Stream = typeof Stream.Type

/** What a stream supports when its configuration does not say. */
export const defaultMaxTargets = 100

/** Compares bytes of the transport header: `(bytes at offset & mask) = value`. Numbers are unsigned, network order. */
export const ByteMatch = Schema.Struct({
  protocol: Protocol,
  /** From the first byte of the transport header. */
  offset: bounded(0, 65_535),
  length: Schema.Literals([1, 2, 4]),
  /** All bits when absent. */
  mask: Schema.optionalKey(Uint32),
  value: Uint32
})
export type ByteMatch = typeof ByteMatch.Type

/** Which packets belong to a stream. Lists are or-ed inside and and-ed together; an empty list does not restrict. */
export const Flow = Schema.Struct({
  name: Name,
  /** The stream that takes the packets. */
  stream: StreamKey,
  /** Destination addresses. Empty means that no packet matches, never that all do. */
  vips: Schema.Array(Vip),
  sourceSubnets: Schema.Array(Cidr.Cidr),
  sourcePorts: Schema.Array(PortRange),
  destinationPorts: Schema.Array(PortRange),
  protocols: Schema.Array(Protocol),
  /** All of them have to hold for packets of their protocol. */
  byteMatches: Schema.Array(ByteMatch),
  /** The highest matching flow wins. */
  priority: Schema.Int
})
export type Flow = typeof Flow.Type

/** Bidirectional forwarding detection; absent values mean the router daemon's defaults. */
export const Bfd = Schema.Struct({
  minTxMs: Schema.optionalKey(Uint32),
  minRxMs: Schema.optionalKey(Uint32),
  multiplier: Schema.optionalKey(Uint32)
})
export type Bfd = typeof Bfd.Type

/** Where the password of a BGP session (RFC 2385) is found: a key in the data of a Kubernetes Secret. */
export const BgpAuth = Schema.Struct({ keyName: Name, keySource: Name })
export type BgpAuth = typeof BgpAuth.Type

/** A router outside the cluster; `bfd` is absent when it is not used. */
export const Gateway = Schema.TaggedUnion({
  Bgp: {
    name: Name,
    address: Ip.Ip,
    bfd: Schema.optionalKey(Bfd),
    /** Absent numbers mean the frontend's own settings. */
    remoteAsn: Schema.optionalKey(Uint32),
    localAsn: Schema.optionalKey(Uint32),
    remotePort: Schema.optionalKey(Port),
    localPort: Schema.optionalKey(Port),
    holdTimeS: Schema.optionalKey(Uint32),
    auth: Schema.optionalKey(BgpAuth)
  },
  Static: {
    name: Name,
    address: Ip.Ip,
    bfd: Schema.optionalKey(Bfd)
  }
})
export type Gateway = typeof Gateway.Type

/** A set of frontends: the VIPs they announce and the gateways they announce them to. */
export const Attractor = Schema.Struct({
  name: Name,
  vips: Schema.Array(Vip),
  gateways: Schema.Array(Gateway)
})
export type Attractor = typeof Attractor.Type

/** Everything the NSP of one trench serves. Lists are ordered by name; references are resolved. */
export const Configuration = Schema.Struct({
  trench: Name,
  conduits: Schema.Array(Conduit),
  streams: Schema.Array(Stream),
  flows: Schema.Array(Flow),
  vips: Schema.Array(Vip),
  attractors: Schema.Array(Attractor),
  gateways: Schema.Array(Gateway)
})
export type Configuration = typeof Configuration.Type

/** The configuration of a trench in which nothing is configured yet. */
export const emptyConfiguration = (trench: Name): Configuration => ({
  trench,
  conduits: [],
  streams: [],
  flows: [],
  vips: [],
  attractors: [],
  gateways: []
})
