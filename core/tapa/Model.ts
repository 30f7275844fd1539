/** The words of the TAPA: what callers ask for, how a stream fares, how this target is registered. */
import { Result, Schema } from "effect"
import type * as Config from "../config/Model.ts"
import { StreamKey } from "../config/Model.ts"
import * as Cidr from "../net/Cidr.ts"

/** What a caller asked for, before it is checked: a missing conduit or trench differs from one without a name. */
export const Request = Schema.Struct({
  stream: Schema.String,
  conduit: Schema.optionalKey(Schema.String),
  trench: Schema.optionalKey(Schema.String)
})
export type Request = typeof Request.Type

/** Which streams a watcher wants; an empty name matches every name. */
export const Filter = Schema.Struct({ trench: Schema.String, conduit: Schema.String, stream: Schema.String })
export type Filter = typeof Filter.Type

/**
 * How a stream fares (`ambassador.v1.StreamStatus.Status`): traffic can flow; asked for and settling; out of reach (no
 * connection, no NSP, no free identifier); not in the configuration.
 */
export const Status = Schema.Literals(["Open", "Pending", "Unavailable", "Undefined"])
export type Status = typeof Status.Type

/** One line of a Watch. */
export const StreamStatus = Schema.Struct({ at: StreamKey, status: Status })
export type StreamStatus = typeof StreamStatus.Type

/** This target, as it is registered. The order of the addresses is part of its identity at the NSP. */
export const Registration = Schema.Struct({
  ips: Schema.Array(Cidr.Cidr),
  identifier: Schema.Natural,
  status: Schema.Literals(["enabled", "disabled"])
})
export type Registration = typeof Registration.Type

/** Why a call failed, as far as a decision can depend on it; `Failed` is everything else. */
export const Reason = Schema.Literals(["Unavailable", "Timeout", "NotFound", "Denied", "Conflict", "Invalid", "Failed"])
export type Reason = typeof Reason.Type

/** A duration that leaves some time. Unit: milliseconds. */
const Duration = Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))

/** What the machines are told by the environment of the process. */
export const Settings = Schema.Struct({
  /** Name of this target, unique among the pods: part of the connection id. */
  name: Schema.String,
  /** The node, by which the proxy on the same node is chosen. */
  node: Schema.String,
  /** The namespace of the trench. */
  namespace: Schema.String,
  /** The budget of one step: connect, VIP update, unregister at close, disconnect. */
  timeoutMs: Duration,
  /** The longest that the manager keeps a connection which nobody refreshes. */
  tokenLifetimeMs: Duration,
  /** How long after an attempt ended an open stream is registered again; at most half of the expiry at the NSP. */
  entryTimeoutMs: Duration
})
export type Settings = typeof Settings.Type

/** The stream a caller means, or what is wrong with the request, in the words of Meridio where it has some. */
export const key = ({ conduit, stream, trench }: Request): Result.Result<Config.StreamKey, string> => {
  if (conduit === undefined) return Result.fail("conduit cannot be nil")
  if (trench === undefined) return Result.fail("trench cannot be nil")
  const empty = stream === "" ? "stream" : conduit === "" ? "conduit" : trench === "" ? "trench" : undefined
  return empty === undefined
    ? Result.succeed({ trench, conduit, stream })
    : Result.fail(`the name of the ${empty} cannot be empty`)
}

/** Whether a watcher with this filter wants to hear of the stream. */
export const matches = (filter: Filter, at: Config.StreamKey): boolean =>
  (filter.stream === "" || filter.stream === at.stream)
  && (filter.conduit === "" || filter.conduit === at.conduit)
  && (filter.trench === "" || filter.trench === at.trench)
