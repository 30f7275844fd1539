/**
 * Keeps an endpoint registered at its manager.
 *
 *     Defining ──▶ Registering ──▶ Registered ──2/3 of the life──▶ Registering
 *        ▲  │ failed   │ failed        │ lost (the manager restarted)
 *        └──┴──────────┴── Waiting ◀───┘            any ──close──▶ Closing ──▶ Closed
 *
 * 1. Services are defined before the endpoint registers, again after each loss: the registry may have forgotten them.
 * 2. One call is in flight at a time; failures are repeated for ever with exponential back-off and jitter.
 * 3. Closing takes the endpoint out if that is possible in one attempt; otherwise it expires.
 *
 * Source: sdk, `registry/common/{refresh,heal,retry}`.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import * as Model from "./Model.ts"

export const Settings = Schema.Struct({
  services: Schema.Array(Model.NetworkService),
  endpoint: Model.Endpoint,
  minBackoffMs: Schema.Natural,
  maxBackoffMs: Schema.Natural,
  seed: Schema.Natural
})
export type Settings = typeof Settings.Type

const Phase = Schema.TaggedUnion({
  Defining: { call: Machine.Call, index: Schema.Natural },
  Registering: { call: Machine.Call, watch: Schema.optionalKey(Machine.Call) },
  Registered: { refreshAt: Machine.Millis, watch: Machine.Call },
  Waiting: { retryAt: Machine.Millis },
  Closing: { call: Machine.Call },
  Closed: {}
})

export const State = Schema.Struct({
  settings: Settings,
  seed: Schema.Natural,
  nextCall: Machine.Call,
  /** Failures and losses in a row. */
  attempt: Schema.Natural,
  phase: Phase
})
export type State = typeof State.Type

export const Event = Schema.TaggedUnion({
  /** The outcome of `DefineService`. */
  DefineSucceeded: { call: Machine.Call },
  /** The outcome of `RegisterEndpoint`; `expiresAt` as the manager granted it. */
  RegisterSucceeded: { call: Machine.Call, expiresAt: Schema.optionalKey(Machine.Millis) },
  CallFailed: { call: Machine.Call, ...Model.Failure.fields },
  /** The registry's stream ended, or it says that the endpoint is gone. */
  WatchLost: { call: Machine.Call },
  CloseRequested: {},
  UnregisterFinished: { call: Machine.Call }
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  DefineService: { call: Machine.Call, service: Model.NetworkService },
  RegisterEndpoint: { call: Machine.Call, endpoint: Model.Endpoint },
  /** Follows the endpoint in the registry until cancelled. */
  WatchEndpoint: { call: Machine.Call, endpoint: Model.Endpoint },
  UnregisterEndpoint: { call: Machine.Call, endpoint: Model.Endpoint },
  Cancel: { call: Machine.Call }
})
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

const defaultLifeMs = 60_000

const init = (settings: Settings): Step =>
  define({ settings, seed: settings.seed, nextCall: 0, attempt: 0, phase: { _tag: "Closed" } }, 0)

const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  const { phase } = state
  switch (event._tag) {
    case "DefineSucceeded":
      return phase._tag === "Defining" && phase.call === event.call
        ? define(state, phase.index + 1)
        : Machine.stay(state)
    case "RegisterSucceeded":
      return phase._tag === "Registering" && phase.call === event.call
        ? registered(state, phase.watch, event.expiresAt, now)
        : Machine.stay(state)
    case "CallFailed":
      return (phase._tag === "Defining" || phase._tag === "Registering") && phase.call === event.call
        ? wait(state, "watch" in phase ? phase.watch : undefined, now)
        : Machine.stay(state)
    case "WatchLost":
      return phase._tag === "Registered" && phase.watch === event.call
        ? wait(state, event.call, now)
        : lost(state, event)
    case "CloseRequested":
      return close(state)
    case "UnregisterFinished":
      return phase._tag === "Closing" && phase.call === event.call
        ? [{ ...state, phase: { _tag: "Closed" } }, []]
        : Machine.stay(state)
    case "Woken":
      return woken(state, now)
  }
}

