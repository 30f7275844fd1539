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
): ReadonlyArray<Model.ConnectionEvent> => selected(selector, difference(before, after))

/** The part of each event that a monitor hears. */
export const selected = (
  selector: Model.Selector,
  events: ReadonlyArray<Model.ConnectionEvent>
): ReadonlyArray<Model.ConnectionEvent> => events.flatMap((event) => Model.select(selector, event) ?? [])

/** What a monitor of everything hears when `before` became `after`. */
export const difference = (before: Connections, after: Connections): ReadonlyArray<Model.ConnectionEvent> => {
  const updated = Object.entries(after).filter(([id, connection]) => Table.get(before, id) !== connection)
  const deleted = Object.entries(before)
    .filter(([id]) => !Table.has(after, id))
    .map(([id, connection]) => [id, { ...connection, state: "Down" as const }] as const)
  const events: ReadonlyArray<Model.ConnectionEvent> = [
    { type: "Update", connections: Object.fromEntries(updated) },
    { type: "Delete", connections: Object.fromEntries(deleted) }
  ]
  return events.filter(({ type }) => (type === "Update" ? updated : deleted).length > 0)
}
