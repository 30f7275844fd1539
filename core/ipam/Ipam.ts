/**
 * Decides which addresses the trench hands out, when they are stored, and who is answered when.
 *
 *     AllocateRequested ──conduit known──▶ leased ──Persist──▶ PersistSucceeded ──▶ Reply
 *            │                                                 PersistFailed ──▶ Reply with a refusal, stored again
 *            └─conduit unknown─▶ waiting ──ConduitsChanged──▶ leased ...
 *
 * 1. Nobody is answered before what the answer rests on is stored.
 * 2. One transaction is under way at a time; what comes meanwhile becomes the next one, in order.
 * 3. While storing fails nothing is leased and everybody is refused; what was decided is stored again every second.
 * 4. A request for an unknown conduit waits until the conduit is listed or the caller leaves; no other request waits.
 * 5. The leased conduits are the listed ones, as far as they fit, and those gone from the list in which somebody still
 *    holds an address: pods end after their configuration, or it comes back. The original gives such addresses to others.
 *    Where leases do not expire, a conduit ends with its listing. Before the first list they are the stored ones.
 * 6. A list without any conduit takes effect only when it stands for 5 s: the original NSP sends one after its restart,
 *    before it has read its configuration.
 * 7. A lease is taken back only after a whole `leaseMs` in which renewals were served and stored: times in which the
 *    process was down, suspended or could not store, and leaps of the clock, do not count.
 * 8. What waits is bounded; above the bound requests are refused.
 */
import { Array, Chunk, Result, Schema } from "effect"
import * as Machine from "../Machine.ts"
import { families, type Family } from "../net/Ip.ts"
import * as Leases from "./Leases.ts"
import { Answer, Change, Child, Entry, type Refusal, Settings } from "./Model.ts"

export const Input = Schema.Struct({ settings: Settings, entries: Schema.Array(Entry) })
export type Input = typeof Input.Type

const Reply = Schema.Struct({ reply: Schema.Natural, answer: Answer })
type Reply = typeof Reply.Type

// Chunks, as arrays would be copied for each request that joins.
const Batch = Schema.Struct({ changes: Schema.Chunk(Change), answers: Schema.Chunk(Reply) })
type Batch = typeof Batch.Type

export const Store = Schema.TaggedUnion({
  Idle: {},
  Saving: { call: Machine.Call, batch: Batch, next: Batch },
  Failed: { changes: Schema.Chunk(Change), reason: Schema.String, retryAt: Machine.Millis },
  Retrying: { call: Machine.Call, changes: Schema.Chunk(Change), reason: Schema.String }
})
export type Store = typeof Store.Type

export const State = Schema.Struct({
  settings: Settings,
  leases: Schema.Struct({ v4: Schema.optionalKey(Leases.Leases), v6: Schema.optionalKey(Leases.Leases) }),
  /** The conduits of the last list. */
  listed: Schema.optionalKey(Schema.Array(Schema.String)),
  /** When a list without any conduit takes effect. */
  emptyAt: Schema.optionalKey(Machine.Millis),
  /** Requests for unknown conduits, oldest first. */
  waiting: Schema.Array(Schema.Struct({ reply: Schema.Natural, conduit: Schema.String, child: Child })),
  store: Store,
  /** Since when every renewal is served and stored. */
  servingSince: Machine.Millis,
  sweepAt: Schema.optionalKey(Machine.Millis),
  nextCall: Machine.Call,
  closing: Schema.Boolean
})
export type State = typeof State.Type

export const Event = Schema.TaggedUnion({
  AllocateRequested: { reply: Schema.Natural, child: Child },
  ReleaseRequested: { reply: Schema.Natural, child: Child },
  /** The caller does not wait for the answer any more. */
  RequestAbandoned: { reply: Schema.Natural },
  /** All conduits of the trench. */
  ConduitsChanged: { conduits: Schema.Array(Schema.String) },
  PersistSucceeded: { call: Machine.Call },
  PersistFailed: { call: Machine.Call, reason: Schema.String },
  CloseRequested: {}
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  /** Stores the changes in this order, all of them or none. */
  Persist: { call: Machine.Call, changes: Schema.Array(Change) },
  Reply: { reply: Schema.Natural, answer: Answer }
})
export type Command = typeof Command.Type

export type Step = Machine.Step<State, Command>

const retryMs = 1_000
const emptyHoldMs = 5_000
const waitingLimit = 4_096
const pendingLimit = 65_536
// A sweep that comes so much too late shows that the process was suspended or that the clock leapt.
const lateMs = 60_000

