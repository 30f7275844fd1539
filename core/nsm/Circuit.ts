/**
 * Decides the life of one connection at its manager.
 *
 *     absent ──Ask──▶ Asking ──▶ Plumbing ──▶ standing, Up ⇄ Down
 *                       │ none       │ failed     │ End, expiry, client gone
 *                       ▼            ▼            ▼
 *     absent ◀──── reply ◀──── Clearing ◀──── Parting
 *
 * 1. One thing at a time; what arrives meanwhile waits in order.
 * 2. A request takes the connection as it comes (merging is the client's work), but an endpoint once chosen is kept.
 * 3. The datapath changes only after the endpoint agreed, and stays while the connection is Down.
 * 4. An end always succeeds here: an endpoint that cannot be told finds out by its own expiry. Until then the connection
 *    is there, Down: whoever closes it meanwhile waits until its links are gone, so that its addresses may be given away.
 * 5. The answer to the client repeats the client's mechanism, id and index. Its path is that of upstream: client, manager,
 *    forwarder, endpoint.
 * 6. An endpoint that is away has a while to come back: the connection stays Up, and refreshes wait for it. One that
 *    nobody replaces is not left but asked again, so that what stands in the kernel outlives its restart.
 *
 * Source: sdk, `chains/nsmgr` and `common/{begin,timeout,monitor,heal}`; sdk-kernel.
 */
import { Result } from "effect"
import * as Machine from "../Machine.ts"
import * as Same from "../Same.ts"
import * as Absence from "./Absence.ts"
import type * as CircuitState from "./CircuitState.ts"
import * as Cross from "./Cross.ts"
import * as Model from "./Model.ts"
import * as Outgoing from "./Outgoing.ts"
import * as Path from "./Path.ts"
import * as Watching from "./Watching.ts"

type State = CircuitState.State
type Command = CircuitState.Command
type Work = CircuitState.Work
type Ask = CircuitState.Ask
type Standing = CircuitState.Standing

type Surroundings = CircuitState.Surroundings

export type Step = Machine.Step<State, Command>

/** Whether nothing is left of the circuit. */
export const isAbsent = ({ queue, standing, work }: State): boolean =>
  standing === undefined && work === undefined && queue.length === 0

/**
 * The circuit of a record: adopts what stands in the kernel, and ends if nothing does, because the kernel may have given
 * the number of a dead namespace to another one.
 */
export const restore = ({ changing, ...record }: CircuitState.Record, call: number): Step => {
  const previous = changing === undefined ? record.cross : Cross.union(record.cross, changing)
  return [
    { id: record.connection.id, standing: record, work: { _tag: "Restoring", call, cross: previous }, queue: [] },
    [{ _tag: "Adopt", call, cross: record.cross, previous }]
  ]
}

/** Takes a request or an end in. */
export const accept = (state: State, pending: Ask | CircuitState.End, around: Surroundings): Step =>
  proceed({ ...state, queue: [...state.queue, pending] }, [], around)

/** Takes the outcome of a command in; other calls change nothing. */
export const settle = (state: State, event: CircuitState.Outcome, around: Surroundings): Step => {
  const { standing, work } = state
  if (event._tag === "EndpointChanged") {
    return standing?.endpointWatch === event.call
      ? Absence.changed(state, standing, event.change, around.now)
      : Machine.stay(state)
  }
  if (event._tag === "LinkLost") {
    if (standing?.linkWatch !== event.call) return Machine.stay(state)
    const { linkWatch: _, ...rest } = standing
    const down = { ...state, standing: Absence.withState(rest, "Down") }
    return event.clientGone ? accept(down, { _tag: "End" }, around) : [down, []]
  }
  if (work === undefined || work.call !== event.call) return Machine.stay(state)
  switch (event._tag) {
    case "EndpointAnswered":
      return work._tag === "Asking" ? answered(state, work, event.connection, around) : Machine.stay(state)
    case "EndpointRefused":
      return work._tag === "Asking" ? refused(state, work, event, around) : Machine.stay(state)
    case "PlumbSucceeded":
      return plumbed(state, work, around)
    case "PlumbFailed":
      return unplumbable(state, work, event, around)
    case "EndpointClosed":
      if (work._tag === "Leaving") return choose(state, work.ask, true, around)
      return work._tag === "Parting" ? parted(state, work, around) : Machine.stay(state)
    case "UnplumbFinished":
      return work._tag === "Clearing" ? ended(state, work, around) : Machine.stay(state)
  }
}

