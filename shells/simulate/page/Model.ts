/** What a trace page shows, as `TracePage.ts` writes it and the page reads it. */

/** A process with its row. */
export interface Lane {
  readonly name: string
  readonly group: Group
}

export type Group = "world" | "outside" | "frontends" | "proxies" | "targets" | "control"

interface Common {
  /** Milliseconds since the beginning. */
  readonly at: number
  readonly lane: number
  /** The entry that led to this one. */
  readonly cause?: number
}

export interface StepEntry extends Common {
  readonly kind: "step"
  readonly machine: string
  readonly event: string
  /** The event without its tag. */
  readonly fields: unknown
  readonly commands: ReadonlyArray<{ readonly name: string; readonly fields: unknown }>
  /** What is new in the state: path, before, after; an absent value is undefined. */
  readonly changes: ReadonlyArray<readonly [path: string, before: unknown, after: unknown]>
  /** When the machine wants to be woken, since the beginning. */
  readonly wake?: number
}

export interface MessageEntry extends Common {
  readonly kind: "message"
  readonly to: number
  readonly what: "request" | "answer" | "news" | "end"
  readonly name: string
  /** Absent: it never arrived. */
  readonly arrivedAt?: number
}

export interface NoteEntry extends Common {
  /** `up` and `down` are sessions of routers. */
  readonly kind: "started" | "ended" | "fault" | "violation" | "up" | "down"
  readonly text: string
  readonly strikes: ReadonlyArray<number>
  readonly lastsMs: number
  /** Why a violated property matters. */
  readonly reason?: string
}

export type Entry = StepEntry | MessageEntry | NoteEntry

export interface Trace {
  readonly title: string
  /** The command that makes this trace again. */
  readonly command: string
  readonly facts: ReadonlyArray<readonly [name: string, value: string]>
  readonly endMs: number
  readonly lanes: ReadonlyArray<Lane>
  readonly entries: ReadonlyArray<Entry>
}
