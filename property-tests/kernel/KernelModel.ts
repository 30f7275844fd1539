/**
 * A model of the kernel: what each `Kernel.Operation` makes of a namespace. `shells/netlink/KernelModel.test.ts` holds it
 * against the real kernel; the laws of plans rest on it.
 *
 * What the kernel does besides what it was told (Linux 6.18, IPv6 addresses not kept on a down link, secondaries not
 * promoted):
 *
 * 1. An up link has a connected route in the main table for each network of its addresses; /32 has none, /128 has.
 * 2. A link set down loses its IPv6 addresses and its neighbours, and every route whose hops all lead to down links; a
 *    route with another hop stays as it is. Nothing but connected routes returns when the link comes up.
 * 3. A deleted link loses all that and its IPv4 addresses, ports become free; of a route with another hop IPv6 loses the
 *    hop, IPv4 the whole route. Rules stay.
 * 4. The last IPv4 address of a link takes the IPv4 routes and neighbours of the link with it, as setting it down does;
 *    the first address of a network takes the later ones of the same network.
 * 5. Setting the MAC, even to what it is, makes a link forget all its neighbours, the permanent ones too.
 * 6. A gateway must be on a network that the table of the route or else the main table reaches without a gateway, unless
 *    the route is on-link; where the hop names no link, that is where it goes.
 *
 * Not modelled: carrier, link-local addresses, the MAC and MTU that a bridge takes from its ports, IPv6 on a link with an
 * MTU below 1280, the other end of a veth pair.
 */
import { Result } from "effect"
import { Cidr, Ip, Kernel } from "../../core/net/index.ts"
import * as Same from "../../core/Same.ts"

/** The namespace after the operation; unchanged when the kernel would refuse it. */
export const apply = (snapshot: Kernel.Snapshot, operation: Kernel.Operation): Kernel.Snapshot =>
  Result.getOrElse(attempt(snapshot, operation), () => snapshot)

/** The namespace after all operations in order, those the kernel would refuse left out. */
export const applyAll = (
  snapshot: Kernel.Snapshot,
  operations: ReadonlyArray<Kernel.Operation>
): Kernel.Snapshot => operations.reduce(apply, snapshot)

/** The namespace after the operation, or the reason why the kernel refuses it. */
export const attempt = (
  snapshot: Kernel.Snapshot,
  operation: Kernel.Operation
): Result.Result<Kernel.Snapshot, string> => {
  switch (operation._tag) {
    case "AddBridge":
      return addBridge(snapshot, operation.name, operation.mac ?? "02:00:00:00:00:00")
    case "SetLinkUp":
      return changeLink(snapshot, operation.link, (link) =>
        link.up === operation.up
          ? snapshot
          : operation.up
          ? connectAll(setUp(snapshot, operation.link, true), operation.link)
          : lose(setUp(snapshot, operation.link, false), operation.link, "down"))
    case "SetLinkMtu":
      return changeLink(snapshot, operation.link, () => edit(snapshot, operation.link, { mtu: operation.mtu }))
    case "SetLinkMac":
      return changeLink(snapshot, operation.link, () => setMac(snapshot, operation.link, operation.mac))
    case "SetLinkAlias":
      return changeLink(snapshot, operation.link, () => edit(snapshot, operation.link, { alias: operation.alias }))
    case "SetLinkMaster":
      return setMaster(snapshot, operation.link, operation.master)
    case "RenameLink":
      return changeLink(snapshot, operation.link, () => rename(snapshot, operation.link, operation.name)).pipe(
        refuseIf(operation.name !== operation.link && has(snapshot, operation.name), "the name is taken")
      )
    case "DeleteLink":
      return Result.succeed(deleteLink(snapshot, operation.link))
    case "AddAddress":
      return addAddress(snapshot, operation.link, operation.cidr)
    case "DeleteAddress":
      return Result.succeed(deleteAddress(snapshot, operation.link, operation.cidr))
    case "AddRule":
      return Result.succeed(
        snapshot.rules.some((rule) => isSameRule(rule, operation.rule))
          ? snapshot
          : { ...snapshot, rules: [...snapshot.rules, operation.rule] }
      )
    case "DeleteRule":
      return deleteRule(snapshot, operation.rule)
    case "ReplaceRoute":
      return replaceRoute(snapshot, operation.route)
    case "DeleteRoute":
      return Result.succeed({
        ...snapshot,
        routes: snapshot.routes.filter((route) => !isSameRoute(route, operation.route))
      })
    case "ReplaceNeighbour": {
      const { neighbour } = operation
      return changeLink(snapshot, neighbour.link, () => ({
        ...snapshot,
        neighbours: [...withoutNeighbour(snapshot, neighbour.link, neighbour.ip), neighbour]
      })).pipe(refuseIf(neighbour.mac === undefined, "a neighbour needs a hardware address"))
    }
    case "DeleteNeighbour":
      return Result.succeed({ ...snapshot, neighbours: withoutNeighbour(snapshot, operation.link, operation.ip) })
  }
}

