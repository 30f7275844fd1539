/** The services of the manager: connections, monitors and both registries, on the machine that decides. */
import { Effect, Stream } from "effect"
import { randomUUID } from "node:crypto"
import type * as CircuitState from "../../core/nsm/CircuitState.ts"
import type * as Manager from "../../core/nsm/Manager.ts"
import type * as Model from "../../core/nsm/Model.ts"
import * as Registry from "../../core/nsm/Registry.ts"
import { MonitorConnectionDefinition } from "../../proto/gen/connection.ts"
import { NetworkServiceDefinition } from "../../proto/gen/networkservice.ts"
import {
  type NetworkServiceEndpoint,
  NetworkServiceEndpointRegistryDefinition,
  NetworkServiceRegistryDefinition
} from "../../proto/gen/registry.ts"
import type * as GrpcError from "../grpc/Error.ts"
import * as Server from "../grpc/Server.ts"
import type * as Runner from "../runtime/Runner.ts"
import * as Peer from "../sdk/Peer.ts"
import type * as Guard from "./Guard.ts"
import type { Waiting } from "./Interpreter.ts"
import type * as Monitors from "./Monitors.ts"
import * as Wire from "./Wire.ts"

type Running = Runner.Running<Manager.State, Manager.Event>

/** The full names of the services, for health. */
export const names: ReadonlyArray<string> = [
  NetworkServiceDefinition,
  MonitorConnectionDefinition,
  NetworkServiceRegistryDefinition,
  NetworkServiceEndpointRegistryDefinition
].map(({ fullName }) => fullName)

/** What the services stand on: the machine and its callers, and what follows its state. */
export interface Parts {
  readonly running: Running
  readonly waiting: Waiting
  readonly guard: Guard.Guard
  readonly monitors: Monitors.Monitors
  /** The registry, and the newest one after each change of it. */
  readonly registry: Stream.Stream<Registry.State>
}

export const make = ({ guard, monitors, registry, running, waiting }: Parts) =>
  [
    Server.service(NetworkServiceDefinition, {
      request: ({ connection, mechanismPreferences }, call) =>
        guard.request(Wire.connectionFrom(connection), call).pipe(
          Effect.flatMap((connection) =>
            waiting.connections.ask((reply) =>
              running.send({
                _tag: "RequestRequested",
                reply,
                freshId: randomUUID(),
                connection,
                preferences: mechanismPreferences.map(Wire.mechanismFrom),
                ...(call.deadline === undefined ? {} : { deadline: call.deadline })
              })
            )
          ),
          Effect.flatMap(Peer.toAnswer),
          Effect.map(Wire.connectionTo)
        ),
      close: (connection, call) =>
        guard.close(Wire.connectionFrom(connection), call).pipe(
          Effect.flatMap((connection) =>
            waiting.connections.ask((reply) =>
              running.send({ _tag: "CloseRequested", reply, freshId: randomUUID(), connection })
            )
          ),
          Effect.flatMap(closed),
          Effect.as({})
        )
    }),
    Server.service(MonitorConnectionDefinition, {
      monitorConnections: (selector, call) => monitors(selector, guard.sees(call))
    }),
    Server.service(NetworkServiceRegistryDefinition, {
      register: (service, call) =>
        guard.registration(call).pipe(
          Effect.flatMap(({ pathIds = [] }) =>
            waiting.registrations.ask((reply) =>
              running.send({
                _tag: "RegisterServiceRequested",
                reply,
                service: Wire.serviceFrom({ ...service, pathIds })
              })
            )
          ),
          Effect.flatMap(answered),
          Effect.map((answer) => answer._tag === "Service" ? Wire.serviceTo(answer.service) : service)
        ),
      unregister: ({ name }, call) =>
        guard.registration(call).pipe(
          Effect.andThen(
            waiting.registrations.ask((reply) => running.send({ _tag: "UnregisterServiceRequested", reply, name }))
          ),
          Effect.flatMap(answered),
          Effect.as({})
        ),
      find: ({ networkService, watch }) => {
        const template = Wire.serviceFrom(networkService)
        return find(watch ? registry : now(running), ({ services }) =>
          services, (service: Model.NetworkService) =>
          Registry.fitsService(template, service)).pipe(
            Stream.map(({ deleted, value }) => ({ networkService: Wire.serviceTo(value), deleted }))
          )
      }
    }),
    Server.service(NetworkServiceEndpointRegistryDefinition, {
      register: (endpoint, call) =>
        guard.registration(call).pipe(
          Effect.flatMap((registrant) =>
            waiting.registrations.ask((reply) =>
              running.send({ _tag: "RegisterEndpointRequested", reply, endpoint: registeredBy(registrant, endpoint) })
            )
          ),
          Effect.flatMap(answered),
          Effect.map((answer) =>
            answer._tag === "Endpoint" ? Wire.endpointTo(answer.endpoint) : endpoint
          )
        ),
      unregister: ({ name }, call) =>
        guard.registration(call).pipe(
          Effect.flatMap((registrant) =>
            waiting.registrations.ask((reply) =>
              running.send({ _tag: "UnregisterEndpointRequested", reply, name, ...pathIdsOf(registrant) })
            )
          ),
          Effect.flatMap(answered),
          Effect.as({})
        ),
      find: ({ networkServiceEndpoint, watch }) => {
        const template = Wire.endpointFrom(networkServiceEndpoint)
        return find(watch ? registry : now(running), ({ endpoints }) =>
          endpoints, (endpoint: Model.Endpoint) =>
          Registry.fitsEndpoint(template, endpoint)).pipe(
            Stream.map(({ deleted, value }) => ({ networkServiceEndpoint: Wire.endpointTo(value), deleted }))
          )
      }
    })
  ] as const

/** The endpoint as this caller may register it: under its own identity, for no longer than its token. */
const registeredBy = (registrant: Guard.Registrant, message: NetworkServiceEndpoint): Model.Endpoint => {
  const { pathIds: _, ...endpoint } = Wire.endpointFrom(message)
  const ends = [endpoint.expiresAt, registrant.expiresAt].filter((end) => end !== undefined)
  return {
    ...endpoint,
    ...(ends.length === 0 ? {} : { expiresAt: Math.min(...ends) }),
    ...pathIdsOf(registrant)
  }
}

const pathIdsOf = ({ pathIds }: Guard.Registrant) => pathIds === undefined ? {} : { pathIds }

const now = (running: Running): Stream.Stream<Registry.State> => Stream.sync(() => running.current().registry)

/**
 * What fits, then every change. Nothing queues up for a watcher that does not read: it hears the difference between what
 * it was told last and the registry as it is when it reads again.
 */
export const find = <A>(
  registries: Stream.Stream<Registry.State>,
  records: (state: Registry.State) => { readonly [name: string]: A },
  fits: (value: A) => boolean
): Stream.Stream<Registry.Change<A>> =>
  registries.pipe(
    Stream.map(records),
    Stream.mapAccum(
      (): { readonly [name: string]: A } => ({}),
      (before, after) => [after, Registry.changes(before, after, fits)] as const
    )
  )

const closed = (result: CircuitState.Result): Effect.Effect<void, GrpcError.GrpcError> =>
  result._tag === "Failed" ? Effect.fail(Peer.toGrpc(result)) : Effect.void

const answered = (answer: Registry.Answer): Effect.Effect<Registry.Answer, GrpcError.GrpcError> =>
  answer._tag === "Failed" ? Effect.fail(Peer.toGrpc(answer)) : Effect.succeed(answer)
