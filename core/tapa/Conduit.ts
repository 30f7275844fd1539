/**
 * Decides what the streams of one conduit are offered, and when the conduit has ended: it holds the attachment to the
 * proxy, the configured streams, and a registration for each stream that was asked for.
 *
 *     first stream ▶ attached ▶ streams offered ▶ last stream gone ▶ attachment closed ▶ Closed
 *
 * 1. A stream is offered addresses only while the connection is up and the configuration is known.
 * 2. The last stream that leaves takes the attachment with it.
 *
 * Rows C7, C8, C14 to C16, C19, A11 and A12. Unlike Meridio: streams follow the state of the connection, and stay
 * `Unavailable` until the NSP was heard, instead of `Undefined`.
 */
import { Schema } from "effect"
import * as Config from "../config/Model.ts"
import * as Machine from "../Machine.ts"
import * as Seed from "../Seed.ts"
import * as Attachment from "./Attachment.ts"
import * as Feed from "./Feed.ts"
import * as Model from "./Model.ts"
import * as Stream from "./Stream.ts"

/** The pause before a lost watch of the streams is opened again. */
export const streamsReopenMs = 500

export const State = Schema.Struct({
  at: Config.ConduitKey,
  settings: Model.Settings,
  nextCall: Machine.Call,
  seed: Seed.Seed,
  attachment: Attachment.State,
  configured: Feed.make(Config.Stream),
  /** In the order in which they were asked for. */
  streams: Schema.Array(Stream.State)
})
export type State = typeof State.Type

const answer = { at: Config.ConduitKey, call: Machine.Call }

/** Outcomes of the commands of a conduit, its attachment and its streams. */
export const outcomes = {
  StreamsChanged: { ...answer, streams: Schema.Array(Config.Stream) },
  StreamsLost: { ...answer, reason: Model.Reason },
  ...Attachment.outcomes,
  ...Stream.outcomes
}

export const Event = Schema.TaggedUnion({
  /** `opened` is the stream's place in a Watch. */
  StreamWanted: { at: Config.StreamKey, opened: Schema.Natural },
  StreamUnwanted: { at: Config.StreamKey },
  AllUnwanted: {},
  ...outcomes
})
export type Event = typeof Event.Type

export const commands = {
  /** The configured streams of the conduit, now and after each change. */
  WatchStreams: answer,
  ...Attachment.commands,
  ...Stream.commands
}
export const Command = Schema.TaggedUnion(commands)
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

export const Input = Schema.Struct({
  stream: Config.StreamKey,
  opened: Schema.Natural,
  settings: Model.Settings,
  nextCall: Machine.Call,
  seed: Seed.Seed
})

export const init = ({ nextCall, opened, seed, settings, stream }: typeof Input.Type, now: Machine.Millis): Step => {
  const at = { trench: stream.trench, conduit: stream.conduit }
  const [attachment, commands] = Attachment.init({ at, settings, nextCall }, now)
  const state: State = {
    at,
    settings,
    nextCall: attachment.nextCall,
    seed,
    attachment,
    configured: Feed.off,
    streams: []
  }
  return Machine.andThen([state, commands], (state) => add(state, stream, opened, now))
}

export const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  const reaction = react(state, event, now)
  return reaction[0] === state ? reaction : Machine.andThen(reaction, (next) => tend(state, next, now))
}

export const wake = (state: State): Machine.Millis | undefined =>
  Machine.earliest(
    Attachment.wake(state.attachment),
    Feed.wake(state.configured),
    ...state.streams.map(Stream.wake)
  )

/** Whether the conduit is being left and a stream asked for now has to wait. */
export const isClosing = ({ attachment, streams }: State): boolean =>
  Attachment.isClosing(attachment) || (streams.length > 0 && streams.every(Stream.isClosing))

/** Whether the conduit is over for everyone else; it may still try to close its connection. */
export const isGone = ({ attachment }: State): boolean => Attachment.isGone(attachment)

export const isClosed = ({ attachment }: State): boolean => Attachment.isClosed(attachment)

const react = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "StreamWanted":
      return want(state, event.at, event.opened, now)
    case "StreamUnwanted":
      return stepStreams(state, (at) => Config.sameStream(at, event.at) ? { _tag: "CloseRequested" } : undefined, now)
    case "AllUnwanted":
      return stepStreams(state, () => ({ _tag: "CloseRequested" }), now)
    case "Woken":
      return woken(state, now)
    case "StreamsChanged":
      return configure(state, Feed.changed(state.configured, event.call, event.streams, now))
    case "StreamsLost":
      return configure(state, Feed.lost(state.configured, event.call, now + streamsReopenMs))
    case "ListSucceeded":
    case "ListFailed":
    case "RegisterSucceeded":
    case "RegisterFailed":
    case "UnregisterSucceeded":
    case "UnregisterFailed":
      return stepStreams(state, (at) => Config.sameStream(at, event.at) ? event : undefined, now)
    default:
      return stepAttachment(state, event, now)
  }
}