const init = ({ entries, settings }: Input, now: Machine.Millis): Step => {
  const loaded = settings.pools.map((pool) => Leases.load(pool, entries, now))
  const leases: { v4?: Leases.Leases; v6?: Leases.Leases } = {}
  for (const { leases: own } of loaded) leases[own.pool.family] ??= own
  const state: State = {
    settings,
    leases,
    waiting: [],
    store: { _tag: "Idle" },
    servingSince: now,
    ...(settings.sweep ? { sweepAt: now + settings.sweepIntervalMs } : {}),
    nextCall: 0,
    closing: false
  }
  const rejected = loaded.flatMap(({ rejected }) => rejected)
  const roots = loaded.flatMap(({ leases: { pool: { family, prefix } } }): ReadonlyArray<Change> =>
    entries.some((entry) => entry.family === family && entry.path.length === 0 && entry.network === prefix)
      ? []
      : [{ _tag: "SaveEntry", entry: { family, path: [], network: prefix, touchedAt: 0 } }]
  )
  return commit(state, [...rejected.map(({ family, path }) => deletion(family, path)), ...roots], [])
}

const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "AllocateRequested":
      return allocateRequested(state, event.reply, event.child, now)
    case "ReleaseRequested":
      return releaseRequested(state, event.reply, event.child, now)
    case "RequestAbandoned":
      return state.waiting.some(({ reply }) => reply === event.reply)
        ? [{ ...state, waiting: state.waiting.filter(({ reply }) => reply !== event.reply) }, []]
        : Machine.stay(state)
    case "ConduitsChanged":
      return conduitsChanged(state, event.conduits, now)
    case "PersistSucceeded":
      return persistSucceeded(state, event.call, now)
    case "PersistFailed":
      return persistFailed(state, event.call, event.reason, now)
    case "Woken":
      return woken(state, now)
    case "CloseRequested":
      return closeRequested(state)
  }
}

const wake = ({ closing, emptyAt, store, sweepAt }: State): Machine.Millis | undefined =>
  closing ? undefined : Machine.earliest(store._tag === "Failed" ? store.retryAt : undefined, sweepAt, emptyAt)

/** Whether decisions can be stored, as far as is known; while they cannot, requests are refused. */
export const isStoring = ({ store }: State): boolean => store._tag === "Idle" || store._tag === "Saving"

/** Whether it was asked to close and nothing is under way. */
export const isClosed = ({ closing, store }: State): boolean =>
  closing && store._tag !== "Saving" && store._tag !== "Retrying"

const allocateRequested = (state: State, reply: number, child: Child, now: Machine.Millis): Step => {
  const refusal = blocked(state) ?? overloaded(state) ?? unaddressable(state, child)
  const { conduit } = child
  if (refusal !== undefined || conduit === undefined) {
    return [state, [toReply({ reply, answer: refused(refusal ?? { _tag: "ConduitMissing" }) })]]
  }
  if (isKnown(state, child.family, conduit)) return lease(state, reply, conduit, child, now)
  return state.waiting.length < waitingLimit
    ? [{ ...state, waiting: [...state.waiting, { reply, conduit, child }] }, []]
    : [state, [toReply({ reply, answer: refused({ _tag: "TooManyWaiting", limit: waitingLimit }) })]]
}

// The original answers a release it cannot place without an error, so do we.
const releaseRequested = (state: State, reply: number, child: Child, now: Machine.Millis): Step => {
  const leases = state.leases[child.family]
  if (leases === undefined || child.conduit === undefined || child.trench !== state.settings.trench) {
    return [state, [toReply({ reply, answer: { _tag: "Released" } })]]
  }
  const refusal = blocked(state) ?? overloaded(state)
  if (refusal !== undefined) return [state, [toReply({ reply, answer: refused(refusal) })]]
  const [released, changes] = Leases.release(leases, [child.conduit, child.node, child.name], child.startedAt)
  // The last address of a conduit that is gone from the list takes the conduit with it.
  const isListed = state.listed?.includes(child.conduit) ?? true
  const [next, more] = isListed ? [released, []] : withConduits(state, released, now)
  return commit(withLeases(state, child.family, next), [...changes, ...more], [
    { reply, answer: { _tag: "Released" } }
  ])
}

const conduitsChanged = (state: State, conduits: ReadonlyArray<string>, now: Machine.Millis): Step => {
  if (state.closing) return Machine.stay(state)
  const { emptyAt, ...rest } = state
  const listed = Array.dedupe(conduits)
  const isSame = state.listed !== undefined && sameList(state.listed, listed)
  if (isSame) return emptyAt === undefined ? Machine.stay(state) : [rest, []]
  if (listed.length === 0 && leasesSomething(state)) {
    return emptyAt === undefined ? [{ ...state, emptyAt: now + emptyHoldMs }, []] : Machine.stay(state)
  }
  return reconcile({ ...rest, listed }, now)
}

