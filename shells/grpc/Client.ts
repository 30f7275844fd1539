/**
 * gRPC clients: one scoped channel per target, calls as Effects, server streams as Streams.
 *
 * 1. Interrupting a call or leaving a stream cancels it on the wire.
 * 2. A stream is read only as fast as its consumer takes.
 * 3. The channel reconnects by itself with a jittered, capped backoff; `changes` tells how it fares.
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as grpc from "@grpc/grpc-js"
import { Effect, Queue, Result, Stream } from "effect"
import type { Scope } from "effect"
import * as Address from "./Address.ts"
import * as Definition from "./Definition.ts"
import * as GrpcError from "./Error.ts"

/** Text metadata of a call. */
export type Metadata = { readonly [key: string]: string }

/** The channel of a client. Defaults are Meridio's. */
export interface Options {
  /** `unix:///path`, `tcp://host:port` or `host:port`. */
  readonly target: string
  /** Default: plain text. */
  readonly credentials?: grpc.ChannelCredentials
  /** Upper bound of the pause between connection attempts. Default: 5000 ms. */
  readonly maxBackoffMs?: number
  /** A ping after this much silence while calls are open. Default: 20 000 ms. */
  readonly keepaliveMs?: number
  /** How long the answer to a ping may take. Default: 20 000 ms. */
  readonly keepaliveTimeoutMs?: number
  /** Calls wait for a connection until their deadline instead of failing at once. Default: false. */
  readonly waitForReady?: boolean
  /**
   * How long calls wait for a connection before they fail with UNAVAILABLE, also when a server accepts connections and
   * never answers. Default: until their deadline.
   */
  readonly dialTimeoutMs?: number
  /** Sent with each call, made anew for each call, for example a token. */
  readonly metadata?: Effect.Effect<Metadata, GrpcError.GrpcError>
  /** Further options of grpc-js. */
  readonly channelOptions?: grpc.ChannelOptions
}

/** One call. */
export interface CallOptions {
  /** Fails with DEADLINE_EXCEEDED after this time. Default: none. */
  readonly timeoutMs?: number
  readonly metadata?: Metadata
  /** Default: that of the client. */
  readonly waitForReady?: boolean
  /** Hears the text metadata that comes ahead of the answer; of unary calls only. */
  readonly onHeaders?: (headers: Metadata) => void
}

/** How a channel fares. */
export type Connectivity = "Idle" | "Connecting" | "Ready" | "TransientFailure" | "Shutdown"

/** A channel to one target. Calls fail with GrpcError only. */
export interface Client {
  readonly target: string
  /** One request, one response: `client.call(TapDefinition, "open", stream, { timeoutMs: 5000 })`. */
  call<D extends Definition.Definition, K extends Definition.UnaryNames<D>>(
    definition: D,
    method: K,
    request: Definition.Request<D, K>,
    options?: CallOptions
  ): Effect.Effect<Definition.Response<D, K>, GrpcError.GrpcError>
  /** One request, many responses: `client.stream(TapDefinition, "watch", filter)`. Ends when the server ends it. */
  stream<D extends Definition.Definition, K extends Definition.StreamNames<D>>(
    definition: D,
    method: K,
    request: Definition.Request<D, K>,
    options?: CallOptions
  ): Stream.Stream<Definition.Response<D, K>, GrpcError.GrpcError>
  /**
   * The current state and then each change; a slow reader sees only the newest. While somebody reads, a channel that
   * is idle for 3 s is told to connect.
   */
  readonly changes: Stream.Stream<Connectivity>
  /** Whether calls go through now, without repetitions; made for health. */
  readonly ready: Stream.Stream<boolean>
}

/** Opens a channel (nothing is sent before the first call) and closes it with the scope. */
export const make = (options: Options): Effect.Effect<Client, GrpcError.GrpcError, Scope.Scope> =>
  Effect.gen(function*() {
    const address = Address.parse(options.target)
    if (Result.isFailure(address)) return yield* GrpcError.error("InvalidArgument", address.failure)
    const channel = yield* Effect.acquireRelease(
      Effect.sync(() => open(Address.toTarget(address.success), options)),
      (channel) => Effect.sync(() => channel.close())
    )
    const changes = connectivity(channel)
    return {
      target: options.target,
      call: callOn(channel, options),
      stream: streamOn(channel, options),
      changes,
      ready: changes.pipe(Stream.map((state) => state === "Ready"), Stream.changes)
    }
  })

