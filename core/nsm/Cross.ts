/**
 * What a connection means for the kernel: one veth pair, an end in each namespace, with addresses, routes and policies.
 *
 * Both ends carry the alias `nsm:<manager>/<client id>`; MACs follow from the client id, so they survive re-plumbing and
 * neighbours need not learn them again (Meridio#542). Tables of policies lie in a range that follows from the manager's
 * name, so that no manager takes what is another's.
 *
 * Source: api, `ipcontext_helpers.go`; sdk-kernel, `ipcontext`; deviations are marked "ours".
 */
import { Result, Schema } from "effect"
import * as Memo from "../Memo.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Kernel from "../net/Kernel.ts"
import * as Model from "./Model.ts"

/** The routes of one policy and the table that holds them. Without `from` it is for every source of both families. */
export const PolicyTable = Schema.Struct({
  from: Schema.optionalKey(Cidr.Cidr),
  traffic: Schema.optionalKey(Kernel.Traffic),
  table: Schema.Natural,
  routes: Schema.Array(Model.Route)
})
export type PolicyTable = typeof PolicyTable.Type

/** One end of the pair. */
export const End = Schema.Struct({
  /** The namespace, `inode://<dev>/<ino>`. */
  netns: Schema.String,
  link: Kernel.LinkName,
  mac: Kernel.Mac,
  /** Bytes; 0 leaves the kernel's default. */
  mtu: Schema.Natural,
  addresses: Schema.Array(Cidr.Cidr),
  /** In the main table; without a next hop on the link. */
  routes: Schema.Array(Model.Route),
  policies: Schema.Array(PolicyTable),
  neighbours: Schema.Array(Schema.Struct({ ip: Ip.Ip, mac: Kernel.Mac }))
})
export type End = typeof End.Type

/** A connection in the kernel. */
export const Cross = Schema.Struct({
  alias: Schema.String,
  client: End,
  endpoint: End,
  /** Where it was before and may have left links, and rules with these tables. */
  left: Schema.optionalKey(Schema.Array(Schema.Struct({ netns: Schema.String, tables: Schema.Array(Schema.Natural) })))
})
export type Cross = typeof Cross.Type

/** What a cross connect is made of. */
export interface Parts {
  readonly manager: string
  /** With the client's mechanism. */
  readonly connection: Model.Connection
  /** As the endpoint answered it. */
  readonly endpoint: Model.Mechanism
  /** The cross connect that stands: its tables are kept for equal sources. */
  readonly previous?: Cross
  /** Tables that other connections use in the client's namespace. */
  readonly taken: () => ReadonlySet<number>
}

/** The alias that marks the links of a connection. IFLA_IFALIAS holds 255 bytes. */
export const alias = (manager: string, clientId: string): string => `${aliasPrefix(manager)}${clientId}`.slice(0, 255)

/** What the aliases of a manager's links begin with. */
export const aliasPrefix = (manager: string): string => `nsm:${manager}/`

/** Routing tables of a manager's policies: `[first, end)`. */
export const tables = (manager: string): readonly [first: number, end: number] => {
  const first = 78_000_000 + Number(hash(manager) % 1_000n) * 10_000
  return [first, first + 10_000]
}

/** The priority of policy rules for a source; the more a rule says about protocol and ports, the earlier it is asked. */
export const rulePriority = 15_000

/** The priority of a rule for such traffic. */
export const priorityOf = (traffic: Kernel.Traffic = {}): number => rulePriority - Object.keys(traffic).length

/** Whether a rule has a priority of ours; with the table range that marks it as ours. */
export const isPriority = (priority: number): boolean => priority <= rulePriority && priority >= rulePriority - 3

/** What the kernel should hold for the connection; the failure names what cannot be done. */
export const make = (parts: Parts): Result.Result<Cross, string> => {
  const { connection, manager } = parts
  const { context, mechanism, payload } = connection
  const sketch = drawn({
    id: Model.clientId(connection),
    context,
    mechanism,
    payload,
    endpoint: parts.endpoint,
    manager
  })
  if (Result.isFailure(sketch)) return Result.fail(sketch.failure)
  const { policies: wanted, ...cross } = sketch.success
  const policies = allocate(parts, wanted)
  return policies === undefined
    ? Result.fail(`no routing table is free in the range of manager "${manager}"`)
    : Result.succeed({ ...cross, client: { ...cross.client, policies } })
}

/** What everything but the tables follows from. */
interface Grounds extends Pick<Model.Connection, "context" | "payload"> {
  readonly id: string
  readonly mechanism: Model.Mechanism | undefined
  readonly endpoint: Model.Mechanism
  readonly manager: string
}

interface Sketch extends Cross {
  /** Of the client, without their tables. */
  readonly policies: ReadonlyArray<Policy>
}

type Policy = Omit<PolicyTable, "table">

