/**
 * Decides everything that the proxy of one conduit does on one node: it joins the load balancers and the node's targets
 * on a bridge and sends the targets' VIP traffic back through the load balancers.
 *
 *     Starting ──gateways in place──▶ Serving ──CloseRequested──▶ Stopping ──▶ Closing ──▶ Releasing ──▶ Closed
 *                                              endpoint unregistered │   load balancers │   addresses │
 *
 * Its parts (`Parts`) are smaller machines: `Leases` (addresses), `Mesh` (load balancers), `Targets`, and `Convergence`
 * (the kernel, after the plan `Routes`).
 *
 * 1. Load balancers and targets are served once the bridge has an address of each family.
 * 2. Egress is healthy if and only if a load balancer is connected.
 * 3. A shutdown ends by its deadline; targets keep their connections, addresses, and the bridge.
 *
 * Source: Meridio `cmd/proxy/main.go`.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import * as Memo from "../Memo.ts"
import { Cidr, Kernel } from "../net/index.ts"
import * as Nsm from "../nsm/Model.ts"
import * as Same from "../Same.ts"
import * as Leases from "./Leases.ts"
import * as Mesh from "./Mesh.ts"
import { type Port, Settings } from "./Model.ts"
import * as Parts from "./Parts.ts"
import * as Routes from "./Routes.ts"
import * as Targets from "./Targets.ts"

const Phase = Schema.TaggedUnion({
  /** `retryAt`: serving has failed and is tried again then. */
  Starting: { retryAt: Schema.optionalKey(Machine.Millis) },
  Serving: { call: Machine.Call },
  /** The endpoint for targets is being unregistered. */
  Stopping: { call: Machine.Call, by: Machine.Millis },
  /** The connections with load balancers are being closed. */
  Closing: { by: Machine.Millis },
  /** Addresses are being released. */
  Releasing: { by: Machine.Millis },
  Closed: {}
})

export const State = Schema.Struct({
  settings: Settings,
  phase: Phase,
  call: Machine.Call,
  parts: Parts.State,
  /** The endpoints that were found last, while the bridge has no addresses yet. */
  early: Schema.optionalKey(Schema.Array(Nsm.Endpoint)),
  /** Absent: not known yet. */
  vips: Schema.optionalKey(Schema.Array(Cidr.Cidr)),
  /** Whether the endpoints are known and each has been connected, or has failed, since the start. */
  recovery: Schema.Literals(["Searching", "Connecting", "Done"]),
  /** Until then a port without a connection may be one that is not heard of yet. */
  adoptUntil: Schema.optionalKey(Machine.Millis)
})
export type State = typeof State.Type

export const Event = Schema.Union([
  Mesh.Event.cases.EndpointsChanged,
  Mesh.Event.cases.ConnectionChanged,
  Targets.Event.cases.RequestReceived,
  Targets.Event.cases.RequestAbandoned,
  Targets.Event.cases.CloseReceived,
  /** All VIPs of the trench. */
  Schema.TaggedStruct("VipsChanged", { vips: Schema.Array(Cidr.Cidr) }),
  /** Something in the kernel may have changed. */
  Schema.TaggedStruct("KernelChanged", {}),
  /** The program ends. */
  Schema.TaggedStruct("CloseRequested", {}),
  Schema.TaggedStruct("ServeFailed", { call: Machine.Call, reason: Schema.String }),
  Schema.TaggedStruct("StopSucceeded", { call: Machine.Call }),
  Schema.TaggedStruct("ObserveSucceeded", { call: Machine.Call, snapshot: Kernel.Snapshot }),
  ...Parts.outcomes
])
export type Event = typeof Event.Type

export const Command = Schema.Union([
  /** Registers the endpoint for targets and serves it until it is stopped; answers only if that fails. */
  Schema.TaggedStruct("ServeTargets", { call: Machine.Call }),
  /** Unregisters the endpoint and stops to serve it. */
  Schema.TaggedStruct("StopServing", { call: Machine.Call }),
  /** Egress: whether a load balancer is connected. It is not until said. */
  Schema.TaggedStruct("SetHealth", { service: Schema.Literal("Egress"), serving: Schema.Boolean }),
  /** Nothing can be done until somebody removes the obstacle. */
  Schema.TaggedStruct("ReportFault", { fault: Schema.String }),
  ...Parts.commands
])
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

export const init = (settings: Settings, now: Machine.Millis): Step => {
  const [parts, commands] = Parts.init(settings, now)
  const adoptUntil = now + settings.tokenLifetimeMs
  return [{ settings, phase: { _tag: "Starting" }, call: 0, parts, recovery: "Searching", adoptUntil }, commands]
}

export const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  if (state.phase._tag === "Closed") return Machine.stay(state)
  return then(react(state, event, now), (next) => follow(state, next, now))
}