const wake = ({ phase }: State): Machine.Millis | undefined => {
  switch (phase._tag) {
    case "Registered":
      return phase.refreshAt
    case "Waiting":
      return phase.retryAt
    case "Defining":
    case "Registering":
    case "Closing":
    case "Closed":
      return undefined
  }
}

/** Defining: one service after another, then the endpoint. */
const define = (state: State, index: number): Step => {
  const service = state.settings.services[index]
  const call = state.nextCall
  return service === undefined ? register(state, undefined) : [
    { ...state, nextCall: call + 1, phase: { _tag: "Defining", call, index } },
    [{ _tag: "DefineService", call, service }]
  ]
}

const register = (state: State, watch: number | undefined): Step => {
  const call = state.nextCall
  return [
    {
      ...state,
      nextCall: call + 1,
      phase: { _tag: "Registering", call, ...(watch === undefined ? {} : { watch }) }
    },
    [{ _tag: "RegisterEndpoint", call, endpoint: state.settings.endpoint }]
  ]
}

const registered = (
  state: State,
  watch: number | undefined,
  expiresAt: Machine.Millis | undefined,
  now: Machine.Millis
): Step => {
  const refreshAt = now + Math.max(1, Math.floor(((expiresAt ?? now + defaultLifeMs) - now) * 2 / 3))
  if (watch !== undefined) return [{ ...state, attempt: 0, phase: { _tag: "Registered", refreshAt, watch } }, []]
  const call = state.nextCall
  return [
    { ...state, nextCall: call + 1, phase: { _tag: "Registered", refreshAt, watch: call } },
    [{ _tag: "WatchEndpoint", call, endpoint: state.settings.endpoint }]
  ]
}

/** While the endpoint registers again, a lost watch is only noted: the next registration watches anew. */
const lost = (state: State, { call }: Extract<Event, { _tag: "WatchLost" }>): Step => {
  const { phase } = state
  if (phase._tag !== "Registering" || phase.watch !== call) return Machine.stay(state)
  return [{ ...state, phase: { _tag: "Registering", call: phase.call } }, [{ _tag: "Cancel", call }]]
}

const wait = (state: State, watch: number | undefined, now: Machine.Millis): Step => {
  const { maxBackoffMs, minBackoffMs } = state.settings
  const seed = (state.seed * 1_664_525 + 1_013_904_223) % 2 ** 32
  const ceiling = Math.min(maxBackoffMs, minBackoffMs * 2 ** Math.min(state.attempt, 20))
  const retryAt = now + Math.max(1, Math.round(ceiling * (0.5 + seed / 2 ** 33)))
  return [
    { ...state, seed, attempt: state.attempt + 1, phase: { _tag: "Waiting", retryAt } },
    watch === undefined ? [] : [{ _tag: "Cancel", call: watch }]
  ]
}

const woken = (state: State, now: Machine.Millis): Step => {
  const { phase } = state
  const deadline = wake(state)
  if (deadline === undefined || deadline > now) return Machine.stay(state)
  return phase._tag === "Registered" ? register(state, phase.watch) : define(state, 0)
}

const close = (state: State): Step => {
  const { phase } = state
  if (phase._tag === "Closing" || phase._tag === "Closed") return Machine.stay(state)
  const call = state.nextCall
  const inFlight = ["call" in phase ? phase.call : undefined, "watch" in phase ? phase.watch : undefined]
  return [
    { ...state, nextCall: call + 1, phase: { _tag: "Closing", call } },
    [
      ...inFlight.flatMap((call) => call === undefined ? [] : [{ _tag: "Cancel" as const, call }]),
      { _tag: "UnregisterEndpoint", call, endpoint: state.settings.endpoint }
    ]
  ]
}

export const machine = Machine.make<Settings, State, Event, Command>({
  name: "nsm-registration",
  Input: Settings,
  State,
  Event,
  Command,
  init,
  step,
  wake
})

/** Whether the manager knows the endpoint. */
export const isRegistered = ({ phase }: State): boolean =>
  phase._tag === "Registered" || (phase._tag === "Registering" && phase.watch !== undefined)

/** Whether the registration is over. */
export const isClosed = ({ phase }: State): boolean => phase._tag === "Closed"