// Most requests are refreshes, which repeat what was agreed.
const drawn = Memo.last(({ context }: Grounds) => context, (grounds): Result.Result<Sketch, string> => {
  const { context: { ethernet, ip, mtu }, endpoint, id, manager, mechanism, payload } = grounds
  const client = mechanism?.parameters ?? {}
  const links = [client["name"] ?? "", endpoint.parameters["name"] ?? ""] as const
  const wrong = links.filter((name) => !isLinkName(name))
  if (wrong.length > 0) {
    return Result.fail(`interface name "${wrong[0]}" is not 1 to 15 characters without / : or space`)
  }
  const vlan = ethernet?.vlan || Number(endpoint.parameters["vlan"] ?? 0)
  if (vlan > 0) {
    return Result.fail(
      `VLAN ${vlan} is asked for, but this forwarder makes untagged interfaces: use an endpoint without VLAN`
    )
  }
  const policies = Result.all(ip.policies.map(readPolicy))
  if (Result.isFailure(policies)) return Result.fail(policies.failure)
  const macs = [
    macOf(ethernet?.srcMac, `${id}/client`),
    macOf(ethernet?.dstMac, `${id}/endpoint`)
  ] as const
  const isIpPayload = payload === "IP"
  return Result.succeed({
    policies: policies.success,
    alias: alias(manager, id),
    client: {
      netns: client["inodeURL"] ?? "",
      link: links[0],
      mac: macs[0],
      mtu,
      addresses: unique(ip.srcAddrs),
      routes: [...linkRoutes(ip.dstAddrs, ip.srcAddrs), ...complete(ip.srcRoutes, ip.dstAddrs)],
      policies: [],
      neighbours: neighbours(ip, ip.srcAddrs, isIpPayload ? ip.dstAddrs : [], macs[1])
    },
    endpoint: {
      netns: endpoint.parameters["inodeURL"] ?? "",
      link: links[1],
      mac: macs[1],
      mtu,
      addresses: unique(ip.dstAddrs),
      // Ours: an address that is the source of a policy is no link route, or targets with equal VIPs would steal it.
      routes: [
        ...linkRoutes(ip.srcAddrs.filter((cidr) => !ip.policies.some(({ from }) => from === cidr)), ip.dstAddrs),
        ...complete(ip.dstRoutes, ip.srcAddrs)
      ],
      policies: [],
      neighbours: neighbours(ip, ip.dstAddrs, isIpPayload ? ip.srcAddrs : [], macs[0])
    }
  })
})

/**
 * The opposite addresses, and those that the context lists; a side is no neighbour of its own addresses. Ours: entries
 * are permanent, where upstream's may be forgotten.
 */
const neighbours = (
  context: Model.IpContext,
  own: ReadonlyArray<Cidr.Cidr>,
  opposite: ReadonlyArray<Cidr.Cidr>,
  mac: string
): End["neighbours"] => {
  const known = new Map<Ip.Ip, string>(unique(opposite).map((cidr) => [Cidr.ip(cidr), mac]))
  for (const { ip, mac } of context.neighbours) if (isMac(mac.toLowerCase())) known.set(ip, mac.toLowerCase())
  for (const cidr of own) known.delete(Cidr.ip(cidr))
  return [...known].map(([ip, mac]) => ({ ip, mac }))
}

/** The namespaces in which something of the cross connect may stand. */
export const namespaces = ({ client, endpoint, left = [] }: Cross): ReadonlyArray<string> =>
  unique([client.netns, endpoint.netns, ...left.map(({ netns }) => netns)])

/** The tables that the cross connect may use in the namespace. */
export const tablesIn = (netns: string, { client, left = [] }: Cross): ReadonlyArray<number> => [
  ...(client.netns === netns ? client.policies.map(({ table }) => table) : []),
  ...left.flatMap((place) => place.netns === netns ? place.tables : [])
]

/** What may stand in the kernel when a change from the first to the second broke off half-way. */
export const union = (previous: Cross, next: Cross): Cross => {
  const united: Cross = {
    alias: next.alias,
    client: unionOf(previous.client, next.client),
    endpoint: unionOf(previous.endpoint, next.endpoint)
  }
  const left = namespaces(previous).flatMap((netns) => {
    const known = tablesIn(netns, united)
    const tables = tablesIn(netns, previous).filter((table) => !known.includes(table))
    return tables.length === 0 && namespaces(united).includes(netns) ? [] : [{ netns, tables }]
  })
  return left.length === 0 ? united : { ...united, left }
}

const unionOf = (previous: End, next: End): End =>
  previous.netns === next.netns
    ? {
      ...next,
      addresses: unique([...next.addresses, ...previous.addresses]),
      routes: [...next.routes, ...previous.routes],
      policies: [
        ...next.policies,
        ...previous.policies.filter(({ table }) => !next.policies.some((policy) => policy.table === table))
      ],
      neighbours: [
        ...next.neighbours,
        ...previous.neighbours.filter(({ ip }) => !next.neighbours.some((neighbour) => neighbour.ip === ip))
      ]
    }
    : next

/** One route per opposite address that no own network reaches. */
const linkRoutes = (
  opposite: ReadonlyArray<Cidr.Cidr>,
  own: ReadonlyArray<Cidr.Cidr>
): ReadonlyArray<Model.Route> =>
  unique(opposite)
    .filter((cidr) => !own.some((network) => Cidr.contains(network, Cidr.host(Cidr.ip(cidr)))))
    .map((cidr) => ({ prefix: Cidr.network(cidr) }))

