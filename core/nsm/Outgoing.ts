/** What a circuit asks of endpoints (`Circuit.ts`): of which ones, and as which hop. */
import { Result } from "effect"
import type * as Machine from "../Machine.ts"
import type * as CircuitState from "./CircuitState.ts"
import * as Model from "./Model.ts"
import * as Naming from "./Naming.ts"
import * as Path from "./Path.ts"
import * as Select from "./Select.ts"
import * as Table from "./Table.ts"

type Target = CircuitState.Target

/** What one of several steps may take of the time that the caller waits: a hanging endpoint leaves enough for the next. */
export const share = ({ deadline }: CircuitState.Ask, steps: number, now: Machine.Millis): Machine.Millis =>
  Math.max(1, Math.floor((deadline - now) / steps))

/** Who may serve the request, in the order in which they are asked; the failure tells why nobody may. */
export const targets = (
  { standing }: CircuitState.State,
  { connection, preferences }: CircuitState.Ask,
  left: boolean,
  { registry, turns }: CircuitState.Surroundings
): Result.Result<ReadonlyArray<Target>, Model.Failure> => {
  const service = Table.get(registry.services, connection.networkService)
  if (
    !Model.isKernel(connection.mechanism) && !(connection.mechanism === undefined && preferences.some(Model.isKernel))
  ) {
    const asked = (connection.mechanism === undefined ? preferences : [connection.mechanism])
      .map(({ cls, type }) => `${cls}/${type}`).join(", ")
    return Result.fail({
      reason: "Invalid",
      message:
        `unsupported mechanism ${asked || "(none)"}: this manager makes interfaces of the kernel on one machine only; `
        + "ask for LOCAL/KERNEL, or use a forwarder of upstream for others"
    })
  }
  // A connection that stands needs no registry: after a restart the endpoint may register later than the client asks.
  const wished = connection.endpointName
  const kept = standing === undefined || left ? undefined : standing.target
  const known = kept === undefined ? undefined : Table.get(registry.endpoints, kept.name) ?? kept
  if (known !== undefined && (wished === "" || wished === known.name)) return Result.succeed([target(known)])
  if (service === undefined || (connection.payload !== "" && connection.payload !== service.payload)) {
    const what = service === undefined ? "is not registered" : `has payload ${service.payload}`
    return Result.fail({ reason: "NotFound", message: `network service "${connection.networkService}" ${what}` })
  }
  const avoid = standing?.target.name
  const wish = { labels: connection.labels, pinned: wished, ...(avoid === undefined ? {} : { avoid }) }
  const turn = Table.get(turns, service.name) ?? 0
  return Result.succeed(Select.candidates(service, Object.values(registry.endpoints), wish, turn).map(target))
}

/** Whether another endpoint than the one that it has would do for the request. */
export const isReplaced = (
  state: CircuitState.State,
  ask: CircuitState.Ask,
  around: CircuitState.Surroundings
): boolean =>
  Result.match(targets(state, ask, true, around), {
    onFailure: () => false,
    onSuccess: (found) => found.some(({ name }) => name !== state.standing?.target.name)
  })

/**
 * The connection as the forwarder sees it: a hop of its own, though it decides nothing by itself. Its id follows from the
 * manager's, so that it lasts as long.
 */
export const forwarded = (
  connection: Model.Connection,
  { maxTokenLifetimeMs, name }: CircuitState.Settings,
  now: Machine.Millis
): Model.Connection => {
  const manager = Path.last(connection, connection.path.index, now + maxTokenLifetimeMs)
  const forwarder = Path.onward({ name: Naming.forwarder(name), id: `${connection.id}-forwarder` }, manager)
  return Path.last(forwarder, forwarder.path.index, now + maxTokenLifetimeMs)
}

const target = ({ name, url }: Target): Target => ({ name, url })
