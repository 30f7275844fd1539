/**
 * Who watches which targets. A change wakes those whose filter names its kind and stream, or leaves them open, and
 * nobody else, so that its cost does not grow with the trench.
 */
import { Effect, Queue, Stream } from "effect"
import type { Target } from "../../core/config/index.ts"
import { Registry } from "../../core/nsp/index.ts"

export interface Watchers {
  /** Wakes those who may see the target. */
  readonly wake: (target: Target.Target) => void
  /** What `look` finds now and then after each change, without repetitions. A slow reader misses states, not the last. */
  readonly watch: <A>(filter: Registry.Filter, look: () => A) => Stream.Stream<A>
}

export const make = (): Watchers => {
  // By the pattern of the filter.
  const watching = new Map<string, Set<Queue.Queue<void>>>()
  const enter = (key: string) =>
    Effect.map(Queue.sliding<void>(1), (queue) => {
      const others = watching.get(key)
      if (others === undefined) watching.set(key, new Set([queue]))
      else others.add(queue)
      // The first look is due at once.
      Queue.offerUnsafe(queue, undefined)
      return queue
    })
  const leave = (key: string) => (queue: Queue.Queue<void>) =>
    Effect.sync(() => {
      const others = watching.get(key)
      others?.delete(queue)
      if (others?.size === 0) watching.delete(key)
    })
  return {
    wake: (target) => {
      for (const key of Registry.patternsOf(target)) {
        for (const queue of watching.get(key) ?? []) Queue.offerUnsafe(queue, undefined)
      }
    },
    watch: (filter, look) => {
      const key = Registry.patternOf(filter)
      return Stream.unwrap(Effect.map(Effect.acquireRelease(enter(key), leave(key)), Stream.fromQueue)).pipe(
        Stream.map(look),
        Stream.changes
      )
    }
  }
}
