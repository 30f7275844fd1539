/**
 * Between the words of `core/nsm` and the messages of the networkservicemesh api.
 *
 * Addresses and prefixes that cannot be read are skipped, as upstream does; what the domain does not know is lost.
 */
import { Result } from "effect"
import { Cidr, Ip } from "../../core/net/index.ts"
import * as Model from "../../core/nsm/Model.ts"
import * as Token from "../../core/nsm/Token.ts"
import * as C from "../../proto/gen/connection.ts"
import * as X from "../../proto/gen/connectioncontext.ts"
import type { Timestamp } from "../../proto/gen/google/protobuf/timestamp.ts"
import type * as R from "../../proto/gen/registry.ts"

const states = ["Up", "Down", "RefreshRequested", "ReselectRequested"] as const
const eventTypes = ["Initial", "Update", "Delete"] as const

/** A connection out of a message. */
export const connectionFrom = (message: C.Connection | undefined): Model.Connection => ({
  id: message?.id ?? "",
  networkService: message?.networkService ?? "",
  ...(message?.mechanism === undefined ? {} : { mechanism: mechanismFrom(message.mechanism) }),
  context: contextFrom(message?.context),
  labels: message?.labels ?? {},
  path: {
    index: message?.path?.index ?? 0,
    segments: message?.path?.pathSegments.map(segmentFrom) ?? []
  },
  endpointName: message?.networkServiceEndpointName ?? "",
  payload: message?.payload ?? "",
  state: states[message?.state ?? 0] ?? "Up"
})

/** A connection as a message. */
export const connectionTo = (connection: Model.Connection): C.Connection => ({
  id: connection.id,
  networkService: connection.networkService,
  mechanism: connection.mechanism,
  context: contextTo(connection.context),
  labels: connection.labels,
  path: { index: connection.path.index, pathSegments: connection.path.segments.map(segmentTo) },
  networkServiceEndpointName: connection.endpointName,
  payload: connection.payload,
  state: stateTo[connection.state]
})

const stateTo = {
  Up: C.State.UP,
  Down: C.State.DOWN,
  RefreshRequested: C.State.REFRESH_REQUESTED,
  ReselectRequested: C.State.RESELECT_REQUESTED
} as const

/** A mechanism out of a message; the other way they are alike. */
export const mechanismFrom = ({ cls, parameters, type }: C.Mechanism): Model.Mechanism => ({ cls, type, parameters })

const segmentFrom = ({ expires, id, metrics, name, token }: C.PathSegment): Model.PathSegment => ({
  name,
  id,
  token,
  ...(token === "" ? {} : identityIn(token)),
  ...(expires === undefined ? {} : { expiresAt: millisOf(expires) }),
  metrics
})

const identityIn = (token: string): Pick<Model.PathSegment, "identity"> =>
  Result.match(Token.decode(token), {
    onFailure: () => ({}),
    onSuccess: ({ claims }) => ({ identity: claims.sub })
  })

const segmentTo = ({ expiresAt, id, metrics, name, token }: Model.PathSegment): C.PathSegment => ({
  name,
  id,
  token,
  expires: timestampOf(expiresAt),
  metrics
})

const contextFrom = (message: X.ConnectionContext | undefined): Model.Context => ({
  ip: ipFrom(message?.ipContext),
  mtu: message?.MTU ?? 0,
  ...(message?.ethernetContext === undefined ? {} : {
    ethernet: {
      srcMac: message.ethernetContext.srcMac,
      dstMac: message.ethernetContext.dstMac,
      vlan: message.ethernetContext.vlanTag
    }
  }),
  dns: message?.dnsContext?.configs.map(({ dnsServerIps, searchDomains }) => ({
    servers: dnsServerIps,
    searchDomains
  })) ?? [],
  extra: message?.extraContext ?? {}
})

const contextTo = ({ dns, ethernet, extra, ip, mtu }: Model.Context): X.ConnectionContext => ({
  ipContext: ipTo(ip),
  dnsContext: dns.length === 0
    ? undefined
    : { configs: dns.map(({ searchDomains, servers }) => ({ dnsServerIps: servers, searchDomains })) },
  ethernetContext: ethernet && { srcMac: ethernet.srcMac, dstMac: ethernet.dstMac, vlanTag: ethernet.vlan },
  extraContext: extra,
  MTU: mtu
})

