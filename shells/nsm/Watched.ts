/**
 * One namespace with ends of connections in it, watched for all of them together: how many there are, each change is
 * one look at the namespace, and what was seen then serves until the next change.
 */
import { Effect, Queue, type Scope, Stream } from "effect"
import type * as Kernel from "../../core/net/Kernel.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import type { NetlinkError } from "../netlink/NetlinkError.ts"

/** What was in a namespace when nothing had changed since. */
export interface Sight {
  /** Another number for each look at any namespace. */
  readonly version: number
  readonly snapshot: Kernel.Snapshot
}

export interface Watched {
  /** Completes when no link carries the alias any more, or nobody keeps the namespace. */
  readonly lost: (alias: string) => Effect.Effect<void>
  /** Whether nobody kept the namespace any more, or it could not be watched: then it has to be watched anew. */
  readonly isOver: () => boolean
  /** What is in the namespace; undefined while a change is not looked at yet. Neighbours may be older. */
  readonly sight: () => Sight | undefined
}

interface Waiter {
  readonly alias: string
  readonly resume: () => void
}

let looks = 0

/** How long changes are collected before the look at them. */
const pause = "100 millis"

/** Watches the namespace with the URL; `visible` lists those that a process or a name keeps alive. */
export const make = (
  url: string,
  visible: Effect.Effect<ReadonlyMap<string, string>>
): Effect.Effect<Watched, Namespace.NamespaceError | NetlinkError, Scope.Scope> =>
  Effect.gen(function*() {
    const { path } = yield* Namespace.resolve(url)
    const netlink = yield* Netlink.make(path)
    const signals = yield* Queue.sliding<void>(1)
    const waiters = new Set<Waiter>()
    let sight: Sight | undefined
    let changes = 0
    let isOver = false

    const look = Effect.gen(function*() {
      const before = changes
      const snapshot = yield* netlink.snapshot
      if (changes === before) sight = { version: looks++, snapshot }
      const aliases = new Set(snapshot.links.map(({ alias }) => alias))
      for (const { alias, resume } of waiters) if (!aliases.has(alias)) resume()
    })
    const hear = Stream.runForEach(netlink.changes, () =>
      Effect.sync(() => {
        changes++
        sight = undefined
        Queue.offerUnsafe(signals, undefined)
      }))
    const see = Stream.runForEach(Stream.fromQueue(signals), () => Effect.andThen(Effect.sleep(pause), look))
    yield* Effect.raceFirst(Effect.raceFirst(hear, see), gone(url, visible)).pipe(
      Effect.ignore,
      Effect.andThen(Effect.sync(() => {
        isOver = true
        sight = undefined
        for (const { resume } of waiters) resume()
      })),
      Effect.forkScoped
    )
    return {
      sight: () => sight,
      isOver: () => isOver,
      lost: (alias) =>
        Effect.callback<void>((resume) => {
          if (isOver) return resume(Effect.void)
          const waiter: Waiter = { alias, resume: () => resume(Effect.void) }
          waiters.add(waiter)
          // It may be lost already.
          Queue.offerUnsafe(signals, undefined)
          return Effect.sync(() => waiters.delete(waiter))
        })
    }
  })

const gone = (url: string, visible: Effect.Effect<ReadonlyMap<string, string>>): Effect.Effect<void> =>
  Effect.sleep("1 second").pipe(
    Effect.andThen(visible),
    Effect.flatMap((namespaces) => namespaces.has(url) ? gone(url, visible) : Effect.void)
  )
