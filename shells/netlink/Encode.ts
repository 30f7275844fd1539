/**
 * `Kernel` operations as requests to the kernel.
 */
import { Cidr, Ip, type Kernel } from "../../core/net/index.ts"
import * as Wire from "./Wire.ts"

/** Gives the index of a link that `links` names. */
export type IndexOf = (name: string) => number

/** The links that must exist for the operation to be sent. */
export const links = (operation: Kernel.Operation): ReadonlyArray<string> => {
  switch (operation._tag) {
    case "AddBridge":
    case "AddRule":
    case "DeleteRule":
    case "DeleteRoute":
      return []
    case "SetLinkMaster":
      return operation.master === undefined ? [operation.link] : [operation.link, operation.master]
    case "ReplaceRoute":
      return operation.route.hops.flatMap((hop) => hop.link ?? [])
    case "ReplaceNeighbour":
      return [operation.neighbour.link]
    default:
      return [operation.link]
  }
}

export const message = (operation: Kernel.Operation, index: IndexOf): Wire.Message => {
  switch (operation._tag) {
    case "AddBridge":
      return {
        type: Wire.newLink,
        flags: Wire.create | Wire.exclusive,
        body: link(0, attribute.name(operation.name), ...optional(operation.mac, attribute.mac), kind("bridge"))
      }
    case "SetLinkUp":
      return changeLink(linkHeader(index(operation.link), operation.up ? 1 : 0, 1))
    case "SetLinkMtu":
      return changeLink(link(index(operation.link), attribute.mtu(operation.mtu)))
    case "SetLinkMac":
      return changeLink(link(index(operation.link), attribute.mac(operation.mac)))
    case "SetLinkAlias":
      return changeLink(link(index(operation.link), attribute.alias(operation.alias)))
    case "SetLinkMaster":
      return changeLink(
        link(
          index(operation.link),
          Wire.attribute(10, Wire.u32(operation.master === undefined ? 0 : index(operation.master)))
        )
      )
    case "RenameLink":
      return changeLink(link(index(operation.link), attribute.name(operation.name)))
    case "DeleteLink":
      return { type: Wire.delLink, flags: 0, body: link(index(operation.link)) }
    case "AddAddress":
      return {
        type: Wire.newAddress,
        flags: Wire.create | Wire.exclusive,
        body: address(index(operation.link), operation.cidr)
      }
    case "DeleteAddress":
      return { type: Wire.delAddress, flags: 0, body: address(index(operation.link), operation.cidr) }
    case "AddRule":
      return { type: Wire.newRule, flags: Wire.create | Wire.exclusive, body: rule(operation.rule) }
    case "DeleteRule":
      return { type: Wire.delRule, flags: 0, body: rule(operation.rule) }
    case "ReplaceRoute":
      return { type: Wire.newRoute, flags: Wire.create | Wire.replace, body: replaceRoute(operation.route, index) }
    case "DeleteRoute":
      return { type: Wire.delRoute, flags: 0, body: deleteRoute(operation.route) }
    case "ReplaceNeighbour": {
      const { ip, link, mac, permanent } = operation.neighbour
      return {
        type: Wire.newNeighbour,
        flags: Wire.create | Wire.replace,
        body: neighbour(index(link), ip, permanent ? 0x80 : 0x02, ...optional(mac, (value) => lladdr(value)))
      }
    }
    case "DeleteNeighbour":
      return { type: Wire.delNeighbour, flags: 0, body: neighbour(index(operation.link), operation.ip, 0) }
  }
}

/** Asks for the link of a name. */
export const findLink = (name: string): Wire.Message => ({
  type: Wire.getLink,
  flags: 0,
  body: link(0, attribute.name(name), skipStatistics)
})

/** Asks for all links. */
export const dumpLinks = (): Wire.Message => ({ type: Wire.getLink, flags: Wire.dump, body: link(0, skipStatistics) })

/** Asks for all objects of a kind in one family. */
export const dump = (kind: "address" | "rule" | "route" | "neighbour", family: Ip.Family): Wire.Message => {
  const type = { address: Wire.getAddress, rule: Wire.getRule, route: Wire.getRoute, neighbour: Wire.getNeighbour }
  const body = Buffer.alloc(Wire.headerSize[kind])
  body.writeUInt8(Wire.familyNumber(family))
  return { type: type[kind], flags: Wire.dump, body }
}

