/**
 * The words of Network Service Mesh: a connection between a client and an endpoint as every hop sees it, what is told
 * about connections, and who offers which service. Values are plain; absent lists are empty, never missing, so two
 * connections can be compared as they are. `shells/nsm/Wire.ts` translates to the messages of the api repository.
 */
import { Schema, SchemaGetter } from "effect"
import { Millis } from "../Machine.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"

/** Text by text: labels, mechanism parameters, metrics. */
export const Labels = Schema.Record(Schema.String, Schema.String)
export type Labels = typeof Labels.Type

/**
 * How packets cross one hop. For `LOCAL`/`KERNEL` the parameters are `inodeURL` (the namespace, `inode://<dev>/<ino>`)
 * and `name` (the interface, at most 15 bytes).
 */
export const Mechanism = Schema.Struct({ cls: Schema.String, type: Schema.String, parameters: Labels })
export type Mechanism = typeof Mechanism.Type

/** A route; without a next hop it goes to the first address of the opposite side in the same family. */
export const Route = Schema.Struct({ prefix: Cidr.Cidr, nextHop: Schema.optionalKey(Ip.Ip) })
export type Route = typeof Route.Type

/**
 * Routes for traffic that matches every given part; without routes the default route over the interface.
 * `proto` is a decimal IP protocol number, ports are `p` or `start-end`.
 */
export const Policy = Schema.Struct({
  from: Schema.optionalKey(Cidr.Cidr),
  proto: Schema.optionalKey(Schema.String),
  dstPort: Schema.optionalKey(Schema.String),
  srcPort: Schema.optionalKey(Schema.String),
  routes: Schema.Array(Route)
})
export type Policy = typeof Policy.Type

/** A neighbour entry; the MAC is as received, upper or lower case. */
export const Neighbour = Schema.Struct({ ip: Ip.Ip, mac: Schema.String })

/** Prefixes that a client asks for beyond its address. */
export const ExtraPrefixRequest = Schema.Struct({
  family: Ip.Family,
  prefixLength: Schema.Natural,
  required: Schema.Natural,
  requested: Schema.Natural
})

/** Source (`src`) is the side of the client, destination (`dst`) the side of the endpoint. */
export const IpContext = Schema.Struct({
  srcAddrs: Schema.Array(Cidr.Cidr),
  dstAddrs: Schema.Array(Cidr.Cidr),
  srcRequired: Schema.Boolean,
  dstRequired: Schema.Boolean,
  /** Installed at the client. */
  srcRoutes: Schema.Array(Route),
  /** Installed at the endpoint. */
  dstRoutes: Schema.Array(Route),
  excludedPrefixes: Schema.Array(Cidr.Cidr),
  neighbours: Schema.Array(Neighbour),
  extraPrefixRequests: Schema.Array(ExtraPrefixRequest),
  /** Meridio's proxy publishes its bridge addresses, the gateways of the targets, here. */
  extraPrefixes: Schema.Array(Cidr.Cidr),
  policies: Schema.Array(Policy)
})
export type IpContext = typeof IpContext.Type

/** The empty IP context, to be spread. */
export const emptyIp: IpContext = {
  srcAddrs: [],
  dstAddrs: [],
  srcRequired: false,
  dstRequired: false,
  srcRoutes: [],
  dstRoutes: [],
  excludedPrefixes: [],
  neighbours: [],
  extraPrefixRequests: [],
  extraPrefixes: [],
  policies: []
}

/** MACs are empty when unset; VLAN 0 is none. */
export const Ethernet = Schema.Struct({ srcMac: Schema.String, dstMac: Schema.String, vlan: Schema.Int })

export const Dns = Schema.Struct({ servers: Schema.Array(Schema.String), searchDomains: Schema.Array(Schema.String) })

/** What a connection carries. `mtu` in bytes, 0 is unset. */
export const Context = Schema.Struct({
  ip: IpContext,
  mtu: Schema.Natural,
  ethernet: Schema.optionalKey(Ethernet),
  dns: Schema.Array(Dns),
  extra: Labels
})
export type Context = typeof Context.Type

/** The empty context, to be spread. */
export const emptyContext: Context = { ip: emptyIp, mtu: 0, dns: [], extra: {} }

/**
 * A bearer's token: whoever reads it may act for its owner. It lives in memory and on the wire of NSM only: every
 * encoding of a value that holds one (recordings, state files, logs) leaves it empty, which counts as no token yet.
 * No decision depends on it, so a recording replays without it; each hop signs anew.
 */
