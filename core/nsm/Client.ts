/**
 * Decides the life of one connection at its client: when to ask, refresh, heal and close.
 *
 *     Idle ──request──▶ Requesting ──▶ Established ⇄ Refreshing
 *                           │ failed       │ down      │ lost
 *                           ▼              ▼           ▼
 *     Idle ◀── Closing ◀─close─        Healing ──▶ Established
 *
 * 1. At most one call towards the manager is in flight; requests made meanwhile are served one after another.
 * 2. An established connection is refreshed after a fifth of its shortest remaining token lifetime.
 * 3. A loss is healed with exponential back-off and jitter, never in a flood (upstream has none: Meridio#537).
 * 4. Healing asks for another endpoint unless the user pinned one, and keeps the interface's name.
 * 5. A later request changes context and endpoint only, and of these what differs from the last answer; labels,
 *    mechanism and payload stay as established.
 * 6. One monitor lasts as long as it tells something; a request that succeeds renews a lost one.
 * 7. A close is retried a few times, then given up: the token's expiry ends the connection at the manager.
 *
 * Source: sdk, `common/{begin,refresh,heal}`.
 */
import * as Machine from "../Machine.ts"
import * as Same from "../Same.ts"
import * as ClientState from "./ClientState.ts"
import * as Model from "./Model.ts"

const { Command, Event, Settings, State } = ClientState
type State = ClientState.State
type Event = ClientState.Event
type Command = ClientState.Command
type Ask = ClientState.Ask
type Live = ClientState.Live
type Step = Machine.Step<State, Command>

const closeAttempts = 4
/** After so many failed refreshes in a row the endpoint is given up. */
const refreshAttempts = 3

const init = (settings: ClientState.Settings): Step => [
  { settings, seed: settings.seed, nextCall: 0, queue: [], phase: { _tag: "Idle" } },
  []
]

const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "RequestRequested":
      return requested(state, event, now)
    case "CloseRequested":
      return closeRequested(state, event.reply, now)
    case "RequestSucceeded":
      return succeeded(state, event.call, event.connection, now)
    case "RequestFailed":
      return failed(state, event.call, { reason: event.reason, message: event.message }, now)
    case "MonitorChanged":
      return monitored(state, event.call, event.change, now)
    case "CloseFinished":
      return closeFinished(state, event.call, event.failure, now)
    case "Woken":
      return woken(state, now)
  }
}

const wake = ({ phase }: State): Machine.Millis | undefined => {
  switch (phase._tag) {
    case "Established":
      return phase.refreshAt
    case "Healing":
    case "Closing":
      return phase.retryAt
    case "Idle":
    case "Requesting":
    case "Refreshing":
      return undefined
  }
}

const requested = (state: State, ask: Ask, now: Machine.Millis): Step => {
  const { phase } = state
  switch (phase._tag) {
    case "Idle":
      return open(state, ask, now)
    case "Established":
      return refresh(state, phase.live, phase.attempt, now, ask)
    case "Healing":
      return phase.call === undefined
        ? heal(state, change(phase.live, ask), phase.attempt, now, ask)
        : [{ ...state, queue: [...state.queue, ask] }, []]
    case "Requesting":
    case "Refreshing":
    case "Closing":
      return [{ ...state, queue: [...state.queue, ask] }, []]
  }
}

/** Idle: the first request of a connection. */
const open = (state: State, ask: Ask, now: Machine.Millis): Step => {
  if (ask.connection.id === "") {
    return [state, [reply(ask, { _tag: "Failed", reason: "Invalid", message: "a connection needs an id" })]]
  }
  const preference = Model.kernelMechanism(state.settings.netns, ask.interfaceName)
  const connection = ClientState.begin(state.settings, named(ask.connection, preference), now)
  return [
    { ...state, nextCall: state.nextCall + 1, phase: { _tag: "Requesting", call: state.nextCall, ask, connection } },
    [request(state, connection, preference)]
  ]
}

