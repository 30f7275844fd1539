/**
 * Decides about the BIRD process and the configuration it runs.
 *
 *     Off ──▶ Starting ──▶ Up ──exit──▶ Failed ──back-off──▶ Starting
 *                           └──stop──▶ Stopping ──▶ Off
 *
 * 1. BIRD always starts with the base configuration, which announces nothing and cannot be wrong; the wanted one follows
 *    at once. So no configuration can keep BIRD from running.
 * 2. At most one configure is in flight; of several wishes the last is applied.
 * 3. A refused configuration leaves the running one in place and is not tried again until the wish changes. Only what
 *    must no longer be announced is taken out of the running one.
 * 4. `announced` covers everything BIRD may be announcing, also while an outcome is unknown.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import type { Cidr } from "../net/index.ts"
import * as Same from "../Same.ts"
import * as BirdConfig from "./BirdConfig.ts"

const Config = BirdConfig.Config
type Config = BirdConfig.Config

export const State = Schema.Struct({
  /** Starts and exits since the last stable run. */
  attempts: Schema.Natural,
  process: Schema.TaggedUnion({
    Off: {},
    Starting: { run: Machine.Call },
    Up: {
      /** The call of its start. */
      run: Machine.Call,
      since: Machine.Millis,
      applied: Config,
      change: Schema.TaggedUnion({
        None: {},
        Configuring: { call: Machine.Call, config: Config },
        Refused: { config: Config, message: Schema.String },
        /** The outcome is unknown. */
        Uncertain: { at: Machine.Millis, config: Config }
      })
    },
    Failed: { at: Machine.Millis },
    Stopping: { run: Machine.Call, call: Machine.Call }
  })
})
export type State = typeof State.Type

export const events = {
  /** BIRD answers at its control socket. */
  StartBirdSucceeded: { call: Machine.Call, version: Schema.String },
  StartBirdFailed: { call: Machine.Call, reason: Schema.String },
  /** The process of that start ended. */
  BirdExited: { call: Machine.Call, reason: Schema.String },
  ConfigureSucceeded: { call: Machine.Call },
  /** BIRD found a mistake in the file: `file:line:column message`. */
  ConfigureRefused: { call: Machine.Call, message: Schema.String },
  ConfigureFailed: { call: Machine.Call, reason: Schema.String },
  /** Whether it went well or not: the process is gone. */
  StopBirdSucceeded: { call: Machine.Call }
}
const Event = Schema.TaggedUnion(events)
export type Event = typeof Event.Type

export const commands = {
  /** Writes the file and runs BIRD for as long as the command runs: cancelling it kills the process. */
  StartBird: { call: Machine.Call, config: Config },
  /** Writes a new file beside, has it checked, puts it in place, has it read. */
  ConfigureBird: { call: Machine.Call, config: Config },
  /** Has it end in order, then by force. */
  StopBird: { call: Machine.Call, run: Machine.Call }
}
const Command = Schema.TaggedUnion({ ...commands, Cancel: { call: Machine.Call } })
export type Command = typeof Command.Type

export interface Settings {
  readonly retryMs: number
  readonly birdRestart: { readonly minimumMs: number; readonly maximumMs: number; readonly stableMs: number }
}

export interface Wish {
  readonly run: boolean
  readonly base: Config
  readonly config: Config
}

export const initial: State = { attempts: 0, process: { _tag: "Off" } }

/** Takes in an outcome. */
export const step = (state: State, event: Event, base: Config, settings: Settings, now: Machine.Millis): State => {
  const { process } = state
  switch (process._tag) {
    case "Starting":
      if (!("call" in event) || event.call !== process.run) return state
      if (event._tag === "StartBirdFailed" || event._tag === "BirdExited") return failed(state, settings, now)
      return event._tag === "StartBirdSucceeded"
        ? { ...state, process: { ...process, _tag: "Up", since: now, applied: base, change: { _tag: "None" } } }
        : state
    case "Up": {
      if (event._tag === "BirdExited" && event.call === process.run) {
        const stable = now - process.since >= settings.birdRestart.stableMs
        return failed(stable ? { ...state, attempts: 0 } : state, settings, now)
      }
      const { change } = process
      if (change._tag !== "Configuring" || event.call !== change.call) return state
      const { config } = change
      switch (event._tag) {
        case "ConfigureSucceeded":
          return { ...state, process: { ...process, applied: config, change: { _tag: "None" } } }
        case "ConfigureRefused":
          return { ...state, process: { ...process, change: { _tag: "Refused", config, message: event.message } } }
        case "ConfigureFailed": {
          const at = now + Math.max(1, settings.retryMs)
          return { ...state, process: { ...process, change: { _tag: "Uncertain", at, config } } }
        }
        default:
          return state
      }
    }
    case "Stopping":
      return event._tag === "StopBirdSucceeded" && event.call === process.call
        ? { ...state, process: { _tag: "Off" } }
        : state
    case "Off":
    case "Failed":
      return state
  }
}

