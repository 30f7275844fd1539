/**
 * Which endpoints may serve a request, and in which order they are tried.
 *
 * 1. Only the definition of the service, the labels of the client and the labels of the endpoints decide who may.
 * 2. Whoever may is listed once; a pinned endpoint is the only candidate.
 * 3. Round robin moves the start, never the circle; the endpoint that just failed comes last.
 *
 * Source: sdk, `pkg/tools/matchutils` and `common/roundrobin`. Upstream lists an endpoint twice if two routes fit.
 */
import type * as Model from "./Model.ts"
import * as Table from "./Table.ts"

/** Who asks: the labels of the client, and what an earlier answer left. */
export interface Wish {
  readonly labels: Model.Labels
  /** The only endpoint that will do; empty for any. */
  readonly pinned: string
  /** The endpoint to try last, because it failed. */
  readonly avoid?: string
}

/** The endpoints to try, best first. `turn` counts the requests for the service so far. */
export const candidates = (
  service: Model.NetworkService,
  endpoints: ReadonlyArray<Model.Endpoint>,
  wish: Wish,
  turn: number
): ReadonlyArray<Model.Endpoint> => {
  if (wish.pinned !== "") return endpoints.filter(({ name }) => name === wish.pinned)
  const fitting = matching(service, endpoints, wish.labels)
  const circle = fitting.toSorted((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
  const start = circle.length === 0 ? 0 : turn % circle.length
  const rotated = [...circle.slice(start), ...circle.slice(0, start)]
  return [...rotated.filter(({ name }) => name !== wish.avoid), ...rotated.filter(({ name }) => name === wish.avoid)]
}

/** The endpoints of the service that its matches allow for a client with these labels. */
export const matching = (
  service: Model.NetworkService,
  endpoints: ReadonlyArray<Model.Endpoint>,
  labels: Model.Labels
): ReadonlyArray<Model.Endpoint> => {
  const offering = endpoints.filter(({ networkServices }) => networkServices.includes(service.name))
  if (service.matches.length === 0) return offering
  for (const match of service.matches) {
    if (!contains(labels, match.source, labels)) continue
    const found = offering.filter((endpoint) =>
      match.destinations.some((wanted) => contains(Table.get(endpoint.labels, service.name) ?? {}, wanted, labels))
    )
    if (found.length > 0) return found
    if (match.fallthrough) continue
    return match.metadata !== undefined && match.destinations.length === 0 ? offering : []
  }
  return []
}

/** Renders `{{.label}}` with the labels; a label that is absent becomes `<no value>`, other templates stay. */
export const render = (template: string, labels: Model.Labels): string =>
  template.replaceAll(/\{\{\s*\.(\w+)\s*\}\}/g, (_, key: string) => Table.get(labels, key) ?? "<no value>")

const contains = (labels: Model.Labels, wanted: Model.Labels, values: Model.Labels): boolean =>
  Object.entries(wanted).every(([key, value]) =>
    Table.get(labels, key) === value || Table.get(labels, key) === render(value, values)
  )
