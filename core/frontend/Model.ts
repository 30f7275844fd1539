/**
 * What a frontend knows: the attractor it serves (VIPs and gateways, checked), the secrets of its gateways (never their
 * bytes), and its settings.
 */
import { Schema } from "effect"
import { Cidr, Ip } from "../net/index.ts"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

/** An autonomous system number; 0 is reserved (RFC 7607) and BIRD refuses it. */
export const Asn = between(1, 4_294_967_295)
export const Port = between(1, 65_535)
/** The BGP hold time. Unit: seconds; 0 switches it off (RFC 4271). */
export const HoldTimeS = Schema.Union([Schema.Literal(0), between(3, 65_535)])
/** Names that BIRD takes as one quoted symbol, without the prefix `NBR-` (64 characters in all). */
export const GatewayName = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_.:-]{1,60}$/))
/** The name of the external interface, in the characters that BIRD takes as the scope of a next hop. */
export const InterfaceName = Schema.String.check(Schema.isPattern(/^[A-Za-z_][A-Za-z0-9_.-]{0,14}$/))

/** Where the key of a TCP-MD5 session is kept: a Secret and a key in its data. */
export const SecretRef = Schema.Struct({
  source: Schema.String.check(Schema.isPattern(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/)),
  key: Schema.String.check(Schema.isPattern(/^[-._a-zA-Z0-9]{1,253}$/))
})
export type SecretRef = typeof SecretRef.Type

/** The parameters of a BFD session; what is absent is BIRD's default (100 ms, 10 ms, 5). */
export const Bfd = Schema.Struct({
  minTxMs: Schema.optionalKey(between(1, 4_294_967)),
  minRxMs: Schema.optionalKey(between(1, 4_294_967)),
  multiplier: Schema.optionalKey(between(1, 255))
})
export type Bfd = typeof Bfd.Type

/** A router outside of the cluster that BIRD can be configured for; what is absent comes from the settings. */
export const Gateway = Schema.Struct({
  name: GatewayName,
  address: Ip.Ip,
  routing: Schema.TaggedUnion({
    Bgp: {
      remoteAs: Schema.optionalKey(Asn),
      localAs: Schema.optionalKey(Asn),
      remotePort: Schema.optionalKey(Port),
      localPort: Schema.optionalKey(Port),
      holdTimeS: Schema.optionalKey(HoldTimeS),
      password: Schema.optionalKey(SecretRef)
    },
    Static: {}
  }),
  bfd: Schema.optionalKey(Bfd)
})
export type Gateway = typeof Gateway.Type

/** Something of the attractor that cannot be served, and why. */
export const Rejection = Schema.Struct({ item: Schema.String, reason: Schema.String })
export type Rejection = typeof Rejection.Type

/** The attractor as it can be served: VIPs and gateways sorted and unique. */
export const Attractor = Schema.Struct({
  vips: Schema.Array(Cidr.Cidr),
  gateways: Schema.Array(Gateway),
  rejected: Schema.Array(Rejection)
})
export type Attractor = typeof Attractor.Type

/** A gateway as the NSP offers it: plain values, 0 and "" for what is absent (nsp.v1.Gateway). */
export const OfferedGateway = Schema.Struct({
  name: Schema.String,
  address: Schema.String,
  protocol: Schema.String,
  remoteAs: Schema.Natural,
  localAs: Schema.Natural,
  remotePort: Schema.Natural,
  localPort: Schema.Natural,
  holdTimeS: Schema.Natural,
  bfd: Schema.Boolean,
  minTxMs: Schema.Natural,
  minRxMs: Schema.Natural,
  multiplier: Schema.Natural,
  keySource: Schema.String,
  keyName: Schema.String
})
export type OfferedGateway = typeof OfferedGateway.Type

/** An attractor as the NSP offers it; VIPs are CIDRs. */
export const OfferedAttractor = Schema.Struct({
  vips: Schema.Array(Schema.String),
  gateways: Schema.Array(OfferedGateway)
})
export type OfferedAttractor = typeof OfferedAttractor.Type

/** One key of a Secret: a number that changes with its bytes, and why it cannot be used, if it cannot. */
export const SecretKey = Schema.Struct({
  key: Schema.String,
  revision: Schema.Natural,
  problem: Schema.optionalKey(Schema.String)
})
export type SecretKey = typeof SecretKey.Type

