/** What monitors hear: the connections of one moment, and the difference of two moments. */
import * as Model from "./Model.ts"
import * as Table from "./Table.ts"

/** Connections by id. */
export interface Connections {
  readonly [id: string]: Model.Connection
}

/** The first event of a stream: everything selected, possibly nothing. */
export const initial = (selector: Model.Selector, connections: Connections): Model.ConnectionEvent => ({
  type: "Initial",
  connections: Object.fromEntries(
    Object.entries(connections).filter(([, connection]) => Model.selects(selector, connection))
  )
})

/** What a monitor hears when `before` became `after`: an update, a deletion (with state `Down`), both or nothing. */
export const changes = (
  selector: Model.Selector,
  before: Connections,
  after: Connections
): ReadonlyArray<Model.ConnectionEvent> => {
  const updated = Object.entries(after).filter(([id, connection]) => Table.get(before, id) !== connection)
  const gone = Object.entries(before).filter(([id]) => !Table.has(after, id))
  return selected(
    selector,
    events(updated.map(([, connection]) => connection), gone.map(([, connection]) => connection))
  )
}

/** What a monitor of everything hears of connections that are new or others, and of those that are gone. */
export const events = (
  updated: ReadonlyArray<Model.Connection>,
  gone: ReadonlyArray<Model.Connection>
): ReadonlyArray<Model.ConnectionEvent> => {
  const all: Array<Model.ConnectionEvent> = []
  if (updated.length > 0) all.push({ type: "Update", connections: byId(updated) })
  if (gone.length > 0) all.push({ type: "Delete", connections: byId(gone.map((one) => ({ ...one, state: "Down" }))) })
  return all
}

/** The part of each event that a monitor hears. */
export const selected = (
  selector: Model.Selector,
  events: ReadonlyArray<Model.ConnectionEvent>
): ReadonlyArray<Model.ConnectionEvent> => events.flatMap((event) => Model.select(selector, event) ?? [])

const byId = (connections: ReadonlyArray<Model.Connection>): Connections =>
  Object.fromEntries(connections.map((connection) => [connection.id, connection]))
