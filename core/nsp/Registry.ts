/**
 * Decides what the target registry holds: which targets are there, with which status, and until when.
 *
 *     unknown ──Register (whatever status)──▶ disabled ──Register──▶ as asked ──Register──▶ as asked ...
 *        ▲                                        │                      │
 *        └──────── Unregister, or no Register for `entryTimeoutMs` ──────┘
 *
 * What watchers see is a projection of the state (`targets`), not a command.
 *
 * 1. An unknown target is stored disabled whatever it asks for. A target that refreshes after it has expired relies on
 *    that: somebody else may have taken its identifier (Meridio `pkg/nsp/registry/keepalive`).
 * 2. A target is its kind, its stream and the set of its addresses; order and repetition of addresses mean nothing.
 * 3. A target that is not registered again within `entryTimeoutMs` is unknown, even before anybody has woken up.
 * 4. A change that watchers see issues one `SaveTarget` or `RemoveTarget`; a mere refresh issues none.
 * 5. Every request is answered once.
 * 6. Of the targets of a stream with one identifier one is enabled at most: another that asks for it stays disabled, and
 *    finds out when it looks. Meridio leaves that to the targets; but requests that were held up and arrive together
 *    would enable a target that had long expired, beside the one that took its identifier meanwhile.
 */
import { HashMap, Option, Schema } from "effect"
import { identifier as identifierOf, Kind, Status, Target } from "../config/Target.ts"
import * as Machine from "../Machine.ts"
import * as Memo from "../Memo.ts"
import * as Same from "../Same.ts"

/** How long a target lives without being registered again. */
export const Settings = Schema.Struct({ entryTimeoutMs: Schema.Int.check(Schema.isGreaterThan(0)) })
export type Settings = typeof Settings.Type

/** Settings, and the targets that were stored when the process ended; they get a full life from now on. */
export const Input = Schema.Struct({ settings: Settings, stored: Schema.Array(Target) })
export type Input = typeof Input.Type

const byTarget = <A>(value: Schema.Codec<A>) => Schema.HashMap(Schema.String, Schema.HashMap(Schema.String, value))

/** Both maps have the same keys: the group of a target (`groupOf`), then the set of its addresses. */
export const State = Schema.Struct({
  settings: Settings,
  targets: byTarget(Target),
  expiries: byTarget(Machine.Millis),
  /** No target expires earlier. Exact after `Woken`; too early after the next one has been refreshed. */
  nextExpiry: Schema.optionalKey(Machine.Millis)
})
export type State = typeof State.Type

export const Event = Schema.TaggedUnion({
  RegisterRequested: { reply: Schema.Natural, target: Target },
  UnregisterRequested: { reply: Schema.Natural, target: Target }
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  /** Store the target in place of an equal one and tell those who watch it. */
  SaveTarget: { target: Target },
  RemoveTarget: { target: Target },
  /** Answer the request, once what was commanded before is stored. */
  Reply: { reply: Schema.Natural }
})
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

const init = ({ settings, stored }: Input, now: Machine.Millis): Step => {
  const empty: State = { settings, targets: HashMap.empty(), expiries: HashMap.empty() }
  return Machine.stay(stored.reduce((state, target) => refresh(put(state, target), target, now), empty))
}

const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "RegisterRequested":
      return register(state, event.target, event.reply, now)
    case "UnregisterRequested":
      return unregister(state, event.target, event.reply)
    case "Woken":
      return expire(state, now)
  }
}

const wake = (state: State): Machine.Millis | undefined => state.nextExpiry

export const machine = Machine.make({ name: "nsp-registry", Input, State, Event, Command, init, step, wake })

const register = (state: State, target: Target, reply: number, now: Machine.Millis): Step => {
  const isKnown = (find(state.expiries, target) ?? now) > now
  const stored: Target = isKnown && !isTaken(state, target) ? target : { ...target, status: "disabled" }
  const next = put(state, stored)
  return [
    refresh(next, target, now),
    next === state ? [{ _tag: "Reply", reply }] : [{ _tag: "SaveTarget", target: stored }, { _tag: "Reply", reply }]
  ]
}

/** Whether another target of the stream is enabled with the identifier that this one wants to be enabled with. */
const isTaken = (state: State, target: Target): boolean => {
  const identifier = identifierOf(target)
  const before = find(state.targets, target)
  if (target.status === "disabled" || target.stream === undefined || identifier === undefined) return false
  if (before?.status === "enabled" && identifierOf(before) === identifier) return false
  const group = HashMap.get(state.targets, groupOf(target))
  if (Option.isNone(group)) return false
  for (const other of HashMap.values(group.value)) {
    const isEnabled = other.status === "enabled" && identifierOf(other) === identifier
    if (isEnabled && ipsKey(other) !== ipsKey(target)) return true
  }
  return false
}

const unregister = (state: State, target: Target, reply: number): Step => {
  const known = find(state.targets, target)
  return known === undefined
    ? [state, [{ _tag: "Reply", reply }]]
    : [remove(state, known), [{ _tag: "RemoveTarget", target: known }, { _tag: "Reply", reply }]]
}

const expire = (state: State, now: Machine.Millis): Step => {
  if (state.nextExpiry === undefined || state.nextExpiry > now) return Machine.stay(state)
  const commands: Array<Command> = []
  let next = state
  let earliest: Machine.Millis | undefined
  for (const [group, expiries] of state.expiries) {
    for (const [ips, expiresAt] of expiries) {
      const target = expiresAt <= now ? inGroup(state.targets, group, ips) : undefined
      if (target === undefined) earliest = Machine.earliest(earliest, expiresAt)
      else {
        next = remove(next, target)
        commands.push({ _tag: "RemoveTarget", target })
      }
    }
  }
  return [withNextExpiry(next, earliest), commands]
}