/** Asks for what the wish needs; `call` is the next free number. */
export const settle = (state: State, wish: Wish, now: Machine.Millis, call: number): Machine.Step<State, Command> => {
  const { process } = state
  switch (process._tag) {
    case "Off":
      return wish.run ? start(state, wish, call) : Machine.stay(state)
    case "Failed":
      if (!wish.run) return [{ ...state, process: { _tag: "Off" } }, []]
      return now < process.at ? Machine.stay(state) : start(state, wish, call)
    case "Starting":
      if (wish.run) return Machine.stay(state)
      return [{ ...state, process: { _tag: "Off" } }, [{ _tag: "Cancel", call: process.run }]]
    case "Up":
      if (!wish.run) {
        const { run } = process
        return [{ ...state, process: { _tag: "Stopping", run, call } }, [{ _tag: "StopBird", call, run }]]
      }
      return configure(state, process, due(process, wish.config, now), call)
    case "Stopping":
      return Machine.stay(state)
  }
}

export const wake = ({ process }: State): Machine.Millis | undefined => {
  if (process._tag === "Failed") return process.at
  return process._tag === "Up" && process.change._tag === "Uncertain" ? process.change.at : undefined
}

/** The VIPs that BIRD announces or may announce. */
export const announced = ({ process }: State): ReadonlyArray<Cidr.Cidr> => {
  if (process._tag !== "Up") return []
  const { applied, change } = process
  return change._tag === "Configuring" || change._tag === "Uncertain"
    ? [...new Set([...applied.announces, ...change.config.announces])]
    : applied.announces
}

/** Whether BIRD runs the configuration, as far as is known. */
export const runs = ({ process }: State, config: Config): boolean =>
  process._tag === "Up" && process.change._tag === "None" && Same.equals(process.applied, config)

/** Whether BIRD runs the configuration, even if another one was refused since. */
export const hasApplied = ({ process }: State, config: Config): boolean =>
  process._tag === "Up" && (process.change._tag === "None" || process.change._tag === "Refused") &&
  Same.equals(process.applied, config)

type Up = Extract<State["process"], { _tag: "Up" }>

const configure = (state: State, up: Up, config: Config | undefined, call: number): Machine.Step<State, Command> =>
  config === undefined ? Machine.stay(state) : [
    { ...state, process: { ...up, ...uncertainty(up), change: { _tag: "Configuring", call, config } } },
    [{ _tag: "ConfigureBird", call, config }]
  ]

/** The configuration that BIRD should be given now, if any. */
const due = ({ applied, change }: Up, wanted: Config, now: Machine.Millis): Config | undefined => {
  switch (change._tag) {
    case "None":
      return Same.equals(applied, wanted) ? undefined : wanted
    case "Configuring":
      return undefined
    case "Uncertain":
      return now < change.at ? undefined : wanted
    case "Refused":
      // A mistake in a gateway must not keep VIPs announced: they are taken out of the configuration that runs.
      if (!Same.equals(change.config, wanted)) return Same.equals(applied, wanted) ? undefined : wanted
      return applied.announces.every((vip) => wanted.announces.includes(vip)) ? undefined : BirdConfig.silence(applied)
  }
}

/** After an unknown outcome BIRD may announce what either configuration says. */
const uncertainty = ({ applied, change }: Up): { readonly applied?: Config } =>
  change._tag === "Uncertain"
    ? { applied: { ...applied, announces: [...new Set([...applied.announces, ...change.config.announces])] } }
    : {}

const start = (state: State, wish: Wish, call: number): Machine.Step<State, Command> => [
  { ...state, process: { _tag: "Starting", run: call } },
  [{ _tag: "StartBird", call, config: wish.base }]
]

const failed = (state: State, settings: Settings, now: Machine.Millis): State => {
  const { maximumMs, minimumMs } = settings.birdRestart
  const pauseMs = Math.min(maximumMs, minimumMs * 2 ** Math.min(state.attempts, 20))
  return { attempts: state.attempts + 1, process: { _tag: "Failed", at: now + Math.max(1, pauseMs) } }
}
