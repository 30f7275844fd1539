/**
 * Decides what becomes of the wishes of an application: which trench this target is in, which conduits it is attached
 * to, and when a wish has to wait for another one to be undone.
 *
 *     Serving: no trench ⇄ one trench with conduits and streams     Serving ▶ Draining ▶ Stopped
 *
 * 1. There is at most one trench at a time.
 * 2. Opening an open stream changes nothing; closing always succeeds, and at once.
 * 3. Wishes to open are heard in order: one that must wait for a close holds back the later ones.
 * 4. Closing takes back the wishes to open the same stream that still wait.
 * 5. Once everything is closed, only connections whose close failed are still dealt with.
 *
 * Rows A1 to A17. Unlike Meridio: an empty name is refused; a close followed by an open is never reordered; a process
 * that drains refuses to open.
 */
import { Result, Schema } from "effect"
import * as Config from "../config/Model.ts"
import * as Machine from "../Machine.ts"
import * as Seed from "../Seed.ts"
import * as Conduit from "./Conduit.ts"
import * as Model from "./Model.ts"
import * as Stream from "./Stream.ts"

/** How many wishes may wait for a close. */
export const queueLength = 1_000

const Reply = Schema.Natural

export const Life = Schema.TaggedUnion({ Serving: {}, Draining: { until: Machine.Millis }, Stopped: {} })

export const State = Schema.Struct({
  settings: Model.Settings,
  life: Life,
  nextCall: Machine.Call,
  seed: Seed.Seed,
  /** How many streams were ever opened. */
  opened: Schema.Natural,
  /** The trench whose NSP is connected. */
  trench: Schema.NullOr(Config.Name),
  conduits: Schema.Array(Conduit.State),
  /** Wishes to open that wait for something to be closed. */
  queue: Schema.Array(Schema.Struct({ reply: Reply, at: Config.StreamKey }))
})
export type State = typeof State.Type

/** The answer to a caller. */
export const Answer = Schema.TaggedUnion({
  Ok: {},
  /** The request can never succeed as it is. */
  Invalid: { message: Schema.String },
  /** The request contradicts an earlier one. */
  Conflict: { message: Schema.String },
  /** Not now. */
  Unavailable: { message: Schema.String }
})
export type Answer = typeof Answer.Type

export const Event = Schema.TaggedUnion({
  OpenRequested: { reply: Reply, stream: Model.Request },
  CloseRequested: { reply: Reply, stream: Model.Request },
  ShutdownRequested: {},
  ...Conduit.outcomes
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  Reply: { reply: Reply, answer: Answer },
  ConnectNsp: { trench: Config.Name },
  DisconnectNsp: { trench: Config.Name },
  ...Conduit.commands
})
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

export const Input = Schema.Struct({ settings: Model.Settings, seed: Seed.Seed })

export const init = ({ seed, settings }: typeof Input.Type): Step => [{
  settings,
  life: { _tag: "Serving" },
  nextCall: 0,
  seed,
  opened: 0,
  trench: null,
  conduits: [],
  queue: []
}, []]

export const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  const reaction = react(state, event, now)
  return reaction[0] === state
    ? reaction
    : Machine.andThen(Machine.andThen(reaction, tidy), (state) => hear(state, now))
}

export const wake = ({ conduits, life }: State): Machine.Millis | undefined =>
  Machine.earliest(life._tag === "Draining" ? life.until : undefined, ...conduits.map(Conduit.wake))

/** The streams that a watcher with this filter sees, in the order in which they were opened. */
export const statuses = ({ conduits }: State, filter: Model.Filter): ReadonlyArray<Model.StreamStatus> =>
  conduits
    .flatMap(({ streams }) => streams)
    .filter((stream) => !Stream.isClosing(stream) && Model.matches(filter, stream.at))
    .toSorted((a, b) => a.opened - b.opened)
    .map(({ at, status }) => ({ at, status }))

export const isStopped = ({ life }: State): boolean => life._tag === "Stopped"

const react = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "OpenRequested":
      return open(state, event.reply, event.stream)
    case "CloseRequested":
      return close(state, event.reply, event.stream, now)
    case "ShutdownRequested":
      return drain(state, now)
    case "Woken":
      return state.life._tag === "Draining" && now >= state.life.until
        ? stop(state)
        : stepConduits(state, () => Machine.woken, now)
    default:
      return stepConduits(state, (at) => Config.sameConduit(at, event.at) ? event : undefined, now)
  }
}

/** Puts the wish into the queue, from where `hear` takes it, at once if nothing stands in its way. */
const open = (state: State, reply: number, request: Model.Request): Step => {
  const key = Model.key(request)
  if (Result.isFailure(key)) return refuse(state, reply, { _tag: "Invalid", message: key.failure })
  if (state.life._tag !== "Serving") {
    return refuse(state, reply, { _tag: "Unavailable", message: "the ambassador is shutting down" })
  }
  if (state.queue.length >= queueLength) {
    return refuse(state, reply, { _tag: "Unavailable", message: "too many requests wait for a stream to close" })
  }
  return [{ ...state, queue: [...state.queue, { reply, at: key.success }] }, []]
}

const close = (state: State, reply: number, request: Model.Request, now: Machine.Millis): Step => {
  const key = Model.key(request)
  if (Result.isFailure(key)) return refuse(state, reply, { _tag: "Invalid", message: key.failure })
  const at = key.success
  const taken = state.queue.filter((wish) => Config.sameStream(wish.at, at))
  const queue = taken.length === 0 ? state.queue : state.queue.filter((wish) => !taken.includes(wish))
  const replies = [...taken.map((wish) => wish.reply), reply].map((reply) => ok(reply))
  const heard: Step = [queue === state.queue ? state : { ...state, queue }, replies]
  return Machine.andThen(heard, (state) =>
    stepConduits(
      state,
      (conduit) => Config.sameConduit(conduit, at) ? { _tag: "StreamUnwanted", at } : undefined,
      now
    ))
}

