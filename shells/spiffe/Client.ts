/**
 * gRPC clients that speak mutual TLS with the newest SVID, behind the same interface as plain ones.
 *
 *     SVID 1 ─▶ channel 1 ─── calls in flight ──▶ closed with its last call
 *     SVID 2 ─────────▶ channel 2 ─── new calls ──▶
 *
 * 1. A new SVID means a new connection for new calls; calls in flight end where they began.
 * 2. The token of a call is signed with the key of the connection's own SVID, for the peer of that connection.
 * 3. No call goes to a server that did not prove a SPIFFE id.
 */
import * as grpc from "@grpc/grpc-js"
import { Effect, Exit, Option, Scope, Stream, SubscriptionRef } from "effect"
import * as Token from "../../core/nsm/Token.ts"
import * as Client from "../grpc/Client.ts"
import type * as Definition from "../grpc/Definition.ts"
import type * as GrpcError from "../grpc/Error.ts"
import * as Spiffe from "./Spiffe.ts"
import type * as Svid from "./Svid.ts"
import * as Tls from "./Tls.ts"
import * as Tokens from "./Tokens.ts"

/** The channel of a client, without credentials: those are the SVID's. */
export interface Options extends Omit<Client.Options, "credentials"> {
  /** Each call carries a token that lives no longer (NSM_MAX_TOKEN_LIFETIME). Default: no tokens. */
  readonly maxTokenLifetimeMs?: number
}

/** A client that knows its server. */
export interface SpiffeClient extends Client.Client {
  /** Who answered the newest handshake; none before the first. */
  readonly peer: Effect.Effect<Option.Option<Svid.Peer>>
}

/** Opens a channel with the newest SVID, once there is one, and again with each new one; closes all with the scope. */
export const make = (
  options: Options
): Effect.Effect<SpiffeClient, GrpcError.GrpcError | Spiffe.SpiffeError, Spiffe.Spiffe | Scope.Scope> =>
  Effect.gen(function*() {
    const spiffe = yield* Spiffe.Spiffe
    // Channels that come later must not close before what was built on the first: finalizers run in reverse order.
    const scope = yield* Scope.fork(yield* Effect.scope)
    const open = (svid: Svid.Svid) => openChannel(options, svid, scope)
    const first = yield* spiffe.current
    const newest = yield* SubscriptionRef.make(yield* open(first))
    yield* spiffe.changes.pipe(
      Stream.filter((svid) => svid !== first),
      Stream.runForEach((svid) =>
        Effect.flatMap(open(svid), (next) => Effect.flatMap(SubscriptionRef.getAndSet(newest, next), retire))
      ),
      Effect.catch(({ message }) => Effect.logWarning(`The SVID of ${options.target} stays as it is: ${message}`)),
      Effect.forkScoped
    )
    const client = yield* SubscriptionRef.get(newest)
    const changes = Stream.switchMap(SubscriptionRef.changes(newest), ({ client }) => client.changes)
    return {
      target: client.client.target,
      call: callOn(newest),
      stream: streamOn(newest),
      changes,
      ready: changes.pipe(Stream.map((state) => state === "Ready"), Stream.changes),
      peer: Effect.map(SubscriptionRef.get(newest), ({ peer }) => Option.fromUndefinedOr(peer()))
    }
  })

/** One connection with one SVID. */
interface Channel {
  readonly client: Client.Client
  readonly peer: () => Svid.Peer | undefined
  readonly scope: Scope.Closeable
  /** Calls in flight, and whether a newer channel took over. */
  readonly use: { calls: number; isRetired: boolean }
}

type Newest = SubscriptionRef.SubscriptionRef<Channel>

const openChannel = (
  options: Options,
  svid: Svid.Svid,
  parent: Scope.Scope
): Effect.Effect<Channel, GrpcError.GrpcError> =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(parent)
    let peer: Svid.Peer | undefined
    const tls = Tls.channel(svid, (proved) => {
      peer = proved
    })
    const credentials = options.maxTokenLifetimeMs === undefined
      ? tls
      : tls.compose(tokens(svid, () => peer, options.maxTokenLifetimeMs))
    const channelOptions = { ...Tls.channelOptions, ...options.channelOptions }
    const client = yield* Scope.provide(Client.make({ ...options, credentials, channelOptions }), scope)
    return { client, peer: () => peer, scope, use: { calls: 0, isRetired: false } }
  })

/** Asked once per call, when the connection that will carry it stands. */
const tokens = (svid: Svid.Svid, peer: () => Svid.Peer | undefined, maxLifetimeMs: number): grpc.CallCredentials =>
  grpc.credentials.createFromMetadataGenerator((_options, done) => {
    const proved = peer()
    if (proved === undefined) return done(new Error("the server has not proved its SPIFFE id"))
    const { expiresAt, token } = Tokens.make({ svid, peer: proved, now: Date.now(), maxLifetimeMs })
    const metadata = new grpc.Metadata()
    for (const [key, value] of Object.entries(Token.toMetadata(token, expiresAt))) metadata.set(key, value)
    done(null, metadata)
  })

const retire = (channel: Channel): Effect.Effect<void> =>
  Effect.suspend(() => {
    channel.use.isRetired = true
    return closeIfDone(channel)
  })

const closeIfDone = ({ scope, use }: Channel): Effect.Effect<void> =>
  Effect.suspend(() => use.isRetired && use.calls === 0 ? Scope.close(scope, Exit.void) : Effect.void)

/** Holds the newest channel open while it is used. */
const borrow = (newest: Newest): Effect.Effect<Client.Client, never, Scope.Scope> =>
  Effect.acquireRelease(
    // In one go, lest the channel is closed between the look and the count.
    Effect.sync(() => {
      const channel = SubscriptionRef.getUnsafe(newest)
      channel.use.calls++
      return channel
    }),
    (channel) =>
      Effect.suspend(() => {
        channel.use.calls--
        return closeIfDone(channel)
      })
  ).pipe(Effect.map(({ client }) => client))

const callOn = (newest: Newest): Client.Client["call"] => {
  function call<D extends Definition.Definition, K extends Definition.UnaryNames<D>>(
    definition: D,
    method: K,
    request: Definition.Request<D, K>,
    options?: Client.CallOptions
  ): Effect.Effect<Definition.Response<D, K>, GrpcError.GrpcError> {
    return Effect.scoped(Effect.flatMap(borrow(newest), (client) => client.call(definition, method, request, options)))
  }
  return call
}

const streamOn = (newest: Newest): Client.Client["stream"] => {
  function stream<D extends Definition.Definition, K extends Definition.StreamNames<D>>(
    definition: D,
    method: K,
    request: Definition.Request<D, K>,
    options?: Client.CallOptions
  ): Stream.Stream<Definition.Response<D, K>, GrpcError.GrpcError> {
    return Stream.unwrap(Effect.map(borrow(newest), (client) => client.stream(definition, method, request, options)))
  }
  return stream
}
