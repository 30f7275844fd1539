/**
 * The part of a Linux network namespace that Sluice reads and writes, and the operations that change it, as data.
 *
 * Objects refer to links by name, never by index: the shell resolves names when it applies an operation, so that a plan
 * stays true when a link is replaced. Success is defined by the end state: adding what is there and deleting what is
 * absent succeed (`shells/netlink` maps EEXIST, ENOENT, ESRCH, ENODEV).
 */
import { Schema } from "effect"
import * as Same from "../Same.ts"
import { Cidr } from "./Cidr.ts"
import { Family, Ip } from "./Ip.ts"

/** The name of a link: 1 to 15 bytes (IFNAMSIZ), without `/`, `:` or white space. */
export const LinkName = Schema.String.check(Schema.isPattern(/^[!-.0-9;-~]{1,15}$/))

/** A hardware address as lower-case text, `02:00:00:00:00:01`. */
export const Mac = Schema.String.check(Schema.isPattern(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/))

export const Link = Schema.Struct({
  name: LinkName,
  /** `bridge`, `veth`, ... as in IFLA_INFO_KIND; empty for a physical or loopback device. */
  kind: Schema.String,
  mac: Mac,
  up: Schema.Boolean,
  carrier: Schema.Boolean,
  mtu: Schema.Natural,
  /** The bridge the link is a port of. */
  master: Schema.optionalKey(LinkName),
  /** IFLA_IFALIAS; marks ownership. */
  alias: Schema.optionalKey(Schema.String)
})
export type Link = typeof Link.Type

/** An address on a link (universe scope; link-local addresses are not part of the model). */
export const Address = Schema.Struct({ link: LinkName, cidr: Cidr, dadFailed: Schema.Boolean })
export type Address = typeof Address.Type

/** Ports from the first to the last; the kernel takes no rule about port 65535. */
export const Ports = Schema.Struct({
  first: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_534 })),
  last: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_534 }))
})
export type Ports = typeof Ports.Type

/** Packets of an IP protocol, with these ports; at least one part is there. */
export const Traffic = Schema.Struct({
  protocol: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 255 }))),
  sourcePorts: Schema.optionalKey(Ports),
  destinationPorts: Schema.optionalKey(Ports)
})
export type Traffic = typeof Traffic.Type

/** Whether two rules are for the same packets as far as protocol and ports go. */
export const isSameTraffic = (a: Traffic = {}, b: Traffic = {}): boolean => Same.equals(a, b)

/**
 * A policy routing rule that looks a table up, or goes on at a later rule; rules with selectors or actions other than these
 * are `foreign`.
 */
export const Rule = Schema.Struct({
  family: Family,
  priority: Schema.Natural,
  /** 0 in a rule that goes on elsewhere. */
  table: Schema.Natural,
  from: Schema.optionalKey(Cidr),
  /** The link by which packets come in; what this machine sends itself comes from `lo`. */
  iif: Schema.optionalKey(LinkName),
  mark: Schema.optionalKey(Schema.Natural),
  /** The bits of the mark that count; absent when all of a mark other than 0 do. */
  mask: Schema.optionalKey(Schema.Natural),
  traffic: Schema.optionalKey(Traffic),
  /** The rule is for the packets that the selectors leave out. */
  inverted: Schema.optionalKey(Schema.Literal(true)),
  /** The later priority to go on at; without a rule of that priority the kernel goes on with the next one. */
  goto: Schema.optionalKey(Schema.Natural),
  foreign: Schema.Boolean
})
export type Rule = typeof Rule.Type

/** All bits of a mark. */
export const wholeMark = 0xffff_ffff

export const NextHop = Schema.Struct({ via: Schema.optionalKey(Ip), link: Schema.optionalKey(LinkName) })
export type NextHop = typeof NextHop.Type

/** A route; the metric of an IPv6 route is never 0 in the kernel, 1024 is its default. */
export const Route = Schema.Struct({
  family: Family,
  table: Schema.Natural,
  destination: Cidr,
  type: Schema.Literals(["unicast", "blackhole", "unreachable"]),
  metric: Schema.Natural,
  /** Empty unless unicast. Order has no meaning; weights are equal. */
  hops: Schema.Array(NextHop),
  /** RTPROT_*: 2 kernel, 3 boot, 4 static, 12 bird. */
  protocol: Schema.Natural,
  onlink: Schema.Boolean
})
export type Route = typeof Route.Type

export const Neighbour = Schema.Struct({
  link: LinkName,
  ip: Ip,
  mac: Schema.optionalKey(Mac),
  permanent: Schema.Boolean
})
export type Neighbour = typeof Neighbour.Type

/** What one network namespace looks like. */
export const Snapshot = Schema.Struct({
  links: Schema.Array(Link),
  addresses: Schema.Array(Address),
  rules: Schema.Array(Rule),
  routes: Schema.Array(Route),
  neighbours: Schema.Array(Neighbour)
})
export type Snapshot = typeof Snapshot.Type

export const empty: Snapshot = { links: [], addresses: [], rules: [], routes: [], neighbours: [] }

/** One change of one namespace. */
export const Operation = Schema.TaggedUnion({
  AddBridge: { name: LinkName, mac: Schema.optionalKey(Mac) },
  /** Brings a link up or down. */
  SetLinkUp: { link: LinkName, up: Schema.Boolean },
  SetLinkMtu: { link: LinkName, mtu: Schema.Natural },
  /** The kernel also forgets all neighbours of the link, even when it has this address already. */
  SetLinkMac: { link: LinkName, mac: Mac },
  SetLinkAlias: { link: LinkName, alias: Schema.String },
  /** Makes the link a port of a bridge; without a master it becomes free. */
  SetLinkMaster: { link: LinkName, master: Schema.optionalKey(LinkName) },
  RenameLink: { link: LinkName, name: LinkName },
  DeleteLink: { link: LinkName },
  /** IPv6 addresses are added without duplicate address detection, so that they answer at once. */
  AddAddress: { link: LinkName, cidr: Cidr },
  /** With the last IPv4 address of a link the kernel deletes the IPv4 routes through it. */
  DeleteAddress: { link: LinkName, cidr: Cidr },
  /** The identity of a rule is all its fields, the priority too. */
  AddRule: { rule: Rule },
  DeleteRule: { rule: Rule },
  /** The identity of a route is family, table, destination and metric; whatever stands there is replaced at once. */
  ReplaceRoute: { route: Route },
  DeleteRoute: { route: Route },
  ReplaceNeighbour: { neighbour: Neighbour },
  /** Forgets what the kernel learned about an address, so that it is resolved again. */
  DeleteNeighbour: { link: LinkName, ip: Ip }
})
export type Operation = typeof Operation.Type
