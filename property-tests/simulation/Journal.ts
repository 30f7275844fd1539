/**
 * What happened in a world, for traces and recordings: steps of machines, messages, starts and ends, sessions of
 * routers, faults, violations, and what each of them was caused by.
 *
 *     step ──command──▶ message ──arrives──▶ step ──deadline──▶ step (Woken)
 *
 * 1. An entry is caused by an entry before it: what was going on when it was planned.
 * 2. Values are kept by reference and encoded when they are asked for, so that keeping a journal is cheap.
 * 3. A world without a journal does nothing of this.
 */
import { Schema } from "effect"
import * as Machine from "../../core/Machine.ts"

/** A machine at work in one life of a process; told by number in its steps. */
export interface Actor {
  readonly process: string
  readonly machine: string
  /** Counts the lives of the process from 1. */
  readonly life: number
}

/** The values of a step, as JSON by the schemas of its machine. */
export interface Encoded {
  /** Undefined: the machine began. */
  readonly event: () => unknown
  readonly commands: () => ReadonlyArray<unknown>
  readonly state: () => unknown
}

interface Common {
  /** Milliseconds since the beginning of the world. */
  readonly at: number
  readonly process: string
  /** The index of the entry that led to this one. */
  readonly cause: number | undefined
}

export interface Step extends Common {
  readonly _tag: "Step"
  readonly actor: number
  readonly event: string
  readonly commands: ReadonlyArray<string>
  /** Whether the state is another than before. */
  readonly isNew: boolean
  /** The state after the step, as the machine holds it. */
  readonly state: unknown
  /** The clock of the process, which may have jumped. Unit: milliseconds since the epoch. */
  readonly now: Machine.Millis
  /** The deadline of the state after the step, by the clock of the process. */
  readonly wake: Machine.Millis | undefined
  readonly encoded: Encoded
}

export interface Message extends Common {
  readonly _tag: "Message"
  readonly to: string
  readonly kind: "request" | "answer" | "news" | "end"
  /** What is called, for example `nsp.register`; known when the request arrives. */
  readonly subject: { readonly name: string }
  /** Absent: it never arrived. */
  arrivedAt: number | undefined
}

export interface Note extends Common {
  /** `Up` and `Down` are sessions of routers, told on the lanes of both sides. */
  readonly _tag: "Started" | "Ended" | "Fault" | "Violation" | "Up" | "Down"
  readonly text: string
  /** The processes that a fault strikes. */
  readonly strikes: ReadonlyArray<string>
  /** How long a fault lasts. Unit: milliseconds. */
  readonly lastsMs: number
}

export type Entry = Step | Message | Note

/** Notes a step of one machine and says its index. */
export type Append<State, Event, Command> = (
  now: Machine.Millis,
  event: Event | Machine.Woken,
  state: State,
  commands: ReadonlyArray<Command>
) => number

export type Journal = ReturnType<typeof make>

export const make = (elapsed: () => number) => {
  const entries: Array<Entry> = []
  const actors: Array<Actor> = []
  const lives = new Map<string, number>()
  let cause: number | undefined

  /** Adds an entry; what follows is caused by it. */
  const add = (entry: Entry): number => cause = entries.push(entry) - 1

  return {
    entries: (): ReadonlyArray<Entry> => entries,
    actors: (): ReadonlyArray<Actor> => actors,
    /** What is planned now is caused by what goes on now. */
    carry: (run: () => void): () => void => {
      const planned = cause
      return () => {
        cause = planned
        run()
      }
    },
    /** Begins a machine with its first state and commands. */
    open: <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
      process: string,
      machine: Machine.Machine<Input, State, Event, Command>,
      first: State,
      commands: ReadonlyArray<Command>,
      now: Machine.Millis
    ): Append<State, Event, Command> => {
      const actor = actors.push({ process, machine: machine.name, life: lives.get(process) ?? 0 }) - 1
      const codec = encoder(machine)
      let last = first
      const step = (
        now: Machine.Millis,
        event: Event | Machine.Woken | undefined,
        state: State,
        commands: ReadonlyArray<Command>
      ): number => {
        const isNew = event === undefined || state !== last
        last = state
        return add({
          _tag: "Step",
          at: elapsed(),
          process,
          cause,
          actor,
          event: event?._tag ?? "init",
          commands: commands.map(({ _tag }) => _tag),
          isNew,
          state,
          now,
          wake: machine.wake(state),
          encoded: codec(event, state, commands)
        })
      }
      step(now, undefined, first, commands)
      return step
    },
    /** What follows is caused by that entry, or by none. */
    resume: (entry: number | undefined): void => {
      cause = entry
    },
    /** A message is on its way; what its arrival does is caused by it. */
    send: (
      { from, kind, subject, to }: Pick<Message, "to" | "kind" | "subject"> & { readonly from: string },
      run: () => void,
      plan: (arrive: () => void) => void,
      isHeard: () => boolean
    ): void => {
      const before = cause
      const message: Message = {
        _tag: "Message",
        at: elapsed(),
        process: from,
        cause,
        to,
        kind,
        subject,
        arrivedAt: undefined
      }
      const index = add(message)
      plan(() => {
        if (isHeard()) message.arrivedAt = elapsed()
        cause = index
        run()
      })
      cause = before
    },
    note: (
      process: string,
      _tag: Note["_tag"],
      text: string,
      strikes: ReadonlyArray<string> = [],
      lastsMs = 0
    ): void => {
      if (_tag === "Started") lives.set(process, (lives.get(process) ?? 0) + 1)
      const note: Note = {
        _tag,
        at: elapsed(),
        process,
        cause: _tag === "Fault" ? undefined : cause,
        text,
        strikes,
        lastsMs
      }
      // To violate a property leads to nothing.
      if (_tag === "Violation") entries.push(note)
      else add(note)
    }
  }
}

const encoder = <Input, State, Event extends Machine.Tagged, Command extends Machine.Tagged>(
  machine: Machine.Machine<Input, State, Event, Command>
) => {
  const encodeState = Schema.encodeSync(Schema.toCodecJson(machine.State))
  const encodeEvent = Schema.encodeSync(Schema.toCodecJson(Schema.Union([machine.Event, Machine.Woken])))
  const encodeCommand = Schema.encodeSync(Schema.toCodecJson(machine.Command))
  return (event: Event | Machine.Woken | undefined, state: State, commands: ReadonlyArray<Command>): Encoded => ({
    event: () => event === undefined ? undefined : encodeEvent(event),
    commands: () => commands.map((command) => encodeCommand(command)),
    state: () => encodeState(state)
  })
}
