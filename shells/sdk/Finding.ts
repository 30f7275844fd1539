/**
 * Finding the endpoints of a service, for ever, over streams that may end at any time (upstream's end every 15 to 60
 * seconds): each round begins with the complete list; `core/nsm/Finding` decides what that means.
 */
import { Clock, Effect, Equal, Ref, Schedule, Stream } from "effect"
import * as Core from "../../core/nsm/Finding.ts"
import type * as Model from "../../core/nsm/Model.ts"
import type * as Grpc from "../grpc/Client.ts"
import * as Peer from "./Peer.ts"

const pause = "500 millis"
/** A deletion that falls between the list and the watch of a round is seen in the next round at the latest. */
const roundLength = "60 seconds"
const tick = Schedule.spaced("5 seconds")

/** The endpoints that offer the service, sorted by name, after each change. Times of expiry are left out. */
export const endpoints = (
  channel: Grpc.Client,
  networkService: string
): Stream.Stream<ReadonlyArray<Model.Endpoint>> => {
  const template = { ...Peer.anyEndpoint, networkServices: [networkService] }
  const rounds = Effect.map(Ref.make(Core.nothing), (known) => {
    const list = Effect.gen(function*() {
      const found = yield* Stream.runCollect(Peer.findEndpoints(channel, template, false))
      const now = yield* Clock.currentTimeMillis
      return yield* Ref.updateAndGet(known, (state) => Core.relist(state, found.map(({ endpoint }) => endpoint), now))
    })
    const watch = Peer.findEndpoints(channel, template, true).pipe(
      Stream.mapEffect(({ deleted, endpoint }) =>
        Ref.updateAndGet(known, (state) => Core.change(state, endpoint, deleted))
      )
    )
    const forget = Stream.fromSchedule(tick).pipe(
      Stream.mapEffect(() => Clock.currentTimeMillis),
      Stream.mapEffect((now) => Ref.updateAndGet(known, (state) => Core.forget(state, now)))
    )
    const round = Stream.concat(
      Stream.fromEffect(list),
      Stream.merge(watch, forget, { haltStrategy: "left" }).pipe(Stream.interruptWhen(Effect.sleep(roundLength)))
    )
    return round.pipe(
      Stream.catch((error) => Stream.fromEffectDrain(Effect.logDebug(`The registry is asked again: ${error.message}`))),
      Stream.concat(Stream.fromEffectDrain(Effect.sleep(pause))),
      Stream.forever
    )
  })
  return Stream.unwrap(rounds).pipe(
    Stream.map(Core.view),
    Stream.changesWith((before: ReadonlyArray<Model.Endpoint>, after: ReadonlyArray<Model.Endpoint>) =>
      Equal.equals(before, after)
    )
  )
}
