/**
 * Decides which load balancers the proxy is connected with: with every endpoint of the conduit's service, once.
 *
 *     absent ──found──▶ Probing ──▶ Leasing ──granted──▶ Requesting ──ok──▶ Connected (up or down)
 *                                      ▲                   │ failed             │
 *                                      └───── Waiting ◀────┘                    │
 *     any ──gone──▶ Closing ──closed──▶ absent (or Probing, if it was found again)
 *                    ▲   │ failed
 *                    └─ Lingering ──no manager can know it any more──▶ absent
 *
 * Probing asks for a connection from before a restart. It is taken over as it stands, with its interface, so that no
 * packet is lost; only one that is down is asked for anew. Refreshing and healing is done by the SDK, which reports
 * changes.
 *
 * 1. One connection and at most one request in flight per endpoint; ids follow from (pod, service, endpoint).
 * 2. Once everything is answered, the connected set is the set of endpoints.
 * 3. A lease is released once for each close, after it, never while the manager may keep the connection.
 *
 * Source: Meridio `cmd/proxy/internal/client/fullmesh.go`, where a request that hangs holds up all others.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import * as Memo from "../Memo.ts"
import { Cidr, Kernel } from "../net/index.ts"
import * as Nsm from "../nsm/Model.ts"
import * as Same from "../Same.ts"
import * as IpContext from "./IpContext.ts"
import { Pair, type Port } from "./Model.ts"

const Settings = Schema.Struct({
  name: Schema.NonEmptyString,
  networkService: Schema.NonEmptyString,
  mtu: Schema.Natural,
  requestRetryMs: Machine.Millis,
  expiryGraceMs: Machine.Millis,
  tokenLifetimeMs: Machine.Millis
})
type Settings = typeof Settings.Type

/** The pause before a failed close is repeated: it doubles from the first to the longest. */
const lingerMs = { first: 1_000, longest: 60_000 }

/** What the kernel plan needs of an established connection. */
const Attachment = Schema.Struct({
  /** Absent if the connection names no interface that can exist. */
  link: Schema.optionalKey(Kernel.LinkName),
  /** The load balancer's addresses, the next hops. */
  remotes: Schema.Array(Cidr.Cidr)
})
type Attachment = typeof Attachment.Type

const leaving = {
  /** The pause before a close that fails is repeated. */
  pauseMs: Schema.Natural,
  /** Then the manager has forgotten the connection by itself. */
  giveUpAt: Machine.Millis,
  attachment: Schema.optionalKey(Attachment)
}

const Phase = Schema.TaggedUnion({
  Probing: { call: Machine.Call },
  Leasing: { adopted: Schema.optionalKey(Nsm.Connection) },
  Requesting: { call: Machine.Call, adopted: Schema.optionalKey(Nsm.Connection), pair: Pair },
  Waiting: { retryAt: Machine.Millis, adopted: Schema.optionalKey(Nsm.Connection) },
  Connected: { up: Schema.Boolean, pair: Pair, attachment: Attachment },
  /** `again`: found again in the meantime. */
  Closing: { ...leaving, call: Machine.Call, again: Schema.Boolean },
  /** The last close failed. */
  Lingering: { ...leaving, retryAt: Machine.Millis }
})
type Phase = typeof Phase.Type

/** The connection with one load balancer. */
export const Link = Schema.Struct({
  /** The name of the endpoint, unique. */
  endpoint: Schema.String,
  /** The id of the connection. */
  id: Schema.String,
  phase: Phase
})
export type Link = typeof Link.Type

export const State = Schema.Struct({
  settings: Settings,
  call: Machine.Call,
  closing: Schema.Boolean,
  links: Schema.Array(Link)
})
export type State = typeof State.Type

