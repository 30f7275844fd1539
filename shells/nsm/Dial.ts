/**
 * Channels of the manager to endpoints, by the URL that they registered: `unix:///path`, `tcp://host:port`, or
 * `inode://DEVICE/INODE`, which names a socket file that the endpoint holds and perhaps nobody else can see by its path.
 *
 * All calls and monitors of an endpoint share one channel. One that turns out to be dead is replaced and the work done
 * once more: a channel that waits for its next attempt knows nothing of an endpoint that came back meanwhile.
 */
import { Effect, RcMap, type Scope } from "effect"
import type * as Client from "../grpc/Client.ts"
import type { NsmError } from "../sdk/Error.ts"
import * as Peer from "../sdk/Peer.ts"
import * as Identity from "../spiffe/Identity.ts"
import * as SocketFile from "./SocketFile.ts"

/** Does work over the channel of an endpoint; the work may be begun twice. */
export type Dial = <A>(
  url: string,
  work: (client: Client.Client) => Effect.Effect<A, NsmError>
) => Effect.Effect<A, NsmError>

/** Dials as this process, with tokens if it has an identity; channels last for the scope at most. */
export const make = (maxTokenLifetimeMs: number): Effect.Effect<Dial, never, Scope.Scope> =>
  Effect.gen(function*() {
    const identity = yield* Identity.Identity
    const channels = yield* RcMap.make({
      lookup: (url: string) =>
        (SocketFile.isNamed(url) ? Effect.map(SocketFile.open(url), (path) => `unix://${path}`) : Effect.succeed(url))
          .pipe(
            Effect.flatMap((target) => Identity.client({ target, maxTokenLifetimeMs, keepaliveMs: never })),
            Effect.mapError(Peer.fromGrpc),
            Effect.provideService(Identity.Identity, identity)
          ),
      idleTimeToLive: idle
    })
    return (url, work) => {
      const forget = RcMap.invalidate(channels, url)
      const channel = Effect.tapError(RcMap.get(channels, url), () => forget)
      const once = Effect.scoped(Effect.flatMap(channel, work)).pipe(
        Effect.tapError(({ reason }) => reason === "Unavailable" ? forget : Effect.void)
      )
      return Effect.catchIf(once, ({ reason }) => reason === "Unavailable", () => once)
    }
  })

/** How long the channel of an endpoint without connections is kept. */
const idle = "10 seconds"

// Upstream's servers end connections that are pinged often, and a local socket tells by itself when its other end dies.
const never = 2_147_483_647
