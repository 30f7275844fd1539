/** Operations as ip(8) of iproute2 would be told, for people who look at a plan or carry it out by hand. */
import { type Family, type Ip } from "./Ip.ts"
import type { NextHop, Operation, Ports, Route, Rule } from "./Kernel.ts"

/** The command for a shell; names of links and addresses need no quoting. */
export const line = (operation: Operation): string => `ip ${words(operation)}`

const words = (operation: Operation): string => {
  switch (operation._tag) {
    case "AddBridge":
      return `link add ${operation.name}${operation.mac === undefined ? "" : ` address ${operation.mac}`} type bridge`
    case "SetLinkUp":
      return `link set ${operation.link} ${operation.up ? "up" : "down"}`
    case "SetLinkMtu":
      return `link set ${operation.link} mtu ${operation.mtu}`
    case "SetLinkMac":
      return `link set ${operation.link} address ${operation.mac}`
    case "SetLinkAlias":
      return `link set ${operation.link} alias '${operation.alias.replaceAll("'", `'\\''`)}'`
    case "SetLinkMaster":
      return operation.master === undefined
        ? `link set ${operation.link} nomaster`
        : `link set ${operation.link} master ${operation.master}`
    case "RenameLink":
      return `link set ${operation.link} name ${operation.name}`
    case "DeleteLink":
      return `link delete ${operation.link}`
    case "AddAddress": {
      const { cidr, link } = operation
      return `address replace ${cidr} dev ${link}${cidr.includes(":") ? " nodad" : ""}`
    }
    case "DeleteAddress":
      return `address delete ${operation.cidr} dev ${operation.link}`
    case "AddRule":
      return `${family(operation.rule.family)} rule add ${rule(operation.rule)}`
    case "DeleteRule":
      return `${family(operation.rule.family)} rule delete ${rule(operation.rule)}`
    case "ReplaceRoute": {
      const { route } = operation
      return [`${family(route.family)} route replace`, target(route), `proto ${route.protocol}`, ...hops(route)].join(
        " "
      )
    }
    case "DeleteRoute":
      return `${family(operation.route.family)} route delete ${target(operation.route)}`
    case "ReplaceNeighbour": {
      const { ip, link, mac, permanent } = operation.neighbour
      const address = mac === undefined ? "" : ` lladdr ${mac}`
      return `neighbour replace ${ip}${address} dev ${link} nud ${permanent ? "permanent" : "reachable"}`
    }
    case "DeleteNeighbour":
      return `neighbour delete ${operation.ip} dev ${operation.link}`
  }
}

const family = (family: Family): string => (family === "v4" ? "-4" : "-6")

const rule = ({ from, goto, iif, inverted, mark, mask, priority, table, traffic = {} }: Rule): string =>
  [
    `priority ${priority}`,
    ...(inverted === true ? ["not"] : []),
    `from ${from ?? "all"}`,
    ...(iif === undefined ? [] : [`iif ${iif}`]),
    ...(mark === undefined ? [] : [`fwmark ${mark}${mask === undefined ? "" : `/0x${mask.toString(16)}`}`]),
    ...(traffic.protocol === undefined ? [] : [`ipproto ${traffic.protocol}`]),
    ...(traffic.sourcePorts === undefined ? [] : [`sport ${ports(traffic.sourcePorts)}`]),
    ...(traffic.destinationPorts === undefined ? [] : [`dport ${ports(traffic.destinationPorts)}`]),
    goto === undefined ? `lookup ${table}` : `goto ${goto}`
  ].join(" ")

const ports = ({ first, last }: Ports): string => first === last ? `${first}` : `${first}-${last}`

/** The type is named when deleting, too: for the kernel, metric 0 is any metric of an IPv4 route. */
const target = ({ destination, metric, table, type }: Route): string =>
  `${type} ${destination} table ${table}${metric === 0 ? "" : ` metric ${metric}`}`

const hops = ({ hops, onlink }: Route): ReadonlyArray<string> => {
  const flag = onlink ? " onlink" : ""
  return hops.length === 1
    ? hops.map((hop) => way(hop) + flag)
    : hops.map((hop) => `nexthop ${way(hop)}${flag}`)
}

const way = ({ link, via }: NextHop): string =>
  [...(via === undefined ? [] : [gateway(via)]), ...(link === undefined ? [] : [`dev ${link}`])].join(" ")

const gateway = (via: Ip): string => `via ${via.includes(":") ? "inet6" : "inet"} ${via}`
