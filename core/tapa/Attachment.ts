/**
 * Decides how this target is attached to one conduit: it obtains a connection to the proxy, keeps the VIPs of the
 * conduit on it, and gives it back in the end.
 *
 *     Querying ▶ Requesting ▶ Up ⇄ Degraded          Closing ▶ Closed
 *         ▲          ▲   │         │ (for too long)     │ ▲
 *         └─ Waiting ◀───┘◀────────┘                    ▼ │ (repeated until the token expired)
 *                                                     Lingering
 *
 * 1. A connection that survived a restart is taken over before a new one is asked for.
 * 2. The newest wanted VIPs are eventually those of the connection, if requests succeed.
 * 3. A connection that may exist is closed in the end, however often that takes, until no manager can know it any more.
 *
 * Rows C1 to C18 and A13. Unlike Meridio: VIPs left on a recovered connection are removed; a failed update is repeated
 * with the newest VIPs; new gateways update the routes of the VIPs; a connection that stays down is asked for anew;
 * a failed close is repeated.
 */
import { Schema } from "effect"
import { ConduitKey } from "../config/Model.ts"
import * as Machine from "../Machine.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Nsm from "../nsm/Model.ts"
import * as Same from "../Same.ts"
import * as Connection from "./Connection.ts"
import * as Feed from "./Feed.ts"
import * as Model from "./Model.ts"

/** Pauses after a failed attempt to connect, after a failed VIP update, and before lost watches are opened again. */
export const connectRetryMs = 2_000
export const vipRetryMs = 1_000
export const vipsReopenMs = 2_000
export const connectionReopenMs = 5_000
/** How long the connection may be down before the endpoint is chosen anew. */
export const degradedMs = 60_000
/** The pause before a failed close is repeated: it doubles from the first to the longest. */
export const lingerMs = { first: 1_000, longest: 60_000 }

const pending = { call: Machine.Call, until: Machine.Millis }

export const Phase = Schema.TaggedUnion({
  Querying: pending,
  Requesting: pending,
  Waiting: { retryAt: Machine.Millis },
  Up: { connection: Nsm.Connection },
  Degraded: { connection: Nsm.Connection, until: Machine.Millis },
  /** `repeated`: for everyone else the conduit is gone already. */
  Closing: { ...pending, repeated: Schema.Boolean, pauseMs: Schema.Natural, giveUpAt: Machine.Millis },
  Lingering: { retryAt: Machine.Millis, pauseMs: Schema.Natural, giveUpAt: Machine.Millis },
  Closed: {}
})

/** The progress of a VIP update. */
export const Update = Schema.TaggedUnion({
  Idle: {},
  Sending: { ...pending, policies: Schema.Array(Nsm.Policy) },
  Waiting: { retryAt: Machine.Millis }
})

export const State = Schema.Struct({
  at: ConduitKey,
  settings: Model.Settings,
  nextCall: Machine.Call,
  phase: Phase,
  /** Whether a connection may exist: a request was sent, whatever became of it. */
  requested: Schema.Boolean,
  /** The policies on the connection, in the form of `Connection.policies`; null after an update that may have had its effect. */
  applied: Schema.NullOr(Schema.Array(Nsm.Policy)),
  update: Update,
  /** The VIPs of all flows of the conduit. */
  wanted: Feed.make(Cidr.Cidr),
  monitor: Feed.Phase
})
export type State = typeof State.Type

const answer = { at: ConduitKey, call: Machine.Call }
const failure = { ...answer, reason: Model.Reason }

/** Outcomes of the commands of an attachment. */
export const outcomes = {
  QuerySucceeded: { ...answer, connection: Schema.NullOr(Nsm.Connection) },
  QueryFailed: failure,
  RequestSucceeded: { ...answer, connection: Nsm.Connection },
  RequestFailed: failure,
  CloseSucceeded: answer,
  CloseFailed: failure,
  VipsChanged: { ...answer, vips: Schema.Array(Cidr.Cidr) },
  VipsLost: failure,
  ConnectionChanged: { ...answer, connection: Nsm.Connection },
  ConnectionLost: failure
}

export const Event = Schema.TaggedUnion({ OpenRequested: {}, CloseRequested: {}, ...outcomes })
export type Event = typeof Event.Type

