/**
 * Decides when addresses are allocated, renewed and given back at the IPAM.
 *
 *     absent ──acquire──▶ Allocating ──ok──▶ Held ◀──▶ (renewing)
 *                         │    ▲              │ last holder released
 *                   failed▼    │retry         ▼
 *                         Waiting           Pending ──delay──▶ Releasing ──ok──▶ absent
 *     acquire in Pending ──▶ Allocating; acquire in Releasing waits for the answer, so no release overtakes it
 *
 * 1. A lease is released only when nobody holds it, and not before the delay, except in a shutdown.
 * 2. Two connections with the same key share the lease; the last one to release it counts.
 * 3. What is held is allocated again and again, which keeps it from expiring; an answer that differs is granted anew.
 * 4. Whatever may have been allocated is released in the end, refused and cancelled allocations too.
 *
 * Source: Meridio `pkg/proxy/proxy.go`, without its races between scheduling, cancelling and re-allocating.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import * as Memo from "../Memo.ts"
import { Cidr } from "../net/index.ts"
import * as Same from "../Same.ts"
import { Allocation, Child } from "./Model.ts"

const Settings = Schema.Struct({
  renewMs: Machine.Millis,
  allocateRetryMs: Machine.Millis,
  releaseDelayMs: Machine.Millis,
  releaseRetryMs: Machine.Millis
})
type Settings = typeof Settings.Type

const Phase = Schema.TaggedUnion({
  Allocating: { call: Machine.Call },
  Waiting: { retryAt: Machine.Millis },
  Held: {
    allocations: Schema.Array(Allocation),
    renewAt: Machine.Millis,
    /** The renewal in flight. */
    call: Schema.optionalKey(Machine.Call)
  },
  Pending: { releaseAt: Machine.Millis },
  Releasing: { call: Machine.Call }
})
type Phase = typeof Phase.Type

export const Lease = Schema.Struct({
  /** Unique. */
  key: Schema.String,
  children: Schema.Array(Child),
  holders: Schema.Array(Schema.String),
  phase: Phase
})
export type Lease = typeof Lease.Type

export const State = Schema.Struct({
  settings: Settings,
  call: Machine.Call,
  /** In a shutdown nothing is renewed and nothing waits before it is released. */
  draining: Schema.Boolean,
  leases: Schema.Array(Lease)
})
export type State = typeof State.Type

export const Event = Schema.TaggedUnion({
  AcquireRequested: { key: Schema.String, holder: Schema.String, children: Schema.Array(Child) },
  ReleaseRequested: { key: Schema.String, holder: Schema.String },
  DrainRequested: {},
  AllocateSucceeded: { call: Machine.Call, allocations: Schema.Array(Allocation) },
  AllocateFailed: { call: Machine.Call, reason: Schema.String },
  ReleaseSucceeded: { call: Machine.Call },
  ReleaseFailed: { call: Machine.Call, reason: Schema.String }
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  /** Allocates each child in order; one that has an address keeps it. */
  AllocateAddresses: { call: Machine.Call, children: Schema.Array(Child) },
  /** Releases each child; unknown ones count as released. */
  ReleaseAddresses: { call: Machine.Call, children: Schema.Array(Child) },
  Cancel: { call: Machine.Call },
  /** To the holders: these are the addresses, for the first time or because they have changed. */
  GrantLease: { key: Schema.String, allocations: Schema.Array(Allocation) },
  /** To the holders: not yet; it will be tried again for as long as they hold on. */
  RefuseLease: { key: Schema.String, reason: Schema.String }
})
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

export const init = (settings: Settings): Step => [{ settings, call: 0, draining: false, leases: [] }, []]

export const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "AcquireRequested":
      return acquire(state, event, now)
    case "ReleaseRequested":
      return release(state, event, now)
    case "DrainRequested":
      return drain(state, now)
    case "AllocateSucceeded":
    case "AllocateFailed":
      return allocated(state, event, now)
    case "ReleaseSucceeded":
    case "ReleaseFailed":
      return released(state, event, now)
    case "Woken":
      return due(state, now)
  }
}

// Asked after every step of the proxy, of which few touch a lease.
export const wake: (state: State) => Machine.Millis | undefined = Memo.each((state) =>
  Machine.earliest(...state.leases.map(({ phase }) => deadline(state, phase)))
)

/** Whether addresses are being released or about to be. */
export const hasReleases = (state: State): boolean =>
  state.leases.some(({ phase: { _tag } }) => _tag === "Pending" || _tag === "Releasing")

export const machine = Machine.make({
  name: "proxy-leases",
  Input: Settings,
  State,
  Event,
  Command,
  init,
  step,
  wake
})

const acquire = (
  state: State,
  { children, holder, key }: typeof Event.cases.AcquireRequested.Type,
  now: Machine.Millis
): Step => {
  const lease = state.leases.find((lease) => lease.key === key)
  if (lease === undefined) {
    const fresh: Lease = { key, children, holders: [holder], phase: { _tag: "Waiting", retryAt: now } }
    return allocate({ ...state, leases: [...state.leases, fresh] }, fresh)
  }
  const holders = lease.holders.includes(holder) ? lease.holders : [...lease.holders, holder]
  const joined = holders === lease.holders ? lease : { ...lease, holders }
  switch (joined.phase._tag) {
    case "Allocating":
    case "Waiting":
    case "Releasing":
      return joined === lease ? Machine.stay(state) : [put(state, joined), []]
    case "Held":
      return [
        joined === lease ? state : put(state, joined),
        [{ _tag: "GrantLease", key, allocations: joined.phase.allocations }]
      ]
    case "Pending":
      return allocate(state, joined)
  }
}

