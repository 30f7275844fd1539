/**
 * Decides what the stateless load balancer of a conduit does, from what the NSP and the kernel say.
 *
 *     NSP lists ─▶ targets wanted ─▶ routes (plan against the kernel) ─▶ targets ready ─▶ rules ─▶ available
 *     own frontend announced ─▶ endpoint served, streams in use; denounced ─▶ endpoint gone, streams dropped
 *
 * 1. Nothing is changed before every list of the NSP is known: what a predecessor left goes on working.
 * 2. A target gets packets only while it is enabled and its routes and rules are seen in the kernel; they stay there
 *    until the rules of nftables do not mention it any more, and packets that they classified are through.
 * 3. The kernel is read after each change and every 10 s; what it lacks is done again.
 * 4. The endpoint is served exactly while the frontend of this pod is announced, once rules are in force.
 * 5. The load balancer is available while the rules in force have a target in any stream; it becomes so when all targets
 *    are in force, or after 2 s: with a part of them it would lead the connections of the others astray.
 * 6. Rules that the kernel refuses are tried without the fast path at once; it is tried again when it leads elsewhere (a
 *    link may have gone meanwhile), or after a minute.
 */
import { Schema } from "effect"
import { ConduitKey, Flow, type Name, PortNat, sameConduit, Stream, Vip } from "../config/Model.ts"
import { Target } from "../config/Target.ts"
import * as Machine from "../Machine.ts"
import * as Kernel from "../net/Kernel.ts"
import * as Same from "../Same.ts"
import * as FastPath from "./FastPath.ts"
import * as InUse from "./InUse.ts"
import * as Lists from "./Lists.ts"
import * as Maglev from "./Maglev.ts"
import { Ruleset } from "./Model.ts"
import * as Offsets from "./Offsets.ts"
import * as Routes from "./Routes.ts"
import * as Seen from "./Seen.ts"
import * as Wanted from "./Wanted.ts"

export const Settings = Schema.Struct({
  conduit: ConduitKey,
  /** Names the frontend of this pod, and this load balancer to it. */
  hostname: Schema.String,
  /** The first and the last mark that may be used; load balancers in one namespace share none. */
  offsetStart: Schema.Natural,
  offsetEnd: Schema.Natural,
  /** The name of the tables of nftables; load balancers in one namespace have different ones. */
  table: Schema.NonEmptyString,
  ...FastPath.Settings.fields
})
export type Settings = typeof Settings.Type

const KernelWork = Schema.TaggedUnion({
  Idle: {},
  /** `again` when this reading looks at what was just applied. */
  Reading: { call: Machine.Call, again: Schema.Boolean },
  Applying: { call: Machine.Call }
})

const Endpoint = Schema.TaggedUnion({
  Absent: {},
  Serving: { call: Machine.Call, isServed: Schema.Boolean },
  Stopping: { call: Machine.Call }
})

export const State = Schema.Struct({
  settings: Settings,
  lists: Lists.Lists,
  offsets: Offsets.Offsets,
  /** The targets that the last plan was made for. */
  planned: Schema.Array(Routes.Target),
  /** What the kernel has for them, by the last reading; absent before the first one. */
  seen: Schema.optionalKey(Seen.Seen),
  /** Until then there is no fast path, because the kernel refused it. */
  fastPathAt: Schema.optionalKey(Machine.Millis),
  kernel: KernelWork,
  /** When the kernel is to be read at the latest. */
  readAt: Machine.Millis,
  /** The rules in force; absent when unknown. */
  rules: Schema.optionalKey(Ruleset),
  applying: Schema.optionalKey(Schema.Struct({ call: Machine.Call, rules: Ruleset })),
  former: InUse.Former,
  /** Whether frontends may announce; until then, when they may although not all targets are in force. */
  available: Schema.Boolean,
  availableAt: Schema.optionalKey(Machine.Millis),
  /** Until then no rules are applied, because the last attempt failed. */
  rulesAt: Schema.optionalKey(Machine.Millis),
  endpoint: Endpoint,
  endpointAt: Schema.optionalKey(Machine.Millis),
  nextCall: Machine.Call,
  closing: Schema.Boolean
})
export type State = typeof State.Type

