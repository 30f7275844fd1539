/**
 * Answers of the kernel as `Kernel` objects. What the model cannot express is left out (local routes, link-local
 * addresses, routes by source or type of service), except rules, which are kept and marked `foreign`.
 */
import { Predicate, Schema } from "effect"
import { Cidr, type Ip, Kernel } from "../../core/net/index.ts"
import * as Wire from "./Wire.ts"

/** Names of links by index. */
export type Names = ReadonlyMap<number, string>

/** The index and name of a link message; undefined when the kernel knows it by a name the model does not allow. */
export const linkName = (body: Buffer): readonly [index: number, name: string] | undefined => {
  const name = body.length < Wire.headerSize.link
    ? undefined
    : Wire.readText(Wire.attributes(body, Wire.headerSize.link).get(3))
  return name !== undefined && isLinkName(name) ? [body.readUInt32LE(4), name] : undefined
}

/** The kind of a link, `bridge`, `veth`; empty for a physical device. */
export const linkKind = (attributes: Wire.Attributes): string => {
  const info = attributes.get(18)
  return info === undefined ? "" : Wire.readText(Wire.attributes(info, 0).get(1)) ?? ""
}

/** The name of every link by its index. */
export const names = (bodies: ReadonlyArray<Buffer>): Names =>
  new Map(bodies.map(linkName).filter(Predicate.isNotUndefined))

export const link = (body: Buffer, names: Names): Kernel.Link | undefined => {
  const name = linkName(body)?.[1]
  if (name === undefined) return undefined
  const attributes = Wire.attributes(body, Wire.headerSize.link)
  const master = names.get(Wire.readU32(attributes.get(10)) ?? 0)
  const alias = Wire.readText(attributes.get(20))
  return {
    name,
    kind: linkKind(attributes),
    mac: Wire.readMac(attributes.get(1)) ?? "00:00:00:00:00:00",
    up: (body.readUInt32LE(8) & 1) !== 0,
    carrier: Wire.readU8(attributes.get(33)) === 1,
    mtu: Wire.readU32(attributes.get(4)) ?? 0,
    ...master !== undefined && { master },
    ...alias !== undefined && { alias }
  }
}

/** An address of universe scope. */
export const address = (body: Buffer, names: Names): Kernel.Address | undefined => {
  if (body.length < Wire.headerSize.address) return undefined
  const family = Wire.familyOf(body.readUInt8(0))
  const link = names.get(body.readUInt32LE(4))
  if (family === undefined || link === undefined || body.readUInt8(3) !== 0) return undefined
  const attributes = Wire.attributes(body, Wire.headerSize.address)
  // On a point-to-point link IFA_ADDRESS is the peer and IFA_LOCAL ourselves.
  const ip = Wire.readIp(family, attributes.get(2) ?? attributes.get(1))
  if (ip === undefined) return undefined
  const flags = Wire.readU32(attributes.get(8)) ?? body.readUInt8(2)
  return { link, cidr: Cidr.make(ip, body.readUInt8(1)), dadFailed: (flags & 0x08) !== 0 }
}

export const rule = (body: Buffer): Kernel.Rule | undefined => {
  if (body.length < Wire.headerSize.rule) return undefined
  const family = Wire.familyOf(body.readUInt8(0))
  if (family === undefined) return undefined
  const attributes = Wire.attributes(body, Wire.headerSize.rule)
  const source = Wire.readIp(family, attributes.get(2))
  const iif = Wire.readText(attributes.get(3))
  const mask = Wire.readU32(attributes.get(16))
  const mark = Wire.readU32(attributes.get(10)) ?? (mask === undefined ? undefined : 0)
  const goto = Wire.readU32(attributes.get(4))
  const traffic = trafficOf(attributes)
  return {
    family,
    priority: Wire.readU32(attributes.get(6)) ?? 0,
    table: Wire.readU32(attributes.get(15)) ?? body.readUInt8(4),
    ...source !== undefined && { from: Cidr.make(source, body.readUInt8(2)) },
    ...iif !== undefined && { iif },
    ...mark !== undefined && { mark },
    ...mask !== undefined && (mark === 0 || mask !== Kernel.wholeMark) && { mask },
    ...traffic !== undefined && { traffic },
    ...(body.readUInt32LE(8) & inverted) !== 0 && { inverted: true },
    ...goto !== undefined && { goto },
    foreign: isForeign(body, attributes)
  }
}

const trafficOf = (attributes: Wire.Attributes): Kernel.Traffic | undefined => {
  const protocol = Wire.readU8(attributes.get(22)) ?? 0
  const [sourcePorts, destinationPorts] = [portRange(attributes.get(23)), portRange(attributes.get(24))]
  return protocol === 0 && sourcePorts === undefined && destinationPorts === undefined ? undefined : {
    ...protocol !== 0 && { protocol },
    ...sourcePorts !== undefined && { sourcePorts },
    ...destinationPorts !== undefined && { destinationPorts }
  }
}

