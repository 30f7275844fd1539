/**
 * The ground of a simulation: virtual time, one seed, processes that live and die, and the journal of what happened.
 *
 *     agenda (heap) ──next──▶ now ──▶ a life of a process acts ──▶ agenda
 *
 * 1. Equal seeds and equal schedules give equal traces, byte for byte: nothing here reads a clock or a random number.
 * 2. A crash takes everything a process has in memory: what its life planned never happens. What a program keeps outside
 *    of its `boot` is its disk, and stays.
 * 3. The latency of messages and the draws of processes come from two generators, so that a shorter schedule of faults
 *    changes as little as possible.
 */
import * as Seed from "../../core/Seed.ts"
import type * as Api from "./Api.ts"
import * as Heap from "./Heap.ts"
import * as Journal from "./Journal.ts"

export interface Options {
  readonly seed: Seed.Seed
  /** Whether a journal is kept; it costs time and memory. */
  readonly trace: boolean
}

/** A property that does not hold. */
export interface Violation {
  readonly at: number
  readonly property: string
  readonly detail: string
}

/** From start to crash: everything that a process has in memory hangs on it. */
export interface Life {
  readonly name: string
  readonly isAlive: () => boolean
  /** The clock of the process, which may have jumped. */
  readonly now: () => number
  readonly draw: (low: number, high: number) => number
  /** Whether what it asks of its machine fails: disk, kernel, other programs. */
  readonly isBroken: () => boolean
  /** Happens unless the life has ended. */
  readonly later: (ms: number, run: () => void) => void
  /** What the process serves; replaced as a whole. */
  api: Api.Api
  /** Asks it to end in order; calls back when it has. Absent: it is killed. */
  shutdown?: (done: () => void) => void
  /** Hears that its machine begins to fail. */
  broken?: () => void
}

/** A program: what it keeps outside of `boot` survives its lives. */
export interface Program {
  readonly name: string
  readonly boot: (life: Life) => void
}

interface Process {
  readonly program: Program
  life: Life | undefined
  skewMs: number
  brokenUntil: number
}

/** Milliseconds since the epoch at which every simulation begins. */
export const begin = 1_700_000_000_000
/** How long a process may take to end in order before it is killed. */
const graceMs = 30_000

export type World = ReturnType<typeof make>

/** Draws from a generator that moves on. */
const drawer = (seed: Seed.Seed) => (low: number, high: number): number => {
  const [value, after] = Seed.between(seed, low, high)
  seed = after
  return value
}

export const make = ({ seed, trace }: Options) => {
  const [forMessages, forLives] = Seed.split(seed)
  const [drawMessage, drawLife] = [drawer(forMessages), drawer(forLives)]
  const agenda = Heap.make()
  const processes = new Map<string, Process>()
  const journal = trace ? Journal.make(() => elapsed) : undefined
  const violations: Array<Violation> = []
  const listeners: Array<(process: string, isAlive: boolean) => void> = []
  /** Since the beginning, which is a small number: those of an epoch are allocated one by one. */
  let elapsed = 0
  let events = 0
  let steps = 0

  const later = (ms: number, run: () => void, owner?: Life): void =>
    agenda.add(elapsed + Math.max(0, ms), journal === undefined ? run : journal.carry(run), owner)

  const start = (name: string): void => {
    const process = processes.get(name)
    if (process === undefined || process.life !== undefined) return
    const life: Life = {
      name,
      isAlive: () => process.life === life,
      now: () => begin + elapsed + process.skewMs,
      draw: drawLife,
      isBroken: () => elapsed < process.brokenUntil,
      later: (ms, run) => later(ms, run, life),
      api: {}
    }
    process.life = life
    journal?.note(name, "Started", `${name} starts`)
    process.program.boot(life)
    for (const listener of listeners) listener(name, true)
  }

  const crash = (name: string): void => {
    const process = processes.get(name)
    if (process?.life === undefined) return
    process.life = undefined
    journal?.note(name, "Ended", `${name} ends`)
    for (const listener of listeners) listener(name, false)
  }

  return {
    now: () => begin + elapsed,
    /** Time since the beginning. */
    elapsed: () => elapsed,
    drawMessage,
    later: (ms: number, run: () => void): void => later(ms, run),
    /** What happened so far, if it is kept. */
    journal,
    /** Notes a violation; the first one of a property counts. */
    violate: (property: string, detail: string): void => {
      if (violations.some((one) => one.property === property)) return
      violations.push({ at: elapsed, property, detail })
      journal?.note("world", "Violation", `${property}: ${detail}`)
    },
    violations: (): ReadonlyArray<Violation> => violations,
    countStep: (): void => void steps++,
    steps: () => steps,
    events: () => events,
    pending: () => agenda.size(),
    add: (program: Program): void =>
      void processes.set(program.name, { program, life: undefined, skewMs: 0, brokenUntil: 0 }),
    names: (): ReadonlyArray<string> => [...processes.keys()],
    life: (name: string): Life | undefined => processes.get(name)?.life,
    isAlive: (name: string): boolean => processes.get(name)?.life !== undefined,
    start,
    crash,
    /** Ends it for good. */
    remove: (name: string): void => {
      crash(name)
      processes.delete(name)
    },
    /** Ends a process in order, or by force after a while. */
    stop: (name: string, done: () => void): void => {
      const life = processes.get(name)?.life
      if (life === undefined) return done()
      let ended = false
      const end = (): void => {
        if (ended) return
        ended = true
        if (life.isAlive()) crash(name)
        done()
      }
      if (life.shutdown === undefined) return end()
      life.shutdown(end)
      later(graceMs, end)
    },
    /** The wall clock of a process leaps, to that far from the true time. */
    jump: (name: string, ms: number): void => {
      const process = processes.get(name)
      if (process !== undefined) process.skewMs = ms
    },
    /** What a process asks of its machine fails for so long. */
    break: (name: string, forMs: number): void => {
      const process = processes.get(name)
      if (process === undefined) return
      process.brokenUntil = elapsed + forMs
      process.life?.broken?.()
    },
    /** Hears of every start and end. */
    onLife: (listener: (process: string, isAlive: boolean) => void): void => void listeners.push(listener),
    /** Lets everything happen that is due until then; false once there were too many events. */
    run: (until: number, maxEvents = Number.POSITIVE_INFINITY): boolean => {
      while (true) {
        const next = agenda.next()
        if (next === undefined || next > until) break
        if (events >= maxEvents) return false
        events++
        elapsed = Math.max(elapsed, next)
        agenda.run()
      }
      elapsed = Math.max(elapsed, until)
      return true
    }
  }
}