export const Event = Schema.TaggedUnion({
  VipsChanged: { vips: Schema.Array(Vip) },
  PortNatsChanged: { portNats: Schema.Array(PortNat) },
  StreamsChanged: { streams: Schema.Array(Stream) },
  FlowsChanged: { flows: Schema.Array(Flow) },
  /** Enabled application targets of the conduit. */
  TargetsChanged: { targets: Schema.Array(Target) },
  FrontendsChanged: { frontends: Schema.Array(Schema.String) },
  /** Links, addresses, rules or routes of the namespace changed. */
  KernelChanged: {},
  /** `Routes.relevant` suffices. */
  ReadSucceeded: { call: Machine.Call, snapshot: Kernel.Snapshot },
  ReadFailed: { call: Machine.Call, reason: Schema.String },
  OperationsSucceeded: { call: Machine.Call },
  OperationsFailed: { call: Machine.Call, reason: Schema.String },
  RulesSucceeded: { call: Machine.Call },
  RulesFailed: { call: Machine.Call, reason: Schema.String },
  /** The endpoint listens and is registered, or will be as soon as there is a manager. */
  EndpointServed: { call: Machine.Call },
  EndpointFailed: { call: Machine.Call, reason: Schema.String },
  EndpointStopped: { call: Machine.Call },
  CloseRequested: {}
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  ReadKernel: { call: Machine.Call },
  ApplyOperations: { call: Machine.Call, operations: Schema.Array(Kernel.Operation) },
  /** Makes `after` the rules in force (`Ruleset.change`); without `before` whatever they are is replaced. */
  ApplyRules: { call: Machine.Call, before: Schema.optionalKey(Ruleset), after: Ruleset },
  /** Serves the endpoint until it is stopped. */
  ServeEndpoint: { call: Machine.Call },
  /** Unregisters the endpoint and stops to serve it. */
  StopEndpoint: { call: Machine.Call }
})
export type Command = typeof Command.Type

export type Step = Machine.Step<State, Command>

export const Input = Settings

const settleMs = 100
const retryMs = 1_000
const verifyMs = 10_000
const endpointRetryMs = 5_000
const gatheringMs = 2_000
const fastPathRetryMs = 60_000

const init = (settings: Settings, now: Machine.Millis): Step => [{
  settings,
  lists: Lists.none,
  offsets: {},
  planned: [],
  former: [],
  kernel: { _tag: "Idle" },
  readAt: now,
  endpoint: { _tag: "Absent" },
  available: false,
  nextCall: 0,
  closing: false
}, []]

const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "VipsChanged":
      return listed(state, { vips: event.vips }, now)
    case "PortNatsChanged":
      return listed(state, { portNats: event.portNats }, now)
    case "StreamsChanged":
      return listed(state, { streams: event.streams }, now)
    case "FlowsChanged":
      return listed(state, { flows: event.flows }, now)
    case "TargetsChanged":
      return listed(state, { targets: event.targets }, now)
    case "FrontendsChanged":
      return listed(state, { frontends: event.frontends }, now)
    case "KernelChanged":
      return settle(readBy(state, now + settleMs), now)
    case "ReadSucceeded":
      return readSucceeded(state, event.call, event.snapshot, now)
    case "ReadFailed":
    case "OperationsFailed":
      return isKernelCall(state, event.call)
        ? settle({ ...state, kernel: { _tag: "Idle" }, readAt: now + retryMs }, now)
        : Machine.stay(state)
    case "OperationsSucceeded":
      return isKernelCall(state, event.call) ? read(state, true) : Machine.stay(state)
    case "RulesSucceeded":
      return rulesSucceeded(state, event.call, now)
    case "RulesFailed":
      return rulesFailed(state, event.call, now)
    case "EndpointServed":
      return state.endpoint._tag === "Serving" && state.endpoint.call === event.call && !state.endpoint.isServed
        ? [{ ...state, endpoint: { ...state.endpoint, isServed: true } }, []]
        : Machine.stay(state)
    case "EndpointFailed":
      return state.endpoint._tag === "Serving" && state.endpoint.call === event.call
        ? settle({ ...state, endpoint: { _tag: "Absent" }, endpointAt: now + endpointRetryMs }, now)
        : Machine.stay(state)
    case "EndpointStopped":
      return state.endpoint._tag === "Stopping" && state.endpoint.call === event.call
        ? settle({ ...state, endpoint: { _tag: "Absent" } }, now)
        : Machine.stay(state)
    case "Woken":
      return believe(state, Lists.settle(state.lists, now), now)
    case "CloseRequested":
      return state.closing ? Machine.stay(state) : settle({ ...state, closing: true }, now)
  }
}

const wake = (state: State): Machine.Millis | undefined => {
  const { applying, availableAt, closing, endpoint, endpointAt, fastPathAt, kernel, lists, readAt, rules, rulesAt } =
    state
  if (closing) return undefined
  return Machine.earliest(
    Lists.wake(lists),
    rules === undefined ? undefined : availableAt,
    rules === undefined || endpoint._tag !== "Absent" ? undefined : endpointAt,
    kernel._tag === "Idle" && Lists.isComplete(lists) ? readAt : undefined,
    applying === undefined && Lists.isComplete(lists) ? Machine.earliest(rulesAt, fastPathAt) : undefined
  )
}