/** Gives an absent endpoint up, and ends a connection that was not refreshed in time. */
export const woken = (state: State, around: Surroundings): Step => {
  const deadline = wake(state)
  const { standing } = state
  if (standing === undefined || deadline === undefined || deadline > around.now) return Machine.stay(state)
  return standing.expiresAt <= around.now
    ? accept(state, { _tag: "End" }, around)
    : proceed({ ...state, standing: Absence.over(standing, "Down") }, [], around)
}

/** When an absent endpoint is given up or the connection ends by itself; while work goes on its outcome decides. */
export const wake = ({ standing, work }: State): Machine.Millis | undefined =>
  work === undefined ? Machine.earliest(standing?.expiresAt, standing?.absentUntil) : undefined

/** The endpoint has registered again: it may have forgotten the connection, so the client is asked to refresh it. */
export const returned = (state: State, around: Surroundings): Step =>
  state.standing?.absentUntil === undefined
    ? Machine.stay(state)
    : proceed({ ...state, standing: Absence.over(state.standing, "RefreshRequested") }, [], around)

/** Starts what waits first, if nothing is going on. */
const proceed = (state: State, before: ReadonlyArray<Command>, around: Surroundings): Step => {
  const [first, ...queue] = state.queue
  if (state.work !== undefined || first === undefined || Absence.waits(state)) return [state, before]
  const [next, commands] = begin({ ...state, queue }, first, { ...around, call: around.call + callsIn(before) })
  return [next, [...before, ...commands]]
}

const begin = (state: State, pending: Ask | CircuitState.End, around: Surroundings): Step => {
  const { standing } = state
  if (pending._tag === "Ask") {
    return standing !== undefined && pending.connection.state === "ReselectRequested"
        && Outgoing.isReplaced(state, pending, around)
      ? [
        { ...state, work: { _tag: "Leaving", call: around.call, ask: pending } },
        [closeEndpoint(standing, around, Outgoing.share(pending, 4, around.now))]
      ]
      : choose(state, pending, false, around)
  }
  if (standing !== undefined) return part(state, standing, standing.cross, pending, around)
  return proceed(
    state,
    pending.reply === undefined ? [] : [{ _tag: "Reply", reply: pending.reply, result: { _tag: "Closed" } }],
    around
  )
}

/** Asking: finds who may serve the request. */
const choose = (state: State, ask: Ask, left: boolean, around: Surroundings): Step => {
  const found = Outgoing.targets(state, ask, left, around)
  if (Result.isFailure(found)) return refuse(state, ask, left, found.failure, around)
  const [target, ...rest] = found.success
  return target === undefined
    ? refuse(state, ask, left, {
      reason: "NotFound",
      message: `no endpoint of network service "${ask.connection.networkService}" fits this client`
    }, around)
    : consult(state, { ask, target, rest, left }, around)
}

const consult = (
  state: State,
  { ask, left, rest, target }: Pick<Extract<Work, { _tag: "Asking" }>, "ask" | "target" | "rest" | "left">,
  around: Surroundings
): Step => {
  const { call, now, settings } = around
  if (ask.deadline <= now) {
    return refuse(
      state,
      ask,
      left,
      { reason: "Timeout", message: "no endpoint answered in the time of the caller" },
      around
    )
  }
  const { mechanism: _, ...connection } = ask.connection
  const stored = state.standing?.target.name === target.name && !left ? state.standing.answer.mechanism : undefined
  const asked: Model.Connection = {
    ...connection,
    ...(stored === undefined ? {} : { mechanism: stored }),
    endpointName: target.name,
    state: "Up"
  }
  const sent = Outgoing.forwarded(asked, settings, now)
  return [
    { ...state, work: { _tag: "Asking", call, ask, sent, target, rest, left } },
    [{
      _tag: "RequestEndpoint",
      call,
      target,
      connection: sent,
      preferences: [Model.kernelMechanism("")],
      timeoutMs: Outgoing.share(ask, rest.length + 1, now)
    }]
  ]
}

