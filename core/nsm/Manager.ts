/**
 * Decides for a whole manager of one machine: the registry, and a circuit per connection.
 *
 *     records ──init──▶ Sweep, Plumb ...         registrations ──▶ Registry
 *     requests, closes ──▶ Circuit[client id]    outcomes ──▶ the circuit that has the call
 *
 * 1. A client id has one circuit: a client that lost its path gets its connection replaced, never doubled (Meridio#584).
 * 2. What a service's new definition no longer allows is closed.
 * 3. Records are saved before what stands is changed and before the client is answered; after a restart they are adopted
 *    and the rest is swept.
 * 4. A connection and an endpoint are changed by the identity that made them only.
 * 5. Monitors and finds are projections of the state.
 *
 * Source: sdk, `chains/nsmgr`; the table of states is 6.3 and 6.4 of our notes on NSM.
 */
import { HashMap, Option, Result, Schema } from "effect"
import * as Machine from "../Machine.ts"
import * as Circuit from "./Circuit.ts"
import * as CircuitState from "./CircuitState.ts"
import * as Cross from "./Cross.ts"
import * as Model from "./Model.ts"
import * as Path from "./Path.ts"
import * as Registry from "./Registry.ts"
import * as Select from "./Select.ts"
import * as Table from "./Table.ts"

export const Settings = CircuitState.Settings
export type Settings = typeof Settings.Type

export const Input = Schema.Struct({ settings: Settings, records: Schema.Array(CircuitState.Record) })
export type Input = typeof Input.Type

export const State = Schema.Struct({
  settings: Settings,
  registry: Registry.State,
  /** By client id. */
  circuits: Schema.HashMap(Schema.String, CircuitState.State),
  /** Which circuit waits for the outcome of a call, or watches by it. */
  waiting: Schema.HashMap(Machine.Call, Schema.String),
  /** No circuit expires earlier. Exact after `Woken`; too early after the next one has been refreshed. */
  nextExpiry: Schema.optionalKey(Machine.Millis),
  /** How many requests each service had; moves the round robin on. */
  turns: Schema.Record(Schema.String, Schema.Natural),
  nextCall: Machine.Call
})
export type State = typeof State.Type

export const Event = Schema.TaggedUnion({
  /** The connection is in the client's view; `freshId` is used if the manager does not know it yet. */
  RequestRequested: {
    reply: Schema.Natural,
    freshId: Schema.String,
    connection: Model.Connection,
    preferences: Schema.Array(Model.Mechanism),
    /** Of the caller; a request timeout from now if it is later or absent. */
    deadline: Schema.optionalKey(Machine.Millis)
  },
  CloseRequested: { reply: Schema.Natural, freshId: Schema.String, connection: Model.Connection },
  RegisterServiceRequested: { reply: Schema.Natural, service: Model.NetworkService },
  UnregisterServiceRequested: { reply: Schema.Natural, name: Schema.String },
  RegisterEndpointRequested: { reply: Schema.Natural, endpoint: Model.Endpoint },
  UnregisterEndpointRequested: {
    reply: Schema.Natural,
    name: Schema.String,
    pathIds: Model.Endpoint.fields.pathIds
  },
  ...CircuitState.outcomes
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  ...CircuitState.commands,
  /** Answers a registration. */
  Answer: { reply: Schema.Natural, answer: Registry.Answer },
  /** Removes everything of this manager from every namespace, except what the given connections need. */
  Sweep: { keep: Schema.Array(Cross.Cross) }
})
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

const init = ({ records, settings }: Input): Step => {
  const empty: State = {
    settings,
    registry: Registry.empty,
    circuits: HashMap.empty(),
    waiting: HashMap.empty(),
    turns: {},
    nextCall: 0
  }
  return records.reduce<Step>(([state, commands], record) => {
    const [next, more] = put(state, Model.clientId(record.connection), Circuit.restore(record, state.nextCall))
    return [next, [...commands, ...more]]
  }, [empty, [{ _tag: "Sweep", keep: records.map(({ cross }) => cross) }]])
}

