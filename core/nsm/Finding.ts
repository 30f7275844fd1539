/**
 * Decides which endpoints of a service a client believes in, when the registry's streams end and registries forget.
 *
 * 1. What the registry lists or tells is believed at once; so is a deletion that it tells.
 * 2. What a new list lacks is believed until it would have expired: either it registers again (the registry was
 *    restarted) or it is gone (the deletion fell between two streams).
 * 3. While the registry is away nothing changes.
 *
 * Ours; upstream's client loses deletions between two streams (sdk#1671).
 */
import type { Millis } from "../Machine.ts"
import type * as Model from "./Model.ts"
import * as Table from "./Table.ts"

/** By name: what the present stream told, and what only an earlier one did. */
export interface State {
  readonly listed: Table.Table<Model.Endpoint>
  readonly doubtful: Table.Table<Model.Endpoint>
}

export const nothing: State = { listed: {}, doubtful: {} }

/** A complete list begins a new stream. */
export const relist = (state: State, endpoints: ReadonlyArray<Model.Endpoint>, now: Millis): State => {
  const listed = Object.fromEntries(endpoints.map((endpoint) => [endpoint.name, endpoint]))
  const lacking = Object.entries({ ...state.doubtful, ...state.listed }).filter(([name]) => !Table.has(listed, name))
  return forget({ listed, doubtful: Object.fromEntries(lacking) }, now)
}

/** One endpoint came, changed or went. */
export const change = (state: State, endpoint: Model.Endpoint, deleted: boolean): State => ({
  listed: deleted ? Table.remove(state.listed, endpoint.name) : Table.set(state.listed, endpoint.name, endpoint),
  doubtful: Table.remove(state.doubtful, endpoint.name)
})

/** Gives up what is doubtful and would have expired. */
export const forget = (state: State, now: Millis): State => {
  const kept = Object.entries(state.doubtful).filter(([, { expiresAt }]) => (expiresAt ?? now) > now)
  return kept.length === Object.keys(state.doubtful).length
    ? state
    : { ...state, doubtful: Object.fromEntries(kept) }
}

/** All believed endpoints, sorted by name, without the times of their registration. */
export const view = ({ doubtful, listed }: State): ReadonlyArray<Model.Endpoint> =>
  Object.values({ ...doubtful, ...listed })
    .map(({ labels, name, networkServices, url }) => ({ name, networkServices, labels, url }))
    .toSorted((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