const open = (target: string, options: Options): grpc.Client =>
  new grpc.Client(target, options.credentials ?? grpc.credentials.createInsecure(), {
    "grpc.initial_reconnect_backoff_ms": Math.min(1000, options.maxBackoffMs ?? 5000),
    "grpc.max_reconnect_backoff_ms": options.maxBackoffMs ?? 5000,
    "grpc.keepalive_time_ms": options.keepaliveMs ?? 20_000,
    "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs ?? 20_000,
    // Clients share nothing, so that the options of one never apply to another.
    "grpc.use_local_subchannel_pool": 1,
    // Pods talk to their own cluster: a proxy meant for the outside must not come between.
    "grpc.enable_http_proxy": 0,
    "grpc.enable_channelz": 0,
    // On TCP as well as on a unix socket, where the default would be the path.
    "grpc.default_authority": target.startsWith("unix:") ? "localhost" : target,
    ...options.channelOptions
  })

interface Prepared {
  readonly path: string
  readonly serialize: (message: unknown) => Buffer
  readonly deserialize: (bytes: Buffer) => unknown
  readonly metadata: grpc.Metadata
  readonly options: grpc.CallOptions
}

const prepare = (
  channel: grpc.Client,
  client: Options,
  definition: Definition.Definition,
  name: string,
  call: CallOptions
): Effect.Effect<Prepared, GrpcError.GrpcError> =>
  Effect.gen(function*() {
    const method = definition.methods[name]
    if (method === undefined) return yield* GrpcError.error("Unimplemented", `${definition.fullName} has no ${name}`)
    const deadline = call.timeoutMs === undefined ? undefined : Date.now() + call.timeoutMs
    const waitForReady = call.waitForReady ?? client.waitForReady ?? false
    if (waitForReady && client.dialTimeoutMs !== undefined) yield* dial(channel, client.target, client.dialTimeoutMs)
    const metadata = new grpc.Metadata({ waitForReady })
    const common = client.metadata === undefined ? {} : yield* client.metadata
    for (const [key, value] of Object.entries({ ...common, ...call.metadata })) metadata.set(key, value)
    return {
      path: Definition.path(definition, method),
      serialize: Definition.toBuffer(method.requestType),
      deserialize: (bytes) => method.responseType.decode(bytes),
      metadata,
      options: deadline === undefined ? {} : { deadline }
    }
  })

/** Waits until the channel is connected. */
const dial = (channel: grpc.Client, target: string, timeoutMs: number): Effect.Effect<void, GrpcError.GrpcError> =>
  Effect.callback((resume) => {
    channel.waitForReady(Date.now() + timeoutMs, (error) =>
      resume(
        error === undefined
          ? Effect.void
          : Effect.fail(GrpcError.error("Unavailable", `no connection to ${target} within ${timeoutMs} ms`))
      ))
  })

const callOn = (channel: grpc.Client, client: Options): Client["call"] => {
  function call<D extends Definition.Definition, K extends Definition.UnaryNames<D>>(
    definition: D,
    method: K,
    request: Definition.Request<D, K>,
    options?: CallOptions
  ): Effect.Effect<Definition.Response<D, K>, GrpcError.GrpcError>
  function call(
    definition: Definition.Definition,
    method: string,
    request: unknown,
    options: CallOptions = {}
  ): Effect.Effect<unknown, GrpcError.GrpcError> {
    return Effect.flatMap(
      prepare(channel, client, definition, method, options),
      (prepared) =>
        Effect.callback<unknown, GrpcError.GrpcError>((resume) => {
          if (isShutDown(channel)) return resume(Effect.fail(closed(client.target)))
          const { path, serialize, deserialize } = prepared
          const running = channel.makeUnaryRequest(
            path,
            serialize,
            deserialize,
            request,
            prepared.metadata,
            prepared.options,
            (error, response) =>
              resume(error === null ? Effect.succeed(response) : Effect.fail(GrpcError.fromUnknown(error)))
          )
          const { onHeaders } = options
          if (onHeaders !== undefined) running.on("metadata", (headers) => onHeaders(textOf(headers)))
          return Effect.sync(() => running.cancel())
        })
    )
  }
  return call
}