/** Fills in the first opposite address of the family as next hop, unless the opposite networks hold the prefix. */
const complete = (
  routes: ReadonlyArray<Model.Route>,
  opposite: ReadonlyArray<Cidr.Cidr>
): ReadonlyArray<Model.Route> =>
  routes.map((route) => {
    const prefix = Cidr.network(route.prefix)
    if (route.nextHop !== undefined) return { prefix, nextHop: route.nextHop }
    const first = opposite.find((cidr) => Cidr.family(cidr) === Cidr.family(prefix))
    const onLink = opposite.some((network) => Cidr.contains(network, Cidr.host(Cidr.ip(route.prefix))))
    return first === undefined || onLink ? { prefix } : { prefix, nextHop: Cidr.ip(first) }
  })

const allocate = (
  { connection, manager, previous, taken }: Parts,
  policies: ReadonlyArray<Policy>
): ReadonlyArray<PolicyTable> | undefined => {
  const [first, end] = tables(manager)
  // Tables of another namespace may be somebody else's in this one.
  const kept = previous?.client.netns === Model.netns(connection) ? previous?.client.policies ?? [] : []
  let used: Set<number> | undefined
  const lowest = (): number => {
    used ??= new Set([...taken(), ...kept.map(({ table }) => table)])
    let table = first
    while (used.has(table)) table++
    used.add(table)
    return table
  }
  const allocated: Array<PolicyTable> = []
  for (const policy of policies) {
    // Two policies for the same packets would fight for them: their routes share the table.
    const same = allocated.findIndex((other) => isForSame(policy, other))
    const found = allocated[same]
    if (found !== undefined) {
      allocated[same] = { ...found, routes: [...found.routes, ...policy.routes] }
      continue
    }
    const table = kept.find((other) => isForSame(policy, other))?.table ?? lowest()
    if (table >= end) return undefined
    allocated.push({ ...policy, table })
  }
  return allocated
}

const isForSame = (a: Policy, b: PolicyTable): boolean =>
  a.from === b.from && Kernel.isSameTraffic(a.traffic, b.traffic)

const readPolicy = (
  { dstPort, from, proto, routes, srcPort }: Model.Policy
): Result.Result<Policy, string> =>
  Result.gen(function*() {
    const protocol = proto === undefined ? undefined : yield* readProtocol(proto)
    const sourcePorts = srcPort === undefined ? undefined : yield* readPorts("src_port", srcPort)
    const destinationPorts = dstPort === undefined ? undefined : yield* readPorts("dst_port", dstPort)
    const traffic = {
      ...(protocol === undefined ? {} : { protocol }),
      ...(sourcePorts === undefined ? {} : { sourcePorts }),
      ...(destinationPorts === undefined ? {} : { destinationPorts })
    }
    return {
      ...(from === undefined ? {} : { from }),
      ...(Object.keys(traffic).length === 0 ? {} : { traffic }),
      routes: routes.map(({ prefix, ...rest }) => ({ ...rest, prefix: Cidr.network(prefix) }))
    }
  })

const readProtocol = (text: string): Result.Result<number, string> => {
  const number = /^\d{1,3}$/.test(text) ? Number(text) : 0
  return number >= 1 && number <= 255
    ? Result.succeed(number)
    : Result.fail(`proto "${text}" of a policy is not the number of an IP protocol, 1 to 255 (6 is TCP, 17 is UDP)`)
}

const readPorts = (field: string, text: string): Result.Result<Kernel.Ports, string> => {
  const [, first = "", last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? []
  const ports = { first: Number(first), last: Number(last) }
  return isPorts(ports) && ports.first <= ports.last
    ? Result.succeed(ports)
    : Result.fail(
      `${field} "${text}" of a policy is neither a port that the kernel can select, 1 to 65534, nor a range of them, like 80-90`
    )
}

/** A locally administered address that follows from the text, unless a valid one is given. */
const macOf = (given: string | undefined, text: string): string => {
  const lower = given?.toLowerCase()
  return isMac(lower) ? lower : derived(text)
}

// Each client is asked about for as long as it stays.
const derived = Memo.text((text: string): string => {
  const digits = hash(text).toString(16).padStart(16, "0").slice(-10)
  return `02:${digits.match(/../g)?.join(":") ?? ""}`
})

/** FNV-1a with 64 bits. */
const hash = (text: string): bigint => {
  let value = 0xcbf29ce484222325n
  for (const character of text) {
    value = BigInt.asUintN(64, (value ^ BigInt(character.codePointAt(0) ?? 0)) * 0x100000001b3n)
  }
  return value
}

const unique = <A>(items: ReadonlyArray<A>): ReadonlyArray<A> => [...new Set(items)]

const isPorts = Schema.is(Kernel.Ports)
const isLinkName = Schema.is(Kernel.LinkName)
const isMac = Schema.is(Kernel.Mac)