/** With a mechanism, upstream's servers do not look at preferences: it has to carry the interface's name itself. */
const named = (connection: Model.Connection, { parameters, type }: Model.Mechanism): Model.Connection => {
  const { mechanism } = connection
  return mechanism?.type === type
    ? { ...connection, mechanism: { ...mechanism, parameters: { ...mechanism.parameters, ...parameters } } }
    : connection
}

/** Asks for what stands, or for the change of it. */
const refresh = (state: State, live: Live, attempt: number, now: Machine.Millis, ask?: Ask): Step => {
  const wanted = ask === undefined ? live : change(live, ask)
  const connection = ClientState.begin(state.settings, { ...wanted.connection, state: "Up" }, now)
  return [
    {
      ...state,
      nextCall: state.nextCall + 1,
      phase: { _tag: "Refreshing", call: state.nextCall, live, wanted, attempt, ...(ask === undefined ? {} : { ask }) }
    },
    [request(state, connection, live.preference)]
  ]
}

/** Asks for the connection anew over another endpoint. */
const heal = (state: State, live: Live, attempt: number, now: Machine.Millis, ask?: Ask): Step => {
  const { mechanism: _, ...rest } = live.connection
  const connection = ClientState.begin(
    state.settings,
    { ...rest, endpointName: live.pinned, state: "ReselectRequested" },
    now
  )
  return [
    {
      ...state,
      nextCall: state.nextCall + 1,
      phase: { _tag: "Healing", call: state.nextCall, live, attempt, ...(ask === undefined ? {} : { ask }) }
    },
    [request(state, connection, live.preference)]
  ]
}

const succeeded = (state: State, call: number, answer: Model.Connection, now: Machine.Millis): Step => {
  const { phase } = state
  if (!("call" in phase) || phase.call !== call || phase._tag === "Closing") return Machine.stay(state)
  const before = phase._tag === "Requesting" ? undefined : phase.live
  const wanted = phase._tag === "Refreshing" ? phase.wanted : before
  const connection: Model.Connection = { ...answer, state: "Up" }
  const isSameRecord = before?.connection.path.segments[1]?.id === connection.path.segments[1]?.id
  const kept = phase._tag === "Refreshing" && isSameRecord ? before?.monitor : undefined
  const monitor = kept ?? state.nextCall
  const live: Live = {
    connection,
    returned: phase.ask === undefined && before !== undefined ? before.returned : connection,
    monitor,
    pinned: wanted?.pinned ?? (phase._tag === "Requesting" ? phase.ask.connection.endpointName : ""),
    preference: before?.preference
      ?? Model.kernelMechanism(state.settings.netns, Model.interfaceName(connection))
  }
  const established: State = {
    ...state,
    nextCall: kept === undefined ? state.nextCall + 1 : state.nextCall,
    phase: { _tag: "Established", live, attempt: 0, refreshAt: ClientState.refreshAt(state.settings, connection, now) }
  }
  const commands: ReadonlyArray<Command> = [
    ...(before?.monitor === undefined || before.monitor === kept
      ? []
      : [{ _tag: "Cancel" as const, call: before.monitor }]),
    ...(kept === undefined ? [{ _tag: "Monitor" as const, call: monitor, connection }] : []),
    ...(phase.ask === undefined ? [] : [reply(phase.ask, { _tag: "Succeeded", connection })])
  ]
  return next([established, commands], now)
}

const failed = (state: State, call: number, failure: Model.Failure, now: Machine.Millis): Step => {
  const { phase } = state
  if (!("call" in phase) || phase.call !== call || phase._tag === "Closing") return Machine.stay(state)
  const answers = phase.ask === undefined ? [] : [reply(phase.ask, { _tag: "Failed", ...failure })]
  if (phase._tag === "Requesting") return next([{ ...state, phase: { _tag: "Idle" } }, answers], now)
  const attempt = phase.attempt + 1
  const [rested, delayMs] = ClientState.backoff(state, attempt)
  const retryAt = now + delayMs
  const gone = failure.reason === "NotFound" || attempt >= refreshAttempts
  // A request of the user may fail for its own sake while the connection stands; without a monitor nobody knows that.
  const isOwnFault = phase.ask !== undefined && phase.live.monitor !== undefined
  if (phase._tag === "Refreshing" && (isOwnFault || !gone)) {
    const step: Step = [
      { ...rested, phase: { _tag: "Established", live: phase.live, attempt, refreshAt: retryAt } },
      answers
    ]
    return next(step, now)
  }
  return next([{ ...rested, phase: { _tag: "Healing", live: phase.live, attempt, retryAt } }, answers], now)
}

