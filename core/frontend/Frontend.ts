/**
 * The frontend of an attractor: announces its VIPs to the gateways while traffic can be served, and keeps the egress of
 * the VIPs on the way to the gateways.
 *
 *     Running ──StopRequested──▶ Stopping ──withdrawn, unregistered, BIRD gone, rules gone──▶ Stopped
 *
 *     attractor (NSP) ─┐                                 ┌─▶ rules and blackholes   (Keeper)
 *     secrets ─────────┤                                 ├─▶ BIRD and its file      (Speaker)
 *     load balancer ───┼─▶ connected? advertise? ────────┼─▶ health of Egress
 *     sessions of BIRD ┘   (Monitor, Connectivity)       └─▶ registration at the NSP (Announcement)
 *
 * Every event is first taken into the state; then `settle` compares what is with what should be, part by part, and asks
 * for what is missing. So no order of events leads astray, and what failed is tried again.
 *
 * 1. VIPs are announced only while the load balancer forwards and the outside is connected, and only if their rules and
 *    blackholes are in place.
 * 2. A withdrawal waits for nothing but a configure in flight; never for the NSP.
 * 3. The rules of a VIP leave after its announcement is gone; what drops its egress stays longer (Keeper).
 * 4. Egress health and the registration follow connectivity.
 * 5. No failure of BIRD, the NSP, the kernel or a configuration ends the frontend; a gateway that BIRD refuses is left
 *    out and keeps nothing else waiting (Quarantine).
 *
 * Source: Meridio cmd/frontend; differences are named in the parts.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import type { Cidr } from "../net/index.ts"
import * as Same from "../Same.ts"
import * as Admission from "./Admission.ts"
import * as Announcement from "./Announcement.ts"
import type * as BirdConfig from "./BirdConfig.ts"
import * as Connectivity from "./Connectivity.ts"
import * as Keeper from "./Keeper.ts"
import { Attractor, type Gateway, OfferedAttractor, Secret, Settings } from "./Model.ts"
import * as Monitor from "./Monitor.ts"
import * as Quarantine from "./Quarantine.ts"
import * as Report from "./Report.ts"
import * as Speaker from "./Speaker.ts"
import * as Wanted from "./Wanted.ts"

export const State = Schema.Struct({
  settings: Settings,
  nextCall: Machine.Call,
  phase: Schema.TaggedUnion({
    Running: {},
    /** First in order, then, when the time is up, forced. */
    Stopping: { at: Machine.Millis, forced: Schema.Boolean },
    Stopped: {}
  }),
  /** Absent until the NSP has spoken. */
  attractor: Schema.optionalKey(Attractor),
  secrets: Schema.Array(Secret),
  /** Gateways that BIRD refused. */
  quarantine: Schema.Array(Quarantine.Entry),
  /** The Secrets that are watched. */
  sources: Schema.Array(Schema.String),
  loadBalancer: Schema.TaggedUnion({
    Unknown: {},
    Forwarding: {},
    NotForwarding: {},
    /** The stream broke while it was forwarding. */
    Lost: { until: Machine.Millis }
  }),
  connectivity: Connectivity.Connectivity,
  /** The health that was published. */
  egress: Schema.Boolean,
  /** What was reported as wrong and still is. */
  complaints: Schema.Array(Schema.String),
  announcement: Announcement.State,
  speaker: Speaker.State,
  monitor: Monitor.State,
  keeper: Keeper.State
})
export type State = typeof State.Type

export const Event = Schema.TaggedUnion({
  /** A snapshot: all attractors that match, of which there is one or none. */
  AttractorObserved: { attractors: Schema.Array(OfferedAttractor) },
  SecretObserved: { secret: Secret },
  SecretGone: { source: Schema.String },
  /** Whether the load balancer of this pod has a stream with a target. */
  LoadBalancerObserved: { forwarding: Schema.Boolean },
  LoadBalancerLost: {},
  StopRequested: {},
  ...Announcement.events,
  ...Speaker.events,
  ...Monitor.events,
  ...Keeper.events
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  /** Watches these Secrets and no others. */
  WatchSecrets: { sources: Schema.Array(Schema.String) },
  /** Publishes the health of Egress. */
  SetEgress: { serving: Schema.Boolean },
  /** Tells the operator. */
  Report: { level: Schema.Literals(["Info", "Warning", "Error"]), message: Schema.String },
  ...Announcement.commands,
  ...Speaker.commands,
  ...Monitor.commands,
  ...Keeper.commands
})
export type Command = typeof Command.Type

export type Step = Machine.Step<State, Command>

