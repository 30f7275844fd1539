import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream, SubscriptionRef } from "effect"
import { readFileSync } from "node:fs"
import * as Seed from "../../core/Seed.ts"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as Client from "../grpc/Client.ts"
import { streamOf, until, when, world } from "./Rig.ts"
import * as Sidecar from "./Sidecar.ts"

const { OPEN } = Tap.StreamStatus_Status

/** Whole numbers below a limit, the same in each run. */
const numbers = (seed: number) => {
  let state = seed
  return (below: number): number => {
    const [value, after] = Seed.between(state, 0, below - 1)
    state = after
    return value
  }
}

const fullName = ({ conduit, name }: Tap.Stream) => `${name}.${conduit?.name}.${conduit?.trench?.name}`

/** The resident memory of a process in MB. */
const memory = (pid: number): number =>
  Number(/VmRSS:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024

const watch = (client: Client.Client, filter: object) =>
  client.stream(Tap.TapDefinition, "watch", Tap.Stream.fromPartial(filter))

describe("The TAPA under load", () => {
  it.live(
    "1 000 opens and closes in random order end in what was asked for last, at the NSP and at NSM as well",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const { nsm, registry, start } = yield* world
        const names = ["s0", "s1", "s2", "s3", "s4", "s5"]
        yield* SubscriptionRef.set(registry.streams, names)
        const { client } = yield* start
        yield* until(client, () => true)
        const below = numbers(11)
        const wanted = new Map<string, boolean>()
        const asks = Array.from({ length: 1_000 }, () => {
          const stream = streamOf(names[below(names.length)] ?? "", "t", `c${below(4)}`)
          const action = below(2) === 0 ? "open" as const : "close" as const
          wanted.set(fullName(stream), action === "open")
          return client.call(Tap.TapDefinition, action, stream, { timeoutMs: 60_000 })
        })
        // The calls leave in this order, but up to a hundred of them wait for their answers at the same time.
        yield* Effect.all(asks, { concurrency: 100, discard: true })
        const expected = [...wanted].filter(([, isOpen]) => isOpen).map(([name]) => name).toSorted()
        const last = yield* client.stream(Tap.TapDefinition, "watch", Tap.Stream.fromPartial({})).pipe(
          Stream.takeUntil(({ streamStatus }) =>
            streamStatus.length === expected.length && streamStatus.every(({ status }) => status === OPEN)
          ),
          Stream.runLast,
          Effect.timeout("30 seconds"),
          Effect.flatMap(Effect.fromOption)
        )
        const seen = last.streamStatus.map(({ stream }) => stream === undefined ? "" : fullName(stream))
        assert.deepStrictEqual(seen.toSorted(), expected)
        yield* when(registry.targets, (targets) =>
          targets.every(({ status }) => status === 0)
          && targets.map(({ stream }) => `${stream?.name}.${stream?.conduit?.name}.t`).toSorted().join() ===
            expected.join())
        const conduits = new Set(expected.map((name) => name.split(".")[1]))
        yield* when(nsm.connections, (all) => Object.values(all).length === conduits.size)
      })),
    90_000
  )

  it.live(
    "100 watchers, ten of which never read, cost it little memory, and each that reads sees the last list",
    () =>
      Effect.scoped(Effect.gen(function*() {
        // With a small heap what is kept shows: garbage would be collected late otherwise.
        const NODE_OPTIONS = "--max-old-space-size=64 --max-semi-space-size=2"
        const child = yield* Sidecar.start({ MERIDIO_LOG_LEVEL: "INFO", NODE_OPTIONS })
        yield* child.ready
        const base = Array.from({ length: 150 }, (_, i) => streamOf(`base-${i}`))
        yield* Effect.forEach(base, (stream) => child.client.call(Tap.TapDefinition, "open", stream), {
          concurrency: 50
        })
        // Each dead watcher has a connection of its own, as its silence would also hold back the others.
        const dead = yield* Effect.forEach(Array.from({ length: 10 }), () =>
          Effect.gen(function*() {
            const client = yield* Client.make({ target: child.target, waitForReady: true })
            const pull = yield* Stream.toPull(watch(client, {}))
            yield* pull
            return pull
          }))
        const live = yield* Effect.forEach(Array.from({ length: 90 }), (_, i) =>
          Effect.forkScoped(
            watch(child.client, i < 3 ? {} : { name: "last" }).pipe(
              Stream.takeUntil(({ streamStatus }) => streamStatus.some(({ stream }) => stream?.name === "last")),
              Stream.runLast
            )
          ))
        const below = numbers(5)
        const churn = Effect.suspend(() => {
          const action = below(2) === 0 ? "open" as const : "close" as const
          return child.client.call(Tap.TapDefinition, action, streamOf(`s${below(50)}`))
        })
        yield* Effect.repeat(churn, { times: 1_000 })
        const before = memory(child.pid)
        yield* Effect.repeat(churn, { times: 1_000 })
        yield* child.client.call(Tap.TapDefinition, "open", streamOf("last"))
        for (const fiber of live) {
          yield* Effect.timeout(Fiber.join(fiber), "30 seconds")
        }
        // Unread lists would make about 500 times 10 kB for each of the ten.
        assert.isBelow(memory(child.pid) - before, 25)
        for (const pull of dead) {
          let messages = 0
          let last: Tap.StreamResponse | undefined
          while (
            !last?.streamStatus.some(({ stream }) => stream?.name === "last")
          ) {
            for (const response of yield* Effect.timeout(pull, "10 seconds")) {
              messages++
              last = response
            }
          }
          assert.isBelow(messages, 300, "what nobody read was replaced, not kept")
        }
      })),
    90_000
  )
})
