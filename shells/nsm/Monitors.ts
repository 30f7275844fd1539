/** The monitor stream that every hop serves. */
import { Effect, Stream } from "effect"
import type * as Model from "../../core/nsm/Model.ts"
import * as Monitor from "../../core/nsm/Monitor.ts"
import type { ConnectionEvent, MonitorScopeSelector } from "../../proto/gen/connection.ts"
import type * as GrpcError from "../grpc/Error.ts"
import * as Wire from "./Wire.ts"

/** The events of a monitor over the connections as they change: first all of them, then what became different. */
const events = (
  connections: Stream.Stream<Monitor.Connections>,
  selector: Model.Selector
): Stream.Stream<Model.ConnectionEvent> =>
  connections.pipe(
    Stream.mapAccum(
      (): Monitor.Connections | undefined => undefined,
      (before, after) =>
        [
          after,
          before === undefined
            ? [Monitor.initial(selector, after)]
            : Monitor.changes(selector, before, after)
        ] as const
    )
  )

/** The monitor stream over those of the connections that the caller may see. */
export const serve = (
  connections: Stream.Stream<Monitor.Connections>,
  selector: MonitorScopeSelector,
  sees: Effect.Effect<(connection: Model.Connection) => boolean, GrpcError.GrpcError>
): Stream.Stream<ConnectionEvent, GrpcError.GrpcError> =>
  Stream.unwrap(Effect.map(sees, (isSeen) =>
    events(
      Stream.map(
        connections,
        (all) => Object.fromEntries(Object.entries(all).filter(([, connection]) => isSeen(connection)))
      ),
      Wire.selectorFrom(selector)
    ).pipe(Stream.map(Wire.eventTo))))