export const init = (settings: Settings, now: Machine.Millis): Step => {
  const [state, commands] = settle({
    settings,
    nextCall: 0,
    phase: { _tag: "Running" },
    secrets: [],
    quarantine: [],
    sources: [],
    loadBalancer: { _tag: "Unknown" },
    connectivity: Connectivity.none,
    egress: false,
    complaints: [],
    announcement: Announcement.initial,
    speaker: Speaker.initial,
    monitor: Monitor.initial,
    keeper: Keeper.initial
  }, now)
  return [state, [{ _tag: "SetEgress", serving: false }, ...commands]]
}

export const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  if (state.phase._tag === "Stopped") return Machine.stay(state)
  const [taken, reports] = take(state, event, now)
  const [settled, commands] = settle(taken, now)
  return reports.length === 0 ? [settled, commands] : [settled, [...reports, ...commands]]
}

export const wake = (state: State): Machine.Millis | undefined =>
  state.phase._tag === "Stopped" ? undefined : Machine.earliest(
    state.phase._tag === "Stopping" ? state.phase.at : undefined,
    state.loadBalancer._tag === "Lost" ? state.loadBalancer.until : undefined,
    Announcement.wake(state.announcement),
    Speaker.wake(state.speaker),
    Monitor.wake(state.monitor),
    Keeper.wake(state.keeper)
  )

export const machine = Machine.make({ name: "frontend", Input: Settings, State, Event, Command, init, step, wake })

/** Whether VIPs should be announced now. */
export const advertises = ({ connectivity, loadBalancer, phase }: State): boolean =>
  phase._tag === "Running" && connectivity.connected &&
  (loadBalancer._tag === "Forwarding" || loadBalancer._tag === "Lost")

/** The configuration that BIRD should run now. */
export const wantedConfig = (state: State): BirdConfig.Config => {
  const { attractor = Admission.nothing, connectivity, keeper, quarantine, secrets, settings } = state
  const [isAdvertising, secured] = [advertises(state), Keeper.secured(keeper)]
  return Wanted.config({ attractor, connectivity, isAdvertising, quarantine, secrets, secured, settings })
}

const take = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  const { settings } = state
  switch (event._tag) {
    case "Woken":
      return Machine.stay(state)
    case "AttractorObserved":
      return takeAttractor(state, event.attractors)
    case "SecretObserved": {
      if (!state.sources.includes(event.secret.source)) return Machine.stay(state)
      const others = state.secrets.filter(({ source }) => source !== event.secret.source)
      const secrets = [...others, event.secret].toSorted((a, b) => (a.source < b.source ? -1 : 1))
      return Same.equals(secrets, state.secrets) ? Machine.stay(state) : [{ ...state, secrets }, []]
    }
    case "SecretGone": {
      const secrets = state.secrets.filter(({ source }) => source !== event.source)
      return secrets.length === state.secrets.length ? Machine.stay(state) : [{ ...state, secrets }, []]
    }
    case "LoadBalancerObserved": {
      const _tag = event.forwarding ? "Forwarding" : "NotForwarding"
      return state.loadBalancer._tag === _tag ? Machine.stay(state) : [{ ...state, loadBalancer: { _tag } }, []]
    }
    case "LoadBalancerLost":
      return state.loadBalancer._tag === "Forwarding"
        ? [{ ...state, loadBalancer: { _tag: "Lost", until: now + Math.max(1, settings.lbGraceMs) } }, []]
        : Machine.stay(state)
    case "StopRequested":
      return state.phase._tag === "Running"
        ? [{ ...state, phase: { _tag: "Stopping", at: now + Math.max(1, settings.stopMs), forced: false } }, []]
        : Machine.stay(state)
    case "RegisterSucceeded":
    case "RegisterFailed":
    case "UnregisterSucceeded":
    case "UnregisterFailed": {
      const announcement = Announcement.step(state.announcement, event, settings, now)
      return announcement === state.announcement ? Machine.stay(state) : [{ ...state, announcement }, []]
    }
    case "StartBirdSucceeded":
    case "StartBirdFailed":
    case "BirdExited":
    case "ConfigureSucceeded":
    case "ConfigureRefused":
    case "ConfigureFailed":
    case "StopBirdSucceeded":
      return takeSpeaker(state, event, now)
    case "QueryBirdSucceeded":
    case "QueryBirdFailed": {
      const monitor = Monitor.step(state.monitor, event, settings, now)
      return monitor === state.monitor ? Machine.stay(state) : [{ ...state, monitor }, []]
    }
    case "ConvergeRulesSucceeded":
    case "ConvergeRulesFailed": {
      const keeper = Keeper.step(state.keeper, event, settings, now)
      return keeper === state.keeper ? Machine.stay(state) : [{ ...state, keeper }, []]
    }
  }
}

