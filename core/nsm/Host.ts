/**
 * Decides for an endpoint: who is connected, what the handler is asked, and when a connection is over.
 *
 *     absent ──request──▶ Handling ──▶ standing ──close, expiry──▶ Closing ──▶ absent
 *                            │ failed
 *                            ▼
 *                          absent, or standing as before
 *
 * 1. One call to the handler per connection at a time, in order of arrival.
 * 2. The mechanism of a connection, with the interface's name, stays the same over refreshes.
 * 3. The handler closes once what it accepted, whether the peer asks or its token expires.
 * 4. A close always succeeds.
 *
 * Source: sdk, `chains/endpoint`, `common/{begin,timeout,monitor,mechanisms}`.
 */
import { HashMap, Option, Result, Schema } from "effect"
import * as Machine from "../Machine.ts"
import * as Same from "../Same.ts"
import * as CircuitState from "./CircuitState.ts"
import * as Model from "./Model.ts"
import * as Naming from "./Naming.ts"
import * as Path from "./Path.ts"

export const Settings = Schema.Struct({
  name: Schema.String,
  /** The namespace of the endpoint, `inode://<dev>/<ino>`. */
  netns: Schema.String,
  requestTimeoutMs: Schema.Natural,
  maxTokenLifetimeMs: Schema.Natural
})
export type Settings = typeof Settings.Type

const Ask = Schema.TaggedStruct("Ask", { reply: Schema.Natural, connection: Model.Connection })
type Ask = typeof Ask.Type
const End = Schema.TaggedStruct("End", { reply: Schema.optionalKey(Schema.Natural) })
type End = typeof End.Type

const Guest = Schema.Struct({
  standing: Schema.optionalKey(Schema.Struct({ connection: Model.Connection, expiresAt: Machine.Millis })),
  work: Schema.optionalKey(Schema.Struct({ call: Machine.Call, pending: Schema.Union([Ask, End]) })),
  queue: Schema.Array(Schema.Union([Ask, End]))
})
type Guest = typeof Guest.Type

export const State = Schema.Struct({
  settings: Settings,
  nextCall: Machine.Call,
  /** By the endpoint's id of the connection. */
  guests: Schema.HashMap(Schema.String, Guest),
  /** Which guest waits for the outcome of a call. */
  waiting: Schema.HashMap(Machine.Call, Schema.String),
  /** No connection expires earlier. Exact after `Woken`; too early after the next one has been refreshed. */
  nextExpiry: Schema.optionalKey(Machine.Millis)
})
export type State = typeof State.Type

export const Event = Schema.TaggedUnion({
  /** In the caller's view; `freshId` and `random` are used for a new connection. */
  RequestRequested: {
    reply: Schema.Natural,
    freshId: Schema.String,
    random: Schema.String,
    connection: Model.Connection,
    preferences: Schema.Array(Model.Mechanism)
  },
  CloseRequested: { reply: Schema.Natural, connection: Model.Connection },
  HandleSucceeded: { call: Machine.Call, connection: Model.Connection },
  HandleFailed: { call: Machine.Call, ...Model.Failure.fields },
  CloseFinished: { call: Machine.Call }
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  HandleRequest: { call: Machine.Call, connection: Model.Connection },
  HandleClose: { call: Machine.Call, connection: Model.Connection },
  Reply: { reply: Schema.Natural, result: CircuitState.Result }
})
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

const init = (settings: Settings): Step => [
  { settings, nextCall: 0, guests: HashMap.empty(), waiting: HashMap.empty() },
  []
]

const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "RequestRequested":
      return requested(state, event)
    case "CloseRequested":
      return closeRequested(state, event.reply, event.connection)
    case "HandleSucceeded":
      return handled(state, event.call, event.connection, now)
    case "HandleFailed":
      return refused(state, event)
    case "CloseFinished":
      return closed(state, event.call)
    case "Woken":
      return woken(state, now)
  }
}

const wake = ({ nextExpiry }: State): Machine.Millis | undefined => nextExpiry