// Links.

const addBridge = (snapshot: Kernel.Snapshot, name: string, mac: string): Result.Result<Kernel.Snapshot, string> => {
  const taken = snapshot.links.find((link) => link.name === name)
  if (taken !== undefined) {
    return taken.kind === "bridge" ? Result.succeed(snapshot) : Result.fail("taken by a link that is no bridge")
  }
  const bridge: Kernel.Link = { name, kind: "bridge", mac, up: false, carrier: false, mtu: 1500 }
  return Result.succeed({ ...snapshot, links: [...snapshot.links, bridge] })
}

const setUp = (snapshot: Kernel.Snapshot, name: string, up: boolean): Kernel.Snapshot =>
  edit(snapshot, name, { up, carrier: up })

const setMac = (snapshot: Kernel.Snapshot, name: string, mac: string): Kernel.Snapshot => ({
  ...edit(snapshot, name, { mac }),
  neighbours: snapshot.neighbours.filter((neighbour) => neighbour.link !== name)
})

const setMaster = (
  snapshot: Kernel.Snapshot,
  name: string,
  master: string | undefined
): Result.Result<Kernel.Snapshot, string> => {
  const port = snapshot.links.find((link) => link.name === name)
  const bridge = snapshot.links.find((link) => link.name === master)
  if (master === undefined) {
    return Result.succeed({
      ...snapshot,
      links: snapshot.links.map((link) => link.name === name ? withoutMaster(link) : link)
    })
  }
  if (port === undefined || bridge?.kind !== "bridge") return Result.fail("no such link, or the master is no bridge")
  if (port.kind === "bridge" || name === "lo") return Result.fail("this link cannot be a port")
  return Result.succeed(edit(snapshot, name, { master }))
}

const deleteLink = (snapshot: Kernel.Snapshot, name: string): Kernel.Snapshot => {
  const rest = lose(snapshot, name, "deleted")
  return {
    ...rest,
    links: rest.links.filter((link) => link.name !== name).map((link) =>
      link.master === name ? withoutMaster(link) : link
    ),
    addresses: rest.addresses.filter((address) => address.link !== name)
  }
}

const rename = (snapshot: Kernel.Snapshot, from: string, to: string): Kernel.Snapshot => {
  const moved = <A extends { readonly link?: string }>(object: A): A =>
    object.link === from ? { ...object, link: to } : object
  return {
    links: snapshot.links.map((link) => ({
      ...link,
      name: link.name === from ? to : link.name,
      ...link.master === from && { master: to }
    })),
    addresses: snapshot.addresses.map(moved),
    rules: snapshot.rules,
    routes: snapshot.routes.map((route) => ({ ...route, hops: route.hops.map(moved) })),
    neighbours: snapshot.neighbours.map(moved)
  }
}

// Addresses and connected routes.

const addAddress = (
  snapshot: Kernel.Snapshot,
  name: string,
  cidr: Cidr.Cidr
): Result.Result<Kernel.Snapshot, string> => {
  const own = snapshot.addresses.filter((address) => address.link === name)
  if (own.some((address) => address.cidr === cidr)) return Result.succeed(snapshot)
  return changeLink(snapshot, name, (link) => {
    const added = { ...snapshot, addresses: [...snapshot.addresses, { link: name, cidr, dadFailed: false }] }
    return link.up ? connect(added, name, cidr) : added
  }).pipe(
    refuseIf(
      Cidr.family(cidr) === "v6" && own.some((address) => Cidr.ip(address.cidr) === Cidr.ip(cidr)),
      "the link has the address with another prefix length"
    )
  )
}