/** An attractor that was removed has no VIPs and no gateways; more than one is a mistake of the NSP and is ignored. */
const takeAttractor = (state: State, attractors: ReadonlyArray<OfferedAttractor>): Step => {
  if (attractors.length > 1) {
    return [state, [Report.report("Warning", `the NSP sent ${attractors.length} attractors instead of one: ignored`)]]
  }
  const attractor = attractors[0] === undefined ? Admission.nothing : Admission.admit(attractors[0])
  return Same.equals(attractor, state.attractor) ? Machine.stay(state) : [{ ...state, attractor }, []]
}

const takeSpeaker = (state: State, event: Speaker.Event, now: Machine.Millis): Step => {
  const speaker = Speaker.step(state.speaker, event, baseConfig(state), state.settings, now)
  if (speaker === state.speaker) return Machine.stay(state)
  const next = { ...state, speaker }
  switch (event._tag) {
    case "StartBirdSucceeded":
      return [{ ...next, quarantine: [] }, [Report.report("Info", `BIRD ${event.version} runs`)]]
    case "StartBirdFailed":
      return [next, [Report.report("Error", `BIRD does not start: ${event.reason}`)]]
    case "BirdExited":
      return [next, [Report.report("Error", `BIRD ended: ${event.reason}`)]]
    case "ConfigureRefused":
      return [{ ...next, quarantine: Quarantine.afterRefusal(next, gatewaysOf(state)) }, []]
    case "ConfigureFailed":
      return [next, [Report.report("Warning", `BIRD could not be configured: ${event.reason}`)]]
    default:
      return [next, []]
  }
}

/** Asks for everything that is missing, withdrawals before the NSP. */
const settle = (before: State, now: Machine.Millis): Step => {
  let state = before
  const commands: Array<Command> = []
  for (const part of parts) {
    const [next, asked] = part(state, now)
    state = next
    commands.push(...asked)
  }
  return commands.length === 0 && state === before ? Machine.stay(before) : [state, commands]
}

const settleQuarantine = (state: State): Step => {
  const remaining = Quarantine.remaining(state.quarantine, state.attractor?.gateways ?? [], state.secrets)
  const next = remaining === state.quarantine ? state : { ...state, quarantine: remaining }
  // Only what is known to run shows that the gateways in it are innocent of a refusal.
  const isSettled = Quarantine.hasSuspects(remaining) && Speaker.hasApplied(state.speaker, wantedConfig(next))
  return isSettled ? [{ ...next, quarantine: Quarantine.tryNext(remaining) }, []] : [next, []]
}

const settleLoadBalancer = (state: State, now: Machine.Millis): Step =>
  state.loadBalancer._tag === "Lost" && now >= state.loadBalancer.until
    ? [{ ...state, loadBalancer: { _tag: "NotForwarding" } }, []]
    : Machine.stay(state)

const settleMonitor = (state: State, now: Machine.Millis): Step => {
  const birdUp = state.speaker.process._tag === "Up"
  const [monitor, commands] = Monitor.settle(state.monitor, birdUp, state.settings, now, state.nextCall)
  return monitor === state.monitor ? Machine.stay(state) : asked({ ...state, monitor }, commands)
}

const settleConnectivity = (state: State, now: Machine.Millis): Step => {
  const { monitor: { protocols, sessions }, settings } = state
  const connectivity = Wanted.connectivity({ settings, gateways: gatewaysOf(state), protocols, sessions })
  if (Same.equals(connectivity, state.connectivity)) return Machine.stay(state)
  const lost = state.connectivity.connected && !connectivity.connected
  const monitor = lost ? Monitor.pause(state.monitor, state.settings, now) : state.monitor
  const reports = state.phase._tag === "Running" ? Report.sessions(state.connectivity, connectivity) : []
  return [{ ...state, connectivity, monitor }, reports]
}

const settleKeeper = (state: State, now: Machine.Millis): Step => {
  const { attractor, phase, settings, speaker } = state
  const ending = phase._tag === "Stopping" && speaker.process._tag === "Off"
  if (attractor === undefined && !ending) return Machine.stay(state)
  const vips = ending ? [] : joined(attractor?.vips ?? [], Speaker.announced(speaker))
  const wish = { vips, ending, table: settings.bird.table, blackhole: settings.dropIfNoPeer }
  const [keeper, commands] = Keeper.settle(state.keeper, wish, settings, now, state.nextCall)
  return keeper === state.keeper ? Machine.stay(state) : asked({ ...state, keeper }, commands)
}