const persistSucceeded = (state: State, call: number, now: Machine.Millis): Step => {
  const { store } = state
  switch (store._tag) {
    case "Saving": {
      if (store.call !== call) return Machine.stay(state)
      const [next, commands] = commit({ ...state, store: { _tag: "Idle" } }, store.next.changes, store.next.answers)
      return [next, [...Array.map(Chunk.toReadonlyArray(store.batch.answers), toReply), ...commands]]
    }
    case "Retrying":
      return store.call === call
        ? reconcile({ ...state, store: { _tag: "Idle" }, servingSince: now }, now)
        : Machine.stay(state)
    case "Idle":
    case "Failed":
      return Machine.stay(state)
  }
}

const persistFailed = (state: State, call: number, reason: string, now: Machine.Millis): Step => {
  const { store } = state
  if ((store._tag !== "Saving" && store._tag !== "Retrying") || store.call !== call) return Machine.stay(state)
  const answers = store._tag === "Saving" ? Chunk.appendAll(store.batch.answers, store.next.answers) : []
  const changes = store._tag === "Saving" ? Chunk.appendAll(store.batch.changes, store.next.changes) : store.changes
  return [
    { ...state, store: { _tag: "Failed", changes, reason, retryAt: now + retryMs } },
    Array.map([...answers], ({ reply }) => toReply({ reply, answer: refused({ _tag: "StoreFailed", reason }) }))
  ]
}

const woken = (state: State, now: Machine.Millis): Step => {
  if (state.closing) return Machine.stay(state)
  const due = (at: Machine.Millis | undefined): boolean => at !== undefined && at <= now
  let [next, commands]: Step = Machine.stay(state)
  if (due(state.emptyAt)) {
    const { emptyAt: _, ...rest } = state
    ;[next, commands] = reconcile({ ...rest, listed: [] }, now)
  }
  if (due(state.sweepAt)) {
    const [swept, more] = sweep(next, now)
    next = swept
    commands = [...commands, ...more]
  }
  const { nextCall: call, store } = next
  if (store._tag !== "Failed" || !due(store.retryAt)) return [next, commands]
  const { changes, reason } = store
  return [
    { ...next, store: { _tag: "Retrying", call, changes, reason }, nextCall: call + 1 },
    [...commands, { _tag: "Persist", call, changes: Chunk.toReadonlyArray(changes) }]
  ]
}

// While renewals cannot be stored, or not for a whole lease yet, nothing expires. The time within which a renewal is not
// written again comes on top.
const sweep = (state: State, now: Machine.Millis): Step => {
  const { leaseMs, sweepIntervalMs } = state.settings
  if (blocked(state) !== undefined) return [{ ...state, sweepAt: now + sweepIntervalMs }, []]
  const isLate = now - (state.sweepAt ?? now) >= lateMs
  const servingSince = isLate ? now : state.servingSince
  const patienceMs = leaseMs + Leases.renewMs
  return now < servingSince + patienceMs
    ? [{ ...state, servingSince, sweepAt: servingSince + patienceMs }, []]
    : forEachFamily(
      { ...state, sweepAt: now + sweepIntervalMs },
      (leases) => {
        const [swept, changes] = Leases.sweep(leases, now - patienceMs)
        const [next, more] = withConduits(state, swept, now)
        return [next, [...changes, ...more]]
      }
    )
}

const closeRequested = (state: State): Step => {
  if (state.closing) return Machine.stay(state)
  const answers = state.waiting.map(({ reply }) => ({ reply, answer: refused({ _tag: "Closing" }) }))
  return commit({ ...state, closing: true, waiting: [] }, [], answers)
}

// Makes the leased conduits the listed ones, and answers who waited for them.
const reconcile = (state: State, now: Machine.Millis): Step => {
  const { listed } = state
  if (listed === undefined || blocked(state) !== undefined) return [state, []]
  const ready = state.waiting.filter(({ conduit }) => listed.includes(conduit))
  const waiting = ready.length === 0 ? state.waiting : state.waiting.filter(({ conduit }) => !listed.includes(conduit))
  let [next, commands] = forEachFamily(
    waiting === state.waiting ? state : { ...state, waiting },
    (leases) => withConduits(state, leases, now)
  )
  for (const { child, conduit, reply } of ready) {
    const [then, more] = lease(next, reply, conduit, child, now)
    next = then
    commands = [...commands, ...more]
  }
  return [next, commands]
}

