/**
 * Decides how this target becomes and stays a member of one stream: it agrees with the other targets on a free
 * identifier in two phases (register disabled, look again, register enabled) and keeps the entry alive.
 *
 *     Blocked ─┐            ┌──────────── collision ────────────┐
 *     Undefined┴▶ Listing ▶ Registering ▶ Verifying ▶ Enabling ▶ Open ⇄ Refreshing ▶ Confirming
 *                    ▲                                   │          (an entry lost at the NSP begins anew)
 *                    └─ Waiting ◀── any failure ─────────┘
 *     anything ▶ Unregistering ▶ Blocked, Undefined, Listing, or Closed
 *
 * 1. `enabled` is only registered after a list taken after `disabled` showed no clash, or to refresh such an entry.
 * 2. A registered identifier lies in 1 to `maxTargets` as known then.
 * 3. What was registered is unregistered, registered again or left to expire at the NSP after a failed attempt.
 * 4. A closing stream does nothing but unregister.
 *
 * Rows S1 to S29. Unlike Meridio: a changed `maxTargets` counts at the next check; an identifier known to be taken is
 * not tried again; targets that fight for the last identifier do not retry in step.
 */
import { Schema } from "effect"
import { StreamKey } from "../config/Model.ts"
import * as Target from "../config/Target.ts"
import * as Machine from "../Machine.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Seed from "../Seed.ts"
import * as Identifier from "./Identifier.ts"
import * as Model from "./Model.ts"

/** The budget of one attempt to open or refresh, and of unregistering a stream that left the configuration. */
export const attemptMs = 15_000
/** The pause after a failed attempt. */
export const retryMs = 1_000
/** Added to the pause at random when all identifiers are taken. */
export const jitterMs = 500

/** What the conduit offers: no connection, a stream outside of the configuration, or all that is needed. */
export const Situation = Schema.TaggedUnion({
  Blocked: {},
  Undefined: {},
  Available: { maxTargets: Schema.Natural, ips: Schema.Array(Cidr.Cidr) }
})
export type Situation = typeof Situation.Type

const pending = { call: Machine.Call, until: Machine.Millis }

export const Phase = Schema.TaggedUnion({
  Blocked: {},
  Undefined: {},
  Listing: pending,
  Registering: pending,
  Verifying: pending,
  /** Gives the identifier back, to try `next`, or to wait when all are taken. */
  Retreating: { ...pending, next: Schema.NullOr(Schema.Natural) },
  Enabling: pending,
  Open: { refreshAt: Machine.Millis },
  Refreshing: pending,
  Confirming: pending,
  Waiting: { retryAt: Machine.Millis },
  Unregistering: { ...pending, closing: Schema.Boolean },
  Closed: {}
})
export type Phase = typeof Phase.Type

export const State = Schema.Struct({
  at: StreamKey,
  settings: Model.Settings,
  /** Position among all streams ever opened: the order of a Watch. */
  opened: Schema.Natural,
  nextCall: Machine.Call,
  seed: Seed.Seed,
  situation: Situation,
  status: Model.Status,
  /** The identifier to try first; null when there is none. */
  identifier: Schema.NullOr(Schema.Natural),
  /** The addresses under which the NSP may have an entry; null when it has none. */
  registered: Schema.NullOr(Schema.Array(Cidr.Cidr)),
  /** Whether the identifier was free after it was registered: an attempt that broke later goes on as a refresh. */
  verified: Schema.Boolean,
  phase: Phase
})
export type State = typeof State.Type

/** Outcomes of the commands of a stream. */
export const outcomes = {
  ListSucceeded: { at: StreamKey, call: Machine.Call, targets: Schema.Array(Target.Target) },
  ListFailed: { at: StreamKey, call: Machine.Call, reason: Model.Reason },
  RegisterSucceeded: { at: StreamKey, call: Machine.Call },
  RegisterFailed: { at: StreamKey, call: Machine.Call, reason: Model.Reason },
  UnregisterSucceeded: { at: StreamKey, call: Machine.Call },
  UnregisterFailed: { at: StreamKey, call: Machine.Call, reason: Model.Reason }
}
export const Outcome = Schema.TaggedUnion(outcomes)
export type Outcome = typeof Outcome.Type