export const commands = {
  /** What the manager holds under the id of this client. */
  QueryConnection: { ...answer, id: Schema.String },
  RequestConnection: { ...answer, connection: Nsm.Connection, interfaceName: Schema.optionalKey(Schema.String) },
  CloseConnection: { ...answer, id: Schema.String },
  /** The connection now and after each change. */
  WatchConnection: { ...answer, id: Schema.String },
  /** The VIPs of all flows of the conduit, now and after each change. */
  WatchVips: answer,
  Cancel: { call: Machine.Call }
}
export const Command = Schema.TaggedUnion(commands)
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

export const Input = Schema.Struct({ at: ConduitKey, settings: Model.Settings, nextCall: Machine.Call })

export const init = (input: typeof Input.Type, now: Machine.Millis): Step =>
  query({
    ...input,
    phase: { _tag: "Closed" },
    requested: false,
    applied: [],
    update: { _tag: "Idle" },
    wanted: Feed.off,
    monitor: { _tag: "Off" }
  }, now)

export const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  const [next, commands] = react(state, event, now)
  if (next === state) return [state, commands]
  // What the new state no longer waits for is interrupted, before anything else begins.
  const kept = new Set([...callsOf(next), "call" in event ? event.call : undefined])
  const cancels = callsOf(state).filter((call) => !kept.has(call)).map((call) => ({ _tag: "Cancel", call }) as const)
  return [next, cancels.length === 0 ? commands : [...cancels, ...commands]]
}

export const wake = ({ monitor, phase, update, wanted }: State): Machine.Millis | undefined =>
  Machine.earliest(
    "until" in phase ? phase.until : undefined,
    "retryAt" in phase ? phase.retryAt : undefined,
    "until" in update ? update.until : undefined,
    "retryAt" in update ? update.retryAt : undefined,
    Feed.wake(wanted),
    Feed.reopenAt(monitor)
  )

/** The addresses to announce while the connection is up. */
export const localIps = ({ applied, phase }: State): ReadonlyArray<Cidr.Cidr> | undefined =>
  phase._tag === "Up" ? Connection.localIps(phase.connection, applied) : undefined

/** Whether the connection is being closed and nothing new may begin before. */
export const isClosing = ({ phase }: State): boolean => phase._tag === "Closing" && !phase.repeated

/** Whether the attachment is over for everyone else; it may still try to close its connection. */
export const isGone = ({ phase }: State): boolean =>
  phase._tag === "Closed" || phase._tag === "Lingering" || (phase._tag === "Closing" && phase.repeated)

export const isClosed = ({ phase }: State): boolean => phase._tag === "Closed"

const react = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "OpenRequested":
      return isGone(state) ? query(state, now) : Machine.stay(state)
    case "CloseRequested":
      return isGone(state) || isClosing(state) ? Machine.stay(state) : close(state, now)
    case "Woken":
      return woken(state, now)
    case "VipsChanged":
      return want(state, Feed.changed(state.wanted, event.call, event.vips, now), now)
    case "VipsLost":
      return want(state, Feed.lost(state.wanted, event.call, now + vipsReopenMs), now)
    case "ConnectionChanged":
      return Feed.callOf(state.monitor) === event.call ? observe(state, event.connection, now) : Machine.stay(state)
    case "ConnectionLost":
      return Feed.callOf(state.monitor) === event.call
        ? [{ ...state, monitor: { _tag: "Paused", reopenAt: now + connectionReopenMs } }, []]
        : Machine.stay(state)
    default:
      return answered(state, event, now)
  }
}

type Answer = Extract<Event, { readonly _tag: `${"Query" | "Request" | "Close"}${"Succeeded" | "Failed"}` }>

const answered = (state: State, event: Answer, now: Machine.Millis): Step => {
  const { phase, update } = state
  if (update._tag === "Sending" && update.call === event.call) return updated(state, update.policies, event, now)
  if (!("call" in phase) || phase.call !== event.call) return Machine.stay(state)
  switch (phase._tag) {
    case "Querying":
      return queried(state, event, phase.until, now)
    case "Requesting":
      return event._tag === "RequestSucceeded" ? connected(state, event.connection, now) : wait(state, now)
    case "Closing":
      return event._tag === "CloseSucceeded" ? closed(state) : linger(state, phase, now)
  }
}

const query = (state: State, now: Machine.Millis): Step => {
  const { at, nextCall: call, settings } = state
  return [
    { ...state, nextCall: call + 1, phase: { _tag: "Querying", call, until: now + settings.timeoutMs } },
    [{ _tag: "QueryConnection", at, call, id: Connection.id(at, settings) }]
  ]
}