export const Token = Schema.String.pipe(Schema.decodeTo(Schema.String, {
  decode: SchemaGetter.passthrough(),
  encode: SchemaGetter.transform(() => "")
}))

/** One hop of the way of a request. The token lets the next hop act for this one until `expiresAt`. */
export const PathSegment = Schema.Struct({
  name: Schema.String,
  id: Schema.String,
  token: Token,
  /** The SPIFFE id that the token claims. It outlives the token in encodings. */
  identity: Schema.optionalKey(Schema.String),
  expiresAt: Schema.optionalKey(Millis),
  metrics: Labels
})
export type PathSegment = typeof PathSegment.Type

/** The way of a request; `index` tells whose view this is. */
export const Path = Schema.Struct({ index: Schema.Natural, segments: Schema.Array(PathSegment) })
export type Path = typeof Path.Type

export const emptyPath: Path = { index: 0, segments: [] }

/**
 * `Up` is established, `Down` set by a monitor when a hop died, `RefreshRequested` asks the client to refresh,
 * `ReselectRequested` asks the server to close the old connection and choose an endpoint again.
 */
export const State = Schema.Literals(["Up", "Down", "RefreshRequested", "ReselectRequested"])
export type State = typeof State.Type

/** A connection. The id is unique at the hop that holds it; `path.segments[0].id` is the client's and lasts. */
export const Connection = Schema.Struct({
  id: Schema.String,
  networkService: Schema.String,
  mechanism: Schema.optionalKey(Mechanism),
  context: Context,
  labels: Labels,
  path: Path,
  /** Empty until an endpoint is chosen; set by the client to insist on one. */
  endpointName: Schema.String,
  /** `IP`, `ETHERNET` or empty. */
  payload: Schema.String,
  state: State
})
export type Connection = typeof Connection.Type

/** A connection as a client starts it: the id and the service, everything else empty; spread and override. */
export const connection = (id: string, networkService: string): Connection => ({
  id,
  networkService,
  context: emptyContext,
  labels: {},
  path: emptyPath,
  endpointName: "",
  payload: "",
  state: "Up"
})

/**
 * Why something cannot be had:
 * - `Unavailable`: nobody answers at the address; try again later.
 * - `Timeout`: the answer did not come in time; the outcome is unknown.
 * - `NotFound`: the service, an endpoint for it, or the namespace does not exist.
 * - `Denied`: the peer may not do this.
 * - `Conflict`: a name or an object is taken by another owner.
 * - `Invalid`: the request can never succeed as it is.
 * - `Failed`: the other side broke; its message says how.
 */
export const Reason = Schema.Literals(["Unavailable", "Timeout", "NotFound", "Denied", "Conflict", "Invalid", "Failed"])
export type Reason = typeof Reason.Type

/** A failure; the message is for people. */
export const Failure = Schema.Struct({ reason: Reason, message: Schema.String })
export type Failure = typeof Failure.Type

/** Told by a monitor: first everything (`Initial`, possibly nothing), then changes. Keys are ids at the sender. */
export const ConnectionEvent = Schema.Struct({
  type: Schema.Literals(["Initial", "Update", "Delete"]),
  connections: Schema.Record(Schema.String, Connection)
})
export type ConnectionEvent = typeof ConnectionEvent.Type

/** A pattern for one path segment; empty parts match everything. */
export const SegmentPattern = Schema.Struct({ name: Schema.String, id: Schema.String, token: Token })
export type SegmentPattern = typeof SegmentPattern.Type

/** Which connections a monitor wants. */
export const Selector = Schema.Struct({
  segments: Schema.Array(SegmentPattern),
  networkServices: Schema.Array(Schema.String)
})
export type Selector = typeof Selector.Type

/** The SPIFFE ids of those who took part in a registration, the owner first; absent in plain text. */
const PathIds = Schema.Array(Schema.String)

/** A registered network service endpoint. */
export const Endpoint = Schema.Struct({
  name: Schema.String,
  networkServices: Schema.Array(Schema.String),
  /** By service name. */
  labels: Schema.Record(Schema.String, Labels),
  /** Where it listens, for example `unix:///run/lb.sock`. */
  url: Schema.String,
  expiresAt: Schema.optionalKey(Millis),
  registeredAt: Schema.optionalKey(Millis),
  pathIds: Schema.optionalKey(PathIds)
})
export type Endpoint = typeof Endpoint.Type

