/**
 * The endpoint side of Network Service Mesh: serves connections of network services on its own socket and keeps itself
 * registered at the manager for as long as its scope lives.
 */
import type { Effect, Scope, Stream } from "effect"
import type * as Model from "../../core/nsm/Model.ts"
import type { NsmError } from "./Error.ts"

/** What an endpoint does with connections. Calls for one connection id come one after another. */
export interface Handler<R = never> {
  /**
   * Accepts, changes or refreshes a connection: answers it with its IP context filled in. Must give the same answer
   * for the same id again. The kernel mechanism is already in place: this namespace and an interface name of the rule
   * "10 characters of the service, a dash, a random rest", kept over refreshes.
   */
  readonly request: (connection: Model.Connection) => Effect.Effect<Model.Connection, NsmError, R>
  /** Ends a connection, asked for or because its token expired. Comes once per established connection. */
  readonly close: (connection: Model.Connection) => Effect.Effect<void, never, R>
}

/** What the endpoint offers and where. */
export interface Options {
  /** Name of the endpoint and of its path segment, unique at the manager. */
  readonly name: string
  /** Services to define before the endpoint registers; their names are those that it serves. */
  readonly services: ReadonlyArray<Model.NetworkService>
  /** Labels of the endpoint for every service, for example `nodeName`. */
  readonly labels: Model.Labels
  /** File of the socket to serve on. */
  readonly socket: string
  /** Address of the manager, for example `unix:///var/lib/networkservicemesh/nsm.io.sock`. */
  readonly manager: string
  readonly requestTimeoutMs: number
  readonly maxTokenLifetimeMs: number
}

/** A running endpoint. */
export interface Running {
  /** The established connections as the endpoint sees them, now and after each change. */
  readonly connections: Stream.Stream<ReadonlyArray<Model.Connection>>
}

/**
 * Serves and registers until the scope ends, then unregisters, stops to listen and leaves connections to their expiry.
 * Fails when the socket cannot be served; a manager that is away is asked again and again.
 */
export type Serve = <R>(options: Options, handler: Handler<R>) => Effect.Effect<Running, NsmError, R | Scope.Scope>
