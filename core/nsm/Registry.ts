/**
 * Keeps who offers which service: definitions for as long as somebody offers them, endpoints until they expire.
 *
 * 1. An endpoint lives a minute at most, whatever it asks for, and as long again after each registration.
 * 2. Registering again keeps the time of the first registration.
 * 3. A definition that endpoints still rely on survives the unregistration by one of its many owners (ours).
 * 4. The name of an endpoint belongs to the identity that registered it first, until it is gone. Definitions have many
 *    owners, as with Meridio's proxies, so anybody may replace them.
 * 5. Finding and watching are projections: a snapshot, and the difference of two states.
 *
 * Source: api, `registry`; sdk, `registry/common/{expire,memory}`.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import * as Memo from "../Memo.ts"
import * as Same from "../Same.ts"
import * as Model from "./Model.ts"
import * as Table from "./Table.ts"

export const State = Schema.Struct({
  services: Schema.Record(Schema.String, Model.NetworkService),
  endpoints: Schema.Record(Schema.String, Model.Endpoint)
})
export type State = typeof State.Type

export const empty: State = { services: {}, endpoints: {} }

export const Answer = Schema.TaggedUnion({
  Service: { service: Model.NetworkService },
  Endpoint: { endpoint: Model.Endpoint },
  Unregistered: {},
  Failed: Model.Failure.fields
})
export type Answer = typeof Answer.Type

/** The next state and the answer to the caller. */
export type Outcome = readonly [state: State, answer: Answer]

/** Adds or replaces a definition; the payload is `IP` if it says none. */
export const registerService = (state: State, service: Model.NetworkService): Outcome => {
  if (service.name === "") return refuse(state, "a network service needs a name")
  const stored = { ...service, payload: service.payload === "" ? "IP" : service.payload }
  return [{ ...state, services: Table.set(state.services, stored.name, stored) }, { _tag: "Service", service: stored }]
}

/** Forgets a definition unless an endpoint offers it. */
export const unregisterService = (state: State, name: string): Outcome => {
  const isOffered = Object.values(state.endpoints).some(({ networkServices }) => networkServices.includes(name))
  return isOffered || !Table.has(state.services, name)
    ? [state, { _tag: "Unregistered" }]
    : [{ ...state, services: Table.remove(state.services, name) }, { _tag: "Unregistered" }]
}

/** Adds or replaces an endpoint, for at most `lifetimeMs`. */
export const registerEndpoint = (
  state: State,
  endpoint: Model.Endpoint,
  lifetimeMs: number,
  now: Machine.Millis
): Outcome => {
  if (endpoint.name === "") return refuse(state, "an endpoint needs a name")
  if (endpoint.url === "") return refuse(state, `endpoint "${endpoint.name}" needs the url of its socket`)
  if (!mayTouch(state, endpoint)) return [state, denied]
  const stored: Model.Endpoint = {
    ...endpoint,
    registeredAt: Table.get(state.endpoints, endpoint.name)?.registeredAt ?? now,
    expiresAt: Math.min(endpoint.expiresAt ?? Number.MAX_SAFE_INTEGER, now + lifetimeMs)
  }
  return [
    { ...state, endpoints: Table.set(state.endpoints, stored.name, stored) },
    { _tag: "Endpoint", endpoint: stored }
  ]
}

/** Forgets an endpoint; success when there is none. */
export const unregisterEndpoint = (
  state: State,
  endpoint: Pick<Model.Endpoint, "name" | "pathIds">
): Outcome => {
  if (!Table.has(state.endpoints, endpoint.name)) return [state, { _tag: "Unregistered" }]
  return mayTouch(state, endpoint)
    ? [{ ...state, endpoints: Table.remove(state.endpoints, endpoint.name) }, { _tag: "Unregistered" }]
    : [state, denied]
}

/** Upstream's policy `client_allowed`; in plain text nobody has an identity. */
const mayTouch = (state: State, { name, pathIds = [] }: Pick<Model.Endpoint, "name" | "pathIds">): boolean => {
  const owner = Table.get(state.endpoints, name)?.pathIds?.[0]
  return owner === undefined || owner === pathIds[0]
}

const denied: Answer = { _tag: "Failed", reason: "Denied", message: "no sufficient privileges" }

/** Forgets the endpoints whose time is over. */
export const expire = (state: State, now: Machine.Millis): State => {
  const alive = Object.entries(state.endpoints).filter(([, { expiresAt }]) => (expiresAt ?? now) > now)
  return alive.length === Object.keys(state.endpoints).length
    ? state
    : { ...state, endpoints: Object.fromEntries(alive) }
}

/** When the next endpoint expires. */
export const wake = ({ endpoints }: State): Machine.Millis | undefined => nextExpiry(endpoints)

// Asked after every step of the manager, of which few touch an endpoint.
const nextExpiry: (endpoints: State["endpoints"]) => Machine.Millis | undefined = Memo.each((endpoints) =>
  Machine.earliest(...Object.values(endpoints).map(({ expiresAt }) => expiresAt))
)

/** Whether an endpoint fits a template: empty parts fit all, times count in seconds, `url` is a substring, lists and labels are subsets. */
export const fitsEndpoint = (template: Model.Endpoint, endpoint: Model.Endpoint): boolean =>
  (template.name === "" || template.name === endpoint.name)
  && endpoint.url.includes(template.url)
  && (template.expiresAt === undefined || seconds(template.expiresAt) === seconds(endpoint.expiresAt))
  && template.networkServices.every((name) => endpoint.networkServices.includes(name))
  && Object.entries(template.labels).every(([service, labels]) =>
    Object.entries(labels).every(([key, value]) => Table.get(Table.get(endpoint.labels, service) ?? {}, key) === value)
  )

const seconds = (time: Machine.Millis | undefined): number | undefined =>
  time === undefined ? undefined : Math.floor(time / 1000)

/** Whether a definition fits a template by name, payload and matches; empty parts fit all. */
export const fitsService = (template: Model.NetworkService, service: Model.NetworkService): boolean =>
  (template.name === "" || template.name === service.name)
  && (template.payload === "" || template.payload === service.payload)
  && (template.matches.length === 0 || Same.equals(template.matches, service.matches))

/** What a watcher hears about one object. */
export interface Change<A> {
  readonly value: A
  readonly deleted: boolean
}

/** From one set of records to the next: what is new or different, then what is gone. */
export const changes = <A>(
  before: { readonly [name: string]: A },
  after: { readonly [name: string]: A },
  fits: (value: A) => boolean
): ReadonlyArray<Change<A>> => [
  ...Object.entries(after)
    .filter(([name, value]) => Table.get(before, name) !== value && fits(value))
    .map(([, value]) => ({ value, deleted: false })),
  ...Object.entries(before)
    .filter(([name, value]) => !Table.has(after, name) && fits(value))
    .map(([, value]) => ({ value, deleted: true }))
]

const refuse = (state: State, message: string): Outcome => [state, { _tag: "Failed", reason: "Invalid", message }]