/** Whether some stream has a target, which frontends wait for before they announce VIPs. */
export const isAvailable = ({ available, closing }: State): boolean => available && !closing

/** Whether the frontend of this pod is announced. */
export const isAttracting = ({ lists, settings }: State): boolean =>
  lists.frontends?.includes(settings.hostname) ?? false

/** Whether proxies can reach the load balancer and its frontend is announced. */
export const isServing = (state: State): boolean =>
  isAttracting(state) && state.endpoint._tag === "Serving" && state.endpoint.isServed

/** Whether nothing is under way and nothing will be. */
export const isClosed = ({ applying, closing, endpoint, kernel }: State): boolean =>
  closing && applying === undefined && endpoint._tag === "Absent" && kernel._tag === "Idle"

const listed = (state: State, change: Partial<Omit<Lists.Lists, "emptyAt">>, now: Machine.Millis): Step =>
  state.closing ? Machine.stay(state) : believe(state, Lists.receive(state.lists, change, now), now)

const believe = (state: State, lists: Lists.Lists, now: Machine.Millis): Step => {
  if (lists === state.lists) return settle(state, now)
  const { conduit, offsetEnd, offsetStart } = state.settings
  const offsets = lists.streams === state.lists.streams
    ? state.offsets
    : Offsets.upTo(
      Offsets.assign(state.offsets, Wanted.streams(conduit, lists.streams ?? []), offsetStart),
      offsetEnd
    )
  const next = { ...state, lists, offsets }
  return settle(isAttracting(next) === isAttracting(state) ? next : { ...next, readAt: now }, now)
}

const readSucceeded = (state: State, call: number, snapshot: Kernel.Snapshot, now: Machine.Millis): Step => {
  const { kernel } = state
  if (kernel._tag !== "Reading" || kernel.call !== call) return Machine.stay(state)
  const idle: State = { ...state, kernel: { _tag: "Idle" }, readAt: Math.max(state.readAt, now) }
  if (state.closing || !Lists.isComplete(state.lists)) return settle(idle, now)
  const { settings } = state
  const targets = Wanted.targets(given(state))
  const operations = Routes.planFor({
    targets,
    keep: InUse.marks(state, now),
    range: [settings.offsetStart, settings.offsetEnd],
    linkPrefix: settings.linkPrefix,
    serves: isAttracting(state),
    observed: snapshot
  })
  const seen = Seen.look({ settings, vips: state.lists.vips ?? [], targets, observed: snapshot })
  const isElsewhere = idle.fastPathAt !== undefined && !Same.equals(seen.fastPath, state.seen?.fastPath)
  const next: State = { ...isElsewhere ? withoutFastPathAt(idle) : idle, planned: targets, seen }
  if (operations.length === 0) return settle({ ...next, readAt: laterReading(state, now, verifyMs) }, now)
  // The kernel did not become what it was made, or more can go by now: somebody else may work on it, so leave some time.
  if (kernel.again && Same.equals(targets, state.planned)) return settle({ ...next, readAt: now + retryMs }, now)
  const applying: State = {
    ...next,
    kernel: { _tag: "Applying", call: state.nextCall },
    readAt: now + verifyMs,
    nextCall: state.nextCall + 1
  }
  const [settled, commands] = settle(applying, now)
  return [settled, [{ _tag: "ApplyOperations", call: state.nextCall, operations }, ...commands]]
}

const rulesSucceeded = (state: State, call: number, now: Machine.Millis): Step => {
  const { applying, ...rest } = state
  if (applying?.call !== call) return Machine.stay(state)
  const former = InUse.replaced(state.former, state.rules, now)
  // Routes of marks that are not in use any more can go then.
  return settle(readBy({ ...rest, former, rules: applying.rules }, InUse.next(former, now) ?? now), now)
}

// What the kernel holds after a failed transaction is what it held before, but not if the answer was lost.
const rulesFailed = (state: State, call: number, now: Machine.Millis): Step => {
  const { applying, rules: _, ...rest } = state
  if (applying?.call !== call) return Machine.stay(state)
  return applying.rules.fastPath === undefined
    ? settle({ ...rest, rulesAt: now + retryMs }, now)
    : settle({ ...rest, fastPathAt: now + fastPathRetryMs, readAt: now }, now)
}

// Starts whatever the state asks for and nothing is under way for.
const settle = (state: State, now: Machine.Millis): Step => {
  const [one, first] = settleEndpoint(settleAvailability(state, now), now)
  if (one.closing || !Lists.isComplete(one.lists)) return [one, first]
  const [two, second] = settleRules(one, now)
  const [three, third] = settleKernel(two, now)
  return [three, [...first, ...second, ...third]]
}

