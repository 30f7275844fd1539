/**
 * The monitor stream that every hop serves.
 *
 * One reader follows the connections and tells each monitor of those that it asked for, found by the id of a segment in
 * their path, so that a change costs the same however many monitors there are. A monitor that is read slowly skips what
 * lies between, never the last: what waits for it are at most the connections it asked for.
 */
import { Effect, Queue, type Scope, Stream } from "effect"
import * as Model from "../../core/nsm/Model.ts"
import * as Monitor from "../../core/nsm/Monitor.ts"
import type { ConnectionEvent, MonitorScopeSelector } from "../../proto/gen/connection.ts"
import type * as GrpcError from "../grpc/Error.ts"
import type * as Runner from "../runtime/Runner.ts"
import * as Wire from "./Wire.ts"

/** The monitor stream over those of the connections that the caller may see. */
export type Monitors = (
  selector: MonitorScopeSelector,
  sees: Effect.Effect<(connection: Model.Connection) => boolean, GrpcError.GrpcError>
) => Stream.Stream<ConnectionEvent, GrpcError.GrpcError>

/** One stream: which connections changed since it was told last. */
interface Listener {
  readonly changed: Set<string>
  readonly wake: () => void
}

/** Follows the connections of a machine for the life of the scope. */
export const make = <S, E>(
  running: Runner.Running<S, E>,
  connections: (state: S) => Iterable<readonly [id: string, connection: Model.Connection]>
): Effect.Effect<Monitors, never, Scope.Scope> =>
  Effect.gen(function*() {
    const present = new Map<string, Model.Connection>()
    /** By the ids of the segments of their paths. */
    const passing: Index<string> = new Map()
    /** By the id of a segment that the selector asks for, or `everything`. */
    const listeners: Index<Listener> = new Map()
    let seen: S | undefined

    const tell = (id: string, key: string) => {
      for (const { changed, wake } of listeners.get(key) ?? []) {
        changed.add(id)
        wake()
      }
    }
    const put = (id: string, connection: Model.Connection | undefined) => {
      const before = keysOf(present.get(id))
      const after = keysOf(connection)
      for (const key of before) if (!after.has(key)) remove(passing, key, id)
      for (const key of after) add(passing, key, id)
      if (connection === undefined) present.delete(id)
      else present.set(id, connection)
      for (const key of new Set([...before, ...after])) tell(id, key)
    }
    const catchUp = () => {
      const state = running.current()
      if (state === seen) return
      seen = state
      const found = new Set<string>()
      for (const [id, connection] of connections(state)) {
        found.add(id)
        if (present.get(id) !== connection) put(id, connection)
      }
      if (found.size === present.size) return
      for (const id of present.keys()) if (!found.has(id)) put(id, undefined)
    }
    const listen = (key: string) =>
      Effect.gen(function*() {
        const signals = yield* Queue.sliding<void>(1)
        const listener: Listener = { changed: new Set(), wake: () => void Queue.offerUnsafe(signals, undefined) }
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            catchUp()
            add(listeners, key, listener)
          }),
          () => Effect.sync(() => remove(listeners, key, listener))
        )
        return { signals, changed: listener.changed }
      })

    // Many changes at once are one look.
    yield* running.changes.pipe(
      Stream.runForEach(() => Effect.andThen(Effect.sync(catchUp), Effect.sleep(pause))),
      Effect.forkScoped
    )

    return (message, sees) =>
      Stream.unwrap(Effect.gen(function*() {
        const isSeen = yield* sees
        const selector = Wire.selectorFrom(message)
        const key = selector.segments.find(({ id }) => id !== "")?.id ?? everything
        const { changed, signals } = yield* listen(key)
        const isTold = (connection: Model.Connection) => isSeen(connection) && Model.selects(selector, connection)
        const told = new Map<string, Model.Connection>()
        const news = () => {
          const before = pick(told, changed)
          const after = pick(present, changed, isTold)
          changed.clear()
          for (const id of Object.keys(before)) told.delete(id)
          for (const [id, connection] of Object.entries(after)) told.set(id, connection)
          return Monitor.changes(selector, before, after)
        }
        const first = pick(present, passing.get(key) ?? [], isTold)
        for (const [id, connection] of Object.entries(first)) told.set(id, connection)
        return Stream.concat(
          Stream.make(Monitor.initial(selector, first)),
          Stream.fromQueue(signals).pipe(Stream.flatMap(() => Stream.fromIterable(news())))
        ).pipe(Stream.map(Wire.eventTo))
      }))
  })

const pause = "5 millis"
const everything = ""

type Index<A> = Map<string, Set<A>>

const add = <A>(index: Index<A>, key: string, value: A): void => {
  index.set(key, (index.get(key) ?? new Set()).add(value))
}

const remove = <A>(index: Index<A>, key: string, value: A): void => {
  const values = index.get(key)
  values?.delete(value)
  if (values?.size === 0) index.delete(key)
}

const keysOf = (connection: Model.Connection | undefined): Set<string> =>
  new Set(connection === undefined ? [] : [everything, ...connection.path.segments.map(({ id }) => id)])

const pick = (
  connections: ReadonlyMap<string, Model.Connection>,
  ids: Iterable<string>,
  isWanted: (connection: Model.Connection) => boolean = () => true
): Monitor.Connections =>
  Object.fromEntries([...ids].flatMap((id) => {
    const connection = connections.get(id)
    return connection !== undefined && isWanted(connection) ? [[id, connection]] : []
  }))