const ipFrom = (message: X.IPContext | undefined): Model.IpContext =>
  message === undefined ? Model.emptyIp : {
    srcAddrs: cidrs(message.srcIpAddrs),
    dstAddrs: cidrs(message.dstIpAddrs),
    srcRequired: message.srcIpRequired,
    dstRequired: message.dstIpRequired,
    srcRoutes: message.srcRoutes.flatMap(routeFrom),
    dstRoutes: message.dstRoutes.flatMap(routeFrom),
    excludedPrefixes: cidrs(message.excludedPrefixes),
    neighbours: message.ipNeighbors.flatMap(({ hardwareAddress, ip }) =>
      Result.match(Ip.parse(ip), {
        onFailure: () => [],
        onSuccess: (address) => [{ ip: address, mac: hardwareAddress }]
      })
    ),
    extraPrefixRequests: message.extraPrefixRequest.map((request) => ({
      family: request.addrFamily?.family === X.IpFamily_Family.IPV6 ? "v6" : "v4",
      prefixLength: request.prefixLen,
      required: request.requiredNumber,
      requested: request.requestedNumber
    })),
    extraPrefixes: cidrs(message.extraPrefixes),
    policies: message.policies.flatMap(policyFrom)
  }

const ipTo = (ip: Model.IpContext): X.IPContext => ({
  srcIpAddrs: ip.srcAddrs,
  dstIpAddrs: ip.dstAddrs,
  srcIpRequired: ip.srcRequired,
  dstIpRequired: ip.dstRequired,
  srcRoutes: ip.srcRoutes.map(routeTo),
  dstRoutes: ip.dstRoutes.map(routeTo),
  excludedPrefixes: ip.excludedPrefixes,
  ipNeighbors: ip.neighbours.map(({ ip, mac }) => ({ ip, hardwareAddress: mac })),
  extraPrefixRequest: ip.extraPrefixRequests.map((request) => ({
    addrFamily: { family: request.family === "v6" ? X.IpFamily_Family.IPV6 : X.IpFamily_Family.IPV4 },
    prefixLen: request.prefixLength,
    requiredNumber: request.required,
    requestedNumber: request.requested
  })),
  extraPrefixes: ip.extraPrefixes,
  policies: ip.policies.map(policyTo)
})

/** A policy whose source cannot be read is skipped: without the source it would catch all traffic. */
const policyFrom = (message: X.PolicyRoute): ReadonlyArray<Model.Policy> => {
  const [from] = cidrs([message.from])
  return message.from !== "" && from === undefined ? [] : [{
    ...(from === undefined ? {} : { from }),
    ...(message.proto === "" ? {} : { proto: message.proto }),
    ...(message.dstPort === "" ? {} : { dstPort: message.dstPort }),
    ...(message.srcPort === "" ? {} : { srcPort: message.srcPort }),
    routes: message.routes.flatMap(routeFrom)
  }]
}

const policyTo = ({ dstPort, from, proto, routes, srcPort }: Model.Policy): X.PolicyRoute => ({
  from: from ?? "",
  proto: proto ?? "",
  dstPort: dstPort ?? "",
  srcPort: srcPort ?? "",
  routes: routes.map(routeTo)
})

const routeFrom = ({ nextHop, prefix }: X.Route): ReadonlyArray<Model.Route> => {
  const hop = nextHop === "" ? undefined : Ip.parse(nextHop)
  if (hop !== undefined && Result.isFailure(hop)) return []
  return cidrs([prefix]).map((prefix) => ({ prefix, ...(hop === undefined ? {} : { nextHop: hop.success }) }))
}

const routeTo = ({ nextHop, prefix }: Model.Route): X.Route => ({ prefix, nextHop: nextHop ?? "" })

const cidrs = (texts: ReadonlyArray<string>): ReadonlyArray<Cidr.Cidr> =>
  texts.map(Cidr.parse).filter(Result.isSuccess).map(({ success }) => success)

