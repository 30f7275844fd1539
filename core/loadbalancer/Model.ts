/** The words of the stateless load balancer. */
import { Schema } from "effect"
import { Flow, PortNat } from "../config/Model.ts"
import { Cidr } from "../net/Cidr.ts"
import { Ip } from "../net/Ip.ts"
import { LinkName } from "../net/Kernel.ts"

/** A stream and the targets that take its packets. */
export const Stream = Schema.Struct({
  name: Schema.String,
  /** The shape of the slot table, see `Maglev.Shape`. */
  maxTargets: Schema.Natural,
  slots: Schema.Natural,
  /** The mark of a target is `offset` plus its identifier. */
  offset: Schema.Natural,
  identifiers: Schema.Array(Schema.Natural)
})
export type Stream = typeof Stream.Type

/** How packets that come from outside reach their targets without the routing of the kernel, see `FastPath.ts`. */
export const FastPath = Schema.Struct({
  /** Where they come from. */
  externals: Schema.Array(LinkName),
  /** One per mark and family. */
  hops: Schema.Array(Schema.Struct({ mark: Schema.Natural, ip: Ip, link: LinkName })),
  /** Longer packets (bytes of IP) go the general way; absent when none can be too long for the links to the targets. */
  longest: Schema.optionalKey(Schema.Natural)
})
export type FastPath = typeof FastPath.Type

/** What comes from the proxies does not leave by the links of the pod's own network, see `Guard.ts`. */
export const Guard = Schema.Struct({
  /** What the names of the links to the proxies begin with. */
  linkPrefix: Schema.NonEmptyString,
  inside: Schema.Array(LinkName)
})
export type Guard = typeof Guard.Type

/** Everything the rules depend on. */
export const Ruleset = Schema.Struct({
  /** The name of the tables of nftables that hold everything. */
  table: Schema.String,
  /** Every VIP of the trench. */
  vips: Schema.Array(Cidr),
  /** Flows of other streams than those below are left out. */
  flows: Schema.Array(Flow),
  streams: Schema.Array(Stream),
  portNats: Schema.Array(PortNat),
  /** Absent when the pod has no network of its own. */
  guard: Schema.optionalKey(Guard),
  /** Absent when all packets go the general way. */
  fastPath: Schema.optionalKey(FastPath)
})
export type Ruleset = typeof Ruleset.Type
