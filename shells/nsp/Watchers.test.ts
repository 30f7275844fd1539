import { assert, it } from "@effect/vitest"
import { Effect, Queue, Stream } from "effect"
import type { Registry } from "../../core/nsp/index.ts"
import * as Watchers from "./Watchers.ts"

const key = (stream: number) => ({ trench: "t", conduit: "c", stream: `s${stream}` })

it.live("of 1 000 watchers of 100 streams, a change makes those of its stream look, once each", () =>
  Effect.gen(function*() {
    const watchers = Watchers.make()
    const looks = new Map<string, number>()
    const looked = yield* Queue.unbounded<string>()
    const watch = (who: string, filter: Registry.Filter) =>
      Effect.forkScoped(Stream.runDrain(watchers.watch(filter, () => {
        looks.set(who, (looks.get(who) ?? 0) + 1)
        Queue.offerUnsafe(looked, who)
        // Each look finds something new.
        return looks.get(who)
      })))
    for (let n = 0; n < 1000; n++) yield* watch(`s${n % 100}`, { kind: "default", status: "any", stream: key(n % 100) })
    yield* watch("frontends", { kind: "frontend", status: "any" })
    yield* watch("trench", { kind: "default", status: "any", stream: { trench: "t", conduit: "", stream: "" } })
    yield* Effect.timeout(Queue.takeN(looked, 1002), "5 seconds")
    looks.clear()
    watchers.wake({ kind: "default", stream: key(7), ips: ["10.0.0.1/24"], context: {}, status: "enabled" })
    yield* Effect.timeout(Queue.takeN(looked, 11), "5 seconds")
    // Whoever else had been woken would have looked before those who are woken now.
    watchers.wake({ kind: "frontend", ips: ["host"], context: {}, status: "enabled" })
    yield* Effect.timeout(Queue.takeN(looked, 1), "5 seconds")
    assert.deepStrictEqual(Object.fromEntries(looks), { s7: 10, trench: 1, frontends: 1 })
  }))