/** A manager that answers, but not to this question, is an old one that cannot tell: then there is nothing to recover. */
const queried = (state: State, event: Answer, until: Machine.Millis, now: Machine.Millis): Step => {
  const { at, settings } = state
  if (event._tag === "QueryFailed" && (event.reason === "Unavailable" || event.reason === "Timeout")) {
    return wait(state, now)
  }
  const found = event._tag === "QuerySucceeded" ? event.connection : null
  return found !== null && Connection.isRecoverable(found)
    ? request(state, Connection.recovered(found, at, settings), until)
    : request(state, Connection.initial(at, settings), until)
}

const request = (state: State, wish: Connection.Request, until: Machine.Millis): Step => {
  const { at, nextCall: call } = state
  return [
    { ...state, nextCall: call + 1, requested: true, phase: { _tag: "Requesting", call, until } },
    [{ _tag: "RequestConnection", at, call, ...wish }]
  ]
}

const wait = (state: State, now: Machine.Millis): Step => [
  { ...state, phase: { _tag: "Waiting", retryAt: now + connectRetryMs } },
  []
]

const connected = (state: State, connection: Nsm.Connection, now: Machine.Millis): Step => {
  const next: State = {
    ...state,
    phase: { _tag: "Up", connection },
    applied: Connection.policiesOf(connection),
    update: { _tag: "Idle" }
  }
  const watched = watch(next, ({ _tag }) => _tag === "Off")
  return Machine.andThen(watched, (state) => observe(state, connection, now))
}

/** Opens the watches that are in such a phase. */
const watch = (state: State, isMeant: (phase: Feed.Phase) => boolean): Step =>
  Machine.andThen(watchVips(state, isMeant), (state) => {
    const { at, monitor, nextCall: call, settings } = state
    if (!isMeant(monitor)) return [state, []]
    return [
      { ...state, nextCall: call + 1, monitor: { _tag: "Watching", call, doubt: false } },
      [{ _tag: "WatchConnection", at, call, id: Connection.id(at, settings) }]
    ]
  })

const watchVips = (state: State, isMeant: (phase: Feed.Phase) => boolean): Step => {
  const { at, nextCall: call, wanted } = state
  if (!isMeant(wanted.phase)) return [state, []]
  return [{ ...state, nextCall: call + 1, wanted: Feed.opened(wanted, call) }, [{ _tag: "WatchVips", at, call }]]
}

/** Up, Degraded: what became of the connection after a request, a refresh, a heal or a loss. */
const observe = (state: State, connection: Nsm.Connection, now: Machine.Millis): Step => {
  const { phase } = state
  if (phase._tag !== "Up" && phase._tag !== "Degraded") return Machine.stay(state)
  const isUp = connection.state !== "Down" && Connection.localIps(connection, state.applied).length > 0
  if (isUp) {
    const same = phase._tag === "Up" && Same.equals(phase.connection, connection)
    return converge(same ? state : { ...state, phase: { _tag: "Up", connection } }, now)
  }
  const until = phase._tag === "Degraded" ? phase.until : now + degradedMs
  const next: typeof phase = { _tag: "Degraded", connection, until }
  if (Same.equals(next, phase)) return Machine.stay(state)
  return [{ ...(state.update._tag === "Sending" ? doubted(state) : state), phase: next, update: { _tag: "Idle" } }, []]
}

/** An update was given up, or failed: whether the connection has its VIPs nobody knows. */
const doubted = (state: State): State => ({ ...state, applied: null })

/** New VIPs do not wait for the repetition of an update that failed. */
const want = (state: State, wanted: State["wanted"], now: Machine.Millis): Step => {
  if (wanted === state.wanted) return Machine.stay(state)
  const isNew = !Same.equals(wanted.known, state.wanted.known)
  const update: State["update"] = isNew && state.update._tag === "Waiting" ? { _tag: "Idle" } : state.update
  return converge({ ...state, wanted, update }, now)
}

/** Sends the wanted VIPs, unless they are on the connection or another update is under way. */
const converge = (state: State, now: Machine.Millis): Step => {
  const { applied, at, nextCall: call, phase, settings, update, wanted } = state
  if (phase._tag !== "Up" || update._tag !== "Idle" || wanted.known === null) return [state, []]
  const policies = Connection.policies(wanted.known, phase.connection)
  if (applied !== null && Same.equals(policies, applied)) return [state, []]
  const connection = Connection.withPolicies(
    phase.connection,
    Connection.localIps(phase.connection, applied),
    policies
  )
  return [
    { ...state, nextCall: call + 1, update: { _tag: "Sending", call, until: now + settings.timeoutMs, policies } },
    [{ _tag: "RequestConnection", at, call, connection }]
  ]
}