const step = (state: State, event: Event | Machine.Woken, now: Machine.Millis): Step => {
  switch (event._tag) {
    case "RequestRequested":
      return requested(state, event, now)
    case "CloseRequested":
      return closeRequested(state, event, now)
    case "RegisterServiceRequested":
      return serviceRegistered(state, event.reply, event.service, now)
    case "UnregisterServiceRequested":
      return registered(state, event.reply, Registry.unregisterService(state.registry, event.name))
    case "RegisterEndpointRequested": {
      const { endpointLifetimeMs } = state.settings
      const outcome = Registry.registerEndpoint(
        state.registry,
        describe(state, event.endpoint),
        endpointLifetimeMs,
        now
      )
      return returned(registered(state, event.reply, outcome), event.endpoint.name, now)
    }
    case "UnregisterEndpointRequested":
      return registered(state, event.reply, Registry.unregisterEndpoint(state.registry, event))
    case "EndpointAnswered":
    case "EndpointRefused":
    case "EndpointClosed":
    case "PlumbSucceeded":
    case "PlumbFailed":
    case "UnplumbFinished":
    case "EndpointChanged":
    case "LinkLost": {
      const clientId = Option.getOrUndefined(HashMap.get(state.waiting, event.call))
      const circuit = clientId === undefined ? undefined : circuitOf(state, clientId)
      return clientId === undefined || circuit === undefined
        ? Machine.stay(state)
        : put(state, clientId, Circuit.settle(circuit, event, surroundings(state, clientId, now)))
    }
    case "Woken":
      return woken(state, now)
  }
}

const wake = ({ nextExpiry, registry }: State): Machine.Millis | undefined =>
  Machine.earliest(Registry.wake(registry), nextExpiry)

const requested = (
  state: State,
  { connection, deadline, freshId, preferences, reply }: Extract<Event, { _tag: "RequestRequested" }>,
  now: Machine.Millis
): Step => {
  const entered = enter(state, connection, freshId)
  if (Result.isFailure(entered)) return [state, [refusal(reply, entered.failure)]]
  const clientId = Model.clientId(entered.success)
  if (!isOwner(state, entered.success)) return [state, [denial(reply)]]
  const service = connection.networkService
  const counted = { ...state, turns: Table.set(state.turns, service, (Table.get(state.turns, service) ?? 0) + 1) }
  const circuit = circuitOf(state, clientId) ?? { id: entered.success.id, queue: [] }
  const latest = now + state.settings.requestTimeoutMs
  const ask: CircuitState.Ask = {
    _tag: "Ask",
    reply,
    connection: entered.success,
    preferences,
    deadline: Math.min(deadline ?? latest, latest)
  }
  return put(counted, clientId, Circuit.accept(circuit, ask, surroundings(state, clientId, now)))
}

const closeRequested = (
  state: State,
  { connection, freshId, reply }: Extract<Event, { _tag: "CloseRequested" }>,
  now: Machine.Millis
): Step => {
  const entered = enter(state, connection, freshId)
  if (Result.isFailure(entered)) return [state, [refusal(reply, entered.failure)]]
  const clientId = Model.clientId(entered.success)
  if (!isOwner(state, entered.success)) return [state, [denial(reply)]]
  const circuit = circuitOf(state, clientId)
  if (circuit !== undefined) {
    return put(state, clientId, Circuit.accept(circuit, { _tag: "End", reply }, surroundings(state, clientId, now)))
  }
  return [state, [{ _tag: "Sweep", keep: crosses(state) }, { _tag: "Reply", reply, result: { _tag: "Closed" } }]]
}

/** The connection in the manager's view, under the id that the manager has for the client. */
const enter = (
  state: State,
  connection: Model.Connection,
  freshId: string
): Result.Result<Model.Connection, string> =>
  Result.flatMap(Path.enter({ name: state.settings.name, freshId }, connection), (entered) => {
    const { settings } = state
    if (entered.path.index !== 1) {
      return Result.fail(
        `a request needs a path of one segment, the client's, under another name than the manager's "${settings.name}"`
      )
    }
    const known = circuitOf(state, Model.clientId(entered))
    const labelled = { ...entered, labels: { ...settings.labels, ...entered.labels } }
    return Result.succeed(known === undefined ? labelled : Path.rename(known.id, labelled))
  })

