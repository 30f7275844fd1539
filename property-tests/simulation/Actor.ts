/** Gives a machine life in a simulated process, as `shells/runtime/Runner.ts` does in a real one. */
import type * as Machine from "../../core/Machine.ts"
import * as Memo from "../../core/Memo.ts"
import type { Life, World } from "./World.ts"

/** What ends a command that is under way; a command without one is over at once. */
export type Stop = (() => void) | void

export type Perform<Event, Command> = (command: Command, send: (event: Event) => void) => Stop

/** Hears of a new state, of the event that led to it, and of the state before. */
export type Listener<State, Event> = (state: State, event: Event | Machine.Woken, before: State) => void

/** A machine at work. */
export interface Actor<State, Event> {
  readonly send: (event: Event) => void
  readonly current: () => State
  /** Hears of every new state until its own end; the result ends it. */
  readonly follow: (listener: Listener<State, Event>) => () => void
}

/** What looks at every step of every machine: coverage, properties, traces. */
export type Observe = (
  life: Life,
  machine: string,
  event: Machine.Tagged,
  state: unknown,
  commands: ReadonlyArray<Machine.Tagged>
) => void

/** An answer ends its command, a message of a watch does not. */
const isAnswer = Memo.text((tag: string) => /(Succeeded|Failed|Finished|Lost|Closed|Refused|Answered)$/.test(tag))

/** A machine that wakes more often than that in a second wakes in vain. */
const wakeLimit = 400

/** Starts a machine; it ends with the life. */
export const start = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  world: World,
  life: Life,
  observe: Observe,
  machine: Machine.Machine<Input, State, Event, Command>,
  input: Input,
  perform: Perform<Event, Command>,
  keyOf: (command: Command) => string | number | undefined = callOf
): Actor<State, Event> => {
  const inbox: Array<Event | Machine.Woken> = []
  const running = new Map<string | number, () => void>()
  const listeners = new Set<Listener<State, Event>>()
  let isBusy = true
  let armedAt: number | undefined
  let armed: State | undefined
  let second = -1
  let wakes = 0

  const begin = (command: Command): void => {
    const key = keyOf(command)
    if (command._tag === "Cancel") {
      if (key !== undefined) {
        running.get(key)?.()
        running.delete(key)
      }
      return
    }
    if (key !== undefined) {
      running.get(key)?.()
      running.delete(key)
    }
    const stop = perform(command, send)
    if (key !== undefined && stop !== undefined) running.set(key, stop)
  }

  const arm = (): void => {
    // What stays as it is has the deadline that it had.
    if (state === armed && armedAt !== undefined) return
    armed = state
    const deadline = machine.wake(state)
    if (deadline === undefined || (armedAt !== undefined && armedAt <= deadline)) return
    armedAt = deadline
    life.later(Math.max(1, deadline - life.now()), () => {
      if (armedAt !== deadline) return
      armedAt = undefined
      send({ _tag: "Woken" })
    })
  }

  const send = (event: Event | Machine.Woken): void => {
    if (!life.isAlive()) return
    inbox.push(event)
    if (!isBusy) drain()
  }

  const drain = (): void => {
    isBusy = true
    while (inbox.length > 0 && life.isAlive()) {
      const event = inbox.length === 1 ? inbox.pop() : inbox.shift()
      if (event === undefined) break
      if (event._tag === "Woken") countWake()
      if ("call" in event && typeof event.call === "number" && isAnswer(event._tag)) running.delete(event.call)
      const [next, commands] = machine.step(state, event, life.now())
      world.countStep()
      const before = state
      state = next
      const step = append?.(life.now(), event, next, commands)
      observe(life, machine.name, event, next, commands)
      if (next !== before) { for (const listener of listeners) listener(next, event, before) }
      for (const command of commands) {
        begin(command)
        if (step !== undefined) world.journal?.resume(step)
      }
    }
    isBusy = false
    if (life.isAlive()) arm()
  }

  const countWake = (): void => {
    const now = Math.floor(world.now() / 1_000)
    wakes = now === second ? wakes + 1 : 1
    second = now
    if (wakes > wakeLimit) {
      world.violate("no-busy-wake", `${machine.name} of ${life.name} woke ${wakes} times in a second`)
    }
  }

  const [first, commands] = machine.init(input, life.now())
  let state = first
  const append = world.journal?.open(life.name, machine, first, commands, life.now())
  observe(life, machine.name, { _tag: "init" }, state, commands)
  for (const command of commands) begin(command)
  isBusy = false
  drain()

  return {
    send,
    current: () => state,
    follow: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    }
  }
}

const callOf = (command: Machine.Tagged): number | undefined =>
  "call" in command && typeof command.call === "number" ? command.call : undefined