// Rules of unknown content are those of before, as far as anybody can tell.
const settleAvailability = (state: State, now: Machine.Millis): State => {
  const { available, availableAt, rules } = state
  if (rules === undefined) return state
  const inForce = Wanted.marks(rules)
  if (inForce.size === 0) return available || availableAt !== undefined ? settled(state, false) : state
  if (available) return state
  const isComplete = Wanted.targets(given(state)).every(({ mark }) => inForce.has(mark))
  if (isComplete || (availableAt !== undefined && availableAt <= now)) return settled(state, true)
  return availableAt === undefined ? { ...state, availableAt: now + gatheringMs } : state
}

const settled = (state: State, available: boolean): State => {
  const { availableAt: _, ...rest } = state
  return { ...rest, available }
}

const settleEndpoint = (state: State, now: Machine.Millis): Step => {
  const { endpoint: { _tag }, endpointAt, nextCall: call } = state
  const isWanted = isAttracting(state) && !state.closing
  const isReady = state.rules !== undefined && (endpointAt === undefined || endpointAt <= now)
  if (isWanted ? _tag !== "Absent" || !isReady : _tag !== "Serving" && endpointAt === undefined) {
    return Machine.stay(state)
  }
  const { endpointAt: _, ...rest } = state
  if (!isWanted && _tag !== "Serving") return [rest, []]
  if (!isWanted) {
    return [{ ...rest, endpoint: { _tag: "Stopping", call }, nextCall: call + 1 }, [{ _tag: "StopEndpoint", call }]]
  }
  return [
    { ...rest, endpoint: { _tag: "Serving", call, isServed: false }, nextCall: call + 1 },
    [{ _tag: "ServeEndpoint", call }]
  ]
}

const settleRules = (state: State, now: Machine.Millis): Step => {
  const { applying, fastPathAt, rules, rulesAt, seen } = state
  if (fastPathAt !== undefined && fastPathAt <= now && applying === undefined) {
    return settleRules(withoutFastPathAt(state), now)
  }
  if (seen === undefined || applying !== undefined || (rulesAt !== undefined && now < rulesAt)) {
    return Machine.stay(state)
  }
  const wanted = Wanted.rules(given(state), fastPathAt === undefined ? seen : Seen.withoutFastPath(seen))
  const isInForce = rules !== undefined && Same.equals(rules, wanted)
  if (isInForce && rulesAt === undefined) return Machine.stay(state)
  const { rulesAt: _, ...rest } = state
  if (isInForce) return [rest, []]
  const call = state.nextCall
  return [
    { ...rest, applying: { call, rules: wanted }, nextCall: call + 1 },
    [{ _tag: "ApplyRules", call, ...(rules === undefined ? {} : { before: rules }), after: wanted }]
  ]
}

const withoutFastPathAt = (state: State): State => {
  const { fastPathAt: _, ...rest } = state
  return rest
}

const settleKernel = (state: State, now: Machine.Millis): Step => {
  if (state.kernel._tag !== "Idle") return Machine.stay(state)
  const isDue = state.readAt <= now || !Same.equals(Wanted.targets(given(state)), state.planned)
  return isDue ? read(state, false) : Machine.stay(state)
}

const read = (state: State, again: boolean): Step => {
  const call = state.nextCall
  return [
    { ...state, kernel: { _tag: "Reading", call, again }, readAt: Number.MAX_SAFE_INTEGER, nextCall: call + 1 },
    [{ _tag: "ReadKernel", call }]
  ]
}

const readBy = (state: State, at: Machine.Millis): State => state.readAt <= at ? state : { ...state, readAt: at }

// A change that came while the kernel was being read has asked for another reading.
const laterReading = (state: State, now: Machine.Millis, inMs: number): Machine.Millis =>
  Math.max(now + 1, Math.min(state.readAt, now + inMs, InUse.next(state.former, now) ?? Number.MAX_SAFE_INTEGER))

const isKernelCall = ({ kernel }: State, call: number): boolean => kernel._tag !== "Idle" && kernel.call === call

const given = (state: State): Wanted.Given => ({
  conduit: state.settings.conduit,
  lists: state.lists,
  offsets: state.offsets,
  table: state.settings.table,
  attracts: isAttracting(state)
})

/** The streams with more targets than can be served, or for which no marks are left; they are left out. */
export const oversized = ({ lists, offsets, settings }: State): ReadonlyArray<Name> =>
  (lists.streams ?? []).filter((stream) =>
    stream.maxTargets > Maglev.maxTargetsLimit
    || (sameConduit(stream, settings.conduit) && offsets[stream.stream] === undefined)
  ).map(({ stream }) => stream)

export const machine = Machine.make({ name: "loadbalancer", Input, State, Event, Command, init, step, wake })