/**
 * Serving ends: everything is closed at once, in at most the time of one unregister and one disconnect. A close that
 * failed is repeated as long as that time lasts.
 */
const drain = (state: State, now: Machine.Millis): Step => {
  if (state.life._tag !== "Serving") return Machine.stay(state)
  const message = "the ambassador is shutting down"
  const refusals = state.queue.map(({ reply }): Command => ({
    _tag: "Reply",
    reply,
    answer: { _tag: "Unavailable", message }
  }))
  const until = now + 2 * state.settings.timeoutMs + 1_000
  const draining: Step = [{ ...state, queue: [], life: { _tag: "Draining", until } }, refusals]
  return Machine.andThen(draining, (state) => stepConduits(state, () => ({ _tag: "AllUnwanted" }), now))
}

const stop = (state: State): Step => [
  { ...state, life: { _tag: "Stopped" }, conduits: [], trench: null },
  state.trench === null ? [] : [{ _tag: "DisconnectNsp", trench: state.trench }]
]

/** Forgets closed conduits, leaves the trench with its last conduit, and stops when that was the aim. */
const tidy = (state: State): Step => {
  const conduits = state.conduits.filter((conduit) => !Conduit.isClosed(conduit))
  const kept = conduits.length === state.conduits.length ? state : { ...state, conduits }
  if (kept.life._tag === "Draining") return kept.conduits.length === 0 ? stop(kept) : [kept, []]
  if (kept.conduits.some((conduit) => !Conduit.isGone(conduit))) return [kept, []]
  return kept.trench === null
    ? [kept, []]
    : [{ ...kept, trench: null }, [{ _tag: "DisconnectNsp", trench: kept.trench }]]
}

/** Fulfils the waiting wishes, up to the first that has to wait on. */
const hear = (state: State, now: Machine.Millis): Step => {
  const [wish] = state.queue
  if (wish === undefined || mustWait(state, wish.at)) return [state, []]
  const heard: State = { ...state, queue: state.queue.slice(1) }
  return Machine.andThen(fulfil(heard, wish.at, wish.reply, now), (state) => hear(state, now))
}

/** Whether the stream, its conduit, or the trench that is in the way, is being closed. */
const mustWait = (state: State, at: Config.StreamKey): boolean => {
  const present = state.conduits.filter((conduit) => !Conduit.isGone(conduit))
  if (state.trench !== null && state.trench !== at.trench) return present.every(Conduit.isClosing)
  const conduit = present.find((conduit) => Config.sameConduit(conduit.at, at))
  if (conduit === undefined) return false
  return Conduit.isClosing(conduit)
    || conduit.streams.some((stream) => Config.sameStream(stream.at, at) && Stream.isClosing(stream))
}

const fulfil = (state: State, at: Config.StreamKey, reply: number, now: Machine.Millis): Step => {
  if (state.trench !== null && state.trench !== at.trench) {
    const message = "open failed to set trench: another trench is already connected"
    return [state, [{ _tag: "Reply", reply, answer: { _tag: "Conflict", message } }]]
  }
  const known = state.conduits.find((conduit) => Config.sameConduit(conduit.at, at))
  if (known?.streams.some((stream) => Config.sameStream(stream.at, at))) return [state, [ok(reply)]]
  const connected: Step = state.trench === null
    ? [{ ...state, trench: at.trench }, [{ _tag: "ConnectNsp", trench: at.trench }]]
    : [state, []]
  const { opened } = state
  const attached = Machine.andThen(connected, (state) =>
    known === undefined
      ? attach(state, at, now)
      : stepConduits(
        state,
        (conduit) => Config.sameConduit(conduit, at) ? { _tag: "StreamWanted", at, opened } : undefined,
        now
      ))
  return Machine.andThen(attached, (state) => [{ ...state, opened: opened + 1 }, [ok(reply)]])
}

const attach = (state: State, stream: Config.StreamKey, now: Machine.Millis): Step => {
  const { nextCall, opened, settings } = state
  const [seed, rest] = Seed.split(state.seed)
  const [conduit, commands] = Conduit.init({ stream, opened, settings, nextCall, seed }, now)
  return [
    { ...state, seed: rest, nextCall: conduit.nextCall, conduits: [...state.conduits, conduit] },
    commands
  ]
}

/** Steps the conduits for which there is an event; they draw their calls from the same counter. */
const stepConduits = (
  state: State,
  eventOf: (at: Config.ConduitKey) => Conduit.Event | Machine.Woken | undefined,
  now: Machine.Millis
): Step =>
  state.conduits.reduce<Step>((done, { at }, i) =>
    Machine.andThen(done, (state) => {
      const child = state.conduits[i]
      const event = eventOf(at)
      if (child === undefined || event === undefined) return [state, []]
      const lent = { ...child, nextCall: state.nextCall }
      const [next, commands] = Conduit.step(lent, event, now)
      if (next === lent) return [state, []]
      return [{ ...state, nextCall: next.nextCall, conduits: state.conduits.with(i, next) }, commands]
    }), Machine.stay(state))

const ok = (reply: number): Command => ({ _tag: "Reply", reply, answer: { _tag: "Ok" } })

const refuse = (state: State, reply: number, answer: Answer): Step => [state, [{ _tag: "Reply", reply, answer }]]

export const machine = Machine.make({ name: "tapa", Input, State, Event, Command, init, step, wake })