export const Event = Schema.TaggedUnion({
  /** All endpoints there are. */
  EndpointsChanged: { endpoints: Schema.Array(Nsm.Endpoint) },
  /** The addresses for a connection. */
  LeaseGranted: { id: Schema.String, pair: Pair },
  /** The SDK refreshed, lost or healed a connection. */
  ConnectionChanged: { id: Schema.String, connection: Nsm.Connection },
  CloseRequested: {},
  QuerySucceeded: { call: Machine.Call, connection: Schema.optionalKey(Nsm.Connection) },
  QueryFailed: { call: Machine.Call, reason: Schema.String },
  RequestSucceeded: { call: Machine.Call, connection: Nsm.Connection },
  RequestFailed: { call: Machine.Call, reason: Schema.String },
  CloseSucceeded: { call: Machine.Call },
  CloseFailed: { call: Machine.Call, reason: Schema.String }
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  /** Asks the manager for a connection from before a restart. */
  QueryConnection: { call: Machine.Call, id: Schema.String },
  RequestConnection: { call: Machine.Call, connection: Nsm.Connection, link: Schema.optionalKey(Kernel.LinkName) },
  /** Reports every change of an established connection until it is closed. */
  WatchConnection: { id: Schema.String },
  CloseConnection: { call: Machine.Call, id: Schema.String },
  Cancel: { call: Machine.Call },
  /** To whoever has the addresses. */
  AcquireLease: { id: Schema.String },
  ReleaseLease: { id: Schema.String }
})
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

export const init = (settings: Settings): Step => [{ settings, call: 0, closing: false, links: [] }, []]

export const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "EndpointsChanged":
      return state.closing ? Machine.stay(state) : compare(state, event.endpoints, now)
    case "CloseRequested":
      return state.closing ? Machine.stay(state) : compare({ ...state, closing: true }, [], now)
    case "QuerySucceeded":
    case "QueryFailed":
      return probed(state, event)
    case "LeaseGranted":
      return granted(state, event)
    case "RequestSucceeded":
    case "RequestFailed":
      return requested(state, event, now)
    case "ConnectionChanged":
      return changed(state, event)
    case "CloseSucceeded":
    case "CloseFailed":
      return closed(state, event, now)
    case "Woken":
      return each(state, state.links, (state, link) => {
        const { phase } = link
        if (!("retryAt" in phase) || phase.retryAt > now) return Machine.stay(state)
        return phase._tag === "Waiting" ? lease(state, link, phase.adopted) : giveBack(state, link, phase)
      })
  }
}

export const wake = (state: State): Machine.Millis | undefined =>
  Machine.earliest(...state.links.map(({ phase }) => "retryAt" in phase ? phase.retryAt : undefined))

/** Whether at least one load balancer is connected. */
export const hasEgress = (state: State): boolean =>
  state.links.some(({ phase }) => phase._tag === "Connected" && phase.up)

/** Whether every endpoint has been connected or has failed at least once. */
export const isSettled = (state: State): boolean =>
  state.links.every(({ phase: { _tag } }) => _tag !== "Probing" && _tag !== "Leasing" && _tag !== "Requesting")

/** The interfaces of the connections. */
export const ports: (state: State) => ReadonlyArray<Port> = Memo.each(({ links }) => links.flatMap(portsOf))

const portsOf: (link: Link) => ReadonlyArray<Port> = Memo.each(({ phase }) => {
  const { link, remotes } = ("attachment" in phase ? phase.attachment : undefined) ?? { remotes: [] }
  const isLive = phase._tag === "Connected" && phase.up
  return link === undefined ? [] : [{ link, role: "LoadBalancer", remotes, phase: isLive ? "Live" : "Closing" }]
})

export const machine = Machine.make({
  name: "proxy-mesh",
  Input: Settings,
  State,
  Event,
  Command,
  init,
  step,
  wake
})

/**
 * Opens what is new and closes what is gone. An endpoint that is still listed long after its expiry has died without
 * being missed by the registry; only a fresh answer of the registry can tell, so the passing of time alone does not.
 */
const compare = (state: State, endpoints: ReadonlyArray<Nsm.Endpoint>, now: Machine.Millis): Step => {
  const { expiryGraceMs } = state.settings
  const alive = endpoints.filter(({ expiresAt }) => expiresAt === undefined || expiresAt + expiryGraceMs > now)
  const names = new Set(alive.map(({ name }) => name))
  const gone = state.links.filter(({ endpoint }) => !names.has(endpoint))
  const [closing, closes] = each(state, gone, (state, link) => close(state, link, now))
  const [next, opens] = [...names].reduce<Step>(([state, commands], name) => {
    const [after, started] = find(state, name)
    return [after, [...commands, ...started]]
  }, [closing, []])
  return [next, [...closes, ...opens]]
}