export const wake = ({ adoptUntil, parts, phase }: State): Machine.Millis | undefined => {
  switch (phase._tag) {
    case "Starting":
      return Machine.earliest(phase.retryAt, adoptUntil, Parts.wake(parts))
    case "Serving":
      return Machine.earliest(adoptUntil, Parts.wake(parts))
    case "Stopping":
    case "Closing":
    case "Releasing":
      return Machine.earliest(phase.by, adoptUntil, Parts.wake(parts))
    case "Closed":
      return undefined
  }
}

/** What the kernel should look like. */
export const desired = ({ adoptUntil, parts: { mesh, targets }, recovery, settings, vips }: State): Routes.Desired =>
  desiredOf({
    settings,
    bridge: targets.bridge,
    loadBalancers: Mesh.ports(mesh),
    targets: Targets.ports(targets),
    vips,
    isRecovered: recovery === "Done",
    isAdopting: adoptUntil !== undefined
  })

interface Grounds {
  readonly settings: Settings
  readonly bridge: ReadonlyArray<Cidr.Cidr>
  readonly loadBalancers: ReadonlyArray<Port>
  readonly targets: ReadonlyArray<Port>
  readonly vips: ReadonlyArray<Cidr.Cidr> | undefined
  readonly isRecovered: boolean
  readonly isAdopting: boolean
}

// Every event asks for it, hardly one changes it.
const desiredOf = Memo.last(({ settings }: Grounds) => settings, (grounds): Routes.Desired => {
  const { bridge, isAdopting, isRecovered, loadBalancers, settings, targets, vips } = grounds
  return {
    families: settings.families,
    bridge: { name: settings.bridge, mac: settings.mac, addresses: bridge },
    ports: [...loadBalancers, ...targets],
    ...(vips === undefined ? {} : { vips }),
    table: settings.table,
    priority: settings.priority,
    settled: isRecovered,
    foreignPorts: isRecovered && !isAdopting ? "Detach" : "Leave"
  }
})

export const machine = Machine.make({
  name: "proxy",
  Input: Settings,
  State,
  Event,
  Command,
  init,
  step,
  wake
})

const react = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "EndpointsChanged":
      if (!isEarly(state)) return deliver(found(state), now, { to: "Mesh", event })
      return Same.equals(state.early, event.endpoints)
        ? Machine.stay(state)
        : [{ ...state, early: event.endpoints }, []]
    case "ConnectionChanged":
      return deliver(state, now, { to: "Mesh", event })
    case "RequestReceived":
    case "RequestAbandoned":
    case "CloseReceived":
      return deliver(state, now, { to: "Targets", event })
    case "VipsChanged":
      return Same.equals(state.vips, event.vips) ? Machine.stay(state) : [{ ...state, vips: event.vips }, []]
    case "KernelChanged":
      return deliver(state, now, { to: "Kernel", event: { _tag: "ReasonNoticed" } })
    case "ObserveSucceeded":
      return observed(state, event, now)
    case "CloseRequested":
      return close(state, now)
    case "ServeFailed":
      return state.phase._tag === "Serving" && event.call === state.phase.call
        ? [{ ...state, phase: { _tag: "Starting", retryAt: now + state.settings.requestRetryMs } }, []]
        : Machine.stay(state)
    case "StopSucceeded":
      return state.phase._tag === "Stopping" && event.call === state.phase.call
        ? closeMesh(state, state.phase.by, now)
        : Machine.stay(state)
    case "Woken":
      return woken(state, now)
    default:
      return deliver(state, now, ...Parts.answer(event))
  }
}

const woken = (state: State, now: Machine.Millis): Step => {
  const { adoptUntil, phase, ...rest } = state
  const isOverdue = "by" in phase && phase.by <= now
  if (isOverdue) return [{ ...state, phase: { _tag: "Closed" } }, []]
  const isRetry = phase._tag === "Starting" && phase.retryAt !== undefined && phase.retryAt <= now
  const isAdopted = adoptUntil !== undefined && adoptUntil <= now
  const next: State = isRetry || isAdopted
    ? {
      ...rest,
      ...(isAdopted || adoptUntil === undefined ? {} : { adoptUntil }),
      phase: isRetry ? { _tag: "Starting" } : phase
    }
    : state
  return deliver(
    next,
    now,
    { to: "Leases", event: Machine.woken },
    { to: "Mesh", event: Machine.woken },
    { to: "Kernel", event: Machine.woken },
    ...(isRetry ? [reason] : [])
  )
}

