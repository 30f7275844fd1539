/** A machine that is broken on purpose, and ways to break one. */
import type * as Machine from "../../core/Machine.ts"
import type { Schedule } from "./Fault.ts"
import type { Machines } from "./Ground.ts"
import type * as Profiles from "./Profiles.ts"
import type * as Properties from "./Properties.ts"

export interface Mutant {
  readonly mistake: string
  readonly profile: Profiles.Name
  readonly caughtBy: Properties.Name
  readonly within: number
  /** Instead of the faults that the profile draws. */
  readonly schedule?: Schedule
  readonly machines: Partial<Machines>
}

/** The machine that hears something else than what is said; undefined: nothing. */
export const hearing = <I, S, E extends Machine.Tagged, C extends Machine.Tagged>(
  machine: Machine.Machine<I, S, E, C>,
  change: (event: E | Machine.Woken, state: S) => E | Machine.Woken | undefined
): Machine.Machine<I, S, E, C> => ({
  ...machine,
  step: (state, event, now) => {
    const heard = change(event, state)
    return heard === undefined ? [state, []] : machine.step(state, heard, now)
  }
})

/** The machine that says something else than what it means; undefined: nothing. */
export const saying = <I, S, E extends Machine.Tagged, C extends Machine.Tagged>(
  machine: Machine.Machine<I, S, E, C>,
  change: (command: C) => C | undefined
): Machine.Machine<I, S, E, C> => {
  const changed = ([state, commands]: Machine.Step<S, C>): Machine.Step<S, C> => [
    state,
    commands.flatMap((command) => change(command) ?? [])
  ]
  return {
    ...machine,
    init: (input, now) => changed(machine.init(input, now)),
    step: (state, event, now) => changed(machine.step(state, event, now))
  }
}