/** Clients whose labels contain `source` may use endpoints whose labels contain one of `destinations`. */
export const Match = Schema.Struct({
  source: Labels,
  destinations: Schema.Array(Labels),
  fallthrough: Schema.Boolean,
  /** Labels that select the forwarder. */
  metadata: Schema.optionalKey(Labels)
})
export type Match = typeof Match.Type

/** A network service; endpoints of every owner share the object. Payload `IP` when empty. */
export const NetworkService = Schema.Struct({
  name: Schema.String,
  payload: Schema.String,
  matches: Schema.Array(Match),
  pathIds: Schema.optionalKey(PathIds)
})
export type NetworkService = typeof NetworkService.Type

/**
 * Whether a monitor with this selector is told about the connection: the service is listed or none is, and the
 * patterns are a contiguous run anywhere in the path. The position is not looked at, so the id of a client also finds
 * the records of later hops: see `clientRecord`. Source: api, `monitor_scope_selector_helpers.go`.
 */
export const selects = (selector: Selector, { networkService, path }: Connection): boolean => {
  const { networkServices, segments } = selector
  if (networkServices.length > 0 && !networkServices.includes(networkService)) return false
  if (segments.length === 0) return true
  return path.segments.some((_, start) =>
    segments.every((pattern, i) => {
      const segment = path.segments[start + i]
      return segment !== undefined && fits(pattern, segment)
    })
  )
}

/** The part of an event that a monitor with this selector gets, or undefined: only an `Initial` event may be empty. */
export const select = (selector: Selector, event: ConnectionEvent): ConnectionEvent | undefined => {
  const all = Object.entries(event.connections)
  const kept = all.filter(([, connection]) => selects(selector, connection))
  if (kept.length === 0 && event.type !== "Initial") return undefined
  return kept.length === all.length ? event : { type: event.type, connections: Object.fromEntries(kept) }
}

/**
 * The record that the manager next to the client `id` holds; of several the one refreshed last: upstream's managers keep
 * what a client left behind that came back with the same id and without its path, until it expires.
 */
export const clientRecord = (id: string, records: ReadonlyArray<Connection>): Connection | undefined =>
  records.filter(({ path }) => path.index === 1 && path.segments[0]?.id === id).reduce<Connection | undefined>(
    (latest, record) => latest === undefined || (refreshedTo(record) > refreshedTo(latest)) ? record : latest,
    undefined
  )

/** The record of this connection, in the client's view, at the manager next to it; never one that is left behind. */
export const recordOf = (
  { id, path: { segments } }: Connection,
  records: ReadonlyArray<Connection>
): Connection | undefined =>
  clientRecord(id, records.filter(({ path }) => segments[1] === undefined || path.segments[1]?.id === segments[1].id))

/** The first segment's id: the client's own id of the connection, unique on a machine. */
export const clientId = ({ id, path }: Connection): string => path.segments[0]?.id ?? id

/** Whether somebody with this SPIFFE id is on the way of the connection. */
export const involves = (identity: string, { path }: Connection): boolean =>
  path.segments.some((segment) => segment.identity === identity)

/** The name of the interface, once a kernel mechanism names one. */
export const interfaceName = ({ mechanism }: Connection): string | undefined => mechanism?.parameters["name"]

/** The mechanism of an interface in the kernel: its namespace, and its name if it is to have a certain one. */
export const kernelMechanism = (inodeURL: string, name?: string): Mechanism => ({
  cls: "LOCAL",
  type: "KERNEL",
  parameters: { ...(inodeURL === "" ? {} : { inodeURL }), ...(name === undefined ? {} : { name }) }
})

/** Whether it is a mechanism of an interface in the kernel. */
export const isKernel = (mechanism: Mechanism | undefined): mechanism is Mechanism =>
  mechanism?.type === "KERNEL" && mechanism.cls === "LOCAL"

/** The namespace that a kernel mechanism names, `inode://<dev>/<ino>`. */
export const netns = ({ mechanism }: Connection): string | undefined => mechanism?.parameters["inodeURL"]

/** When the first token of the path expires: the connection must be refreshed well before. */
export const expiresAt = ({ path }: Connection): Millis | undefined => {
  const known = path.segments.flatMap(({ expiresAt }) => expiresAt === undefined ? [] : [expiresAt])
  return known.length === 0 ? undefined : Math.min(...known)
}

const refreshedTo = ({ path }: Connection): Millis => path.segments[0]?.expiresAt ?? 0

const fits = (pattern: SegmentPattern, segment: PathSegment): boolean =>
  (pattern.name === "" || pattern.name === segment.name)
  && (pattern.id === "" || pattern.id === segment.id)
  && (pattern.token === "" || pattern.token === segment.token)