/** The VIPs of both. */
const joined = (vips: ReadonlyArray<Cidr.Cidr>, others: ReadonlyArray<Cidr.Cidr>): ReadonlyArray<Cidr.Cidr> =>
  others.every((vip) => vips.includes(vip)) ? vips : [...new Set([...vips, ...others])]

const settleSpeaker = (state: State, now: Machine.Millis): Step => {
  const config = wantedConfig(state)
  const wish = { run: wantsBird(state, config), base: baseConfig(state), config }
  const [speaker, commands] = Speaker.settle(state.speaker, wish, now, state.nextCall)
  return speaker === state.speaker ? Machine.stay(state) : asked({ ...state, speaker }, commands)
}

const settleEgress = (state: State): Step => {
  const egress = isReachable(state)
  return egress === state.egress
    ? Machine.stay(state)
    : [{ ...state, egress }, [{ _tag: "SetEgress", serving: egress }]]
}

const settleAnnouncement = (state: State, now: Machine.Millis): Step => {
  const wished = isReachable(state)
  const [announcement, commands] = Announcement.settle(state.announcement, wished, now, state.nextCall)
  return announcement === state.announcement ? Machine.stay(state) : asked({ ...state, announcement }, commands)
}

const settleSecrets = (state: State): Step => {
  const sources = Wanted.sources(state.attractor ?? Admission.nothing)
  if (Same.equals(sources, state.sources)) return Machine.stay(state)
  const secrets = state.secrets.filter(({ source }) => sources.includes(source))
  return [{ ...state, secrets, sources }, [{ _tag: "WatchSecrets", sources }]]
}

const settleComplaints = (state: State): Step => {
  const { attractor = Admission.nothing, quarantine, secrets, speaker } = state
  const complaints = Report.complaints({ attractor, secrets, quarantine, speaker, wanted: wantedConfig(state) })
  if (Same.equals(complaints, state.complaints)) return Machine.stay(state)
  const fresh = complaints.filter((complaint) => !state.complaints.includes(complaint))
  return [{ ...state, complaints }, fresh.map((complaint) => Report.report("Error", complaint))]
}

const settlePhase = (state: State, now: Machine.Millis): Step => {
  const { phase } = state
  if (phase._tag !== "Stopping") return Machine.stay(state)
  const isOff = state.speaker.process._tag === "Off"
  const isDone = isOff && (isUnregistered(state) || phase.forced) && Keeper.keeps(state.keeper, [])
  if (isDone || (phase.forced && now >= phase.at)) return [{ ...state, phase: { _tag: "Stopped" } }, []]
  if (now < phase.at) return Machine.stay(state)
  const at = now + Math.max(1, state.settings.stopMs)
  return settle({ ...state, phase: { _tag: "Stopping", at, forced: true } }, now)
}

const parts: ReadonlyArray<(state: State, now: Machine.Millis) => Step> = [
  settleQuarantine,
  settleLoadBalancer,
  settleMonitor,
  settleConnectivity,
  settleSpeaker,
  settleKeeper,
  settleEgress,
  settleAnnouncement,
  settleSecrets,
  settleComplaints,
  settlePhase
]

/** Counts the call that was used. */
const asked = (state: State, commands: ReadonlyArray<Command>): Step => [
  commands.some((command) => command._tag !== "Cancel" && "call" in command)
    ? { ...state, nextCall: state.nextCall + 1 }
    : state,
  commands
]

const isReachable = ({ connectivity, phase }: State): boolean => phase._tag === "Running" && connectivity.connected

const isUnregistered = ({ announcement }: State): boolean =>
  announcement.held === "Absent" && announcement.doing._tag === "Resting"

/** While stopping, BIRD stays until the withdrawal is done and the NSP knows, or the time is up. */
const wantsBird = (state: State, config: BirdConfig.Config): boolean => {
  if (state.phase._tag === "Running") return true
  const { process } = state.speaker
  if (process._tag !== "Up" || state.phase._tag !== "Stopping" || state.phase.forced) return false
  const withdrawn = Speaker.runs(state.speaker, config) || process.change._tag === "Refused"
  return !(withdrawn && isUnregistered(state))
}

/** The gateways that can be had now. */
const gatewaysOf = ({ attractor, quarantine }: State): ReadonlyArray<Gateway> =>
  Quarantine.free(attractor?.gateways ?? [], quarantine)

const baseConfig = ({ settings }: State): BirdConfig.Config => Wanted.base(settings.bird)