const monitored = (
  state: State,
  call: number,
  change: ClientState.Change,
  now: Machine.Millis
): Step => {
  const { phase } = state
  if (!("live" in phase) || phase.live.monitor !== call) return Machine.stay(state)
  const { monitor: _, ...live } = phase.live
  const cancel: ReadonlyArray<Command> = [{ _tag: "Cancel", call }]
  // The answer decides; if it is a success, a new monitor begins with how things are then.
  if (phase._tag === "Refreshing") {
    return change === "RefreshRequested" ? Machine.stay(state) : [{ ...state, phase: { ...phase, live } }, cancel]
  }
  if (phase._tag === "Healing") return Machine.stay(state)
  switch (change) {
    case "Down": {
      const [rested, delayMs] = ClientState.backoff(state, 0)
      return [{ ...rested, phase: { _tag: "Healing", live, attempt: 0, retryAt: now + delayMs } }, cancel]
    }
    case "Lost": {
      // The manager may come back with everything it knew, so ask for the same first; failed refreshes end in healing.
      const [rested, delayMs] = ClientState.backoff(state, phase.attempt)
      const refreshAt = Math.min(phase.refreshAt, now + delayMs)
      return [{ ...rested, phase: { ...phase, live, refreshAt, attempt: Math.min(phase.attempt + 1, 1) } }, []]
    }
    case "RefreshRequested":
      return refresh(state, phase.live, phase.attempt, now)
  }
}

const closeRequested = (state: State, replyTo: number, now: Machine.Millis): Step => {
  const { phase } = state
  switch (phase._tag) {
    case "Idle":
      return [state, [{ _tag: "Reply", reply: replyTo, result: { _tag: "Closed" } }]]
    case "Closing":
      return [
        { ...state, queue: [], phase: { ...phase, replies: [...phase.replies, replyTo] } },
        state.queue.map(abandoned)
      ]
    case "Requesting": {
      const answers = [phase.ask, ...state.queue].map(abandoned)
      const cancel: Command = { _tag: "Cancel", call: phase.call }
      return closing({ ...state, queue: [] }, phase.connection, [replyTo], 0, [cancel, ...answers])
    }
    case "Established":
    case "Refreshing":
    case "Healing": {
      const { connection, monitor } = phase.live
      const inFlight = [monitor, "call" in phase ? phase.call : undefined].filter((call) => call !== undefined)
      const asks = "ask" in phase && phase.ask !== undefined ? [phase.ask, ...state.queue] : state.queue
      return closing({ ...state, queue: [] }, ClientState.begin(state.settings, connection, now), [replyTo], 0, [
        ...inFlight.map((call) => ({ _tag: "Cancel" as const, call })),
        ...asks.map(abandoned)
      ])
    }
  }
}

const closing = (
  state: State,
  connection: Model.Connection,
  replies: ReadonlyArray<number>,
  attempt: number,
  before: ReadonlyArray<Command>
): Step => [
  {
    ...state,
    nextCall: state.nextCall + 1,
    phase: { _tag: "Closing", connection, replies, attempt, call: state.nextCall }
  },
  [...before, { _tag: "Close", call: state.nextCall, connection, timeoutMs: state.settings.requestTimeoutMs }]
]

