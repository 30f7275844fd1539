/**
 * The endpoint side of Network Service Mesh: serves connections of network services on its own socket and keeps itself
 * registered at the manager for as long as its scope lives.
 */
import { Context, Effect, Layer, type Scope, Stream } from "effect"
import { randomUUID } from "node:crypto"
import type * as CircuitState from "../../core/nsm/CircuitState.ts"
import * as Host from "../../core/nsm/Host.ts"
import type * as Model from "../../core/nsm/Model.ts"
import * as Registration from "../../core/nsm/Registration.ts"
import { MonitorConnectionDefinition } from "../../proto/gen/connection.ts"
import { NetworkServiceDefinition } from "../../proto/gen/networkservice.ts"
import * as FdRelay from "../fdpass/FdRelay.ts"
import type * as Grpc from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as Server from "../grpc/Server.ts"
import * as Guard from "../nsm/Guard.ts"
import * as Monitors from "../nsm/Monitors.ts"
import * as Wire from "../nsm/Wire.ts"
import * as Replies from "../runtime/Replies.ts"
import * as Runner from "../runtime/Runner.ts"
import * as Identity from "../spiffe/Identity.ts"
import * as Channel from "./Channel.ts"
import { NsmError } from "./Error.ts"
import * as Peer from "./Peer.ts"

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
  /** Path of the network namespace that gets the interfaces. Default: the one of this process. */
  readonly namespace?: string
  readonly requestTimeoutMs: number
  readonly maxTokenLifetimeMs: number
}

/** A running endpoint. */
export interface Running {
  /** The established connections as the endpoint sees them, now and after each change. */
  readonly connections: Stream.Stream<ReadonlyArray<Model.Connection>>
  /** Whether the manager knows the endpoint, now and after each change. */
  readonly registered: Stream.Stream<boolean>
}

/** How long the end of the scope waits for the manager to forget the endpoint. */
const farewellMs = 2_000

/**
 * Serves and registers until the scope ends, then unregisters, stops to listen and leaves connections to their expiry.
 * Fails when the socket cannot be served; a manager that is away is asked again and again.
 */
export const serve = <R>(
  options: Options,
  handler: Handler<R>
): Effect.Effect<Running, NsmError, R | Scope.Scope> =>
  Effect.gen(function*() {
    const netns = yield* Channel.netns(options.namespace)
    const { maxTokenLifetimeMs, name, requestTimeoutMs } = options
    const waiting = Replies.make<CircuitState.Result>()
    const host = yield* Runner.start(Host.machine, {
      input: { name, netns, requestTimeoutMs, maxTokenLifetimeMs },
      perform: attend(handler, waiting)
    })
    const health = Context.get(yield* Layer.build(Health.layer), Health.Health)
    for (const { fullName } of [NetworkServiceDefinition, MonitorConnectionDefinition]) {
      yield* health.register(fullName)
      yield* health.set(fullName, true)
    }
    const monitors = yield* Monitors.make(host, Host.standing)
    yield* Server.serve({
      address: yield* listenAddress(options),
      services: [...services(host, waiting, yield* Guard.make(options), monitors), Health.service(health)],
      ...(yield* Identity.credentials)
    })
    const registration = yield* register(options)
    return {
      connections: host.changes.pipe(Stream.map((state) => Object.values(Host.connections(state)))),
      registered: registration.changes.pipe(Stream.map(Registration.isRegistered), Stream.changes)
    }
  }).pipe(
    Effect.catchTag("FdPassError", ({ message }) => new NsmError({ reason: "Failed", message })),
    Effect.catchTag("GrpcError", (error) => Peer.fromGrpc(error))
  )

/** Where the server listens: at the socket, or behind a relay that lends the namespace to whoever connects. */
const listenAddress = ({ namespace, socket }: Options) =>
  Effect.flatMap(Identity.Identity, (identity) =>
    identity === undefined
      ? Effect.succeed(`unix://${socket}`)
      : Effect.map(
        FdRelay.serve({ socketPath: socket, files: [Channel.namespaceFile(namespace)] }),
        ({ address }) => address
      ))

const services = (
  host: Runner.Running<Host.State, Host.Event>,
  waiting: Replies.Replies<CircuitState.Result>,
  guard: Guard.Guard,
  monitors: Monitors.Monitors
) =>
  [
    Server.service(NetworkServiceDefinition, {
      request: ({ connection, mechanismPreferences }, call) =>
        guard.request(Wire.connectionFrom(connection), call).pipe(
          Effect.flatMap((connection) =>
            waiting.ask((reply) =>
              host.send({
                _tag: "RequestRequested",
                reply,
                freshId: randomUUID(),
                random: randomUUID().replaceAll("-", ""),
                connection,
                preferences: mechanismPreferences.map(Wire.mechanismFrom)
              })
            )
          ),
          Effect.flatMap(Peer.toAnswer),
          Effect.map(Wire.connectionTo)
        ),
      close: (connection, call) =>
        guard.close(Wire.connectionFrom(connection), call).pipe(
          Effect.flatMap((connection) =>
            waiting.ask((reply) => host.send({ _tag: "CloseRequested", reply, connection }))
          ),
          Effect.as({})
        )
    }),
    Server.service(MonitorConnectionDefinition, {
      monitorConnections: (selector, call) => monitors(selector, guard.sees(call))
    })
  ] as const

