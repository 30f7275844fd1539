/**
 * The words of the TAPA: streams and conduits by their full path, how a stream fares, and targets as the NSP of the
 * trench lists them.
 */
import { Result, Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"

/** A conduit by its full path. A structured key: unlike `conduit.trench`, it survives dots in names. */
export const ConduitAddress = Schema.Struct({ trench: Schema.String, conduit: Schema.String })
export type ConduitAddress = typeof ConduitAddress.Type

/** A stream by its full path. */
export const Address = Schema.Struct({ trench: Schema.String, conduit: Schema.String, stream: Schema.String })
export type Address = typeof Address.Type

/** What a caller asked for, before it is checked: a missing conduit or trench differs from one without a name. */
export const Request = Schema.Struct({
  stream: Schema.String,
  conduit: Schema.optionalKey(Schema.String),
  trench: Schema.optionalKey(Schema.String)
})
export type Request = typeof Request.Type

/** Which streams a watcher wants; an empty name matches every name. */
export const Filter = Address
export type Filter = typeof Filter.Type

/**
 * How a stream fares (`ambassador.v1.StreamStatus.Status`): traffic can flow; asked for and settling; out of reach (no
 * connection, no NSP, no free identifier); not in the configuration.
 */
export const Status = Schema.Literals(["Open", "Pending", "Unavailable", "Undefined"])
export type Status = typeof Status.Type

/** One line of a Watch. */
export const StreamStatus = Schema.Struct({ at: Address, status: Status })
export type StreamStatus = typeof StreamStatus.Type

/** This target, as it is registered. The order of the addresses is part of its identity at the NSP. */
export const Target = Schema.Struct({
  ips: Schema.Array(Cidr.Cidr),
  identifier: Schema.Natural,
  status: Schema.Literals(["Enabled", "Disabled"])
})
export type Target = typeof Target.Type

/** A target as the NSP lists it. Others may register anything, so nothing is promised about the parts. */
export const ListedTarget = Schema.Struct({
  ips: Schema.Array(Schema.String),
  identifier: Schema.optionalKey(Schema.Int),
  status: Schema.Literals(["Enabled", "Disabled"])
})
export type ListedTarget = typeof ListedTarget.Type

/** A stream of the configuration. `maxTargets` 0 means that an NSP before v0.9.0 did not say. */
export const ConfiguredStream = Schema.Struct({ at: Address, maxTargets: Schema.Natural })
export type ConfiguredStream = typeof ConfiguredStream.Type

/** Why a call failed, as far as a decision can depend on it; `Failed` is everything else. */
export const Reason = Schema.Literals(["Unavailable", "Timeout", "NotFound", "Denied", "Conflict", "Invalid", "Failed"])
export type Reason = typeof Reason.Type

/** What the machines are told by the environment of the process. */
export const Settings = Schema.Struct({
  /** Name of this target, unique among the pods: part of the connection id. */
  name: Schema.String,
  /** The node, by which the proxy on the same node is chosen. */
  node: Schema.String,
  /** The namespace of the trench. */
  namespace: Schema.String,
  /** The budget of one step: connect, VIP update, unregister at close, disconnect. */
  timeoutMs: Schema.Natural,
  /** How long after an attempt ended an open stream is registered again; at most half of the expiry at the NSP. */
  entryTimeoutMs: Schema.Natural
})
export type Settings = typeof Settings.Type

/** The address a caller means, or what is wrong with it, in the words of Meridio where it has some. */
export const address = ({ conduit, stream, trench }: Request): Result.Result<Address, string> => {
  if (conduit === undefined) return Result.fail("conduit cannot be nil")
  if (trench === undefined) return Result.fail("trench cannot be nil")
  const empty = stream === "" ? "stream" : conduit === "" ? "conduit" : trench === "" ? "trench" : undefined
  return empty === undefined
    ? Result.succeed({ trench, conduit, stream })
    : Result.fail(`the name of the ${empty} cannot be empty`)
}

/** Whether two addresses name the same stream. */
export const same = (a: Address, b: Address): boolean => a.stream === b.stream && sameConduit(a, b)

/** Whether two addresses lie in the same conduit. */
export const sameConduit = (a: ConduitAddress, b: ConduitAddress): boolean =>
  a.conduit === b.conduit && a.trench === b.trench

/** Whether a watcher with this filter wants to hear of the stream. */
export const matches = (filter: Filter, at: Address): boolean =>
  (filter.stream === "" || filter.stream === at.stream)
  && (filter.conduit === "" || filter.conduit === at.conduit)
  && (filter.trench === "" || filter.trench === at.trench)

/** Whether two lists have the same members; neither order nor repetition counts. */
export const sameSet = (a: ReadonlyArray<string>, b: ReadonlyArray<string>): boolean => {
  const inA = new Set(a)
  const inB = new Set(b)
  return inA.size === inB.size && [...inA].every((member) => inB.has(member))
}