export const Event = Schema.TaggedUnion({ SituationChanged: { situation: Situation }, CloseRequested: {}, ...outcomes })
export type Event = typeof Event.Type

export const commands = {
  /** The targets of the stream as the NSP has them now, of any status, this one included. */
  ListTargets: { at: StreamKey, call: Machine.Call },
  RegisterTarget: { at: StreamKey, call: Machine.Call, target: Model.Registration },
  UnregisterTarget: { at: StreamKey, call: Machine.Call, target: Model.Registration },
  Cancel: { call: Machine.Call }
}
export const Command = Schema.TaggedUnion(commands)
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

export const Input = Schema.Struct({
  at: StreamKey,
  settings: Model.Settings,
  opened: Schema.Natural,
  nextCall: Machine.Call,
  seed: Seed.Seed,
  situation: Situation
})

export const init = (input: typeof Input.Type, now: Machine.Millis): Step =>
  settle({
    ...input,
    status: "Unavailable",
    identifier: null,
    registered: null,
    verified: false,
    phase: { _tag: "Blocked" }
  }, now)

export const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "SituationChanged":
      return situationChanged(state, event.situation, now)
    case "CloseRequested":
      return close(state, now)
    case "Woken":
      return woken(state, now)
    default:
      return callOf(state) === event.call ? answered(state, event, now) : Machine.stay(state)
  }
}

export const wake = ({ phase }: State): Machine.Millis | undefined => {
  if ("until" in phase) return phase.until
  if (phase._tag === "Open") return phase.refreshAt
  return phase._tag === "Waiting" ? phase.retryAt : undefined
}

/** Whether the stream was asked to close: it is on its way out and no longer part of a Watch. */
export const isClosing = ({ phase }: State): boolean =>
  phase._tag === "Closed" || (phase._tag === "Unregistering" && phase.closing)

export const isClosed = ({ phase }: State): boolean => phase._tag === "Closed"

const answered = (state: State, event: Outcome, now: Machine.Millis): Step => {
  const { phase } = state
  switch (phase._tag) {
    case "Listing":
      return event._tag === "ListSucceeded" ? choose(state, event.targets, phase.until, now) : broken(state, event, now)
    case "Registering":
      return event._tag === "RegisterSucceeded" ? list(state, "Verifying", phase.until) : broken(state, event, now)
    case "Verifying":
      return event._tag === "ListSucceeded" ? verify(state, event.targets, phase.until) : broken(state, event, now)
    case "Retreating":
      return retreated(state, phase.next, phase.until, now)
    case "Enabling":
      return event._tag === "RegisterSucceeded" ? opened(state, now) : broken(state, event, now)
    case "Refreshing":
      return event._tag === "RegisterSucceeded" ? list(state, "Confirming", phase.until) : broken(state, event, now)
    case "Confirming":
      return event._tag === "ListSucceeded" ? confirm(state, event.targets, now) : broken(state, event, now)
    case "Unregistering":
      return unregistered(state, phase.closing, now)
    default:
      return Machine.stay(state)
  }
}

/** The conduit changed. What the NSP knows of the old situation is taken back before anything new begins. */
const situationChanged = (state: State, situation: Situation, now: Machine.Millis): Step => {
  const before = state.situation
  if (isClosing(state) || sameSituation(before, situation)) return Machine.stay(state)
  const available = before._tag === "Available" && situation._tag === "Available"
  if (available && Target.sameIps(before.ips, situation.ips)) {
    return [{ ...state, situation: { ...situation, ips: before.ips } }, []]
  }
  const next = { ...state, situation }
  if (state.phase._tag === "Unregistering") return [{ ...next, status: statusIn(situation) }, []]
  if (state.registered !== null) {
    const budget = available ? 2 * state.settings.entryTimeoutMs : attemptMs
    return unregister({ ...next, status: statusIn(situation) }, { closing: false, until: now + budget })
  }
  // An attempt that has not registered anything yet goes on with the new addresses.
  return available ? [next, []] : cancelling(state, settle(next, now))
}

