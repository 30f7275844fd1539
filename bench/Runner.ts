/** Steps per second through the runner; the baseline is the bare step function in a loop. */
import { Deferred, Effect, Schema } from "effect"
import * as Machine from "../core/Machine.ts"
import * as Runner from "../shells/runtime/Runner.ts"
import * as Bench from "./Bench.ts"

const State = Schema.Struct({ count: Schema.Natural })
const Event = Schema.TaggedUnion({ Counted: {} })
const Command = Schema.TaggedUnion({ Report: {} })
type Step = Machine.Step<typeof State.Type, typeof Command.Type>

const steps = 200_000

const counter = Machine.make({
  name: "counter",
  Input: Schema.Struct({}),
  State,
  Event,
  Command,
  init: (): Step => [{ count: 0 }, []],
  step: (state, event): Step =>
    event._tag === "Woken"
      ? Machine.stay(state)
      : [{ count: state.count + 1 }, state.count + 1 === steps ? [{ _tag: "Report" }] : []],
  wake: () => undefined
})

const counted: typeof Event.Type = { _tag: "Counted" }

const bare = Effect.sync(() => {
  let [state] = counter.init({}, 0)
  for (let i = 0; i < steps; i++) state = counter.step(state, counted, Date.now())[0]
})

const throughRunner = Effect.scoped(Effect.gen(function*() {
  const done = yield* Deferred.make<void>()
  const running = yield* Runner.start(counter, {
    input: {},
    perform: () => Effect.asVoid(Deferred.succeed(done, undefined))
  })
  for (let i = 0; i < steps; i++) running.send(counted)
  yield* Deferred.await(done)
}))

export const bench: Bench.Bench = {
  name: "runner",
  summary: "steps per second through the runner, against the bare step",
  rows: Bench.rows("runner", "steps", "1/s", [
    { name: "bare step", run: Bench.perSecond(steps, bare) },
    { name: "through the runner", run: Bench.perSecond(steps, throughRunner) }
  ], 7)
}
