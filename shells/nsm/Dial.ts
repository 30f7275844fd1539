/**
 * Channels of the manager to endpoints, by the URL that they registered: `unix:///path`, `tcp://host:port`, or
 * `inode://DEVICE/INODE`, which names a socket file that the endpoint holds and perhaps nobody else can see by its path.
 */
import { Effect, type Scope } from "effect"
import type * as Client from "../grpc/Client.ts"
import type * as GrpcError from "../grpc/Error.ts"
import * as Identity from "../spiffe/Identity.ts"
import * as SocketFile from "./SocketFile.ts"

/** Opens a channel for the life of the scope. */
export type Dial = (url: string) => Effect.Effect<Client.Client, GrpcError.GrpcError, Scope.Scope>

/** Dials as this process, with tokens if it has an identity. */
export const make = (maxTokenLifetimeMs: number): Effect.Effect<Dial> =>
  Effect.map(
    Identity.Identity,
    (identity): Dial => (url) =>
      (SocketFile.isNamed(url) ? Effect.map(SocketFile.open(url), (path) => `unix://${path}`) : Effect.succeed(url))
        .pipe(
          Effect.flatMap((target) => Identity.client({ target, maxTokenLifetimeMs, keepaliveMs: never })),
          Effect.provideService(Identity.Identity, identity)
        )
  )

// Upstream's servers end connections that are pinged often, and a local socket tells by itself when its other end dies.
const never = 2_147_483_647