/** A connection belongs to the identity that it was made for; in plain text nobody has one. */
const isOwner = (state: State, connection: Model.Connection): boolean => {
  const owner = circuitOf(state, Model.clientId(connection))?.standing?.connection.path.segments[0]?.identity
  const identity = connection.path.segments[0]?.identity
  return owner === undefined || identity === undefined || owner === identity
}

/** With the labels of the manager for services that have labels but lack these. Source: sdk, `tools/clientinfo`. */
const describe = ({ settings }: State, endpoint: Model.Endpoint): Model.Endpoint =>
  settings.labels === undefined ? endpoint : {
    ...endpoint,
    labels: Object.fromEntries(
      Object.entries(endpoint.labels).map(([service, labels]) => [service, { ...settings.labels, ...labels }])
    )
  }

const registered = (state: State, reply: number, [registry, answer]: Registry.Outcome): Step => [
  registry === state.registry ? state : { ...state, registry },
  [{ _tag: "Answer", reply, answer }]
]

/** Lets the connections of an endpoint that was away go on. */
const returned = (step: Step, endpoint: string, now: Machine.Millis): Step =>
  [...step[0].circuits]
    .filter(([, { standing }]) => standing?.absentUntil !== undefined && standing.target.name === endpoint)
    .reduce<Step>(([before, commands], [clientId, circuit]) => {
      const [after, more] = put(before, clientId, Circuit.returned(circuit, surroundings(before, clientId, now)))
      return [after, [...commands, ...more]]
    }, step)

/** Takes the definition in and ends what it no longer allows. */
const serviceRegistered = (state: State, reply: number, service: Model.NetworkService, now: Machine.Millis): Step => {
  const first = registered(state, reply, Registry.registerService(state.registry, service))
  return HashMap.toEntries(state.circuits)
    .filter(([, { standing }]) => standing !== undefined && !isAllowed(first[0].registry, service.name, standing))
    .reduce<Step>(([before, commands], [clientId, circuit]) => {
      const [after, more] = put(
        before,
        clientId,
        Circuit.accept(circuit, { _tag: "End" }, surroundings(before, clientId, now))
      )
      return [after, [...commands, ...more]]
    }, first)
}

/** An endpoint that is not registered (any more) is nothing the definition decides about. */
const isAllowed = (
  { endpoints, services }: Registry.State,
  name: string,
  { connection, target }: CircuitState.Standing
): boolean => {
  const service = Table.get(services, name)
  const endpoint = Table.get(endpoints, target.name)
  return connection.networkService !== name || service === undefined || endpoint === undefined
    || Select.matching(service, [endpoint], connection.labels).length > 0
}

const woken = (state: State, now: Machine.Millis): Step => {
  const registry = Registry.expire(state.registry, now)
  const first: Step = registry === state.registry ? Machine.stay(state) : [{ ...state, registry }, []]
  if (state.nextExpiry === undefined || state.nextExpiry > now) return first
  const [{ nextExpiry: _, ...next }, commands] = HashMap.toEntries(state.circuits).reduce<Step>(
    ([before, commands], [clientId, circuit]) => {
      const [after, more] = put(before, clientId, Circuit.woken(circuit, surroundings(before, clientId, now)))
      return [after, more.length === 0 ? commands : [...commands, ...more]]
    },
    first
  )
  return [withExpiry(next, Machine.earliest(...HashMap.toValues(next.circuits).map(Circuit.wake))), commands]
}

const withExpiry = (state: Omit<State, "nextExpiry">, nextExpiry: Machine.Millis | undefined): State =>
  nextExpiry === undefined ? state : { ...state, nextExpiry }

const circuitOf = ({ circuits }: State, clientId: string): CircuitState.State | undefined =>
  Option.getOrUndefined(HashMap.get(circuits, clientId))