/** One end of a veth pair to be made, and the other with the file descriptor of its namespace. */
export interface Veth {
  readonly name: string
  readonly mac?: string
  readonly mtu?: number
  readonly namespace: number
}

/** Makes both ends in their namespaces in one request. */
export const veth = (one: Veth, other: Veth): Wire.Message => {
  // VETH_INFO_PEER holds a whole link message inside IFLA_INFO_DATA.
  const peer = Wire.attribute(2, Wire.attribute(1, link(0, ...vethEnd(other))))
  return {
    type: Wire.newLink,
    flags: Wire.create | Wire.exclusive,
    body: link(0, ...vethEnd(one), Wire.attribute(18, Wire.attribute(1, Wire.text("veth")), peer))
  }
}

const vethEnd = (end: Veth): ReadonlyArray<Buffer> => [
  attribute.name(end.name),
  ...optional(end.mac, attribute.mac),
  ...optional(end.mtu, attribute.mtu),
  Wire.attribute(28, Wire.u32(end.namespace))
]

const attribute = {
  mac: (mac: string) => Wire.attribute(1, Wire.mac(mac)),
  name: (name: string) => Wire.attribute(3, Wire.text(name)),
  mtu: (mtu: number) => Wire.attribute(4, Wire.u32(mtu)),
  alias: (alias: string) => Wire.attribute(20, Wire.text(alias))
}

// RTEXT_FILTER_SKIP_STATS: the counters are most of the answer and nobody reads them.
const skipStatistics = Wire.attribute(29, Wire.u32(8))

const kind = (name: string): Buffer => Wire.attribute(18, Wire.attribute(1, Wire.text(name)))

const lladdr = (mac: string): Buffer => Wire.attribute(2, Wire.mac(mac))

const optional = <A>(value: A | undefined, encode: (value: A) => Buffer): ReadonlyArray<Buffer> =>
  value === undefined ? [] : [encode(value)]

const changeLink = (body: Buffer): Wire.Message => ({ type: Wire.setLink, flags: 0, body })

const link = (index: number, ...attributes: ReadonlyArray<Buffer>): Buffer =>
  Buffer.concat([linkHeader(index, 0, 0), ...attributes])

const linkHeader = (index: number, flags: number, change: number): Buffer => {
  const head = Buffer.alloc(Wire.headerSize.link)
  head.writeUInt32LE(index, 4)
  head.writeUInt32LE(flags, 8)
  head.writeUInt32LE(change, 12)
  return head
}

const address = (index: number, cidr: Cidr.Cidr): Buffer => {
  const family = Cidr.family(cidr)
  const ip = Wire.ip(Cidr.ip(cidr))
  const head = Buffer.alloc(Wire.headerSize.address)
  head.writeUInt8(Wire.familyNumber(family), 0)
  head.writeUInt8(Cidr.length(cidr), 1)
  head.writeUInt32LE(index, 4)
  // IFA_F_NODAD, in the 32-bit attribute.
  const flags = family === "v6" ? [Wire.attribute(8, Wire.u32(0x02))] : []
  return Buffer.concat([head, Wire.attribute(2, ip), Wire.attribute(1, ip), ...flags])
}

const rule = (rule: Kernel.Rule): Buffer => {
  const head = Buffer.alloc(Wire.headerSize.rule)
  const length = rule.from === undefined ? 0 : Cidr.length(rule.from)
  head.writeUInt8(Wire.familyNumber(rule.family), 0)
  head.writeUInt8(length, 2)
  // FR_ACT_TO_TBL or FR_ACT_GOTO; FIB_RULE_INVERT.
  head.writeUInt8(rule.goto === undefined ? 1 : 2, 7)
  head.writeUInt32LE(rule.inverted === true ? 2 : 0, 8)
  return Buffer.concat([
    head,
    Wire.attribute(6, Wire.u32(rule.priority)),
    Wire.attribute(15, Wire.u32(rule.table)),
    ...(rule.from === undefined || length === 0 ? [] : [Wire.attribute(2, Wire.ip(Cidr.ip(rule.from)))]),
    ...optional(rule.iif, (link) => Wire.attribute(3, Wire.text(link))),
    ...optional(rule.mark, (mark) => Wire.attribute(10, Wire.u32(mark))),
    ...optional(rule.mask, (mask) => Wire.attribute(16, Wire.u32(mask))),
    ...optional(rule.goto, (priority) => Wire.attribute(4, Wire.u32(priority))),
    ...optional(rule.traffic?.protocol, (protocol) => Wire.attribute(22, Buffer.of(protocol))),
    ...optional(rule.traffic?.sourcePorts, (ports) => Wire.attribute(23, portRange(ports))),
    ...optional(rule.traffic?.destinationPorts, (ports) => Wire.attribute(24, portRange(ports)))
  ])
}

