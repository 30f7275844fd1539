/**
 * The channel to the manager. With an identity it is mutual TLS with a token per call, and each connection lends the
 * manager the files that it is told about: managers other than ours find network namespaces and sockets only so.
 */
import { Effect, type Option, Result, type Scope } from "effect"
import * as Address from "../grpc/Address.ts"
import type * as Grpc from "../grpc/Client.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Identity from "../spiffe/Identity.ts"
import type * as Svid from "../spiffe/Svid.ts"
import { NsmError } from "./Error.ts"
import * as Peer from "./Peer.ts"

/** How to reach the manager. */
export interface Options extends Pick<Grpc.Options, "waitForReady" | "dialTimeoutMs"> {
  readonly manager: string
  /** Paths of the files to lend. */
  readonly files: ReadonlyArray<string>
  readonly maxTokenLifetimeMs: number
}

/** A channel to a manager. */
export interface Channel {
  readonly client: Grpc.Client
  /** The NSM names of the files, in their order; undefined where nothing is lent: in plain text, or over TCP. */
  readonly urls: ReadonlyArray<string> | undefined
  /** Who answered the newest handshake; undefined in plain text. */
  readonly peer: Effect.Effect<Option.Option<Svid.Peer>> | undefined
}

/** Opens the channel; waits for the first identity. */
export const open = (options: Options): Effect.Effect<Channel, NsmError, Scope.Scope> =>
  Effect.gen(function*() {
    const { files, manager, ...rest } = options
    const relay = yield* lend(manager, files)
    const target = relay?.address ?? manager
    const keepalive = (yield* Identity.Identity) === undefined ? {} : { keepaliveMs: never }
    const client = yield* Identity.client({ ...rest, ...keepalive, target, maxBackoffMs: 1_000 })
    return { client, urls: relay?.urls, peer: "peer" in client ? client.peer : undefined }
  }).pipe(
    Effect.catchTag("GrpcError", (error) => Peer.fromGrpc(error)),
    Effect.catchTag("FdPassError", ({ message }) => new NsmError({ reason: "Failed", message }))
  )

/** The path of the namespace that gets the interfaces. */
export const namespaceFile = (namespace: string | undefined): string => namespace ?? "/proc/thread-self/ns/net"

/** The NSM name of the namespace that gets the interfaces. */
export const netns = (namespace: string | undefined): Effect.Effect<string, NsmError> =>
  Effect.mapError(
    namespace === undefined ? Namespace.currentUrl : Namespace.url(namespace),
    ({ message }) => new NsmError({ reason: "Failed", message })
  )

const lend = (manager: string, files: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const address = Result.getOrUndefined(Address.parse(manager))
    const identity = yield* Identity.Identity
    if (identity === undefined || address?._tag !== "Unix") return undefined
    // Native code, which costs start and memory; in plain text nothing is lent.
    const FdRelay = yield* Effect.promise(() => import("../fdpass/FdRelay.ts"))
    return yield* FdRelay.connect({ socketPath: address.path, files })
  })

// Upstream's servers end connections that are pinged often, and a local socket tells by itself when its other end dies.
const never = 2_147_483_647
