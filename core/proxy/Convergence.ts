/**
 * Decides when the kernel is read and changed: after every reason to, never twice at once, and not in vain.
 *
 *     Idle ──reason──▶ Observing ──planned──▶ Applying ──▶ Observing ──nothing left──▶ Idle
 *
 * 1. A reason during a reading or a change leads to another reading.
 * 2. Operations that were just tried and are still wanted wait before they are tried again.
 * 3. Without any reason the kernel is read from time to time.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import { Kernel } from "../net/index.ts"
import * as Same from "../Same.ts"

const Settings = Schema.Struct({ applyRetryMs: Machine.Millis, resyncMs: Machine.Millis })
type Settings = typeof Settings.Type

export const State = Schema.Struct({
  settings: Settings,
  call: Machine.Call,
  phase: Schema.TaggedUnion({
    Idle: { observeAt: Machine.Millis },
    Observing: { call: Machine.Call, again: Schema.Boolean },
    Applying: { call: Machine.Call }
  }),
  /** What was tried last, and when it may be tried again. */
  tried: Schema.optionalKey(Schema.Struct({ operations: Schema.Array(Kernel.Operation), retryAt: Machine.Millis }))
})
export type State = typeof State.Type

export const Event = Schema.TaggedUnion({
  /** The kernel or the wish may have changed. */
  ReasonNoticed: {},
  /** The kernel was read, and this is what there is to do. */
  Planned: { call: Machine.Call, operations: Schema.Array(Kernel.Operation) },
  ObserveFailed: { call: Machine.Call, reason: Schema.String },
  ApplySucceeded: { call: Machine.Call },
  ApplyFailed: { call: Machine.Call, reason: Schema.String }
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  ObserveKernel: { call: Machine.Call },
  ApplyOperations: { call: Machine.Call, operations: Schema.Array(Kernel.Operation) }
})
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

export const init = (settings: Settings): Step =>
  observe({ settings, call: 0, phase: { _tag: "Observing", call: 0, again: false } })

export const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  const { phase } = state
  switch (event._tag) {
    case "ReasonNoticed":
      if (phase._tag === "Idle") return observe(state)
      if (phase._tag === "Applying" || phase.again) return Machine.stay(state)
      return [{ ...state, phase: { ...phase, again: true } }, []]
    case "Planned":
      return phase._tag === "Observing" && phase.call === event.call
        ? planned(state, event.operations, now)
        : Machine.stay(state)
    case "ObserveFailed":
      return phase._tag === "Observing" && phase.call === event.call
        ? [rest(state, now + state.settings.applyRetryMs), []]
        : Machine.stay(state)
    case "ApplySucceeded":
    case "ApplyFailed":
      return phase._tag === "Applying" && phase.call === event.call ? observe(state) : Machine.stay(state)
    case "Woken":
      return phase._tag === "Idle" && phase.observeAt <= now ? observe(state) : Machine.stay(state)
  }
}

export const wake = ({ phase }: State): Machine.Millis | undefined =>
  phase._tag === "Idle" ? phase.observeAt : undefined

export const machine = Machine.make({
  name: "proxy-convergence",
  Input: Settings,
  State,
  Event,
  Command,
  init,
  step,
  wake
})

const observe = (state: State): Step => {
  const { call } = state
  return [{ ...state, call: call + 1, phase: { _tag: "Observing", call, again: false } }, [
    { _tag: "ObserveKernel", call }
  ]]
}

const planned = (state: State, operations: ReadonlyArray<Kernel.Operation>, now: Machine.Millis): Step => {
  const { call, settings, tried } = state
  const again = state.phase._tag === "Observing" && state.phase.again
  if (operations.length === 0) {
    const { tried: _, ...fresh } = state
    return again ? observe(fresh) : [rest(fresh, now + settings.resyncMs), []]
  }
  if (tried !== undefined && now < tried.retryAt && Same.equals(tried.operations, operations)) {
    return again ? observe(state) : [rest(state, tried.retryAt), []]
  }
  return [
    {
      ...state,
      call: call + 1,
      phase: { _tag: "Applying", call },
      tried: { operations, retryAt: now + settings.applyRetryMs }
    },
    [{ _tag: "ApplyOperations", call, operations }]
  ]
}

const rest = (state: State, observeAt: Machine.Millis): State => ({ ...state, phase: { _tag: "Idle", observeAt } })
