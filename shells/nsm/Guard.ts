/**
 * Who may do what at a server of NSM: notes the token of the caller and a new one of our own in the path of each call,
 * and judges the path by the policies of `core/nsm/Token`. In plain text nobody proves anything, and all may do all.
 *
 * 1. The token before ours is signed by the TLS peer, speaks of it, and is addressed to us.
 * 2. A request is judged by the whole path so far. A close by its last hop alone, because a hop ends connections by
 *    itself when their clients are gone, and then the tokens of those have expired.
 * 3. A monitor is told of connections that have its identity on their way. (Upstream tells every peer everything.)
 *
 * Source: sdk, `common/{updatetoken,authorize}` and `registry/common/{updatepath,updatetoken,authorize}`.
 */
import { Clock, Effect, Result } from "effect"
import { randomUUID } from "node:crypto"
import * as Model from "../../core/nsm/Model.ts"
import * as Path from "../../core/nsm/Path.ts"
import * as RegistryPath from "../../core/nsm/RegistryPath.ts"
import * as Token from "../../core/nsm/Token.ts"
import * as GrpcError from "../grpc/Error.ts"
import type { Call } from "../grpc/Server.ts"
import { Identity } from "../spiffe/Identity.ts"
import * as Spiffe from "../spiffe/Spiffe.ts"
import type * as Svid from "../spiffe/Svid.ts"
import * as Tls from "../spiffe/Tls.ts"
import * as Tokens from "../spiffe/Tokens.ts"

/** What a registration proved. */
export interface Registrant {
  /** The caller and those who passed its call on, then this process. */
  readonly pathIds?: ReadonlyArray<string>
  /** When the first of their tokens expires. */
  readonly expiresAt?: number
}

export interface Guard {
  /** The connection of a request in the caller's view, with both tokens in its path. */
  readonly request: (connection: Model.Connection, call: Call) => Effect.Effect<Model.Connection, GrpcError.GrpcError>
  /** The same of a close. */
  readonly close: (connection: Model.Connection, call: Call) => Effect.Effect<Model.Connection, GrpcError.GrpcError>
  /** Who registers or unregisters; tells the caller the path so far. */
  readonly registration: (call: Call) => Effect.Effect<Registrant, GrpcError.GrpcError>
  /** Which connections the caller of a monitor is told of. */
  readonly sees: (call: Call) => Effect.Effect<(connection: Model.Connection) => boolean, GrpcError.GrpcError>
}

/** The server that is guarded. */
export interface Options {
  /** Of its path segment. */
  readonly name: string
  /** The next hop, if this process is that too: it speaks to itself then, and both show their tokens. */
  readonly next?: string
  readonly maxTokenLifetimeMs: number
}

/** The guard of a server with the identity of this process, if it has one. */
export const make = (options: Options): Effect.Effect<Guard> =>
  Effect.map(Identity, (identity) => identity === undefined ? open : guard(options, identity))

const open: Guard = {
  request: (connection) => Effect.succeed(Path.unsigned(connection)),
  close: (connection) => Effect.succeed(Path.unsigned(connection)),
  registration: () => Effect.succeed({}),
  sees: () => Effect.succeed(() => true)
}

type Own = Path.Proof & { readonly identity: string }

/** Both sides of one call. */
interface Meeting {
  readonly peer: Svid.Peer
  /** What the caller said of itself; undefined if nothing usable. */
  readonly theirs: Path.Proof | undefined
  readonly own: Own
  /** What this process says of itself to itself. */
  readonly toSelf: () => Own
  readonly now: number
}

