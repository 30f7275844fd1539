/**
 * gRPC servers: typed handlers as Effects and Streams, on unix sockets and TCP.
 *
 * 1. A handler runs in its own fiber; the caller's cancellation and deadline interrupt it.
 * 2. A `GrpcError` becomes that status, a defect becomes INTERNAL without a stack and is logged.
 * 3. A stream writes only as fast as its reader takes.
 * 4. Closing the scope ends streams with UNAVAILABLE, gives unary calls `graceMs` to finish, then cuts.
 * 5. A stale socket file is replaced; a living server or any other file is never touched.
 */
import * as grpc from "@grpc/grpc-js"
import { Cause, Effect, Exit, FiberSet, Result, Stream } from "effect"
import type { Context, Scope } from "effect"
import * as Address from "./Address.ts"
import * as Definition from "./Definition.ts"
import * as GrpcError from "./Error.ts"
import * as Socket from "./Socket.ts"

/** What a handler may know about its call besides the request. */
export interface Call {
  /** Text metadata of the request; of repeated keys the first value. */
  readonly metadata: { readonly [key: string]: string }
  /** Who calls, for logs: an IP address with port, or `unknown` on a unix socket. */
  readonly peer: string
  /** When the caller stops waiting, in milliseconds since the Unix epoch; undefined if never. */
  readonly deadline: number | undefined
  /** The certificate (DER) that the credentials of the server accepted; undefined in plain text. */
  readonly certificate: () => Buffer | undefined
  /** Sends text metadata ahead of the answer; once per call. */
  readonly sendHeaders: (headers: { readonly [key: string]: string }) => Effect.Effect<void>
}

type Handler<D extends Definition.Definition, K extends keyof D["methods"], R> = K extends Definition.UnaryNames<D>
  ? (request: Definition.Request<D, K>, call: Call) => Effect.Effect<Definition.Response<D, K>, GrpcError.GrpcError, R>
  : K extends Definition.StreamNames<D> ? (request: Definition.Request<D, K>, call: Call) => Stream.Stream<
      Definition.Response<D, K>,
      GrpcError.GrpcError,
      R
    >
  : never

/**
 * One handler per method of a definition: an Effect for unary methods, a Stream for server streams. `R` bounds what
 * they may require; leave handlers unannotated to have their requirements inferred by `service`.
 */
export type Handlers<D extends Definition.Definition, R = unknown> = {
  readonly [K in keyof D["methods"]]: Handler<D, K, R>
}

type HandlersContext<H> = {
  [K in keyof H]: H[K] extends (...args: ReadonlyArray<never>) => Effect.Effect<unknown, unknown, infer R> ? R
    : H[K] extends (...args: ReadonlyArray<never>) => Stream.Stream<unknown, unknown, infer R> ? R
    : never
}[keyof H]

type AnyHandler<R> = (
  request: unknown,
  call: Call
) => Effect.Effect<unknown, GrpcError.GrpcError, R> | Stream.Stream<unknown, GrpcError.GrpcError, R>

/** A definition with its handlers, ready to be served. */
export interface Service<out R> {
  readonly definition: Definition.Definition
  readonly handlers: { readonly [name: string]: AnyHandler<R> }
}

/** Binds handlers to a generated definition: `service(TapDefinition, { open, close, watch })`. */
export function service<D extends Definition.Definition, H extends Handlers<D>>(
  definition: D,
  handlers: H
): Service<HandlersContext<H>>
export function service(
  definition: Definition.Definition,
  handlers: { readonly [name: string]: AnyHandler<never> }
): Service<never> {
  return { definition, handlers }
}

/**
 * As `service`, with handlers that are there only once somebody calls; for what is loaded or started with its first use.
 */
export function deferred<D extends Definition.Definition, R, S>(
  definition: D,
  handlers: Effect.Effect<Handlers<D, R>, never, S>
): Service<R | S>
export function deferred<R>(
  definition: Definition.Definition,
  handlers: Effect.Effect<Service<R>["handlers"], never, R>
): Service<R> {
  const call = (name: string, { responseStream }: Definition.Method): AnyHandler<R> => (request, call) => {
    const answer = Effect.map(handlers, (all) => all[name]?.(request, call))
    return responseStream
      ? Stream.unwrap(Effect.map(answer, (stream) => Stream.isStream(stream) ? stream : Stream.die(mixedUp)))
      : Effect.flatMap(answer, (effect) => Effect.isEffect(effect) ? effect : Effect.die(mixedUp))
  }
  return {
    definition,
    handlers: Object.fromEntries(Object.entries(definition.methods).map(([name, method]) => [name, call(name, method)]))
  }
}

