import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, PubSub, Queue, Ref, Stream } from "effect"
import * as Model from "../../core/nsm/Model.ts"
import * as Registry from "../../core/nsm/Registry.ts"
import * as Monitors from "./Monitors.ts"
import * as Service from "./Service.ts"
import * as Wire from "./Wire.ts"

type Connections = ReadonlyMap<string, Model.Connection>

const connection = (client: string, mtu = 0): Model.Connection => ({
  ...Model.connection(`at-${client}`, "lb"),
  context: { ...Model.emptyContext, mtu },
  path: {
    index: 1,
    segments: [client, `at-${client}`].map((id) => ({ name: `name of ${id}`, id, token: "", metrics: {} }))
  }
})

const endpoint = (name: string, expiresAt: number): Model.Endpoint => ({
  name,
  networkServices: ["lb"],
  labels: {},
  url: "unix:///x",
  expiresAt
})

/** A machine whose state is its connections. */
const world = Effect.gen(function*() {
  const states = yield* PubSub.sliding<Connections>({ capacity: 1, replay: 1 })
  let now: Connections = new Map()
  yield* PubSub.publish(states, now)
  const set = (...connections: ReadonlyArray<Model.Connection>) =>
    Effect.suspend(() => {
      now = new Map(connections.map((one) => [one.id, one]))
      return PubSub.publish(states, now)
    })
  const running = { send: () => undefined, current: () => now, changes: Stream.fromPubSub(states), join: Effect.never }
  const monitors = yield* Monitors.make(running, (connections: Connections) => connections.entries())
  /** What a monitor of the ids hears, taken one by one. */
  const monitor = (ids: ReadonlyArray<string>, sees: (connection: Model.Connection) => boolean = () => true) =>
    Stream.toPull(monitors(
      Wire.selectorTo({ segments: ids.map((id) => ({ name: "", id, token: "" })), networkServices: [] }),
      Effect.succeed(sees)
    )).pipe(Effect.map((pull) => {
      const heard: Array<string> = []
      return Effect.gen(function*() {
        if (heard.length === 0) {
          for (const { connections, type } of (yield* pull).map(Wire.eventFrom)) {
            const told = Object.entries(connections).map(([id, { context }]) => `${id} ${context.mtu}`)
            heard.push([type, ...told.toSorted()].join(", "))
          }
        }
        return heard.shift()
      })
    }))
  return { set, monitor }
})

describe("The monitors of a hop", () => {
  it.live("E4: tell everything that was asked for at once, possibly nothing", () =>
    Effect.gen(function*() {
      const { monitor, set } = yield* world
      assert.strictEqual(yield* yield* monitor(["a"]), "Initial")
      yield* set(connection("a"), connection("b"))
      assert.strictEqual(yield* yield* monitor([]), "Initial, at-a 0, at-b 0")
      assert.strictEqual(yield* yield* monitor(["b"]), "Initial, at-b 0")
      assert.strictEqual(yield* yield* monitor(["b", "at-b"]), "Initial, at-b 0")
      assert.strictEqual(yield* yield* monitor(["at-b", "b"]), "Initial")
      assert.strictEqual(
        yield* yield* monitor([], ({ id }) => id === "at-a"),
        "Initial, at-a 0",
        "what the caller may not see is not told"
      )
    }))

  it.live("E5 E11: tell of each change and each end to those who asked for it, and to nobody else", () =>
    Effect.gen(function*() {
      const { monitor, set } = yield* world
      const [one, all] = [yield* monitor(["a"]), yield* monitor([])]
      const b = connection("b")
      yield* one
      yield* all
      yield* set(b)
      assert.strictEqual(yield* all, "Update, at-b 0")
      yield* set(connection("a", 1), b)
      assert.strictEqual(yield* all, "Update, at-a 1")
      assert.strictEqual(yield* one, "Update, at-a 1", "and nothing of b")
      yield* set()
      assert.strictEqual(yield* one, "Delete, at-a 1")
      assert.strictEqual(yield* all, "Delete, at-a 1, at-b 0")
    }))

  it.live("E12: skip what lies between for a monitor that does not read, never the last", () =>
    Effect.gen(function*() {
      const { monitor, set } = yield* world
      const [slow, fast] = [yield* monitor(["a"]), yield* monitor(["a"])]
      yield* slow
      yield* fast
      for (let mtu = 1; mtu <= 100; mtu++) {
        yield* set(connection("a", mtu))
        if (mtu % 10 === 0) yield* Effect.repeat(fast, { until: (heard) => heard === `Update, at-a ${mtu}` })
      }
      yield* set(connection("a", 101), connection("b"))
      assert.strictEqual(yield* fast, "Update, at-a 101")
      assert.strictEqual(yield* slow, "Update, at-a 101")
      yield* set(connection("b"))
      assert.strictEqual(yield* slow, "Delete, at-a 101")
    }))
})

it.live("G11: nothing queues up for a watcher of the registry that does not read; then it hears the difference", () =>
  Effect.gen(function*() {
    const registries = yield* PubSub.sliding<Registry.State>({ capacity: 1, replay: 1 })
    const publish = (...endpoints: ReadonlyArray<Model.Endpoint>) =>
      PubSub.publish(registries, {
        ...Registry.empty,
        endpoints: Object.fromEntries(endpoints.map((one) => [one.name, one]))
      })
    const heard = yield* Queue.bounded<string>(1)
    const read = yield* Ref.make(0)
    yield* publish(endpoint("gone", 1))
    yield* Effect.forkChild(Stream.runForEach(
      Service.find(Stream.fromPubSub(registries), ({ endpoints }) => endpoints, () => true),
      ({ deleted, value }) =>
        Effect.andThen(
          Queue.offer(heard, `${deleted ? "-" : "+"}${value.name} ${value.expiresAt}`),
          Ref.update(read, (n) => n + 1)
        )
    ))
    assert.strictEqual(yield* Queue.take(heard), "+gone 1")
    // The queue takes one, a second one waits to be taken; all others are behind them.
    for (let time = 1; time <= 1_000; time++) {
      yield* publish(endpoint("kept", time))
      if (time < 5) yield* Effect.yieldNow
    }
    const told: Array<string> = []
    while (told.at(-1) !== "+kept 1000") told.push(yield* Queue.take(heard))
    assert.include(told, "-gone 1")
    assert.isBelow(told.length, 20)
    assert.isTrue(Option.isNone(yield* Queue.poll(heard)))
  }))