const requested = (
  state: State,
  { connection, freshId, preferences, random, reply }: Extract<Event, { _tag: "RequestRequested" }>
): Step => {
  const entered = Path.enter({ name: state.settings.name, freshId }, connection)
  if (Result.isFailure(entered)) return fail(state, reply, "Invalid", entered.failure)
  const { id } = entered.success
  const wanted = connection.mechanism ?? preferences.find(Model.isKernel)
  if (!Model.isKernel(wanted)) {
    return fail(state, reply, "Invalid", "unsupported mechanism: this endpoint offers LOCAL/KERNEL")
  }
  const standing = standingOf(state, id)
  const name = (standing === undefined ? undefined : Model.interfaceName(standing))
    ?? wanted.parameters["name"] ?? Naming.byService(connection.networkService, random)
  const made = { ...wanted, parameters: { ...wanted.parameters, inodeURL: state.settings.netns, name } }
  // What a refresh does not change stays the same value, so that nobody works out again what follows from it.
  const mechanism = Same.equals(standing?.mechanism, made) ? standing?.mechanism ?? made : made
  const ask: Ask = { _tag: "Ask", reply, connection: Path.trim({ ...entered.success, mechanism }) }
  // Who selects anew wants the old connection ended first.
  return standing !== undefined && connection.state === "ReselectRequested"
    ? Machine.andThen(accept(state, id, { _tag: "End" }), (left) => accept(left, id, ask))
    : accept(state, id, ask)
}

const closeRequested = (state: State, reply: number, connection: Model.Connection): Step => {
  const entered = Path.enter({ name: state.settings.name, freshId: "" }, connection)
  const id = Result.isSuccess(entered) ? entered.success.id : ""
  return !HashMap.has(state.guests, id)
    ? [state, [{ _tag: "Reply", reply, result: { _tag: "Closed" } }]]
    : accept(state, id, { _tag: "End", reply })
}

const accept = (state: State, id: string, pending: Ask | End): Step => {
  const guest = guestOf(state, id) ?? { queue: [] }
  return proceed(state, id, { ...guest, queue: [...guest.queue, pending] }, [])
}

/** Starts what waits first, if nothing is going on. */
const proceed = (state: State, id: string, guest: Guest, before: ReadonlyArray<Command>): Step => {
  const [pending, ...queue] = guest.queue
  if (guest.work !== undefined || pending === undefined) return [put(state, id, guest), before]
  const call = state.nextCall
  const connection = pending._tag === "Ask" ? pending.connection : guest.standing?.connection
  if (connection === undefined) {
    const answers = pending._tag === "End" ? closedReply(pending) : []
    return proceed(state, id, { ...guest, queue }, [...before, ...answers])
  }
  return [
    put({ ...state, nextCall: call + 1 }, id, { ...guest, queue, work: { call, pending } }),
    [...before, { _tag: pending._tag === "Ask" ? "HandleRequest" : "HandleClose", call, connection }]
  ]
}

/** Keeps the guest, or forgets one of whom nothing is left. */
const put = (state: State, id: string, guest: Guest): State => {
  const before = guestOf(state, id)?.work?.call
  const { standing, work } = guest
  const isGone = standing === undefined && work === undefined && guest.queue.length === 0
  const guests = isGone ? HashMap.remove(state.guests, id) : HashMap.set(state.guests, id, guest)
  const left = before === undefined || before === work?.call ? state.waiting : HashMap.remove(state.waiting, before)
  const waiting = work === undefined || before === work.call ? left : HashMap.set(left, work.call, id)
  const nextExpiry = HashMap.isEmpty(guests) ? undefined : Machine.earliest(state.nextExpiry, expiryOf(guest))
  return withExpiry({ ...state, guests, waiting }, nextExpiry)
}

const withExpiry = (
  { guests, nextCall, settings, waiting }: State,
  nextExpiry: Machine.Millis | undefined
): State =>
  nextExpiry === undefined
    ? { settings, nextCall, guests, waiting }
    : { settings, nextCall, guests, waiting, nextExpiry }

/** While a call to the handler goes on its outcome decides. */
const expiryOf = ({ standing, work }: Guest): Machine.Millis | undefined =>
  work === undefined ? standing?.expiresAt : undefined