/** Begins what the situation allows. */
const settle = (state: State, now: Machine.Millis): Step => {
  const status = statusIn(state.situation)
  switch (state.situation._tag) {
    case "Blocked":
      return [{ ...state, status, phase: { _tag: "Blocked" } }, []]
    case "Undefined":
      return [{ ...state, status, phase: { _tag: "Undefined" } }, []]
    case "Available":
      return attempt({ ...state, status }, now)
  }
}

const attempt = (state: State, now: Machine.Millis): Step =>
  ipsOf(state).length === 0 ? wait(state, retryMs, now) : list(state, "Listing", now + attemptMs)

/** Listing: takes an identifier that nobody has. */
const choose = (state: State, targets: Targets, until: Machine.Millis, now: Machine.Millis): Step => {
  const others = Identifier.others(targets, ipsOf(state))
  if (Identifier.isFull(others, maxTargetsOf(state))) return waitForRoom(state, now)
  const [identifier, seed] = Identifier.choose(state.identifier, others, maxTargetsOf(state), state.seed)
  return register({ ...state, seed, identifier, verified: false }, "Registering", until)
}

/** Verifying: the list now contains our own entry, so whoever else took the identifier sees the clash as well. */
const verify = (state: State, targets: Targets, until: Machine.Millis): Step => {
  const others = Identifier.others(targets, ipsOf(state))
  if (Identifier.isFull(others, maxTargetsOf(state))) return retreat(state, null, until)
  const [identifier, seed] = Identifier.choose(state.identifier, others, maxTargetsOf(state), state.seed)
  return identifier === state.identifier
    ? register({ ...state, verified: true }, "Enabling", until)
    : retreat({ ...state, seed }, identifier, until)
}

const retreated = (state: State, next: number | null, until: Machine.Millis, now: Machine.Millis): Step => {
  const free = { ...state, registered: null }
  return next === null ? waitForRoom(free, now) : register({ ...free, identifier: next }, "Registering", until)
}

const opened = (state: State, now: Machine.Millis): Step => [{
  ...state,
  status: "Open",
  phase: { _tag: "Open", refreshAt: now + state.settings.entryTimeoutMs }
}, []]

/** The refresh is due. An identifier that the configuration no longer allows is given back instead. */
const refresh = (state: State, now: Machine.Millis): Step =>
  state.identifier !== null && Identifier.isValid(state.identifier, maxTargetsOf(state))
    ? register(state, "Refreshing", now + attemptMs)
    : unregister({ ...state, status: "Pending" }, { closing: false, until: now + attemptMs })

/** The NSP stores an entry it had forgotten as disabled, whatever it is told: then the agreement starts anew. */
const confirm = (state: State, targets: Targets, now: Machine.Millis): Step => {
  const ips = ipsOf(state)
  const isOurs = (target: Target.Target) => target.status === "enabled" && Target.sameIps(target.ips, ips)
  return targets.some(isOurs) ? opened(state, now) : attempt({ ...state, verified: false }, now)
}

const close = (state: State, now: Machine.Millis): Step => {
  if (isClosing(state)) return Machine.stay(state)
  const until = now + state.settings.timeoutMs
  if (state.phase._tag === "Unregistering") {
    return [{ ...state, phase: { ...state.phase, closing: true, until: Math.min(until, state.phase.until) } }, []]
  }
  return state.registered === null
    ? cancelling(state, [{ ...state, phase: { _tag: "Closed" } }, []])
    : unregister(state, { closing: true, until })
}

/** Success or not: an entry that stayed at the NSP expires there. */
const unregistered = (state: State, closing: boolean, now: Machine.Millis): Step => {
  const free = { ...state, identifier: null, registered: null, verified: false }
  return closing ? [{ ...free, phase: { _tag: "Closed" } }, []] : settle(free, now)
}

