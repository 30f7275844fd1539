/**
 * Finding the endpoints of a service, for ever, over streams that may end at any time (upstream's end every 15 to 60
 * seconds and lose deletions in between): each round begins with everything, which counts as the truth.
 */
import { Effect, Equal, Stream } from "effect"
import type * as Model from "../../core/nsm/Model.ts"
import * as Table from "../../core/nsm/Table.ts"
import type * as Grpc from "../grpc/Client.ts"
import type { NsmError } from "./Error.ts"
import * as Peer from "./Peer.ts"

const pause = "500 millis"
/** A deletion that falls between the snapshot and the watch of a round is seen in the next round at the latest. */
const roundLength = "60 seconds"

/** The endpoints that offer the service, sorted by name, after each change. Times of expiry are left out. */
export const endpoints = (
  channel: Grpc.Client,
  networkService: string
): Stream.Stream<ReadonlyArray<Model.Endpoint>> => {
  const template = { ...Peer.anyEndpoint, networkServices: [networkService] }
  const round: Stream.Stream<Found, NsmError> = Stream.unwrap(Effect.map(
    Stream.runFold(Peer.findEndpoints(channel, template, false), () => nothing, apply),
    (found) =>
      Stream.concat(
        Stream.succeed(found),
        Peer.findEndpoints(channel, template, true).pipe(
          Stream.mapAccum(() => found, (before, change) => {
            const after = apply(before, change)
            return [after, [after]] as const
          }),
          Stream.interruptWhen(Effect.sleep(roundLength))
        )
      )
  ))
  return quietly(round).pipe(
    Stream.concat(Stream.fromEffectDrain(Effect.sleep(pause))),
    Stream.forever,
    Stream.changesWith((before: Found, after: Found) => Equal.equals(before, after)),
    Stream.map((set) => Object.values(set).toSorted((a, b) => a.name < b.name ? -1 : 1))
  )
}

type Found = Table.Table<Model.Endpoint>
const nothing: Found = {}

const apply = (set: Found, { deleted, endpoint }: Peer.Found): Found => {
  const { labels, name, networkServices, url } = endpoint
  return deleted ? Table.remove(set, name) : Table.set(set, name, { name, networkServices, labels, url })
}

const quietly = <A>(stream: Stream.Stream<A, NsmError>): Stream.Stream<A> =>
  Stream.catch(
    stream,
    (error) => Stream.fromEffectDrain(Effect.logDebug(`The registry is asked again: ${error.message}`))
  )
