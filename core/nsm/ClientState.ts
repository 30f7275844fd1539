/** The words of the client's machine (`Client.ts`): its states, events and commands, and the times that it computes. */
import { Result as R, Schema } from "effect"
import { Call, Millis } from "../Machine.ts"
import * as Model from "./Model.ts"
import * as Path from "./Path.ts"

export const Settings = Schema.Struct({
  /** Name of the client's path segment. */
  name: Schema.String,
  /** The namespace of the client, `inode://<dev>/<ino>`. */
  netns: Schema.String,
  requestTimeoutMs: Schema.Natural,
  maxTokenLifetimeMs: Schema.Natural,
  minBackoffMs: Schema.Natural,
  maxBackoffMs: Schema.Natural,
  /** Starts the jitter of the back-off. */
  seed: Schema.Natural
})
export type Settings = typeof Settings.Type

/** A request of the user: `reply` is answered once. */
export const Ask = Schema.Struct({
  reply: Schema.Natural,
  connection: Model.Connection,
  interfaceName: Schema.String
})
export type Ask = typeof Ask.Type

/** What stands: the connection in the client's view, and how to ask for it again. */
const Live = Schema.Struct({
  connection: Model.Connection,
  /** As the user was told last; what a later request changes is what differs from it. */
  returned: Model.Connection,
  /** The endpoint that the user insists on; empty for any. */
  pinned: Schema.String,
  preference: Model.Mechanism,
  /** The call of the monitor, unless it was lost. */
  monitor: Schema.optionalKey(Call)
})
export type Live = typeof Live.Type

const Phase = Schema.TaggedUnion({
  Idle: {},
  Requesting: { call: Call, ask: Ask, connection: Model.Connection },
  /** `attempt` counts the failed refreshes in a row. */
  Established: { live: Live, refreshAt: Millis, attempt: Schema.Natural },
  /** `wanted` is what `live` becomes on success. */
  Refreshing: { live: Live, wanted: Live, call: Call, attempt: Schema.Natural, ask: Schema.optionalKey(Ask) },
  /** Either a call is in flight or the next one is due at `retryAt`. */
  Healing: {
    live: Live,
    attempt: Schema.Natural,
    call: Schema.optionalKey(Call),
    retryAt: Schema.optionalKey(Millis),
    ask: Schema.optionalKey(Ask)
  },
  Closing: {
    connection: Model.Connection,
    replies: Schema.Array(Schema.Natural),
    attempt: Schema.Natural,
    call: Schema.optionalKey(Call),
    retryAt: Schema.optionalKey(Millis)
  }
})

export const State = Schema.Struct({
  settings: Settings,
  seed: Schema.Natural,
  nextCall: Call,
  /** Requests that wait for the one in flight, in order of arrival. */
  queue: Schema.Array(Ask),
  phase: Phase
})
export type State = typeof State.Type

/** What the monitor of the manager tells: the connection is down, it wants a refresh, or the monitor itself broke. */
export const Change = Schema.Literals(["Down", "RefreshRequested", "Lost"])
export type Change = typeof Change.Type

export const Event = Schema.TaggedUnion({
  RequestRequested: Ask.fields,
  CloseRequested: { reply: Schema.Natural },
  RequestSucceeded: { call: Call, connection: Model.Connection },
  RequestFailed: { call: Call, ...Model.Failure.fields },
  MonitorChanged: { call: Call, change: Change },
  CloseFinished: { call: Call, failure: Schema.optionalKey(Model.Failure) }
})
export type Event = typeof Event.Type

export const Result = Schema.TaggedUnion({
  Succeeded: { connection: Model.Connection },
  Closed: {},
  Failed: Model.Failure.fields
})
export type Result = typeof Result.Type

export const Command = Schema.TaggedUnion({
  Request: {
    call: Call,
    connection: Model.Connection,
    preferences: Schema.Array(Model.Mechanism),
    timeoutMs: Schema.Natural
  },
  Close: { call: Call, connection: Model.Connection, timeoutMs: Schema.Natural },
  /** Follows the connection at the manager until cancelled. */
  Monitor: { call: Call, connection: Model.Connection },
  Cancel: { call: Call },
  Reply: { reply: Schema.Natural, result: Result }
})
export type Command = typeof Command.Type

/** What a manager's event means for the connection in the client's view. */
export const changeIn = (
  { connections, type }: Model.ConnectionEvent,
  connection: Model.Connection
): Change | undefined => {
  const record = Model.recordOf(connection, Object.values(connections))
  if (record === undefined) return undefined
  if (type === "Delete" || record.state === "Down") return "Down"
  return record.state === "RefreshRequested" ? "RefreshRequested" : undefined
}

/** The connection as the client sends it: own segment first, signed anew. A path of somebody else is dropped. */
export const begin = (settings: Settings, connection: Model.Connection, now: Millis): Model.Connection => {
  const hop = { name: settings.name, freshId: connection.id }
  const own = connection.path.segments[0]
  const kept = own?.name === settings.name && own.id === connection.id
    ? { ...connection, path: { ...connection.path, index: 0 } }
    : { ...connection, path: Model.emptyPath }
  const proof = { token: "", expiresAt: now + settings.maxTokenLifetimeMs }
  return Path.sign(R.getOrElse(Path.enter(hop, kept), () => kept), 0, proof)
}

/** A fifth of the shortest token lifetime in the path from now, as upstream does for a client. */
export const refreshAt = (settings: Settings, connection: Model.Connection, now: Millis): Millis => {
  const expiresAt = Model.expiresAt(connection) ?? now + settings.maxTokenLifetimeMs
  return now + Math.max(settings.minBackoffMs, 1, Math.floor((expiresAt - now) / 5))
}

/** Half to all of the exponential delay, by the seed, which moves on. */
export const backoff = (state: State, attempt: number): readonly [State, delayMs: number] => {
  const seed = (state.seed * 1_664_525 + 1_013_904_223) % 2 ** 32
  const { maxBackoffMs, minBackoffMs } = state.settings
  const ceiling = Math.min(maxBackoffMs, minBackoffMs * 2 ** Math.min(attempt, 20))
  return [{ ...state, seed }, Math.max(1, Math.round(ceiling * (0.5 + seed / 2 ** 33)))]
}