/** Keeps the circuit after its step, or forgets it when nothing is left of it. */
const put = (state: State, clientId: string, [circuit, commands]: Circuit.Step): Step => {
  const before = circuitOf(state, clientId)
  if (circuit === before) return [state, commands]
  const circuits = Circuit.isAbsent(circuit)
    ? HashMap.remove(state.circuits, clientId)
    : HashMap.set(state.circuits, clientId, circuit)
  const [was, is] = [before === undefined ? [] : callsOf(before), callsOf(circuit)]
  // Watches outlast many steps.
  const left = HashMap.removeMany(state.waiting, was.filter((call) => !is.includes(call)))
  const waiting = HashMap.setMany(
    left,
    is.filter((call) => !was.includes(call)).map((call) => [call, clientId] as const)
  )
  const nextCall = state.nextCall + Circuit.callsIn(commands)
  const next = { ...state, circuits, waiting, nextCall }
  const earliest = HashMap.isEmpty(circuits) ? undefined : Machine.earliest(state.nextExpiry, Circuit.wake(circuit))
  if (earliest === state.nextExpiry) return [next, commands]
  const { nextExpiry: _, ...rest } = next
  return [withExpiry(rest, earliest), commands]
}

const surroundings = (state: State, clientId: string, now: Machine.Millis): CircuitState.Surroundings => ({
  settings: state.settings,
  registry: state.registry,
  turns: state.turns,
  taken: (netns) => {
    const tables = new Set<number>()
    const own = circuitOf(state, clientId)
    // Of many connections few are in the namespace.
    const isThere = ({ client, left }: Cross.Cross): boolean => client.netns === netns || left !== undefined
    for (const circuit of HashMap.values(state.circuits)) {
      const { standing, work } = circuit
      const isBusy = work !== undefined && "cross" in work
      if (circuit === own || !isBusy && (standing === undefined || !isThere(standing.cross))) continue
      for (const cross of crossesOf(circuit).filter(isThere)) {
        for (const table of Cross.tablesIn(netns, cross)) tables.add(table)
      }
    }
    return tables
  },
  now,
  call: state.nextCall
})

const crosses = ({ circuits }: State): ReadonlyArray<Cross.Cross> => HashMap.toValues(circuits).flatMap(crossesOf)

const crossesOf = ({ standing, work }: CircuitState.State): ReadonlyArray<Cross.Cross> => [
  ...(standing === undefined ? [] : [standing.cross]),
  ...(work !== undefined && "cross" in work ? [work.cross] : [])
]

/** The calls that the circuit waits for or watches by. */
const callsOf = ({ standing, work }: CircuitState.State): ReadonlyArray<number> =>
  [work?.call, standing?.endpointWatch, standing?.linkWatch].filter((call) => call !== undefined)

const refusal = (reply: number, message: string): Command => ({
  _tag: "Reply",
  reply,
  result: { _tag: "Failed", reason: "Invalid", message }
})

const denial = (reply: number): Command => ({
  _tag: "Reply",
  reply,
  result: { _tag: "Failed", reason: "Denied", message: "no sufficient privileges" }
})

export const machine = Machine.make<Input, State, Event, Command>({
  name: "nsmgr",
  Input,
  State,
  Event,
  Command,
  init,
  step,
  wake
})

/** The connections that stand, by manager-side id, as a monitor tells them. */
export const connections = (state: State): { readonly [id: string]: Model.Connection } =>
  Object.fromEntries(standing(state))

/** The same as entries, which cost less where there are many. */
export const standing = ({ circuits }: State): ReadonlyArray<readonly [id: string, connection: Model.Connection]> => {
  const found: Array<readonly [string, Model.Connection]> = []
  for (const circuit of HashMap.values(circuits)) {
    if (circuit.standing !== undefined) found.push([circuit.id, circuit.standing.connection])
  }
  return found
}

/** The connection of a client, if it stands. */
export const standingOf = (state: State, clientId: string): Model.Connection | undefined =>
  circuitOf(state, clientId)?.standing?.connection