const find = (state: State, endpoint: string): Step => {
  const link = state.links.find((link) => link.endpoint === endpoint)
  if (link?.phase._tag === "Lingering") return probe(state, link)
  if (link !== undefined) {
    return link.phase._tag === "Closing" && !link.phase.again
      ? [put(state, { ...link, phase: { ...link.phase, again: true } }), []]
      : Machine.stay(state)
  }
  const { call, links, settings: { name, networkService } } = state
  const fresh: Link = { endpoint, id: `${name}-${networkService}-${endpoint}`, phase: { _tag: "Probing", call } }
  return probe({ ...state, links: [...links, fresh] }, fresh)
}

const probe = (state: State, link: Link): Step => {
  const { call } = state
  return [
    put({ ...state, call: call + 1 }, { ...link, phase: { _tag: "Probing", call } }),
    [{ _tag: "QueryConnection", call, id: link.id }]
  ]
}

const probed = (
  state: State,
  event: typeof Event.cases.QuerySucceeded.Type | typeof Event.cases.QueryFailed.Type
): Step => {
  const link = state.links.find(({ phase }) => phase._tag === "Probing" && phase.call === event.call)
  if (link === undefined) return Machine.stay(state)
  return lease(state, link, event._tag === "QuerySucceeded" ? event.connection : undefined)
}

const lease = (state: State, link: Link, adopted: Nsm.Connection | undefined): Step => [
  put(state, { ...link, phase: { _tag: "Leasing", ...optional(adopted) } }),
  [{ _tag: "AcquireLease", id: link.id }]
]

const granted = (state: State, { id, pair }: typeof Event.cases.LeaseGranted.Type): Step => {
  const link = state.links.find((link) => link.id === id)
  switch (link?.phase._tag) {
    case "Leasing":
      return request(state, link, pair, link.phase.adopted)
    case "Connected":
      // The IPAM has lost its data and given other addresses: the connection moves to them.
      return Same.equals(pair, link.phase.pair) ? Machine.stay(state) : request(state, link, pair, undefined)
    case "Requesting": {
      if (Same.equals(pair, link.phase.pair)) return Machine.stay(state)
      const [next, commands] = request(state, link, pair, link.phase.adopted)
      return [next, [{ _tag: "Cancel", call: link.phase.call }, ...commands]]
    }
    case "Probing":
    case "Waiting":
    case "Closing":
    case "Lingering":
    case undefined:
      return Machine.stay(state)
  }
}

const request = (state: State, link: Link, pair: Pair, adopted: Nsm.Connection | undefined): Step => {
  const { call, settings: { mtu, networkService } } = state
  const base = adopted === undefined ? Nsm.connection(link.id, networkService) : takenOver(adopted, link.id)
  const name = adopted === undefined ? undefined : attachment(adopted).link
  const connection: Nsm.Connection = {
    ...base,
    endpointName: link.endpoint,
    payload: "ETHERNET",
    context: { ...base.context, mtu, ip: IpContext.toLoadBalancer(base.context.ip, pair) }
  }
  return [
    put({ ...state, call: call + 1 }, { ...link, phase: { _tag: "Requesting", call, pair, ...optional(adopted) } }),
    [{ _tag: "RequestConnection", call, connection, ...(name === undefined ? {} : { link: name }) }]
  ]
}

/** Without the mechanism, which names the namespace that the pod had: it is made of the one that it has, and the link. */
const takenOver = (adopted: Nsm.Connection, id: string): Nsm.Connection => {
  const { mechanism: _, ...connection } = adopted
  return { ...connection, id, state: adopted.state === "Down" ? "ReselectRequested" : "Up" }
}

const requested = (
  state: State,
  event: typeof Event.cases.RequestSucceeded.Type | typeof Event.cases.RequestFailed.Type,
  now: Machine.Millis
): Step => {
  const link = state.links.find(({ phase }) => phase._tag === "Requesting" && phase.call === event.call)
  if (link?.phase._tag !== "Requesting") return Machine.stay(state)
  if (event._tag === "RequestFailed") {
    const retryAt = now + state.settings.requestRetryMs
    return [put(state, { ...link, phase: { _tag: "Waiting", retryAt, ...optional(link.phase.adopted) } }), []]
  }
  const phase: Phase = { _tag: "Connected", up: true, pair: link.phase.pair, attachment: attachment(event.connection) }
  return [put(state, { ...link, phase }), [{ _tag: "WatchConnection", id: link.id }]]
}