/** `struct fib_rule_port_range`. */
const portRange = ({ first, last }: Kernel.Ports): Buffer => {
  const range = Buffer.alloc(4)
  range.writeUInt16LE(first, 0)
  range.writeUInt16LE(last, 2)
  return range
}

const routeType = { unicast: 1, blackhole: 6, unreachable: 7 } as const

const routeBody = (
  route: Kernel.Route,
  header: { readonly protocol: number; readonly scope: number; readonly type: number; readonly flags: number },
  ...attributes: ReadonlyArray<Buffer>
): Buffer => {
  const length = Cidr.length(route.destination)
  const head = Buffer.alloc(Wire.headerSize.route)
  head.writeUInt8(Wire.familyNumber(route.family), 0)
  head.writeUInt8(length, 1)
  head.writeUInt8(header.protocol, 5)
  head.writeUInt8(header.scope, 6)
  head.writeUInt8(header.type, 7)
  head.writeUInt32LE(header.flags, 8)
  // For the kernel IPv6 metric 0 means its default when adding, and any metric when deleting.
  const metric = route.family === "v6" && route.metric === 0 ? 1024 : route.metric
  return Buffer.concat([
    head,
    Wire.attribute(15, Wire.u32(route.table)),
    ...(length === 0 ? [] : [Wire.attribute(1, Wire.ip(Cidr.ip(route.destination)))]),
    ...(metric === 0 ? [] : [Wire.attribute(6, Wire.u32(metric))]),
    ...attributes
  ])
}

const replaceRoute = (route: Kernel.Route, index: IndexOf): Buffer => {
  const direct = route.family === "v4" && route.type === "unicast" && route.hops.every((hop) => hop.via === undefined)
  // RTNH_F_ONLINK.
  const flags = route.onlink ? 4 : 0
  const header = {
    protocol: route.protocol,
    // RT_SCOPE_LINK for IPv4 routes without a gateway; the kernel insists.
    scope: direct ? 253 : 0,
    type: routeType[route.type],
    flags: route.hops.length === 1 ? flags : 0
  }
  const [first, ...others] = route.hops
  if (first === undefined) return routeBody(route, header)
  if (others.length > 0) {
    const hops = route.hops.map((hop) =>
      Wire.writeHop(flags, hop.link === undefined ? 0 : index(hop.link), gateway(route.family, hop))
    )
    return routeBody(route, header, Wire.attribute(9, ...hops))
  }
  const link = optional(first.link, (name) => Wire.attribute(4, Wire.u32(index(name))))
  return routeBody(route, header, gateway(route.family, first), ...link)
}

const deleteRoute = (route: Kernel.Route): Buffer =>
  // RT_SCOPE_NOWHERE, protocol and type 0: whatever stands there.
  routeBody(route, { protocol: 0, scope: 255, type: 0, flags: 0 })

const gateway = (family: Ip.Family, hop: Kernel.NextHop): Buffer => {
  if (hop.via === undefined) return Buffer.alloc(0)
  if (Ip.family(hop.via) === family) return Wire.attribute(5, Wire.ip(hop.via))
  // RTA_VIA: a gateway of the other family.
  return Wire.attribute(18, Buffer.of(Wire.familyNumber(Ip.family(hop.via)), 0), Wire.ip(hop.via))
}

const neighbour = (index: number, ip: Ip.Ip, state: number, ...attributes: ReadonlyArray<Buffer>): Buffer => {
  const head = Buffer.alloc(Wire.headerSize.neighbour)
  head.writeUInt8(Wire.familyNumber(Ip.family(ip)), 0)
  head.writeUInt32LE(index, 4)
  head.writeUInt16LE(state, 8)
  return Buffer.concat([head, Wire.attribute(1, Wire.ip(ip)), ...attributes])
}