const updated = (
  state: State,
  policies: ReadonlyArray<Nsm.Policy>,
  event: Answer,
  now: Machine.Millis
): Step =>
  event._tag === "RequestSucceeded"
    ? observe({ ...state, applied: policies, update: { _tag: "Idle" } }, event.connection, now)
    : [{ ...doubted(state), update: { _tag: "Waiting", retryAt: now + vipRetryMs } }, []]

const close = (state: State, now: Machine.Millis): Step => {
  const { phase } = state
  const known = phase._tag === "Up" || phase._tag === "Degraded" ? Nsm.expiresAt(phase.connection) : undefined
  const giveUpAt = known ?? now + state.settings.tokenLifetimeMs
  const next: State = {
    ...state,
    update: { _tag: "Idle" },
    wanted: Feed.off,
    monitor: { _tag: "Off" },
    applied: []
  }
  return state.requested
    ? giveBack(next, { repeated: false, pauseMs: lingerMs.first, giveUpAt }, now)
    : closed(next)
}

interface Giving {
  readonly repeated: boolean
  readonly pauseMs: number
  readonly giveUpAt: Machine.Millis
}

const giveBack = (state: State, { giveUpAt, pauseMs, repeated }: Giving, now: Machine.Millis): Step => {
  const { at, nextCall: call, settings } = state
  const until = now + settings.timeoutMs
  return [
    { ...state, nextCall: call + 1, phase: { _tag: "Closing", call, until, repeated, pauseMs, giveUpAt } },
    [{ _tag: "CloseConnection", at, call, id: Connection.id(at, settings) }]
  ]
}

const linger = (state: State, { giveUpAt, pauseMs }: Giving, now: Machine.Millis): Step => {
  const retryAt = now + pauseMs
  const phase = { _tag: "Lingering", retryAt, pauseMs: Math.min(2 * pauseMs, lingerMs.longest), giveUpAt } as const
  return retryAt < giveUpAt ? [{ ...state, phase }, []] : closed(state)
}

const closed = (state: State): Step => [{ ...state, requested: false, phase: { _tag: "Closed" } }, []]

const woken = (state: State, now: Machine.Millis): Step => {
  const deadline = wake(state)
  if (deadline === undefined || now < deadline) return Machine.stay(state)
  const settled = Machine.andThen(phaseWoken(state, now), (state) => updateWoken(state, now))
  const watched = Machine.andThen(settled, (state) => watch(state, (phase) => Feed.isDue(phase, now)))
  return Machine.andThen(watched, (state) => want(state, Feed.woken(state.wanted, now), now))
}

const phaseWoken = (state: State, now: Machine.Millis): Step => {
  const { phase } = state
  if (now < ("until" in phase ? phase.until : "retryAt" in phase ? phase.retryAt : Infinity)) return [state, []]
  switch (phase._tag) {
    case "Waiting":
      return query(state, now)
    case "Degraded":
      return request(state, { connection: Connection.reselect(phase.connection) }, now + state.settings.timeoutMs)
    case "Closing":
      return linger(state, phase, now)
    case "Lingering":
      return giveBack(state, { ...phase, repeated: true }, now)
    default:
      return wait(state, now)
  }
}

const updateWoken = (state: State, now: Machine.Millis): Step => {
  const { update } = state
  if (update._tag === "Sending" && now >= update.until) {
    return [{ ...doubted(state), update: { _tag: "Waiting", retryAt: now + vipRetryMs } }, []]
  }
  return update._tag === "Waiting" && now >= update.retryAt
    ? converge({ ...state, update: { _tag: "Idle" } }, now)
    : [state, []]
}

/** The calls whose outcomes the state waits for. */
const callsOf = ({ monitor, phase, update, wanted }: State): ReadonlyArray<number> =>
  [
    "call" in phase ? phase.call : undefined,
    "call" in update ? update.call : undefined,
    Feed.callOf(wanted.phase),
    Feed.callOf(monitor)
  ].filter((call) => call !== undefined)

export const machine = Machine.make({ name: "tapa.attachment", Input, State, Event, Command, init, step, wake })