/** Adds a stream; the conduit may have been gone, but never is about to go (its parent waits for that). */
const want = (state: State, at: Config.StreamKey, opened: number, now: Machine.Millis): Step => {
  if (isClosing(state) || state.streams.some((stream) => Config.sameStream(stream.at, at))) return Machine.stay(state)
  const attached = isGone(state) ? stepAttachment(state, { _tag: "OpenRequested" }, now) : Machine.stay(state)
  return Machine.andThen(attached, (state) => add(state, at, opened, now))
}

const add = (state: State, at: Config.StreamKey, opened: number, now: Machine.Millis): Step => {
  const { nextCall, settings } = state
  const [seed, rest] = Seed.split(state.seed)
  const situation = situationOf(state, at)
  const [stream, commands] = Stream.init({ at, settings, opened, nextCall, seed, situation }, now)
  return [{ ...state, seed: rest, nextCall: stream.nextCall, streams: [...state.streams, stream] }, commands]
}

const configure = (state: State, configured: State["configured"]): Step =>
  configured === state.configured ? Machine.stay(state) : [{ ...state, configured }, []]

const woken = (state: State, now: Machine.Millis): Step => {
  const attached = stepAttachment(state, Machine.woken, now)
  const streamed = Machine.andThen(attached, (state) => stepStreams(state, () => Machine.woken, now))
  const heard = Machine.andThen(streamed, (state) => configure(state, Feed.woken(state.configured, now)))
  return Machine.andThen(heard, (state) => Feed.isDue(state.configured.phase, now) ? watch(state) : Machine.stay(state))
}

/** Draws the conclusions of whatever changed. */
const tend = (before: State, state: State, now: Machine.Millis): Step => {
  const isSame = state.attachment === before.attachment && state.configured === before.configured
  return Machine.andThen(isSame ? Machine.stay(state) : offer(state, now), (state) => leave(state, now))
}

/** Tells every stream its situation, once the configuration is watched. */
const offer = (state: State, now: Machine.Millis): Step => {
  const watched = state.configured.phase._tag === "Off" && Attachment.localIps(state.attachment) !== undefined
    ? watch(state)
    : Machine.stay(state)
  return Machine.andThen(
    watched,
    (state) => stepStreams(state, (at) => ({ _tag: "SituationChanged", situation: situationOf(state, at) }), now)
  )
}

const watch = (state: State): Step => {
  const { at, configured, nextCall: call } = state
  return [{ ...state, nextCall: call + 1, configured: Feed.opened(configured, call) }, [{
    _tag: "WatchStreams",
    at,
    call
  }]]
}

const situationOf = ({ attachment, configured }: State, at: Config.StreamKey): Stream.Situation => {
  const ips = Attachment.localIps(attachment)
  if (ips === undefined || configured.known === null) return { _tag: "Blocked" }
  const stream = configured.known.find((stream) => Config.sameStream(stream, at))
  return stream === undefined ? { _tag: "Undefined" } : { _tag: "Available", maxTargets: stream.maxTargets, ips }
}

/** Forgets closed streams; after the last one the attachment closes. */
const leave = (state: State, now: Machine.Millis): Step => {
  const streams = state.streams.filter((stream) => !Stream.isClosed(stream))
  const kept = streams.length === state.streams.length ? state : { ...state, streams }
  if (streams.length > 0 || isGone(kept) || isClosing(kept)) return [kept, []]
  const call = Feed.callOf(kept.configured.phase)
  const silent: Step = [{ ...kept, configured: Feed.off }, call === undefined ? [] : [{ _tag: "Cancel", call }]]
  return Machine.andThen(silent, (state) => stepAttachment(state, { _tag: "CloseRequested" }, now))
}

/** Steps the attachment, which draws its calls from the same counter. */
const stepAttachment = (state: State, event: Attachment.Event | Machine.Woken, now: Machine.Millis): Step => {
  const { nextCall } = state
  const lent = state.attachment.nextCall === nextCall ? state.attachment : { ...state.attachment, nextCall }
  const [attachment, commands] = Attachment.step(lent, event, now)
  return attachment === lent ? Machine.stay(state) : [{ ...state, attachment, nextCall: attachment.nextCall }, commands]
}

/** Steps the streams for which there is an event; they draw their calls from the same counter. */
const stepStreams = (
  state: State,
  eventOf: (at: Config.StreamKey) => Stream.Event | Machine.Woken | undefined,
  now: Machine.Millis
): Step =>
  state.streams.reduce<Step>((done, { at }, i) =>
    Machine.andThen(done, (state) => {
      const child = state.streams[i]
      const event = eventOf(at)
      if (child === undefined || event === undefined) return [state, []]
      const lent = child.nextCall === state.nextCall ? child : { ...child, nextCall: state.nextCall }
      const [next, commands] = Stream.step(lent, event, now)
      if (next === lent) return [state, []]
      return [{ ...state, nextCall: next.nextCall, streams: state.streams.with(i, next) }, commands]
    }), Machine.stay(state))

export const machine = Machine.make({ name: "tapa.conduit", Input, State, Event, Command, init, step, wake })