const mixedUp = "the handler of a unary method returned a stream, or the other way round"

/** Where and how to serve. */
export interface Options<Services> {
  /** `unix:///path`, `tcp://[::]:7778`, `host:port` or `:port`; port 0 chooses a free one. */
  readonly address: string
  readonly services: Services
  /** Default: plain text. */
  readonly credentials?: grpc.ServerCredentials
  /** How long unary calls may still run when the server stops. Default: 1000 ms. */
  readonly graceMs?: number
  /** Further options of grpc-js, for example keepalive enforcement. */
  readonly channelOptions?: grpc.ServerOptions
}

/** A server that listens. */
export interface Server {
  /** Where clients connect, for example `unix:/run/tap.sock` or `[::]:7778`. */
  readonly target: string
  /** The TCP port; 0 for a unix socket. */
  readonly port: number
}

type ContextOf<Services extends ReadonlyArray<Service<unknown>>> = Services[number] extends Service<infer R> ? R : never

/** Serves until the scope closes. Fails with UNAVAILABLE if the address cannot be had, INVALID_ARGUMENT if it is wrong. */
export function serve<const Services extends ReadonlyArray<Service<unknown>>>(
  options: Options<Services>
): Effect.Effect<Server, GrpcError.GrpcError, ContextOf<Services> | Scope.Scope>
export function serve(
  options: Options<ReadonlyArray<Service<never>>>
): Effect.Effect<Server, GrpcError.GrpcError, Scope.Scope> {
  return Effect.gen(function*() {
    const parsed = Address.parse(options.address)
    if (Result.isFailure(parsed)) return yield* GrpcError.error("InvalidArgument", parsed.failure)
    const address = parsed.success
    const context = yield* Effect.context()
    const unary = yield* FiberSet.make()
    const streams = yield* FiberSet.make()
    const server = new grpc.Server({ "grpc.enable_channelz": 0, ...options.channelOptions })
    for (const each of options.services) register(server, each, { context, unary, streams })
    if (address._tag === "Unix") yield* Socket.prepare(address.path)
    const port = yield* Effect.acquireRelease(
      bind(server, address, options.credentials ?? grpc.ServerCredentials.createInsecure()),
      () => Effect.andThen(FiberSet.clear(streams), shutdown(server, options.graceMs ?? 1000))
    )
    if (address._tag === "Unix") {
      yield* Socket.openToAll(address.path)
      return { target: Address.toTarget(address), port: 0 }
    }
    return { target: Address.toTarget({ ...address, port }), port }
  })
}

type Fibers = FiberSet.FiberSet

interface Runtime {
  readonly context: Context.Context<never>
  readonly unary: Fibers
  readonly streams: Fibers
}

const register = (server: grpc.Server, { definition, handlers }: Service<never>, runtime: Runtime): void => {
  const methods: { [name: string]: grpc.MethodDefinition<unknown, unknown> } = {}
  const implementation: grpc.UntypedServiceImplementation = {}
  for (const [name, method] of Object.entries(definition.methods)) {
    const handler = handlers[name]
    if (handler === undefined) continue
    methods[name] = {
      path: Definition.path(definition, method),
      requestStream: method.requestStream,
      responseStream: method.responseStream,
      requestSerialize: Definition.toBuffer(method.requestType),
      requestDeserialize: (bytes) => method.requestType.decode(bytes),
      responseSerialize: method.responseStream
        ? Definition.toSharedBuffer(method.responseType)
        : Definition.toBuffer(method.responseType),
      responseDeserialize: (bytes) => method.responseType.decode(bytes)
    }
    implementation[name] = method.responseStream
      ? (call: grpc.ServerWritableStream<unknown, unknown>) => runStream(runtime, handler, call)
      : (call: grpc.ServerUnaryCall<unknown, unknown>, respond: grpc.sendUnaryData<unknown>) =>
        runUnary(runtime, handler, call, respond)
  }
  server.addService(methods, implementation)
}