/** A Secret that exists. */
export const Secret = Schema.Struct({ source: Schema.String, keys: Schema.Array(SecretKey) })
export type Secret = typeof Secret.Type

/** What a BIRD configuration depends on besides the attractor; fixed for the life of the process. */
export const BirdSettings = Schema.Struct({
  /** An IPv4 address, whatever it belongs to; 0.0.0.0 is none. */
  routerId: Ip.Ip.check(Schema.makeFilter((ip) => Ip.family(ip) === "v4" && ip !== "0.0.0.0")),
  externalInterface: InterfaceName,
  /** Next hops of VRRP mode: then nothing is imported from gateways. */
  vrrps: Schema.Array(Ip.Ip),
  localAs: Asn,
  remoteAs: Asn,
  localPort: Port,
  remotePort: Port,
  holdTimeS: HoldTimeS,
  /** How long BIRD waits after an error of a session; doubled up to the maximum. Ours: BIRD's own is 60 to 300 s. */
  errorWaitS: Schema.Struct({ minimum: between(1, 65_535), maximum: between(1, 65_535) }),
  /** Before the first and between further attempts to connect. Ours: BIRD's own are 5 s and 120 s. */
  connectDelayS: between(1, 65_535),
  connectRetryS: between(1, 65_535),
  /** Table N, into which BIRD exports what it learned; N+1 holds the blackhole. */
  table: between(1, 4_294_967_293),
  ecmp: Schema.Boolean,
  kernelScanS: between(1, 65_535),
  /** All log classes on standard error, not only problems. */
  logAll: Schema.Boolean,
  /** BIRD's own log, rotated at this size. Left out: none. */
  logFile: Schema.optionalKey(Schema.Struct({
    path: Schema.String.check(Schema.isPattern(/^\/[^"\n\r]*$/)),
    bytes: between(1, 2_147_483_647)
  }))
})
export type BirdSettings = typeof BirdSettings.Type

const Ms = Schema.Natural

/** The settings of a frontend. */
export const Settings = Schema.Struct({
  bird: BirdSettings,
  /** Whether VIP egress without a gateway is dropped instead of following the main table. False with VRRPs. */
  dropIfNoPeer: Schema.Boolean,
  /** Whether the two families are announced each by itself. Otherwise, as in Meridio, one that is down takes both. Ours. */
  perFamily: Schema.Boolean,
  /** Between two looks at the sessions. */
  delayConnectivityMs: Ms,
  /** Before the next look after connectivity was lost, so that it is not regained at once. */
  delayNoConnectivityMs: Ms,
  /** Failed looks in a row that change nothing. */
  maxSessionErrors: Schema.Natural,
  /** How long a lost stream to the load balancer counts as its last value. Ours. */
  lbGraceMs: Ms,
  /** Between two refreshes of the registration at the NSP. */
  nspEntryTimeoutMs: Ms,
  /** Before anything that failed is tried again. */
  retryMs: Ms,
  /** Before BIRD is started again: doubled up to the maximum, from the beginning after a stable run. Ours. */
  birdRestart: Schema.Struct({ minimumMs: Ms, maximumMs: Ms, stableMs: Ms }),
  /** Between two comparisons of the kernel's rules with the wanted ones. Ours. */
  rulesCheckMs: Ms,
  /** How long the egress of a removed VIP is dropped, while its targets may still be sending. Ours. */
  guardMs: Ms,
  /** How long the withdrawal and the farewell to the NSP may take. */
  stopMs: Ms
})
export type Settings = typeof Settings.Type

/** The settings that have a default, in the original or ours. */
export const defaults = {
  delayConnectivityMs: 1000,
  delayNoConnectivityMs: 3000,
  perFamily: false,
  maxSessionErrors: 5,
  lbGraceMs: 2000,
  nspEntryTimeoutMs: 30_000,
  retryMs: 1000,
  birdRestart: { minimumMs: 500, maximumMs: 30_000, stableMs: 30_000 },
  rulesCheckMs: 30_000,
  guardMs: 60_000,
  stopMs: 5000
} as const

/** The families among addresses or prefixes, IPv4 first. */
export const familiesOf = (texts: ReadonlyArray<string>): ReadonlyArray<Ip.Family> =>
  Ip.families.filter((family) => texts.some((text) => text.includes(":") === (family === "v6")))