const attend =
  <R>(handler: Handler<R>, waiting: Replies.Replies<CircuitState.Result>) =>
  (command: Host.Command, send: (event: Host.Event) => void): Effect.Effect<void, never, R> => {
    switch (command._tag) {
      case "HandleRequest":
        return handler.request(command.connection).pipe(Effect.match({
          onSuccess: (connection) => send({ _tag: "HandleSucceeded", call: command.call, connection }),
          onFailure: ({ message, reason }) => send({ _tag: "HandleFailed", call: command.call, reason, message })
        }))
      case "HandleClose":
        return handler.close(command.connection).pipe(
          Effect.andThen(Effect.sync(() => send({ _tag: "CloseFinished", call: command.call })))
        )
      case "Reply":
        return waiting.answer(command.reply, command.result)
    }
  }

/** Keeps the endpoint registered; the end of the scope waits a moment for the manager to forget it. */
const register = (options: Options) =>
  Effect.gen(function*() {
    const { labels, manager, maxTokenLifetimeMs, name, namespace, requestTimeoutMs, services, socket } = options
    const files = [Channel.namespaceFile(namespace), socket]
    const { client: channel, urls } = yield* Channel.open({ manager, files, maxTokenLifetimeMs })
    const names = services.map((service) => service.name)
    const paths: Peer.Paths = new Map()
    const running = yield* Runner.start(Registration.machine, {
      input: {
        services,
        endpoint: {
          name,
          networkServices: names,
          labels: Object.fromEntries(names.map((service) => [service, labels])),
          url: urls?.[1] ?? `unix://${socket}`
        },
        minBackoffMs: 200,
        maxBackoffMs: 5_000,
        seed: Math.floor(Math.random() * 2 ** 32)
      },
      perform: (command: Registration.Command, send: (event: Registration.Event) => void) =>
        enrol(channel, requestTimeoutMs, paths, command, send)
    })
    yield* Effect.addFinalizer(() =>
      Effect.andThen(
        Effect.sync(() => running.send({ _tag: "CloseRequested" })),
        Stream.runDrain(Stream.takeUntil(running.changes, Registration.isClosed))
      ).pipe(Effect.timeoutOption(farewellMs))
    )
    return running
  })

const enrol = (
  channel: Grpc.Client,
  timeoutMs: number,
  paths: Peer.Paths,
  command: Registration.Command,
  send: (event: Registration.Event) => void
): Effect.Effect<void> => {
  // Upstream's registries keep a name for the first identity that uses it, until their policies are switched off.
  const failed = (call: number) => ({ message, reason }: NsmError) =>
    (reason === "Denied" ? Effect.logWarning : Effect.logDebug)(
      `The manager does not take the registration: ${message}`
    ).pipe(
      Effect.andThen(Effect.sync(() => send({ _tag: "CallFailed", call, reason, message })))
    )
  switch (command._tag) {
    case "DefineService":
      return Peer.registerService(channel, command.service, timeoutMs, paths).pipe(
        Effect.map(() => send({ _tag: "DefineSucceeded", call: command.call })),
        Effect.catch(failed(command.call))
      )
    case "RegisterEndpoint":
      return Peer.registerEndpoint(channel, command.endpoint, timeoutMs, paths).pipe(
        Effect.map(({ expiresAt }) =>
          send({ _tag: "RegisterSucceeded", call: command.call, ...(expiresAt === undefined ? {} : { expiresAt }) })
        ),
        Effect.catch(failed(command.call))
      )
    case "WatchEndpoint":
      return Peer.findEndpoints(channel, { ...Peer.anyEndpoint, name: command.endpoint.name }, true).pipe(
        Stream.takeUntil(({ deleted, endpoint }) => deleted && endpoint.name === command.endpoint.name),
        Stream.runDrain,
        Effect.ignore,
        Effect.andThen(Effect.sync(() => send({ _tag: "WatchLost", call: command.call })))
      )
    case "UnregisterEndpoint":
      return Peer.unregisterEndpoint(channel, command.endpoint, farewellMs, paths).pipe(
        Effect.ignore,
        Effect.andThen(Effect.sync(() => send({ _tag: "UnregisterFinished", call: command.call })))
      )
    case "Cancel":
      return Effect.void
  }
}