/** Which targets a watcher asks for; an empty name matches every name, and no stream every stream. */
export const Filter = Schema.Struct({
  kind: Kind,
  status: Schema.Union([Status, Schema.Literal("any")]),
  stream: Schema.optionalKey(
    Schema.Struct({ trench: Schema.String, conduit: Schema.String, stream: Schema.String })
  )
})
export type Filter = typeof Filter.Type

/** The targets that a filter lets through. Source: Meridio `api/nsp/v1/filter.go`. */
export const targets = (state: State, filter: Filter): ReadonlyArray<Target> => {
  const group = groupOfFilter(filter)
  const groups = group === undefined
    ? [...HashMap.values(state.targets)]
    : Option.toArray(HashMap.get(state.targets, group))
  return groups.flatMap((group) =>
    membersMatch(filter, group) ? [...HashMap.values(group)].filter((target) => matches(filter, target)) : []
  )
}

/** Whether a filter lets a target through. */
export const matches = (filter: Filter, target: Target): boolean =>
  filter.kind === target.kind && (filter.status === "any" || filter.status === target.status) &&
  (filter.stream === undefined || target.stream !== undefined &&
      agrees(filter.stream.stream, target.stream.stream) &&
      agrees(filter.stream.conduit, target.stream.conduit) &&
      agrees(filter.stream.trench, target.stream.trench))

const agrees = (wanted: string, name: string): boolean => wanted === "" || wanted === name

/** Whether a group is worth looking through: all its members have one kind and stream. */
const membersMatch = (filter: Filter, group: HashMap.HashMap<string, Target>): boolean => {
  for (const member of HashMap.values(group)) return matches({ ...filter, status: "any" }, member)
  return false
}

/** The key under which a target is kept: its kind and stream. */
export const groupOf: (target: Pick<Target, "kind" | "stream">) => string = Memo.each(({ kind, stream }) =>
  pattern(kind, stream)
)

/** The only group whose targets can match, or undefined when several can. */
const groupOfFilter = ({ kind, stream }: Filter): string | undefined =>
  stream === undefined || stream.trench === "" || stream.conduit === "" || stream.stream === ""
    ? undefined
    : pattern(kind, stream)

/** What a filter says about kind and stream as one text: filters with the same pattern see the same changes. */
export const patternOf = ({ kind, stream }: Filter): string => pattern(kind, stream)

/** The patterns of all filters that may let the target through; nobody else need hear of it. */
export const patternsOf = ({ kind, stream }: Target): ReadonlyArray<string> =>
  stream === undefined ? [pattern(kind, undefined)] : [
    pattern(kind, undefined),
    ...[stream.trench, ""].flatMap((trench) =>
      [stream.conduit, ""].flatMap((conduit) =>
        [stream.stream, ""].map((name) => pattern(kind, { trench, conduit, stream: name }))
      )
    )
  ]

const pattern = (kind: Kind, stream: Filter["stream"]): string =>
  stream === undefined ? kind : JSON.stringify([kind, stream.trench, stream.conduit, stream.stream])

/** The set of addresses as a key. */
const ipsKey: (target: Target) => string = Memo.each(({ ips }) => JSON.stringify([...new Set(ips)].toSorted()))

/** The identity of a target as one text, for stores. */
export const keyOf = (target: Target): string => `${groupOf(target)} ${ipsKey(target)}`

type ByTarget<A> = HashMap.HashMap<string, HashMap.HashMap<string, A>>

const inGroup = <A>(map: ByTarget<A>, group: string, ips: string): A | undefined =>
  Option.getOrUndefined(Option.flatMap(HashMap.get(map, group), HashMap.get(ips)))

const find = <A>(map: ByTarget<A>, target: Target): A | undefined => inGroup(map, groupOf(target), ipsKey(target))

const set = <A>(map: ByTarget<A>, target: Target, value: A): ByTarget<A> => {
  const group = Option.getOrElse(HashMap.get(map, groupOf(target)), () => HashMap.empty<string, A>())
  return HashMap.set(map, groupOf(target), HashMap.set(group, ipsKey(target), value))
}

const unset = <A>(map: ByTarget<A>, target: Target): ByTarget<A> => {
  const group = HashMap.get(map, groupOf(target))
  if (Option.isNone(group)) return map
  const rest = HashMap.remove(group.value, ipsKey(target))
  return HashMap.isEmpty(rest) ? HashMap.remove(map, groupOf(target)) : HashMap.set(map, groupOf(target), rest)
}

const put = (state: State, target: Target): State =>
  Same.equals(find(state.targets, target), target)
    ? state
    : { ...state, targets: set(state.targets, target, target) }

const refresh = (state: State, target: Target, now: Machine.Millis): State => {
  const expiresAt = now + state.settings.entryTimeoutMs
  const expiries = set(state.expiries, target, expiresAt)
  return { ...state, expiries, nextExpiry: Math.min(state.nextExpiry ?? expiresAt, expiresAt) }
}

const remove = (state: State, target: Target): State => {
  const expiries = unset(state.expiries, target)
  const next = { ...state, targets: unset(state.targets, target), expiries }
  return HashMap.isEmpty(expiries) ? withNextExpiry(next, undefined) : next
}

const withNextExpiry = ({ expiries, settings, targets }: State, nextExpiry: Machine.Millis | undefined): State =>
  nextExpiry === undefined ? { settings, targets, expiries } : { settings, targets, expiries, nextExpiry }