const runUnary = (
  { context, unary }: Runtime,
  handler: AnyHandler<never>,
  call: grpc.ServerUnaryCall<unknown, unknown>,
  respond: grpc.sendUnaryData<unknown>
): void => {
  const effect = Effect.suspend(() => {
    const answer = handler(call.request, describe(call))
    return Effect.isEffect(answer) ? answer : Effect.die(mixedUp)
  })
  run(context, unary, call, effect, (exit) => {
    if (Exit.isSuccess(exit)) respond(null, exit.value)
    else respond(toStatus(exit.cause))
  })
}

const runStream = (
  { context, streams }: Runtime,
  handler: AnyHandler<never>,
  call: grpc.ServerWritableStream<unknown, unknown>
): void => {
  const effect = Effect.suspend(() => {
    const answer = handler(call.request, describe(call))
    return Stream.isStream(answer)
      ? Stream.runForEach(answer, (message) => write(call, message))
      : Effect.die(mixedUp)
  })
  run(context, streams, call, effect, (exit) => {
    if (Exit.isSuccess(exit)) call.end()
    else call.emit("error", toStatus(exit.cause))
  })
}

const run = <A>(
  context: Context.Context<never>,
  fibers: Fibers,
  call: grpc.ServerUnaryCall<unknown, unknown> | grpc.ServerWritableStream<unknown, unknown>,
  effect: Effect.Effect<A, GrpcError.GrpcError>,
  answer: (exit: Exit.Exit<A, GrpcError.GrpcError>) => void
): void => {
  const reported = Effect.tapCause(
    effect,
    (cause) => Cause.hasDies(cause) ? Effect.logError(`Handler of ${call.getPath()} is defective`, cause) : Effect.void
  )
  const fiber = Effect.runForkWith(context)(reported)
  fiber.addObserver((exit) => {
    if (!call.cancelled) answer(exit)
  })
  FiberSet.addUnsafe(fibers, fiber)
  call.on("cancelled", () => fiber.interruptUnsafe())
}

const write = (call: grpc.ServerWritableStream<unknown, unknown>, message: unknown): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (call.cancelled || call.write(message)) return resume(Effect.void)
    const drained = () => resume(Effect.void)
    call.once("drain", drained)
    return Effect.sync(() => call.off("drain", drained))
  })

const describe = (call: grpc.ServerUnaryCall<unknown, unknown> | grpc.ServerWritableStream<unknown, unknown>): Call => {
  const metadata: { [key: string]: string } = {}
  for (const [key, value] of Object.entries(call.metadata.getMap())) {
    if (typeof value === "string") metadata[key] = value
  }
  const deadline = Number(call.getDeadline())
  return {
    metadata,
    peer: call.getPeer(),
    deadline: Number.isFinite(deadline) ? deadline : undefined,
    certificate: () => call.getAuthContext().sslPeerCertificate?.raw,
    sendHeaders: (headers) =>
      Effect.sync(() => {
        const metadata = new grpc.Metadata()
        for (const [key, value] of Object.entries(headers)) metadata.set(key, value)
        call.sendMetadata(metadata)
      })
  }
}

const toStatus = (cause: Cause.Cause<GrpcError.GrpcError>): { readonly code: number; readonly details: string } => {
  const failure = cause.reasons.find(Cause.isFailReason)
  if (failure !== undefined) return { code: failure.error.code, details: failure.error.details }
  return Cause.hasInterruptsOnly(cause)
    ? { code: GrpcError.Code.Unavailable, details: "the server is shutting down" }
    : { code: GrpcError.Code.Internal, details: "internal error, see the log of the server" }
}

const bind = (
  server: grpc.Server,
  address: Address.Address,
  credentials: grpc.ServerCredentials
): Effect.Effect<number, GrpcError.GrpcError> => {
  const attempt = (address: Address.Address) =>
    Effect.callback<number, GrpcError.GrpcError>((resume) => {
      const target = Address.toTarget(address)
      server.bindAsync(target, credentials, (cause, port) =>
        resume(
          cause === null
            ? Effect.succeed(port)
            : Effect.fail(GrpcError.error("Unavailable", `cannot listen on ${target}: ${cause.message}`))
        ))
    })
  const wildcard = address._tag === "Tcp" && (address.host === "" || address.host === "::")
  return wildcard ? Effect.catch(attempt(address), () => attempt({ ...address, host: "0.0.0.0" })) : attempt(address)
}

const shutdown = (server: grpc.Server, graceMs: number): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const timer = setTimeout(() => server.forceShutdown(), graceMs)
    server.tryShutdown(() => {
      clearTimeout(timer)
      resume(Effect.void)
    })
  })
