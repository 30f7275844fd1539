/** The smallest machine with every trait: the specimen on which the runner, the laws and the transcripts are tested. */
import { Schema } from "effect"
import * as Machine from "../../core/Machine.ts"

export const State = Schema.Struct({
  call: Machine.Call,
  retryAt: Schema.optionalKey(Machine.Millis),
  phase: Schema.Literals(["dialling", "waiting", "talking", "closed"])
})
export const Event = Schema.TaggedUnion({
  DialSucceeded: { call: Machine.Call },
  DialFailed: { call: Machine.Call },
  HangUpRequested: {}
})
export const Command = Schema.TaggedUnion({ Dial: { call: Machine.Call }, Cancel: { call: Machine.Call } })
export type State = typeof State.Type
export type Event = typeof Event.Type
export type Command = typeof Command.Type
export type Step = Machine.Step<State, Command>

/** Dials until it is answered, every 100 ms at most; hanging up cancels. */
export const phone = Machine.make({
  name: "phone",
  Input: Schema.Struct({}),
  State,
  Event,
  Command,
  init: (): Step => [{ phase: "dialling", call: 0 }, [{ _tag: "Dial", call: 0 }]],
  step: (state, event, now): Step => {
    switch (event._tag) {
      case "DialSucceeded":
        return state.phase === "dialling" && event.call === state.call
          ? [{ ...state, phase: "talking" }, []]
          : Machine.stay(state)
      case "DialFailed":
        return state.phase === "dialling" && event.call === state.call
          ? [{ ...state, phase: "waiting", retryAt: now + 100 }, []]
          : Machine.stay(state)
      case "HangUpRequested":
        return state.phase === "closed"
          ? Machine.stay(state)
          : [{ phase: "closed", call: state.call }, [{ _tag: "Cancel", call: state.call }]]
      case "Woken":
        return state.retryAt === undefined || now < state.retryAt
          ? Machine.stay(state)
          : [{ phase: "dialling", call: state.call + 1 }, [{ _tag: "Dial", call: state.call + 1 }]]
    }
  },
  wake: (state) => state.retryAt
})