const guard = ({ maxTokenLifetimeMs, name, next }: Options, identity: Spiffe.Spiffe["Service"]): Guard => {
  const meet = (call: Call): Effect.Effect<Meeting, GrpcError.GrpcError> =>
    Effect.gen(function*() {
      const peer = yield* Effect.provideService(Tls.peer(call), Spiffe.Spiffe, identity)
      const svid = yield* Effect.mapError(identity.current, ({ message }) => GrpcError.error("Unavailable", message))
      const now = yield* Clock.currentTimeMillis
      const own = Tokens.make({ svid, peer, now, maxLifetimeMs: maxTokenLifetimeMs })
      const toSelf = () => Tokens.make({ svid, peer: svid, now, maxLifetimeMs: maxTokenLifetimeMs })
      const prove = (made: Tokens.Made) => ({ ...made, identity: svid.id.text })
      return { peer, theirs: proofIn(call), own: prove(own), toSelf: () => prove(toSelf()), now }
    })

  const admit = (whole: boolean) => (connection: Model.Connection, call: Call) =>
    Effect.gen(function*() {
      const { now, own, peer, theirs, toSelf } = yield* meet(call)
      const entered = Path.enter({ name, freshId: randomUUID() }, connection)
      if (Result.isFailure(entered)) return yield* GrpcError.error("InvalidArgument", entered.failure)
      const { index } = entered.success.path
      const noted = theirs === undefined ? entered.success : Path.sign(entered.success, index - 1, theirs)
      const signed = Path.sign(noted, index, own)
      const tokens = signed.path.segments.map(({ token }) => token)
      const first = whole ? 0 : Math.max(0, index - 1)
      yield* judge(tokens.slice(first), index - first, peer, now)
      if (next === undefined) return Path.giveBack(connection, signed)
      const self = toSelf()
      const onward = Path.onward({ name: next, id: "" }, Path.sign(signed, index, self))
      return Path.giveBack(connection, Path.sign(onward, index + 1, self))
    })

  return {
    request: admit(true),
    close: admit(false),
    registration: (call) =>
      Effect.gen(function*() {
        const { now, own, peer, theirs } = yield* meet(call)
        const caller = Result.getOrElse(
          RegistryPath.decode(call.metadata[RegistryPath.key] ?? ""),
          () => RegistryPath.empty
        )
        const path = RegistryPath.enter(caller, theirs?.token ?? "", own.token)
        yield* judge(path.tokens, path.index, peer, now)
        yield* call.sendHeaders({ [RegistryPath.key]: RegistryPath.encode(RegistryPath.giveBack(caller, path)) })
        return {
          pathIds: path.tokens.flatMap((token) => identityOf(token) ?? []),
          expiresAt: Math.min(own.expiresAt, theirs?.expiresAt ?? own.expiresAt)
        }
      }),
    sees: (call) =>
      Effect.map(
        Effect.provideService(Tls.peer(call), Spiffe.Spiffe, identity),
        ({ id }) => (connection) => Model.involves(id.text, connection)
      )
  }
}

const judge = (
  tokens: ReadonlyArray<string>,
  index: number,
  peer: Svid.Peer,
  now: number
): Effect.Effect<void, GrpcError.GrpcError> => {
  const verdict = Token.server(tokens, index, now, Tokens.signedBy(peer.certificate))
  const reason = Result.isFailure(verdict)
    ? verdict.failure
    : identityOf(tokens[index - 1] ?? "") === peer.id.text
    ? undefined
    : "the token of the caller is of somebody else"
  return reason === undefined ? Effect.void : Effect.andThen(
    Effect.logInfo(`Refused a call of ${peer.id.text}: ${reason}`),
    Effect.fail(GrpcError.error("PermissionDenied", "no sufficient privileges"))
  )
}

const proofIn = ({ metadata }: Call): Path.Proof | undefined => {
  const found = Token.fromMetadata(metadata)
  if (found === undefined) return undefined
  const identity = identityOf(found.token)
  return { ...found, ...(identity === undefined ? {} : { identity }) }
}

const identityOf = (token: string): string | undefined =>
  Result.match(Token.decode(token), { onFailure: () => undefined, onSuccess: ({ claims }) => claims.sub })
