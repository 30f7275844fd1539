import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"
import { machineLaws, violation } from "./MachineLaws.ts"
import { type Command, type Event, phone, type Step } from "./Phone.ts"
import { planLaws } from "./PlanLaws.ts"
import { retell, transcript } from "./Transcript.ts"

const outcomes = (command: Command): ReadonlyArray<Event> =>
  command._tag === "Dial"
    ? [{ _tag: "DialSucceeded", call: command.call }, { _tag: "DialFailed", call: command.call }]
    : []

const options = {
  outcomes,
  close: {
    event: { _tag: "HangUpRequested" } as const,
    isClosed: (state: { phase: string }) => state.phase === "closed"
  }
}

machineLaws(phone, options)

transcript(phone, new URL("./stories/phone.txt", import.meta.url), (state) => `${state.phase} call=${state.call}`)

describe("The laws of machines catch", () => {
  const mutants: Record<string, Partial<typeof phone>> = {
    "a step that throws": {
      step: (state, event, now) => {
        if (event._tag === "HangUpRequested") throw new Error("boom")
        return phone.step(state, event, now)
      }
    },
    "a no-op with a new reference": {
      step: (state, event, now): Step => {
        const [next, commands] = phone.step(state, event, now)
        return [{ ...next }, commands]
      }
    },
    "a call used twice": {
      step: (state, event, now): Step =>
        event._tag === "Woken" && state.retryAt !== undefined
          ? [{ phase: "dialling", call: state.call }, [{ _tag: "Dial", call: state.call }]]
          : phone.step(state, event, now)
    },
    "a busy wake": {
      step: (state, event, now): Step => event._tag === "Woken" ? [state, []] : phone.step(state, event, now)
    },
    "a machine that never closes": {
      step: (state, event, now): Step => event._tag === "HangUpRequested" ? [state, []] : phone.step(state, event, now)
    },
    "a state outside of its schema": {
      step: (state, event, now): Step => {
        const [next, commands] = phone.step(state, event, now)
        return next.phase === "talking" ? [{ ...next, call: -1 }, commands] : [next, commands]
      }
    }
  }
  for (const [name, mutation] of Object.entries(mutants)) {
    it.effect(name, () =>
      Effect.gen(function*() {
        assert.isDefined(yield* violation({ ...phone, ...mutation }, options))
      }))
  }
})

describe("A transcript", () => {
  it("begins with init", () => {
    assert.throws(() => retell(phone, "10 > HangUpRequested", String), /begins with init/)
  })

  it("refuses an event the machine does not know", () => {
    assert.throws(() => retell(phone, "0 > init\n10 > Sing", String))
  })
})

// The smallest plan: make one set of numbers equal to another; odd numbers belong to somebody else.
const isOurs = (n: number): boolean => n % 2 === 0
const Numbers = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 12 })))
const unique = Arbitrary.map(Arbitrary.schema(Numbers), (numbers) => [...new Set(numbers)])
const ours = Arbitrary.map(unique, (numbers) => numbers.filter(isOurs))

planLaws({
  name: "numbers",
  plan: (desired: ReadonlyArray<number>, observed: ReadonlyArray<number>) => [
    ...desired.filter((n) => !observed.includes(n)).toSorted((a, b) => a - b).map((n) => ({ add: true, n })),
    ...observed.filter((n) => isOurs(n) && !desired.includes(n)).map((n) => ({ add: false, n }))
  ]
}, {
  desired: ours,
  observed: unique,
  apply: (observed, { add, n }) => add ? [...observed, n] : observed.filter((other) => other !== n),
  outcome: (observed) => observed.filter(isOurs).toSorted((a, b) => a - b),
  foreign: (observed) => observed.filter((n) => !isOurs(n)),
  permute: (desired) => desired.toReversed()
})