/** `struct fib_rule_port_range`. */
const portRange = (range: Buffer | undefined): Kernel.Ports | undefined =>
  range === undefined || range.length < 4
    ? undefined
    : { first: range.readUInt16LE(0), last: range.readUInt16LE(2) }

/** A unicast, blackhole or unreachable route of any table but the local one. */
export const route = (body: Buffer, names: Names): Kernel.Route | undefined => {
  if (body.length < Wire.headerSize.route) return undefined
  const family = Wire.familyOf(body.readUInt8(0))
  const type = routeTypes.get(body.readUInt8(7))
  // Source prefix and type of service are not part of the model; 0x200 marks a cached copy.
  const expressible = body.readUInt8(2) === 0 && body.readUInt8(3) === 0 && (body.readUInt32LE(8) & 0x200) === 0
  if (family === undefined || type === undefined || !expressible) return undefined
  const attributes = Wire.attributes(body, Wire.headerSize.route)
  const table = Wire.readU32(attributes.get(15)) ?? body.readUInt8(4)
  if (table === localTable) return undefined
  const target = Wire.readIp(family, attributes.get(1))
  const multipath = attributes.get(9)
  const hops: ReadonlyArray<Wire.Hop> = type !== "unicast"
    ? []
    : multipath !== undefined
    ? Wire.readHops(multipath)
    : [{ flags: body.readUInt32LE(8), index: Wire.readU32(attributes.get(4)) ?? 0, attributes }]
  return {
    family,
    table,
    destination: target === undefined ? Cidr.defaultRoute(family) : Cidr.make(target, body.readUInt8(1)),
    type,
    metric: Wire.readU32(attributes.get(6)) ?? 0,
    hops: hops.map((hop) => nextHop(family, hop, names)),
    protocol: body.readUInt8(5),
    onlink: hops.some((hop) => (hop.flags & 4) !== 0)
  }
}

/** A learned or permanent neighbour; entries for multicast and for links without resolution are left out. */
export const neighbour = (body: Buffer, names: Names): Kernel.Neighbour | undefined => {
  if (body.length < Wire.headerSize.neighbour) return undefined
  const family = Wire.familyOf(body.readUInt8(0))
  const link = names.get(body.readUInt32LE(4))
  const state = body.readUInt16LE(8)
  if (family === undefined || link === undefined || state === 0 || (state & noArp) !== 0) return undefined
  const attributes = Wire.attributes(body, Wire.headerSize.neighbour)
  const ip = Wire.readIp(family, attributes.get(1))
  const mac = Wire.readMac(attributes.get(2))
  return ip && { link, ip, ...mac !== undefined && { mac }, permanent: (state & permanent) !== 0 }
}

/** RTN_*: the types of route in the model. */
const routeTypes: ReadonlyMap<number, Kernel.Route["type"]> = new Map([
  [1, "unicast"],
  [6, "blackhole"],
  [7, "unreachable"]
])

const localTable = 255
const noArp = 0x40
const permanent = 0x80

const isLinkName = Schema.is(Kernel.LinkName)

const nextHop = (family: Ip.Family, hop: Wire.Hop, names: Names): Kernel.NextHop => {
  const link = names.get(hop.index)
  const via = Wire.readIp(family, hop.attributes.get(5)) ?? viaOtherFamily(hop.attributes.get(18))
  return { ...via !== undefined && { via }, ...link !== undefined && { link } }
}

// RTA_VIA: a gateway of the other family (RFC 5549).
const viaOtherFamily = (bytes: Buffer | undefined): Ip.Ip | undefined => {
  const family = bytes !== undefined && bytes.length > 2 ? Wire.familyOf(bytes.readUInt16LE(0)) : undefined
  return family && Wire.readIp(family, bytes?.subarray(2))
}

// FRA_SRC, IIFNAME, GOTO, PRIORITY, FWMARK, SUPPRESS_PREFIXLEN, TABLE, FWMASK, PAD, PROTOCOL, IP_PROTO,
// SPORT_RANGE, DPORT_RANGE, SPORT_MASK, DPORT_MASK.
const plainRuleAttributes: ReadonlySet<number> = new Set([2, 3, 4, 6, 10, 14, 15, 16, 18, 21, 22, 23, 24, 28, 29])

/** FIB_RULE_INVERT. */
const inverted = 0x02

/** FIB_RULE_UNRESOLVED, FIB_RULE_IIF_DETACHED: the rule to go on at, or the link, is not there now. */
const lacking = 0x04 | 0x08

const isForeign = (body: Buffer, attributes: Wire.Attributes): boolean => {
  const [destinationLength, tos, action] = [1, 3, 7].map((at) => body.readUInt8(at))
  return destinationLength !== 0 || tos !== 0 || action !== (attributes.has(4) ? 2 : 1) ||
    (body.readUInt32LE(8) & ~(inverted | lacking)) !== 0 ||
    (Wire.readU32(attributes.get(14)) ?? 0xffffffff) !== 0xffffffff ||
    [28, 29].some((mask) => (Wire.readU16(attributes.get(mask)) ?? 0xffff) !== 0xffff) ||
    [...attributes.keys()].some((type) => !plainRuleAttributes.has(type))
}