const observed = (
  state: State,
  { call, snapshot }: { readonly call: number; readonly snapshot: Kernel.Snapshot },
  now: Machine.Millis
): Step => {
  const inner = Parts.innerCall("Kernel", call)
  const { phase } = state.parts.kernel
  if (phase._tag !== "Observing" || phase.call !== inner) return Machine.stay(state)
  const wanted = desired(state)
  const planned: Parts.Message = {
    to: "Kernel",
    event: { _tag: "Planned", call: inner, operations: planFor({ wanted, snapshot }) }
  }
  const isReady = state.phase._tag === "Starting" && state.phase.retryAt === undefined
    && Routes.isReady(wanted, snapshot)
  const fault = Routes.fault(wanted, snapshot)
  const report: ReadonlyArray<Command> = fault === undefined ? [] : [{ _tag: "ReportFault", fault }]
  return then(deliver(state, now, planned), (next) => isReady ? serve(next) : [next, report])
}

// A kernel that did not change, as the same value tells, needs nothing else than before.
const planFor = Memo.last(
  ({ wanted }: { readonly wanted: Routes.Desired; readonly snapshot: Kernel.Snapshot }) => wanted,
  ({ snapshot, wanted }) => Routes.plan(wanted, snapshot)
)

const serve = (state: State): Step => {
  const call = Parts.outerCall("Own", state.call)
  return [{ ...state, call: state.call + 1, phase: { _tag: "Serving", call } }, [{ _tag: "ServeTargets", call }]]
}

const close = (state: State, now: Machine.Millis): Step => {
  const by = now + state.settings.drainMs
  const refuse = (state: State): Step => deliver(state, now, { to: "Targets", event: { _tag: "CloseRequested" } })
  switch (state.phase._tag) {
    case "Starting":
      return then(refuse(state), (next) => closeMesh(next, by, now))
    case "Serving": {
      const call = Parts.outerCall("Own", state.call)
      const stopping: State = { ...state, call: state.call + 1, phase: { _tag: "Stopping", call, by } }
      return then(refuse(stopping), (next) => [next, [{ _tag: "StopServing", call }]])
    }
    case "Stopping":
    case "Closing":
    case "Releasing":
    case "Closed":
      return Machine.stay(state)
  }
}

const closeMesh = (state: State, by: Machine.Millis, now: Machine.Millis): Step =>
  deliver(
    { ...state, phase: { _tag: "Closing", by } },
    now,
    { to: "Leases", event: { _tag: "DrainRequested" } },
    { to: "Mesh", event: { _tag: "CloseRequested" } }
  )

/** What follows from a step, whatever it was: the next stage, and news for the kernel and the health service. */
const follow = (before: State, after: State, now: Machine.Millis): Step => {
  if (after === before) return Machine.stay(after)
  const wish = desired(before)
  return then(advance(after, now), (next) => {
    const hasEgress = Mesh.hasEgress(next.parts.mesh)
    const health: ReadonlyArray<Command> = hasEgress === Mesh.hasEgress(before.parts.mesh)
      ? []
      : [{ _tag: "SetHealth", service: "Egress", serving: hasEgress }]
    const [told, commands] = Same.equals(desired(next), wish)
      ? Machine.stay(next)
      : deliver(next, now, reason)
    return [told, [...health, ...commands]]
  })
}

const advance = (state: State, now: Machine.Millis): Step => {
  const { early, parts, phase, ...rest } = state
  if (early !== undefined && !isEarly(state)) {
    const endpoints: Parts.Message = { to: "Mesh", event: { _tag: "EndpointsChanged", endpoints: early } }
    return then(deliver(found({ ...rest, parts, phase }), now, endpoints), (next) => advance(next, now))
  }
  if (state.recovery === "Connecting" && Mesh.isSettled(parts.mesh)) return advance({ ...state, recovery: "Done" }, now)
  if (phase._tag === "Closing" && parts.mesh.links.length === 0) {
    return advance({ ...state, phase: { _tag: "Releasing", by: phase.by } }, now)
  }
  return phase._tag === "Releasing" && !Leases.hasReleases(parts.leases)
    ? [{ ...state, phase: { _tag: "Closed" } }, []]
    : Machine.stay(state)
}

const isEarly = (state: State): boolean => state.parts.targets.bridge.length === 0

const found = (state: State): State => state.recovery === "Searching" ? { ...state, recovery: "Connecting" } : state

const reason: Parts.Message = { to: "Kernel", event: { _tag: "ReasonNoticed" } }

const deliver = (state: State, now: Machine.Millis, ...messages: ReadonlyArray<Parts.Message>): Step => {
  const [parts, commands] = Parts.deliver(state.parts, now, ...messages)
  return [parts === state.parts ? state : { ...state, parts }, commands]
}

const then = ([state, commands]: Step, more: (state: State) => Step): Step => {
  const [next, others] = more(state)
  return [next, others.length === 0 ? commands : [...commands, ...others]]
}
