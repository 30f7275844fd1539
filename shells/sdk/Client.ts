/**
 * The client side of Network Service Mesh: asks a manager for connections and keeps them alive.
 *
 * After a successful `request` the SDK refreshes the connection before its tokens expire and heals it when the manager
 * reports it down, until `close`, or until the scope of the layer ends. The scope's end does not close connections: a
 * program that comes back finds them with `query` and takes them over with `request`.
 */
import { Context, Effect, Exit, Layer, Option, Scope, Semaphore, Stream } from "effect"
import * as Core from "../../core/nsm/Client.ts"
import * as Model from "../../core/nsm/Model.ts"
import * as InterfaceName from "../../core/nsm/Naming.ts"
import * as Channel from "./Channel.ts"
import { NsmError } from "./Error.ts"
import * as Finding from "./Finding.ts"
import * as Peer from "./Peer.ts"
import * as Session from "./Session.ts"

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
  /** Path of the network namespace that gets the interfaces. Default: the one of this process. */
  readonly namespace?: string
  readonly naming: Naming
  /** How long a call waits for a connection to the manager. Default: until its own limit. */
  readonly dialTimeoutMs?: number
  /** How long one call may take, waiting for the manager to come up included. */
  readonly requestTimeoutMs: number
  /** The longest that the manager may keep a connection without a refresh. */
  readonly maxTokenLifetimeMs: number
  /**
   * Whether the path of each answer is judged, as `cmd-nsc` does: every token of it is good, and the manager signed its
   * own. Meridio's clients do not. Default: no.
   */
  readonly isStrict?: boolean
}

/** What the client wants of the kernel mechanism. */
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
   * lost manager is asked again; what it no longer lists goes away when its registration would have expired.
   */
  readonly find: (networkService: string) => Stream.Stream<ReadonlyArray<Model.Endpoint>>
}>()("sluice/shells/sdk/NsmClient") {
  /** A client in this process's network namespace, with the identity of this process if it has one. Fails when the address or the namespace cannot be read. */
  static layer(options: Options): Layer.Layer<NsmClient, NsmError> {
    return Layer.effect(NsmClient, make(options))
  }
}

/** A name stays reserved after its connection ended, so that a connection that comes back gets it again. */
const nameRestMs = 600_000
const queryTimeoutMs = 5_000

interface Name {
  readonly id: string
  readonly freeAt: number
}

const make = (options: Options) =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const { client: channel, peer } = yield* Channel.open({
      manager: options.manager,
      files: [Channel.namespaceFile(options.namespace)],
      maxTokenLifetimeMs: options.maxTokenLifetimeMs,
      waitForReady: true,
      ...(options.dialTimeoutMs === undefined ? {} : { dialTimeoutMs: options.dialTimeoutMs })
    })
    const netns = yield* Channel.netns(options.namespace)
    const creating = yield* Semaphore.make(1)
    const sessions = new Map<string, Session.Session>()
    const names = new Map<string, Name>()

    const nameFor = (connection: Model.Connection, now: number): string => {
      const own = [...names].find(([, { id }]) => id === connection.id)
      if (own !== undefined) return own[0]
      if (options.naming === "Service") return InterfaceName.byService(connection.networkService, randomText())
      for (const [name, { freeAt }] of names) if (freeAt <= now) names.delete(name)
      return InterfaceName.byCounter(new Set(names.keys()))
    }
    const reserve = (name: string, id: string, freeAt = Number.POSITIVE_INFINITY) => names.set(name, { id, freeAt })
    const release = (id: string, now: number) => {
      for (const [name, entry] of names) if (entry.id === id) names.set(name, { id, freeAt: now + nameRestMs })
    }

    const sessionOf = (id: string) =>
      creating.withPermits(1)(Effect.gen(function*() {
        const known = sessions.get(id)
        if (known !== undefined) return known
        const own = yield* Scope.fork(scope)
        const session = yield* Session.make(channel, options.isStrict === true ? peer : undefined, {
          name: options.name,
          netns,
          requestTimeoutMs: options.requestTimeoutMs,
          maxTokenLifetimeMs: options.maxTokenLifetimeMs,
          minBackoffMs: 200,
          maxBackoffMs: 5_000,
          seed: Math.floor(Math.random() * 2 ** 32)
        }, own).pipe(Scope.provide(own))
        sessions.set(id, session)
        return session
      }))

    /** Uses the session of the id, and throws it away when nothing is left to do in it. */
    const within = <A, E>(id: string, use: (session: Session.Session) => Effect.Effect<A, E>) =>
      Effect.acquireUseRelease(
        Effect.tap(sessionOf(id), (session) => Effect.sync(() => session.users++)),
        use,
        (session) =>
          Effect.suspend(() => {
            session.users--
            if (session.users > 0 || !Core.isIdle(session.running.current())) return Effect.void
            if (sessions.get(id) === session) sessions.delete(id)
            return Scope.close(session.scope, Exit.void)
          })
      )

    const query = (id: string): Effect.Effect<Option.Option<Model.Connection>, NsmError> =>
      Peer.monitor(channel, { segments: [{ name: "", id, token: "" }], networkServices: [] }, true).pipe(
        Stream.runHead,
        Effect.timeoutOrElse({
          duration: queryTimeoutMs,
          orElse: () => Effect.fail(new NsmError({ reason: "Timeout", message: "the manager did not answer in time" }))
        }),
        Effect.map((event) =>
          Option.map(
            Option.flatMap(
              event,
              ({ connections }) => Option.fromUndefinedOr(Model.clientRecord(id, Object.values(connections)))
            ),
            (connection) => ({ ...connection, id, path: { ...connection.path, index: 0 } })
          )
        )
      )

    return NsmClient.of({
      request: (connection, preference) =>
        within(connection.id, (session) =>
          Effect.gen(function*() {
            const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
            const name = preference?.interfaceName ?? nameFor(connection, now)
            reserve(name, connection.id)
            return yield* session.request(connection, name).pipe(
              Effect.tapError(({ reason }) =>
                Effect.sync(() => {
                  if (Core.view(session.running.current()) !== undefined) return
                  release(connection.id, now)
                  // Somebody else holds the name: the next attempt takes another one.
                  if (reason === "Conflict") reserve(name, "", now + nameRestMs)
                })
              )
            )
          })),
      close: (id) =>
        within(id, (session) =>
          Core.isIdle(session.running.current())
            ? Effect.flatMap(
              query(id),
              Option.match({
                onNone: () => Effect.void,
                onSome: (connection) => Peer.close(channel, connection, options.requestTimeoutMs)
              })
            )
            : session.close).pipe(
            Effect.ensuring(
              Effect.clockWith((clock) => Effect.map(clock.currentTimeMillis, (now) => release(id, now)))
            )
          ),
      query,
      changes: (id) => Stream.suspend(() => sessions.get(id)?.views ?? Stream.empty),
      registerService: (service) => Peer.registerService(channel, service, options.requestTimeoutMs),
      find: (networkService) => Finding.endpoints(channel, networkService)
    })
  })

const randomText = (): string => Math.random().toString(36).slice(2).padEnd(14, "0")