/** Gives each listed conduit a prefix, and takes it from those that are not listed and not in use. */
const withConduits = ({ listed, settings }: State, leases: Leases.Leases, now: Machine.Millis): Leases.Changed =>
  listed === undefined
    ? [leases, []]
    : Leases.setConduits(leases, settings.sweep ? [...listed, ...Leases.conduitsInUse(leases)] : listed, now)

const lease = (state: State, reply: number, conduit: string, child: Child, now: Machine.Millis): Step => {
  const leases = state.leases[child.family]
  if (leases === undefined) return Machine.stay(state)
  const leased = Leases.allocate(leases, [conduit, child.node, child.name], now, child.startedAt)
  if (Result.isFailure(leased)) return commit(state, [], [{ reply, answer: refused(leased.failure) }])
  const [address, next, changes] = leased.success
  return commit(withLeases(state, child.family, next), changes, [
    { reply, answer: { _tag: "Allocated", address, length: leases.pool.nodeLength } }
  ])
}

// Stores the changes and then gives the answers, after everything that came before them.
const commit = (state: State, changes: Iterable<Change>, answers: Iterable<Reply>): Step => {
  const { store } = state
  const batch: Batch = { changes: Chunk.fromIterable(changes), answers: Chunk.fromIterable(answers) }
  if (store._tag === "Saving") {
    if (Chunk.isEmpty(batch.changes) && Chunk.isEmpty(batch.answers)) return Machine.stay(state)
    const next = {
      changes: Chunk.appendAll(store.next.changes, batch.changes),
      answers: Chunk.appendAll(store.next.answers, batch.answers)
    }
    return [{ ...state, store: { ...store, next } }, []]
  }
  if (Chunk.isEmpty(batch.changes)) return [state, Array.map(Chunk.toReadonlyArray(batch.answers), toReply)]
  const call = state.nextCall
  return [
    {
      ...state,
      nextCall: call + 1,
      store: { _tag: "Saving", call, batch, next: { changes: Chunk.empty(), answers: Chunk.empty() } }
    },
    [{ _tag: "Persist", call, changes: Chunk.toReadonlyArray(batch.changes) }]
  ]
}

const forEachFamily = (state: State, change: (leases: Leases.Leases) => Leases.Changed): Step => {
  let next = state
  const all: Array<Change> = []
  for (const family of families) {
    const leases = state.leases[family]
    if (leases === undefined) continue
    const [changed, changes] = change(leases)
    next = withLeases(next, family, changed)
    all.push(...changes)
  }
  return commit(next, all, [])
}

const withLeases = (state: State, family: Family, leases: Leases.Leases): State =>
  state.leases[family] === leases ? state : { ...state, leases: { ...state.leases, [family]: leases } }

const blocked = ({ closing, store }: State): Refusal | undefined => {
  if (closing) return { _tag: "Closing" }
  return store._tag === "Failed" || store._tag === "Retrying"
    ? { _tag: "StoreFailed", reason: store.reason }
    : undefined
}

const overloaded = ({ store }: State): Refusal | undefined =>
  store._tag === "Saving" && Chunk.size(store.next.answers) >= pendingLimit
    ? { _tag: "Overloaded", limit: pendingLimit }
    : undefined

const unaddressable = ({ leases, settings }: State, { conduit, family, trench }: Child): Refusal | undefined => {
  if (leases[family] === undefined) return { _tag: "FamilyNotServed", family }
  if (conduit === undefined) return { _tag: "ConduitMissing" }
  return trench === settings.trench
    ? undefined
    : { _tag: "TrenchMismatch", asked: trench ?? "", served: settings.trench }
}

// A listed conduit without a prefix is known too: it did not fit, and its requests are refused rather than kept waiting.
const isKnown = ({ leases, listed }: State, family: Family, conduit: string): boolean => {
  const own = leases[family]
  return (own !== undefined && Leases.hasConduit(own, conduit)) || (listed?.includes(conduit) ?? false)
}

const deletion = (family: Family, path: ReadonlyArray<string>): Change => ({ _tag: "DeleteEntry", family, path })

const sameList = Array.makeEquivalence<string>(Object.is)

const leasesSomething = ({ leases }: State): boolean =>
  families.some((family) => leases[family] !== undefined && !Leases.isEmpty(leases[family]))

const refused = (refusal: Refusal): Answer => ({ _tag: "Refused", refusal })

const toReply = ({ answer, reply }: Reply): Command => ({ _tag: "Reply", reply, answer })

export const machine = Machine.make({ name: "ipam", Input, State, Event, Command, init, step, wake })