const deleteAddress = (snapshot: Kernel.Snapshot, name: string, cidr: Cidr.Cidr): Kernel.Snapshot => {
  const family = Cidr.family(cidr)
  const siblings = snapshot.addresses.filter((address) => address.link === name && isSameNetwork(address.cidr, cidr))
  if (!siblings.some((address) => address.cidr === cidr)) return snapshot
  const gone = family === "v4" && siblings[0]?.cidr === cidr
    ? siblings
    : siblings.filter((address) => address.cidr === cidr)
  const addresses = snapshot.addresses.filter((address) => !gone.includes(address))
  const disconnected = {
    ...snapshot,
    addresses,
    routes: gone.length < siblings.length
      ? snapshot.routes
      : snapshot.routes.filter((route) => !isSameConnection(route, connection(name, cidr)))
  }
  const last = !addresses.some((address) => address.link === name && Cidr.family(address.cidr) === "v4")
  return family === "v4" && last ? lose(disconnected, name, "without IPv4") : disconnected
}

const connectAll = (snapshot: Kernel.Snapshot, name: string): Kernel.Snapshot =>
  snapshot.addresses.filter((address) => address.link === name)
    .reduce((before, address) => connect(before, name, address.cidr), snapshot)

const connect = (snapshot: Kernel.Snapshot, name: string, cidr: Cidr.Cidr): Kernel.Snapshot => {
  const route = connection(name, cidr)
  const none = Cidr.family(cidr) === "v4" && Cidr.length(cidr) === 32
  return none || snapshot.routes.some((other) => isSameConnection(other, route))
    ? snapshot
    : { ...snapshot, routes: [...snapshot.routes, route] }
}

const mainTable = 254
const kernelProtocol = 2

const connection = (name: string, cidr: Cidr.Cidr): Kernel.Route => ({
  family: Cidr.family(cidr),
  table: mainTable,
  destination: Cidr.network(cidr),
  type: "unicast",
  metric: Cidr.family(cidr) === "v4" ? 0 : 256,
  hops: [{ link: name }],
  protocol: kernelProtocol,
  onlink: false
})

/** Takes away what a link loses for the reason; the link itself and its IPv4 addresses stay. */
const lose = (
  snapshot: Kernel.Snapshot,
  name: string,
  reason: "down" | "deleted" | "without IPv4"
): Kernel.Snapshot => {
  const usable = (hop: Kernel.NextHop) =>
    hop.link !== name && snapshot.links.some((link) => link.name === hop.link && link.up)
  const routes = snapshot.routes.flatMap((route): ReadonlyArray<Kernel.Route> => {
    if (!route.hops.some((hop) => hop.link === name)) return [route]
    if (route.family === "v6" && reason === "without IPv4") return [route]
    if (!route.hops.some(usable)) return []
    if (reason !== "deleted") return [route]
    return route.family === "v4" ? [] : [{ ...route, hops: route.hops.filter((hop) => hop.link !== name) }]
  })
  const lost = (family: Ip.Family) => family === "v4" || reason !== "without IPv4"
  return {
    ...snapshot,
    routes,
    addresses: snapshot.addresses.filter(({ cidr, link }) =>
      link !== name || Cidr.family(cidr) === "v4" || reason === "without IPv4"
    ),
    neighbours: snapshot.neighbours.filter(({ ip, link }) => link !== name || !lost(Ip.family(ip)))
  }
}

// Rules, routes, neighbours.

const maskOf = ({ mark, mask }: Kernel.Rule): number => mask ?? (mark === undefined ? 0 : Kernel.wholeMark)

const deleteRule = (snapshot: Kernel.Snapshot, rule: Kernel.Rule): Result.Result<Kernel.Snapshot, string> => {
  const found = snapshot.rules.find((other) => isSameRule(other, rule))
  // The kernel takes the first rule that has at least these selectors.
  const first = snapshot.rules.find((other) =>
    other.family === rule.family && other.priority === rule.priority && other.table === rule.table &&
    (rule.from === undefined || other.from === rule.from) && (rule.iif === undefined || other.iif === rule.iif) &&
    ((rule.mark ?? 0) === 0 || other.mark === rule.mark) && [0, maskOf(other)].includes(maskOf(rule)) &&
    (rule.goto === undefined) === (other.goto === undefined) &&
    Kernel.isSameTraffic({ ...other.traffic, ...rule.traffic }, other.traffic)
  )
  if (found !== undefined && first !== found) return Result.fail("a rule with more selectors stands before it")
  return Result.succeed({ ...snapshot, rules: snapshot.rules.filter((other) => other !== found) })
}