/** What a monitor tells, out of a message. */
export const eventFrom = ({ connections, type }: C.ConnectionEvent): Model.ConnectionEvent => ({
  type: eventTypes[type] ?? "Update",
  connections: mapValues(connections, connectionFrom)
})

/** What a monitor tells, as a message. */
export const eventTo = ({ connections, type }: Model.ConnectionEvent): C.ConnectionEvent => ({
  type: {
    Initial: C.ConnectionEventType.INITIAL_STATE_TRANSFER,
    Update: C.ConnectionEventType.UPDATE,
    Delete: C.ConnectionEventType.DELETE
  }[type],
  connections: mapValues(connections, connectionTo)
})

/** Which connections a monitor wants, out of a message. */
export const selectorFrom = ({ networkServices, pathSegments }: C.MonitorScopeSelector): Model.Selector => ({
  segments: pathSegments.map(({ id, name, token }) => ({ id, name, token })),
  networkServices
})

/** Which connections a monitor wants, as a message. */
export const selectorTo = ({ networkServices, segments }: Model.Selector): C.MonitorScopeSelector => ({
  pathSegments: segments.map((pattern) => ({ ...pattern, expires: undefined, metrics: {} })),
  networkServices
})

/** A registration out of a message. */
export const endpointFrom = (message: R.NetworkServiceEndpoint | undefined): Model.Endpoint => ({
  name: message?.name ?? "",
  networkServices: message?.networkServiceNames ?? [],
  labels: mapValues(message?.networkServiceLabels ?? {}, ({ labels }) => labels),
  url: message?.url ?? "",
  ...(message?.expirationTime === undefined ? {} : { expiresAt: millisOf(message.expirationTime) }),
  ...(message?.initialRegistrationTime === undefined
    ? {}
    : { registeredAt: millisOf(message.initialRegistrationTime) }),
  ...pathIdsFrom(message)
})

const pathIdsFrom = (message: { readonly pathIds: ReadonlyArray<string> } | undefined) =>
  message === undefined || message.pathIds.length === 0 ? {} : { pathIds: message.pathIds }

/** A registration as a message. */
export const endpointTo = (endpoint: Model.Endpoint): R.NetworkServiceEndpoint => ({
  name: endpoint.name,
  networkServiceNames: endpoint.networkServices,
  networkServiceLabels: mapValues(endpoint.labels, (labels) => ({ labels })),
  url: endpoint.url,
  expirationTime: timestampOf(endpoint.expiresAt),
  initialRegistrationTime: timestampOf(endpoint.registeredAt),
  pathIds: endpoint.pathIds ?? []
})

/** A definition out of a message. */
export const serviceFrom = (message: R.NetworkService | undefined): Model.NetworkService => ({
  name: message?.name ?? "",
  payload: message?.payload ?? "",
  matches: message?.matches.map(({ fallthrough, metadata, routes, sourceSelector }) => ({
    source: sourceSelector,
    destinations: routes.map(({ destinationSelector }) => destinationSelector),
    fallthrough,
    ...(metadata === undefined ? {} : { metadata: metadata.labels })
  })) ?? [],
  ...pathIdsFrom(message)
})

/** A definition as a message; weights are ignored by everybody. */
export const serviceTo = ({ matches, name, pathIds = [], payload }: Model.NetworkService): R.NetworkService => ({
  name,
  payload,
  matches: matches.map(({ destinations, fallthrough, metadata, source }) => ({
    sourceSelector: source,
    routes: destinations.map((destinationSelector) => ({ destinationSelector, weight: 0 })),
    fallthrough,
    metadata: metadata && { labels: metadata }
  })),
  pathIds
})

const millisOf = ({ nanos, seconds }: Timestamp): number => Number(seconds) * 1000 + Math.floor(nanos / 1_000_000)

const timestampOf = (millis: number | undefined): Timestamp | undefined =>
  millis === undefined
    ? undefined
    : { seconds: BigInt(Math.floor(millis / 1000)), nanos: Math.floor(((millis % 1000) + 1000) % 1000) * 1_000_000 }

const mapValues = <A, B>(record: { readonly [key: string]: A }, f: (value: A) => B): { [key: string]: B } =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, f(value)]))