const streamOn = (channel: grpc.Client, client: Options): Client["stream"] => {
  function stream<D extends Definition.Definition, K extends Definition.StreamNames<D>>(
    definition: D,
    method: K,
    request: Definition.Request<D, K>,
    options?: CallOptions
  ): Stream.Stream<Definition.Response<D, K>, GrpcError.GrpcError>
  function stream(
    definition: Definition.Definition,
    method: string,
    request: unknown,
    options: CallOptions = {}
  ): Stream.Stream<unknown, GrpcError.GrpcError> {
    const start = (prepared: Prepared) => {
      const { path, serialize, deserialize } = prepared
      const { metadata, options } = prepared
      return channel.makeServerStreamRequest(path, serialize, deserialize, request, metadata, options)
    }
    const opened = Effect.flatMap(
      prepare(channel, client, definition, method, options),
      (prepared) =>
        Effect.acquireRelease(
          Effect.suspend(() =>
            isShutDown(channel) ? Effect.fail(closed(client.target)) : Effect.succeed(start(prepared))
          ),
          (call) =>
            Effect.sync(() => {
              // Cancelling emits an error when nobody listens any more, which would end the process.
              call.on("error", () => undefined)
              call.cancel()
            })
        )
    )
    return Stream.unwrap(Effect.map(opened, (call) =>
      NodeStream.fromReadable<unknown, GrpcError.GrpcError>({
        evaluate: () => call,
        onError: GrpcError.fromUnknown,
        closeOnDone: false
      })))
  }
  return stream
}

const textOf = (metadata: grpc.Metadata): Metadata =>
  Object.fromEntries(
    Object.entries(metadata.getMap()).flatMap(([key, value]) => typeof value === "string" ? [[key, value]] : [])
  )

/** grpc-js throws when a closed channel is used. */
const isShutDown = (channel: grpc.Client): boolean =>
  channel.getChannel().getConnectivityState(false) === grpc.connectivityState.SHUTDOWN

const closed = (target: string): GrpcError.GrpcError =>
  GrpcError.error("Unavailable", `the channel to ${target} is closed`)

const idleMs = 3000

const connectivity = (channel: grpc.Client): Stream.Stream<Connectivity> =>
  Stream.callback<Connectivity>(
    (queue) =>
      Effect.gen(function*() {
        let state = channel.getChannel().getConnectivityState(false)
        yield* Queue.offer(queue, names[state])
        while (state !== grpc.connectivityState.SHUTDOWN) {
          state = yield* next(channel, state)
          yield* Queue.offer(queue, names[state])
        }
        yield* Queue.end(queue)
      }),
    { bufferSize: 1, strategy: "sliding" }
  )

const names: Record<grpc.connectivityState, Connectivity> = {
  [grpc.connectivityState.IDLE]: "Idle",
  [grpc.connectivityState.CONNECTING]: "Connecting",
  [grpc.connectivityState.READY]: "Ready",
  [grpc.connectivityState.TRANSIENT_FAILURE]: "TransientFailure",
  [grpc.connectivityState.SHUTDOWN]: "Shutdown"
}

/** The state after `current`. Closing the channel reports an error, which is the last state. */
const next = (channel: grpc.Client, current: grpc.connectivityState): Effect.Effect<grpc.connectivityState> =>
  Effect.callback((resume) => {
    const now = channel.getChannel().getConnectivityState(false)
    if (now !== current) return resume(Effect.succeed(now))
    const kick = current === grpc.connectivityState.IDLE
      ? setTimeout(() => channel.getChannel().getConnectivityState(true), idleMs)
      : undefined
    channel.getChannel().watchConnectivityState(current, Number.POSITIVE_INFINITY, () => {
      clearTimeout(kick)
      resume(Effect.sync(() => channel.getChannel().getConnectivityState(false)))
    })
    return Effect.sync(() => clearTimeout(kick))
  })
