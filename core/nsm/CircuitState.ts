/** The words of one connection at its manager (`Circuit.ts`). */
import { Schema } from "effect"
import { Call, Millis } from "../Machine.ts"
import * as Cross from "./Cross.ts"
import * as Model from "./Model.ts"
import type * as Registry from "./Registry.ts"

export const Settings = Schema.Struct({
  /** Name of the manager: of its path segment, in aliases, and for its range of tables. */
  name: Schema.String,
  requestTimeoutMs: Schema.Natural,
  maxTokenLifetimeMs: Schema.Natural,
  /** How long an endpoint stays registered. */
  endpointLifetimeMs: Schema.Natural,
  /** Labels for clients and endpoints that lack them: `nodeName`, `podName`, `clusterName`. */
  labels: Schema.optionalKey(Model.Labels)
})
export type Settings = typeof Settings.Type

/** Where an endpoint is asked. */
export const Target = Schema.Struct({ name: Schema.String, url: Schema.String })
export type Target = typeof Target.Type

/** A connection as it stands, and what a restarted manager must know of it. */
export const Record = Schema.Struct({
  /** In the manager's view, with the mechanism of the client. */
  connection: Model.Connection,
  target: Target,
  /** As sent to and answered by the endpoint, in the forwarder's view, with the mechanism of the endpoint. */
  answer: Model.Connection,
  cross: Cross.Cross,
  /** What the kernel may hold instead, when a change to another cross connect was begun. */
  changing: Schema.optionalKey(Cross.Cross),
  /** When the manager closes it, unless it is refreshed. */
  expiresAt: Millis
})
export type Record = typeof Record.Type

/** What stands. A watch is absent once it was lost. */
export const Standing = Schema.Struct({
  ...Record.fields,
  endpointWatch: Schema.optionalKey(Call),
  /** The endpoint is away, perhaps to restart; then the connection counts as down. */
  absentUntil: Schema.optionalKey(Millis),
  linkWatch: Schema.optionalKey(Call)
})
export type Standing = typeof Standing.Type

/** A request in the manager's view. */
export const Ask = Schema.TaggedStruct("Ask", {
  reply: Schema.Natural,
  connection: Model.Connection,
  preferences: Schema.Array(Model.Mechanism),
  /** When the caller has given up. */
  deadline: Millis
})
export type Ask = typeof Ask.Type

/** A close: by the client, who gets an answer, or by the manager itself. */
export const End = Schema.TaggedStruct("End", { reply: Schema.optionalKey(Schema.Natural) })
export type End = typeof End.Type

/** What is going on. */
export const Work = Schema.TaggedUnion({
  /** Adopting what a record says; `cross` is all that the kernel may hold of it. */
  Restoring: { call: Call, cross: Cross.Cross },
  /** Leaving the endpoint, to choose another one. */
  Leaving: { call: Call, ask: Ask },
  /** Asking endpoints, one after another. `left` is set when the old endpoint was left before. */
  Asking: {
    call: Call,
    ask: Ask,
    sent: Model.Connection,
    target: Target,
    rest: Schema.Array(Target),
    left: Schema.Boolean
  },
  /** Shaping the kernel as the endpoint answered. */
  Plumbing: {
    call: Call,
    ask: Ask,
    target: Target,
    answer: Model.Connection,
    cross: Cross.Cross,
    left: Schema.Boolean
  },
  /** Telling the endpoint that it is over; then clearing the kernel, if anything was made. `failure` answers a request that ends thus. */
  Parting: {
    call: Call,
    cross: Schema.optionalKey(Cross.Cross),
    reply: Schema.optionalKey(Schema.Natural),
    failure: Schema.optionalKey(Model.Failure)
  },
  Clearing: {
    call: Call,
    cross: Cross.Cross,
    reply: Schema.optionalKey(Schema.Natural),
    failure: Schema.optionalKey(Model.Failure)
  }
})
export type Work = typeof Work.Type

/** One connection at the manager. */
export const State = Schema.Struct({
  /** The id at the manager, which lasts as long as the circuit. */
  id: Schema.String,
  standing: Schema.optionalKey(Standing),
  work: Schema.optionalKey(Work),
  /** Waiting for the work to end, in order of arrival. */
  queue: Schema.Array(Schema.Union([Ask, End]))
})
export type State = typeof State.Type

/** What an endpoint's monitor tells. */
export const Change = Schema.Literals(["Down", "RefreshRequested", "Lost"])
export type Change = typeof Change.Type

export const outcomes = {
  EndpointAnswered: { call: Call, connection: Model.Connection },
  EndpointRefused: { call: Call, ...Model.Failure.fields },
  EndpointClosed: { call: Call },
  PlumbSucceeded: { call: Call },
  PlumbFailed: { call: Call, ...Model.Failure.fields },
  UnplumbFinished: { call: Call },
  /** From the monitor of the endpoint; its end is `Lost`. */
  EndpointChanged: { call: Call, change: Change },
  /** An end of the pair vanished, perhaps with the namespace of the client. */
  LinkLost: { call: Call, clientGone: Schema.Boolean }
} as const
export const Outcome = Schema.TaggedUnion(outcomes)
export type Outcome = typeof Outcome.Type

export const Result = Schema.TaggedUnion({
  /** In the client's view. */
  Succeeded: { connection: Model.Connection },
  Closed: {},
  Failed: Model.Failure.fields
})
export type Result = typeof Result.Type

export const commands = {
  RequestEndpoint: {
    call: Call,
    target: Target,
    connection: Model.Connection,
    preferences: Schema.Array(Model.Mechanism),
    timeoutMs: Schema.Natural
  },
  CloseEndpoint: { call: Call, target: Target, connection: Model.Connection, timeoutMs: Schema.Natural },
  /** Makes the kernel hold `cross` instead of `previous`. */
  Plumb: { call: Call, cross: Cross.Cross, previous: Schema.optionalKey(Cross.Cross) },
  /** As `Plumb` for a pair that stands already; fails with `NotFound` if it does not. */
  Adopt: { call: Call, cross: Cross.Cross, previous: Cross.Cross },
  Unplumb: { call: Call, cross: Cross.Cross },
  /** Follows the connection at its endpoint until cancelled. */
  WatchEndpoint: { call: Call, target: Target, connection: Model.Connection },
  /** Watches both ends of the pair until cancelled. */
  WatchLink: { call: Call, cross: Cross.Cross },
  Cancel: { call: Call },
  SaveRecord: { record: Record },
  ForgetRecord: { clientId: Schema.String },
  Reply: { reply: Schema.Natural, result: Result }
} as const
export const Command = Schema.TaggedUnion(commands)
export type Command = typeof Command.Type

/** The world around the circuit in one step. */
export interface Surroundings {
  readonly settings: Settings
  readonly registry: Registry.State
  /** How many requests each service had before. */
  readonly turns: { readonly [service: string]: number }
  /** Tables of other circuits by namespace. */
  readonly taken: (netns: string) => ReadonlySet<number>
  readonly now: Millis
  /** The first unused call. */
  readonly call: number
}

/** What an event of the endpoint's monitor means; one whose first event lacks the connection has forgotten it in a restart. */
export const changeIn = (
  { connections, type }: Model.ConnectionEvent,
  { id, path: { index } }: Model.Connection
): Change | undefined => {
  const next = Object.values(connections).find(({ path }) =>
    path.index === index + 1 && path.segments[index]?.id === id
  )
  if (next === undefined) return type === "Initial" ? "RefreshRequested" : undefined
  if (type === "Delete" || next.state === "Down") return "Down"
  return next.state === "RefreshRequested" ? "RefreshRequested" : undefined
}
