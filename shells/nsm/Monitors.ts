/** The monitor stream that every hop serves. */
import { Stream } from "effect"
import type * as Model from "../../core/nsm/Model.ts"
import * as Monitor from "../../core/nsm/Monitor.ts"

/** The events of a monitor over the connections as they change: first all of them, then what became different. */
export const events = (
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
