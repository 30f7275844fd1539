/**
 * The client side of Network Service Mesh: asks a manager for connections and keeps them alive.
 *
 * After a successful `request` the SDK refreshes the connection before its tokens expire and heals it when the manager
 * reports it down, until `close`, or until the scope of the layer ends. The scope's end does not close connections: a
 * program that comes back finds them with `query` and takes them over with `request`.
 */
import { Context, type Effect, type Option, type Stream } from "effect"
import type * as Model from "../../core/nsm/Model.ts"
import type { NsmError } from "./Error.ts"

/** How the interface of a new connection is named when the request does not say. */
export type Naming =
  /** `nsm-<n>` with the smallest free number, as Meridio's TAPA does. */
  | "Counter"
  /** The first 10 characters of the service, a dash, and a random rest up to 15 characters, as the NSM SDK does. */
  | "Service"

/** Who the client is and where its manager listens. */
export interface Options {
  /** Name of the first path segment, for example the pod's name. */
  readonly name: string
  /** Address of the manager, for example `unix:///var/lib/networkservicemesh/nsm.io.sock`. */
  readonly manager: string
  readonly naming: Naming
  /** How long one call may take. */
  readonly requestTimeoutMs: number
  /** The longest that the manager may keep a connection without a refresh. */
  readonly maxTokenLifetimeMs: number
}

/** What the client wants of the kernel mechanism; the namespace is always the one of this process. */
export interface Preference {
  /** The interface's name, at most 15 bytes; chosen by the naming of the client if absent. */
  readonly interfaceName?: string
}

export class NsmClient extends Context.Service<NsmClient, {
  /**
   * Establishes the connection, or changes the one with the same id: then the context and a new endpoint name count,
   * everything else stays as it was established. The answer is the connection as the client sees it: its own id, path
   * index 0, mechanism with the interface's `name`.
   */
  readonly request: (
    connection: Model.Connection,
    preference?: Preference
  ) => Effect.Effect<Model.Connection, NsmError>
  /** Ends the connection. It is forgotten here even when the manager cannot be told; then the token's expiry ends it. */
  readonly close: (id: string) => Effect.Effect<void, NsmError>
  /** What the manager holds for this client id, for example from before a restart; in the client's view as above. */
  readonly query: (id: string) => Effect.Effect<Option.Option<Model.Connection>, NsmError>
  /**
   * The connection as it is, then each time that it changes after a refresh, a heal or a loss; `state` is `Up` or
   * `Down`. Ends after `close`; empty for an unknown id.
   */
  readonly changes: (id: string) => Stream.Stream<Model.Connection>
  /** Makes the service known, or replaces its definition. */
  readonly registerService: (service: Model.NetworkService) => Effect.Effect<Model.NetworkService, NsmError>
  /**
   * The endpoints of a service: each element is the whole current set, sorted by name. Never ends and never fails: a
   * lost manager is asked again, and its answer counts as the truth, so endpoints that went away in between go away.
   */
  readonly find: (networkService: string) => Stream.Stream<ReadonlyArray<Model.Endpoint>>
}>()("sluice/shells/sdk/NsmClient") {}