const replaceRoute = (snapshot: Kernel.Snapshot, wanted: Kernel.Route): Result.Result<Kernel.Snapshot, string> => {
  const route = { ...wanted, metric: wanted.family === "v6" && wanted.metric === 0 ? 1024 : wanted.metric }
  const hops: Array<Kernel.NextHop> = []
  for (const hop of route.hops) {
    const resolved = resolve(snapshot, route, hop)
    if (Result.isFailure(resolved)) return Result.fail(resolved.failure)
    hops.push(resolved.success)
  }
  if ((route.type === "unicast") !== (hops.length > 0)) return Result.fail("hops and type do not fit")
  if (route.family === "v6" && hops.length > 1) {
    if (hops.some((hop) => hop.via === undefined)) return Result.fail("each of several IPv6 hops needs a gateway")
    if (new Set(hops.map((hop) => `${hop.via} ${hop.link}`)).size < hops.length) return Result.fail("duplicate hop")
  }
  return Result.succeed({
    ...snapshot,
    routes: [...snapshot.routes.filter((other) => !isSameRoute(other, route)), { ...route, hops }]
  })
}

const resolve = (
  snapshot: Kernel.Snapshot,
  route: Kernel.Route,
  { link, via }: Kernel.NextHop
): Result.Result<Kernel.NextHop, string> => {
  if (link !== undefined && !snapshot.links.some((other) => other.name === link && other.up)) {
    return Result.fail(`${link} is absent or down`)
  }
  if (via === undefined) {
    return link === undefined
      ? Result.fail("a hop needs a gateway or a link")
      : Result.succeed({ link })
  }
  if (snapshot.addresses.some((address) => Cidr.ip(address.cidr) === via)) return Result.fail(`${via} is our own`)
  if (route.onlink) return link === undefined ? Result.fail("on-link needs a link") : Result.succeed({ via, link })
  const host = Cidr.host(via)
  // Of thousands of routes few are in the table.
  const connectedIn = (table: number): Kernel.Route | undefined => {
    let longest: Kernel.Route | undefined
    for (const other of snapshot.routes) {
      if (other.table !== table || !Cidr.contains(other.destination, host)) continue
      const isThere = other.hops.some((hop) => hop.via === undefined && (link === undefined || hop.link === link))
      const isLonger = longest === undefined || Cidr.length(other.destination) > Cidr.length(longest.destination)
      if (isThere && isLonger) longest = other
    }
    return longest
  }
  const connected = connectedIn(route.table) ?? connectedIn(mainTable)
  const through = link ?? connected?.hops[0]?.link
  return connected === undefined || through === undefined
    ? Result.fail(`${via} is not on a connected network`)
    : Result.succeed({ via, link: through })
}

const withoutNeighbour = (snapshot: Kernel.Snapshot, link: string, ip: Ip.Ip): ReadonlyArray<Kernel.Neighbour> =>
  snapshot.neighbours.filter((neighbour) => neighbour.link !== link || neighbour.ip !== ip)

// Small parts.

const has = (snapshot: Kernel.Snapshot, name: string): boolean => snapshot.links.some((link) => link.name === name)

const changeLink = (
  snapshot: Kernel.Snapshot,
  name: string,
  change: (link: Kernel.Link) => Kernel.Snapshot
): Result.Result<Kernel.Snapshot, string> => {
  const link = snapshot.links.find((link) => link.name === name)
  return link === undefined ? Result.fail(`no link ${name}`) : Result.succeed(change(link))
}

const refuseIf = (refused: boolean, reason: string) =>
(
  result: Result.Result<Kernel.Snapshot, string>
): Result.Result<Kernel.Snapshot, string> => refused ? Result.fail(reason) : result

const edit = (snapshot: Kernel.Snapshot, name: string, fields: Partial<Kernel.Link>): Kernel.Snapshot => ({
  ...snapshot,
  links: snapshot.links.map((link) => link.name === name ? { ...link, ...fields } : link)
})

const withoutMaster = (link: Kernel.Link): Kernel.Link => {
  const { master: _master, ...free } = link
  return free
}

const isSameNetwork = (a: Cidr.Cidr, b: Cidr.Cidr): boolean => Cidr.network(a) === Cidr.network(b)

const isSameConnection = (a: Kernel.Route, b: Kernel.Route): boolean =>
  isSameRoute(a, b) && a.protocol === kernelProtocol && a.hops[0]?.link === b.hops[0]?.link

const isSameRule = (a: Kernel.Rule, b: Kernel.Rule): boolean =>
  a.table === b.table && a.mark === b.mark && Same.equals(a, b)

/** The identity of a route: family, table, destination and metric. */
const isSameRoute = (a: Kernel.Route, b: Kernel.Route): boolean =>
  a.family === b.family && a.table === b.table && a.destination === b.destination && a.metric === b.metric