const woken = (state: State, now: Machine.Millis): Step => {
  const deadline = wake(state)
  if (deadline === undefined || now < deadline) return Machine.stay(state)
  const { phase } = state
  switch (phase._tag) {
    case "Open":
      return refresh(state, now)
    case "Waiting":
      return state.verified ? refresh(state, now) : attempt(state, now)
    case "Unregistering":
      return cancelling(state, unregistered(state, phase.closing, now))
    case "Retreating":
      return cancelling(state, phase.next === null ? waitForRoom(state, now) : fail(state, now))
    default:
      return cancelling(state, fail(state, now))
  }
}

const broken = (state: State, event: Outcome, now: Machine.Millis): Step =>
  event._tag === "ListFailed" || event._tag === "RegisterFailed" ? fail(state, now) : Machine.stay(state)

const fail = (state: State, now: Machine.Millis): Step => wait(state, retryMs, now)

/** All identifiers are taken. The pause is uneven, so that two targets do not retry in step. */
const waitForRoom = (state: State, now: Machine.Millis): Step => {
  const [jitter, seed] = Seed.between(state.seed, 0, jitterMs)
  return wait({ ...state, seed }, retryMs + jitter, now)
}

const wait = (state: State, ms: number, now: Machine.Millis): Step => [{
  ...state,
  status: "Unavailable",
  phase: { _tag: "Waiting", retryAt: now + ms }
}, []]

const list = (state: State, phase: "Listing" | "Verifying" | "Confirming", until: Machine.Millis): Step => {
  const call = state.nextCall
  return [
    { ...state, nextCall: call + 1, phase: { _tag: phase, call, until } },
    [{ _tag: "ListTargets", at: state.at, call }]
  ]
}

const register = (
  state: State,
  phase: "Registering" | "Enabling" | "Refreshing",
  until: Machine.Millis
): Step => {
  const call = state.nextCall
  const status = phase === "Registering" ? "disabled" : "enabled"
  const target = { ips: ipsOf(state), identifier: state.identifier ?? 0, status } as const
  return [
    { ...state, nextCall: call + 1, registered: target.ips, phase: { _tag: phase, call, until } },
    [{ _tag: "RegisterTarget", at: state.at, call, target }]
  ]
}

const retreat = (state: State, next: number | null, until: Machine.Millis): Step => {
  const call = state.nextCall
  return [
    { ...state, nextCall: call + 1, phase: { _tag: "Retreating", call, until, next } },
    [unregisterCommand(state, call)]
  ]
}

const unregister = (state: State, how: { readonly closing: boolean; readonly until: Machine.Millis }): Step => {
  const call = state.nextCall
  const next: State = { ...state, nextCall: call + 1, phase: { _tag: "Unregistering", call, ...how } }
  return cancelling(state, [next, [unregisterCommand(state, call)]])
}

const unregisterCommand = (state: State, call: number): Command => ({
  _tag: "UnregisterTarget",
  at: state.at,
  call,
  target: { ips: state.registered ?? [], identifier: state.identifier ?? 0, status: "disabled" }
})

/** Interrupts what the old state waits for, before the commands of the new one. */
const cancelling = (old: State, [state, commands]: Step): Step => {
  const call = callOf(old)
  return [state, call === undefined ? commands : [{ _tag: "Cancel", call }, ...commands]]
}

const callOf = ({ phase }: State): number | undefined => "call" in phase ? phase.call : undefined

type Targets = ReadonlyArray<Target.Target>

const ipsOf = ({ situation }: State): ReadonlyArray<Cidr.Cidr> => situation._tag === "Available" ? situation.ips : []

const maxTargetsOf = ({ situation }: State): number => situation._tag === "Available" ? situation.maxTargets : 0

const sameSituation = (a: Situation, b: Situation): boolean =>
  a._tag === "Available" && b._tag === "Available"
    ? a.maxTargets === b.maxTargets && Target.sameIps(a.ips, b.ips)
    : a._tag === b._tag

const statusIn = (situation: Situation): Model.Status => {
  switch (situation._tag) {
    case "Blocked":
      return "Unavailable"
    case "Undefined":
      return "Undefined"
    case "Available":
      return "Pending"
  }
}

export const machine = Machine.make({ name: "tapa.stream", Input, State, Event, Command, init, step, wake })