const handled = (state: State, call: number, answer: Model.Connection, now: Machine.Millis): Step => {
  const found = find(state, call)
  if (found === undefined || found.pending._tag !== "Ask") return Machine.stay(state)
  const { guest, id, pending: { connection, reply } } = found
  const { maxTokenLifetimeMs } = state.settings
  const agreed: Model.Connection = { ...connection, context: answer.context, labels: answer.labels, state: "Up" }
  const signed = Path.last(agreed, agreed.path.index, now + maxTokenLifetimeMs)
  const standing = { connection: signed, expiresAt: Path.deadline(signed, state.settings, now) }
  return proceed(state, id, { ...guest, standing }, [
    { _tag: "Reply", reply, result: { _tag: "Succeeded", connection: Path.toCaller(signed) } }
  ])
}

const refused = (state: State, event: Extract<Event, { _tag: "HandleFailed" }>): Step => {
  const found = find(state, event.call)
  if (found === undefined || found.pending._tag !== "Ask") return Machine.stay(state)
  const { reason, message } = event
  // What was agreed before stands, but those who monitor it hear that it is in doubt.
  const { standing, ...guest } = found.guest
  const doubted = standing && { ...standing, connection: { ...standing.connection, state: "Down" as const } }
  return proceed(state, found.id, doubted === undefined ? guest : { ...guest, standing: doubted }, [
    { _tag: "Reply", reply: found.pending.reply, result: { _tag: "Failed", reason, message } }
  ])
}

const closed = (state: State, call: number): Step => {
  const found = find(state, call)
  if (found === undefined || found.pending._tag !== "End") return Machine.stay(state)
  const { standing: _, ...guest } = found.guest
  return proceed(state, found.id, guest, closedReply(found.pending))
}

const woken = (state: State, now: Machine.Millis): Step => {
  if (state.nextExpiry === undefined || state.nextExpiry > now) return Machine.stay(state)
  const [next, commands] = HashMap.toEntries(state.guests)
    .filter(([, guest]) => (expiryOf(guest) ?? Number.POSITIVE_INFINITY) <= now)
    .reduce<Step>(([before, commands], [id]) => {
      const [after, more] = accept(before, id, { _tag: "End" })
      return [after, [...commands, ...more]]
    }, Machine.stay(state))
  return [withExpiry(next, Machine.earliest(...HashMap.toValues(next.guests).map(expiryOf))), commands]
}

const guestOf = ({ guests }: State, id: string): Guest | undefined => Option.getOrUndefined(HashMap.get(guests, id))

const find = (state: State, call: number) => {
  const id = waitingFor(state, call)
  const { work, ...guest } = (id === undefined ? undefined : guestOf(state, id)) ?? { queue: [] }
  return id === undefined || work === undefined ? undefined : { id, guest, pending: work.pending }
}

const closedReply = ({ reply }: End): ReadonlyArray<Command> =>
  reply === undefined ? [] : [{ _tag: "Reply", reply, result: { _tag: "Closed" } }]

const fail = (state: State, reply: number, reason: Model.Reason, message: string): Step => [
  state,
  [{ _tag: "Reply", reply, result: { _tag: "Failed", reason, message } }]
]

export const machine = Machine.make<Settings, State, Event, Command>({
  name: "nsm-endpoint",
  Input: Settings,
  State,
  Event,
  Command,
  init,
  step,
  wake
})

/** The connections that stand, with their ids, in the endpoint's view. */
export const standing = function*({ guests }: State): Generator<readonly [id: string, connection: Model.Connection]> {
  for (const [id, { standing }] of guests) if (standing !== undefined) yield [id, standing.connection]
}

/** The connection with the id, if it stands. */
export const standingOf = (state: State, id: string): Model.Connection | undefined =>
  guestOf(state, id)?.standing?.connection

/** The id of the connection that waits for the outcome of a call; by that alone what stands can change. */
export const waitingFor = ({ waiting }: State, call: number): string | undefined =>
  Option.getOrUndefined(HashMap.get(waiting, call))

/** The connections that stand, by id. */
export const connections = (state: State): { readonly [id: string]: Model.Connection } =>
  Object.fromEntries(standing(state))
