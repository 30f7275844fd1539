/** The calls of Network Service Mesh on a gRPC channel, in the words of `core/nsm`, failing with `NsmError`. */
import { Effect, Stream } from "effect"
import type * as CircuitState from "../../core/nsm/CircuitState.ts"
import type * as Model from "../../core/nsm/Model.ts"
import * as RegistryPath from "../../core/nsm/RegistryPath.ts"
import { MonitorConnectionDefinition } from "../../proto/gen/connection.ts"
import { NetworkServiceDefinition } from "../../proto/gen/networkservice.ts"
import { NetworkServiceEndpointRegistryDefinition, NetworkServiceRegistryDefinition } from "../../proto/gen/registry.ts"
import type * as Client from "../grpc/Client.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as Wire from "../nsm/Wire.ts"
import { NsmError } from "./Error.ts"

/** Asks for a connection. */
export const request = (
  client: Client.Client,
  connection: Model.Connection,
  preferences: ReadonlyArray<Model.Mechanism>,
  timeoutMs: number
): Effect.Effect<Model.Connection, NsmError> =>
  client.call(NetworkServiceDefinition, "request", {
    connection: Wire.connectionTo(connection),
    mechanismPreferences: preferences
  }, { timeoutMs }).pipe(Effect.mapBoth({ onSuccess: Wire.connectionFrom, onFailure: fromGrpc }))

/** Ends a connection. Fails at once when nobody listens. */
export const close = (
  client: Client.Client,
  connection: Model.Connection,
  timeoutMs: number
): Effect.Effect<void, NsmError> =>
  client.call(NetworkServiceDefinition, "close", Wire.connectionTo(connection), {
    timeoutMs,
    waitForReady: false
  }).pipe(
    Effect.mapError(fromGrpc),
    Effect.asVoid
  )

/** What happens to the selected connections; the first event tells all of them. May wait for a peer to come up. */
export const monitor = (
  client: Client.Client,
  selector: Model.Selector,
  waitForReady = false
): Stream.Stream<Model.ConnectionEvent, NsmError> =>
  client.stream(MonitorConnectionDefinition, "monitorConnections", Wire.selectorTo(selector), {
    waitForReady
  }).pipe(
    Stream.map(Wire.eventFrom),
    Stream.mapError(fromGrpc)
  )

/** The paths of registrations, by what is registered: each begins where the registry said that the last one came. */
export type Paths = Map<string, string>

/** Defines a service. */
export const registerService = (
  client: Client.Client,
  service: Model.NetworkService,
  timeoutMs: number,
  paths: Paths = new Map()
): Effect.Effect<Model.NetworkService, NsmError> =>
  client.call(
    NetworkServiceRegistryDefinition,
    "register",
    Wire.serviceTo(service),
    registration(timeoutMs, paths, `service ${service.name}`)
  ).pipe(Effect.mapBoth({ onSuccess: Wire.serviceFrom, onFailure: fromGrpc }))

/** Registers an endpoint; the answer says until when. */
export const registerEndpoint = (
  client: Client.Client,
  endpoint: Model.Endpoint,
  timeoutMs: number,
  paths: Paths = new Map()
): Effect.Effect<Model.Endpoint, NsmError> =>
  client.call(
    NetworkServiceEndpointRegistryDefinition,
    "register",
    Wire.endpointTo(endpoint),
    registration(timeoutMs, paths, `endpoint ${endpoint.name}`)
  ).pipe(Effect.mapBoth({ onSuccess: Wire.endpointFrom, onFailure: fromGrpc }))

/** Takes an endpoint out of the registry. */
export const unregisterEndpoint = (
  client: Client.Client,
  endpoint: Model.Endpoint,
  timeoutMs: number,
  paths: Paths = new Map()
): Effect.Effect<void, NsmError> =>
  client.call(
    NetworkServiceEndpointRegistryDefinition,
    "unregister",
    Wire.endpointTo(endpoint),
    registration(timeoutMs, paths, `endpoint ${endpoint.name}`)
  ).pipe(Effect.mapError(fromGrpc), Effect.asVoid)

/** The tokens of a registration are those of the channel; the registry notes them in the path. */
const registration = (timeoutMs: number, paths: Paths, what: string): Client.CallOptions => ({
  timeoutMs,
  metadata: { [RegistryPath.key]: paths.get(what) ?? RegistryPath.encode(RegistryPath.empty) },
  onHeaders: ({ [RegistryPath.key]: path }) => {
    if (path !== undefined) paths.set(what, path)
  }
})

/** What a find tells of one endpoint. */
export interface Found {
  readonly endpoint: Model.Endpoint
  readonly deleted: boolean
}

/** The endpoints that fit the template; with `watch` then every change, for ever. */
export const findEndpoints = (
  client: Client.Client,
  template: Model.Endpoint,
  watch: boolean
): Stream.Stream<Found, NsmError> =>
  client.stream(NetworkServiceEndpointRegistryDefinition, "find", {
    networkServiceEndpoint: Wire.endpointTo(template),
    watch
  }, { waitForReady: false }).pipe(
    Stream.map(({ deleted, networkServiceEndpoint }) => ({
      endpoint: Wire.endpointFrom(networkServiceEndpoint),
      deleted
    })),
    Stream.mapError(fromGrpc)
  )

/** The template that fits every endpoint. */
export const anyEndpoint: Model.Endpoint = { name: "", networkServices: [], labels: {}, url: "" }

/** The failure of a call in the words of NSM. */
export const fromGrpc = (error: GrpcError.GrpcError): NsmError => {
  const { _tag, details } = GrpcError.reason(error)
  const other = error.code === GrpcError.Code.InvalidArgument ? "Invalid" : "Failed"
  return new NsmError({ reason: _tag === "Other" ? other : _tag, message: details })
}

/** The status that tells a failure to a caller. */
export const toGrpc = ({ message, reason }: Model.Failure): GrpcError.GrpcError =>
  GrpcError.error(codes[reason], message)

/** The answer to a request: the connection, or why there is none. */
export const toAnswer = (result: CircuitState.Result): Effect.Effect<Model.Connection, GrpcError.GrpcError> => {
  switch (result._tag) {
    case "Succeeded":
      return Effect.succeed(result.connection)
    case "Closed":
      return Effect.fail(toGrpc({ reason: "Conflict", message: "the connection was closed" }))
    case "Failed":
      return Effect.fail(toGrpc(result))
  }
}

const codes = {
  Unavailable: "Unavailable",
  Timeout: "DeadlineExceeded",
  NotFound: "NotFound",
  Denied: "PermissionDenied",
  Conflict: "FailedPrecondition",
  Invalid: "InvalidArgument",
  Failed: "Unknown"
} as const