const refused = (
  state: State,
  work: Extract<Work, { _tag: "Asking" }>,
  { message, reason }: Model.Failure,
  around: Surroundings
): Step => {
  const postponed = reason === "Unavailable" && !work.left ? Absence.postpone(state, work.ask, around.now) : undefined
  if (postponed !== undefined) return [postponed, []]
  const [target, ...rest] = work.rest
  return target === undefined
    ? refuse(state, work.ask, work.left, { reason, message }, around)
    : consult(state, { ...work, target, rest }, around)
}

/** Plumbing: the endpoint agreed, now the kernel. */
const answered = (
  state: State,
  { ask, left, sent, target }: Extract<Work, { _tag: "Asking" }>,
  answer: Model.Connection,
  around: Surroundings
): Step => {
  const { call, settings, taken } = around
  const agreed = Path.giveBack(sent, answer)
  const mechanism = ask.connection.mechanism ?? ask.preferences.find(Model.isKernel)
  const connection = { ...agreed, ...(mechanism === undefined ? {} : { mechanism }) }
  const previous = state.standing?.cross
  const cross = Model.isKernel(agreed.mechanism)
    ? Cross.make({
      manager: settings.name,
      connection,
      endpoint: agreed.mechanism,
      ...(previous === undefined ? {} : { previous }),
      taken: () => taken(Model.netns(connection) ?? "")
    })
    : Result.fail(`endpoint "${target.name}" chose no kernel mechanism`)
  if (Result.isFailure(cross)) {
    const failure: Model.Failure = { reason: "Invalid", message: cross.failure }
    return state.standing !== undefined && !left
      ? refuse(state, ask, left, failure, around)
      : leaveNew(state, { target, answer: agreed }, { reply: ask.reply, failure }, around)
  }
  // What a refresh does not change stays the same value, so that nobody works it out again.
  const wanted = previous !== undefined && Same.equals(previous, cross.success) ? previous : cross.success
  return [
    { ...state, work: { _tag: "Plumbing", call, ask, target, answer: agreed, cross: wanted, left } },
    [
      ...(state.standing === undefined || wanted === previous ? [] : [save(state.standing, wanted)]),
      { _tag: "Plumb", call, cross: wanted, ...(previous === undefined ? {} : { previous }) }
    ]
  ]
}

const plumbed = (state: State, work: Work, around: Surroundings): Step => {
  const { work: _, ...rest } = state
  if (work._tag === "Restoring" && state.standing !== undefined) {
    const [standing, commands] = Watching.watch(state.standing, undefined, around.call)
    const saved = Same.equals(work.cross, standing.cross) ? [] : [save(standing)]
    return proceed({ ...rest, standing }, [...commands, ...saved], around)
  }
  if (work._tag !== "Plumbing") return Machine.stay(state)
  const { answer, ask, cross, left, target } = work
  const mechanism = ask.connection.mechanism ?? ask.preferences.find(Model.isKernel)
  const own = Path.toCaller(answer)
  const record: CircuitState.Record = {
    connection: { ...own, ...(mechanism === undefined ? {} : { mechanism }), state: "Up" },
    target,
    answer,
    cross,
    expiresAt: Path.deadline(own, around.settings, around.now)
  }
  // A connection that left its endpoint hears the end of the old one, so it watches anew.
  const old = left ? Watching.cancels(state.standing) : []
  const [standing, commands] = Watching.watch(record, left ? undefined : state.standing, around.call)
  return proceed({ ...rest, standing }, [
    ...old,
    ...commands,
    { _tag: "SaveRecord", record },
    { _tag: "Reply", reply: ask.reply, result: { _tag: "Succeeded", connection: Path.toCaller(record.connection) } }
  ], around)
}

const unplumbable = (state: State, work: Work, failure: Model.Failure, around: Surroundings): Step => {
  const { standing } = state
  const { message, reason } = failure
  if (work._tag === "Restoring" && standing !== undefined) {
    const { work: _, ...rest } = state
    const stood = Absence.withState({ ...standing, cross: work.cross }, "Down")
    return reason === "NotFound"
      ? part(state, standing, work.cross, {}, around)
      : proceed({ ...rest, standing: stood }, [save(stood)], around)
  }
  if (work._tag !== "Plumbing") return Machine.stay(state)
  const { answer, ask, cross, left, target } = work
  // A conflict or a missing namespace is found before anything is changed.
  const touched = standing === undefined
    ? cross
    : reason === "Failed"
    ? Cross.union(standing.cross, cross)
    : standing.cross
  if (standing !== undefined && !left) {
    const stood = { ...standing, cross: touched }
    const [next, commands] = refuse({ ...state, standing: stood }, ask, left, { reason, message }, around)
    return [next, [save(stood), ...commands]]
  }
  const made: Standing = { connection: Path.toCaller(answer), target, answer, cross, expiresAt: around.now }
  return part(
    state,
    { ...Watching.of(standing), ...made },
    touched,
    { reply: ask.reply, failure: { reason, message } },
    around
  )
}