const allocate = (state: State, lease: Lease): Step => [
  put({ ...state, call: state.call + 1 }, { ...lease, phase: { _tag: "Allocating", call: state.call } }),
  [{ _tag: "AllocateAddresses", call: state.call, children: lease.children }]
]

const allocated = (
  state: State,
  event: typeof Event.cases.AllocateSucceeded.Type | typeof Event.cases.AllocateFailed.Type,
  now: Machine.Millis
): Step => {
  const lease = state.leases.find(({ phase }) =>
    (phase._tag === "Allocating" || phase._tag === "Held") && phase.call === event.call
  )
  if (lease === undefined) return Machine.stay(state)
  const { renewMs } = state.settings
  const before = lease.phase._tag === "Held" ? lease.phase.allocations : undefined
  if (event._tag === "AllocateSucceeded" && answers(event.allocations, lease.children)) {
    const { allocations } = event
    const next = put(state, { ...lease, phase: { _tag: "Held", allocations, renewAt: now + renewMs } })
    const isSame = before !== undefined && Same.equals(before, allocations)
    return [next, isSame ? [] : [{ _tag: "GrantLease", key: lease.key, allocations }]]
  }
  if (before !== undefined) {
    // What is held stays valid; there is time until the IPAM forgets it.
    const renewAt = now + Math.max(state.settings.allocateRetryMs, renewMs / 10)
    return [put(state, { ...lease, phase: { _tag: "Held", allocations: before, renewAt } }), []]
  }
  const reason = event._tag === "AllocateFailed" ? event.reason : "the IPAM answered for other addresses"
  const retryAt = now + state.settings.allocateRetryMs
  return [put(state, { ...lease, phase: { _tag: "Waiting", retryAt } }), [{
    _tag: "RefuseLease",
    key: lease.key,
    reason
  }]]
}

const release = (
  state: State,
  { holder, key }: typeof Event.cases.ReleaseRequested.Type,
  now: Machine.Millis
): Step => {
  const lease = state.leases.find((lease) => lease.key === key)
  if (lease === undefined || !lease.holders.includes(holder)) return Machine.stay(state)
  const left = { ...lease, holders: lease.holders.filter((other) => other !== holder) }
  if (left.holders.length > 0 || lease.phase._tag === "Releasing") return [put(state, left), []]
  const call = lease.phase._tag === "Allocating" || lease.phase._tag === "Held" ? lease.phase.call : undefined
  const cancel: ReadonlyArray<Command> = call === undefined ? [] : [{ _tag: "Cancel", call }]
  const releaseAt = now + (state.draining ? 0 : state.settings.releaseDelayMs)
  const [next, commands] = due(put(state, { ...left, phase: { _tag: "Pending", releaseAt } }), now)
  return [next, [...cancel, ...commands]]
}

const released = (
  state: State,
  event: typeof Event.cases.ReleaseSucceeded.Type | typeof Event.cases.ReleaseFailed.Type,
  now: Machine.Millis
): Step => {
  const lease = state.leases.find(({ phase }) => phase._tag === "Releasing" && phase.call === event.call)
  if (lease === undefined) return Machine.stay(state)
  if (lease.holders.length > 0) return allocate(state, lease)
  if (event._tag === "ReleaseSucceeded") {
    return [{ ...state, leases: state.leases.filter((other) => other !== lease) }, []]
  }
  const releaseAt = now + state.settings.releaseRetryMs
  return [put(state, { ...lease, phase: { _tag: "Pending", releaseAt } }), []]
}

const drain = (state: State, now: Machine.Millis): Step => {
  if (state.draining) return Machine.stay(state)
  const leases = state.leases.map((lease): Lease =>
    lease.phase._tag === "Pending" ? { ...lease, phase: { _tag: "Pending", releaseAt: now } } : lease
  )
  return due({ ...state, draining: true, leases }, now)
}

/** Does what has waited until now. */
const due = (state: State, now: Machine.Millis): Step => {
  let next = state
  const commands: Array<Command> = []
  for (const lease of state.leases) {
    const at = deadline(state, lease.phase)
    if (at === undefined || at > now) continue
    const [after, started] = start(next, lease)
    next = after
    commands.push(...started)
  }
  return [next, commands]
}

const start = (state: State, lease: Lease): Step => {
  const { call } = state
  const next = { ...state, call: call + 1 }
  switch (lease.phase._tag) {
    case "Waiting":
      return allocate(state, lease)
    case "Held":
      return [put(next, { ...lease, phase: { ...lease.phase, call } }), [
        { _tag: "AllocateAddresses", call, children: lease.children }
      ]]
    case "Pending":
      return [put(next, { ...lease, phase: { _tag: "Releasing", call } }), [
        { _tag: "ReleaseAddresses", call, children: lease.children }
      ]]
    case "Allocating":
    case "Releasing":
      return Machine.stay(state)
  }
}

const deadline = ({ draining }: State, phase: Phase): Machine.Millis | undefined => {
  switch (phase._tag) {
    case "Waiting":
      return phase.retryAt
    case "Held":
      return draining || phase.call !== undefined ? undefined : phase.renewAt
    case "Pending":
      return phase.releaseAt
    case "Allocating":
    case "Releasing":
      return undefined
  }
}

const answers = (allocations: ReadonlyArray<Allocation>, children: ReadonlyArray<Child>): boolean =>
  allocations.length === children.length
  && children.every(({ family, name }, i) => {
    const allocation = allocations[i]
    return allocation?.name === name && allocation.family === family && Cidr.family(allocation.address) === family
  })

const put = (state: State, lease: Lease): State => ({
  ...state,
  leases: state.leases.map((other) => other.key === lease.key ? lease : other)
})