const changed = (state: State, { connection, id }: typeof Event.cases.ConnectionChanged.Type): Step => {
  const link = state.links.find((link) => link.id === id)
  if (link?.phase._tag !== "Connected") return Machine.stay(state)
  const phase: Phase = { ...link.phase, up: connection.state === "Up", attachment: attachment(connection) }
  return Same.equals(phase, link.phase) ? Machine.stay(state) : [put(state, { ...link, phase }), []]
}

const close = (state: State, link: Link, now: Machine.Millis): Step => {
  const { phase } = link
  if (phase._tag === "Closing") {
    return phase.again ? [put(state, { ...link, phase: { ...phase, again: false } }), []] : Machine.stay(state)
  }
  // What lingers is closed at once when the machine ends.
  if (phase._tag === "Lingering") return state.closing ? giveBack(state, link, phase) : Machine.stay(state)
  const cancel: ReadonlyArray<Command> = phase._tag === "Probing" || phase._tag === "Requesting"
    ? [{ _tag: "Cancel", call: phase.call }]
    : []
  const [next, commands] = giveBack(state, link, {
    pauseMs: lingerMs.first,
    giveUpAt: now + state.settings.tokenLifetimeMs,
    ...(phase._tag === "Connected" ? { attachment: phase.attachment } : {})
  })
  return [next, [...cancel, ...commands]]
}

interface Leaving {
  readonly pauseMs: number
  readonly giveUpAt: Machine.Millis
  readonly attachment?: Attachment
}

const leave = ({ attachment, giveUpAt, pauseMs }: Leaving): Leaving => ({
  pauseMs,
  giveUpAt,
  ...(attachment === undefined ? {} : { attachment })
})

const giveBack = (state: State, link: Link, from: Leaving): Step => {
  const { call } = state
  return [
    put({ ...state, call: call + 1 }, { ...link, phase: { _tag: "Closing", ...leave(from), call, again: false } }),
    [{ _tag: "CloseConnection", call, id: link.id }]
  ]
}

/** The manager keeps a connection whose close failed until its token expires, and the load balancer its addresses. */
const closed = (
  state: State,
  event: typeof Event.cases.CloseSucceeded.Type | typeof Event.cases.CloseFailed.Type,
  now: Machine.Millis
): Step => {
  const link = state.links.find(({ phase }) => phase._tag === "Closing" && phase.call === event.call)
  if (link?.phase._tag !== "Closing") return Machine.stay(state)
  const { again, giveUpAt, pauseMs } = link.phase
  if (event._tag === "CloseFailed" && now + pauseMs < giveUpAt) {
    if (again) return probe(state, link)
    const phase: Phase = {
      _tag: "Lingering",
      ...leave(link.phase),
      pauseMs: Math.min(2 * pauseMs, lingerMs.longest),
      retryAt: now + pauseMs
    }
    return [put(state, { ...link, phase }), []]
  }
  const without = { ...state, links: state.links.filter((other) => other !== link) }
  const release: Command = { _tag: "ReleaseLease", id: link.id }
  if (!again) return [without, [release]]
  const [next, commands] = find(without, link.endpoint)
  return [next, [release, ...commands]]
}

const attachment = (connection: Nsm.Connection): Attachment => {
  const link = Nsm.interfaceName(connection)
  return { ...(isLinkName(link) ? { link } : {}), remotes: connection.context.ip.dstAddrs }
}

const isLinkName = Schema.is(Kernel.LinkName)

const optional = (adopted: Nsm.Connection | undefined): { readonly adopted?: Nsm.Connection } =>
  adopted === undefined ? {} : { adopted }

const each = (
  state: State,
  links: ReadonlyArray<Link>,
  act: (state: State, link: Link) => Step
): Step => {
  let next = state
  const commands: Array<Command> = []
  for (const link of links) {
    const [after, started] = act(next, link)
    next = after
    commands.push(...started)
  }
  return [next, commands]
}

const put = (state: State, link: Link): State => ({
  ...state,
  links: state.links.map((other) => other.endpoint === link.endpoint ? link : other)
})