/** Answers a request with a failure: what stood stands on, Down; a connection that left its endpoint ends. */
const refuse = (state: State, ask: Ask, left: boolean, failure: Model.Failure, around: Surroundings): Step => {
  const { standing, work: _, ...rest } = state
  if (standing !== undefined && left) {
    return clear(state, { cross: standing.cross, reply: ask.reply, failure }, around)
  }
  return proceed(
    standing === undefined ? rest : { ...rest, standing: Absence.withState(standing, "Down") },
    [{ _tag: "Reply", reply: ask.reply, result: { _tag: "Failed", ...failure } }],
    around
  )
}

type Ending = Pick<Extract<Work, { _tag: "Parting" }>, "reply" | "failure">

const part = (
  state: State,
  standing: Standing,
  cross: Cross.Cross,
  ending: Ending,
  around: Surroundings
): Step => [
  { ...Absence.down({ ...state, standing }), work: { ...only(ending), _tag: "Parting", call: around.call, cross } },
  [closeEndpoint(standing, around)]
]

const clear = (
  state: State,
  { cross, ...ending }: Ending & { readonly cross: Cross.Cross },
  { call }: Surroundings
): Step => [
  { ...Absence.down(state), work: { ...only(ending), _tag: "Clearing", call, cross } },
  [{ _tag: "Unplumb", call, cross }]
]

const ended = (state: State, { failure, reply }: Ending, around: Surroundings): Step => {
  const { standing, work: _, ...rest } = state
  const result: CircuitState.Result = failure === undefined ? { _tag: "Closed" } : { _tag: "Failed", ...failure }
  return proceed(rest, [
    ...Watching.cancels(standing),
    ...(standing === undefined
      ? []
      : [{ _tag: "ForgetRecord" as const, clientId: Model.clientId(standing.connection) }]),
    ...(reply === undefined ? [] : [{ _tag: "Reply" as const, reply, result }])
  ], around)
}

/** Keeps what a restarted manager must know, before the kernel is changed to `changing`. */
const save = ({ answer, connection, cross, expiresAt, target }: Standing, changing?: Cross.Cross): Command => ({
  _tag: "SaveRecord",
  record: { connection, target, answer, cross, expiresAt, ...(changing === undefined ? {} : { changing }) }
})

/** Tells an endpoint that agreed in vain, so that it keeps nothing for a client that it will not see. */
const leaveNew = (
  state: State,
  made: Pick<Standing, "answer" | "target">,
  ending: Ending,
  around: Surroundings
): Step => [
  {
    ...Absence.down(state),
    work: {
      ...only(ending),
      _tag: "Parting",
      call: around.call,
      ...(state.standing === undefined ? {} : { cross: state.standing.cross })
    }
  },
  [closeEndpoint(made, around)]
]

const parted = (
  state: State,
  { cross, ...ending }: Extract<Work, { _tag: "Parting" }>,
  around: Surroundings
): Step => cross === undefined ? ended(state, ending, around) : clear(state, { cross, ...ending }, around)

const closeEndpoint = (
  { answer, target }: Pick<Standing, "answer" | "target">,
  { call, settings }: Surroundings,
  timeoutMs = settings.requestTimeoutMs
): Command => ({ _tag: "CloseEndpoint", call, target, connection: answer, timeoutMs })

const only = ({ failure, reply }: Ending): Ending => ({
  ...(failure === undefined ? {} : { failure }),
  ...(reply === undefined ? {} : { reply })
})

/** How many calls the commands use up. */
export const callsIn = (commands: ReadonlyArray<Command>): number =>
  commands.filter((command) => "call" in command && command._tag !== "Cancel").length