const closeFinished = (
  state: State,
  call: number,
  failure: Model.Failure | undefined,
  now: Machine.Millis
): Step => {
  const { phase } = state
  if (phase._tag !== "Closing" || phase.call !== call) return Machine.stay(state)
  const attempt = phase.attempt + 1
  if (failure !== undefined && attempt < closeAttempts) {
    const [rested, delayMs] = ClientState.backoff(state, attempt)
    const { call: _, ...rest } = phase
    return [{ ...rested, phase: { ...rest, attempt, retryAt: now + delayMs } }, []]
  }
  const result = failure === undefined ? { _tag: "Closed" as const } : { _tag: "Failed" as const, ...failure }
  const answers = phase.replies.map((reply) => ({ _tag: "Reply" as const, reply, result }))
  return next([{ ...state, phase: { _tag: "Idle" } }, answers], now)
}

const woken = (state: State, now: Machine.Millis): Step => {
  const { phase } = state
  const deadline = wake(state)
  if (deadline === undefined || deadline > now) return Machine.stay(state)
  switch (phase._tag) {
    case "Established":
      return refresh(state, phase.live, phase.attempt, now)
    case "Healing":
      return heal(state, phase.live, phase.attempt, now)
    case "Closing":
      return closing(state, phase.connection, phase.replies, phase.attempt, [])
    case "Idle":
    case "Requesting":
    case "Refreshing":
      return Machine.stay(state)
  }
}

/** Serves the request that waited longest, if any. */
const next = ([state, commands]: Step, now: Machine.Millis): Step => {
  const [ask, ...queue] = state.queue
  if (ask === undefined) return [state, commands]
  const [after, more] = requested({ ...state, queue }, ask, now)
  return [after, [...commands, ...more]]
}

/** What a later request changes of a connection: where it differs from what the user was told last. */
const change = (live: Live, { connection }: Ask): Live => {
  const { returned } = live
  // Whoever repeats the endpoint that the connection has, or had when the user was told last, insists on nothing.
  const has = ["", returned.endpointName, live.connection.endpointName]
  const pinned = has.includes(connection.endpointName) ? undefined : connection.endpointName
  const { extra } = live.connection.context
  const context = Same.equals(connection.context, returned.context)
    ? live.connection.context
    : { ...connection.context, extra: merge(returned.context.extra, connection.context.extra, extra) }
  return {
    ...live,
    pinned: pinned ?? live.pinned,
    connection: { ...live.connection, context, endpointName: pinned ?? live.connection.endpointName }
  }
}

/** `current` with what became different from `before` to `after`. */
const merge = (before: Model.Labels, after: Model.Labels, current: Model.Labels): Model.Labels =>
  Object.fromEntries([
    ...Object.entries(current).filter(([key]) => Object.hasOwn(after, key) || !Object.hasOwn(before, key)),
    ...Object.entries(after).filter(([key, value]) => !Object.hasOwn(before, key) || before[key] !== value)
  ])

const request = (state: State, connection: Model.Connection, preference: Model.Mechanism): Command => ({
  _tag: "Request",
  call: state.nextCall,
  connection,
  preferences: [preference],
  timeoutMs: state.settings.requestTimeoutMs
})

const reply = ({ reply }: Ask, result: ClientState.Result): Command => ({ _tag: "Reply", reply, result })

const abandoned = (ask: Ask): Command =>
  reply(ask, { _tag: "Failed", reason: "Conflict", message: "the connection was closed while the request waited" })

export const machine = Machine.make<ClientState.Settings, State, Event, Command>({
  name: "nsm-client",
  Input: Settings,
  State,
  Event,
  Command,
  init,
  step,
  wake
})

/** The connection as it stands, `Down` while it is being healed; undefined while there is none. */
export const view = ({ phase }: State): Model.Connection | undefined => {
  switch (phase._tag) {
    case "Established":
    case "Refreshing":
      return phase.live.connection
    case "Healing":
      return { ...phase.live.connection, state: "Down" }
    case "Idle":
    case "Requesting":
    case "Closing":
      return undefined
  }
}

/** Whether nothing is left: the machine may be thrown away. */
export const isIdle = ({ phase }: State): boolean => phase._tag === "Idle"

export { Command, Event, Settings, State }
