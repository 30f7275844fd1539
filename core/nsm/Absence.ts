/**
 * What becomes of a standing connection while its endpoint is away.
 *
 *     Up ──lost──▶ Up, absent ──registered again──▶ RefreshRequested       absent ──for too long──▶ Down
 *
 * An endpoint that restarts forgets its connections, but the kernel goes on: its clients hear of it only when it does
 * not come back. Upstream tells them at once, and they tear down what works.
 */
import type * as Machine from "../Machine.ts"
import type * as CircuitState from "./CircuitState.ts"
import type * as Model from "./Model.ts"

type State = CircuitState.State
type Standing = CircuitState.Standing

/** How long an endpoint may be away before its connections count as down. */
const absenceMs = 10_000

/** Takes in what the monitor of the endpoint tells. */
export const changed = (
  state: State,
  standing: Standing,
  change: CircuitState.Change,
  now: Machine.Millis
): Machine.Step<State, CircuitState.Command> => {
  if (change === "RefreshRequested") return [{ ...state, standing: withState(standing, change) }, []]
  const { endpointWatch, ...rest } = standing
  if (change === "Lost") return [{ ...state, standing: { ...rest, absentUntil: now + absenceMs } }, []]
  return [
    { ...state, standing: withState(rest, "Down") },
    endpointWatch === undefined ? [] : [{ _tag: "Cancel", call: endpointWatch }]
  ]
}

/** Whether the first that is pending is a refresh, which waits for an absent endpoint; nobody waits for it to close. */
export const waits = ({ queue, standing }: State): boolean => {
  const [first] = queue
  return standing?.absentUntil !== undefined && first?._tag === "Ask" && isRefresh(standing, first) && !isEnding(queue)
}

/** Lets a refresh that the endpoint could not be asked for wait; undefined if it is none, or if that was tried. */
export const postpone = (
  state: State,
  ask: CircuitState.Ask,
  now: Machine.Millis
): State | undefined => {
  const { work: _, ...rest } = state
  const { queue, standing } = rest
  if (standing === undefined || standing.connection.state === "Down") return undefined
  if (!isRefresh(standing, ask) || isEnding(queue)) return undefined
  const absentUntil = standing.absentUntil ?? now + absenceMs
  return { ...rest, standing: { ...standing, absentUntil }, queue: [ask, ...queue] }
}

const isEnding = (queue: State["queue"]): boolean => queue.some(({ _tag }) => _tag === "End")

const isRefresh = ({ target }: Standing, { connection: { endpointName, state } }: CircuitState.Ask): boolean =>
  state !== "ReselectRequested" && (endpointName === "" || endpointName === target.name)

/** The connection of an endpoint that is back, or given up. */
export const over = (standing: Standing, state: Model.State): Standing => {
  const { absentUntil: _, ...rest } = standing
  return withState(rest, state)
}

export const withState = (standing: Standing, state: Model.State): Standing =>
  standing.connection.state === state ? standing : { ...standing, connection: { ...standing.connection, state } }

export const down = (state: State): State =>
  state.standing === undefined ? state : { ...state, standing: withState(state.standing, "Down") }
