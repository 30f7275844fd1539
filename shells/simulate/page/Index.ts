/** The trace with what the page looks up all the time. */
import type { Entry, MessageEntry, StepEntry, Trace } from "./Model.ts"

export type Filter = "steps" | "timers" | "messages" | "notes"

export interface Index {
  readonly trace: Trace
  /** Of each lane, the entries on it in order; messages are between lanes and not among them. */
  readonly onLane: ReadonlyArray<ReadonlyArray<number>>
  readonly messages: ReadonlyArray<number>
  /** What each entry led to. */
  readonly effects: ReadonlyArray<ReadonlyArray<number>>
  /** Where each lane is alive: from and to, in milliseconds. */
  readonly lives: ReadonlyArray<ReadonlyArray<readonly [from: number, to: number]>>
  readonly faults: ReadonlyArray<number>
  readonly violations: ReadonlyArray<number>
  /** For each of the two scales the position of every entry. */
  readonly positions: { readonly time: Float64Array; readonly events: Float64Array }
  /** Likewise where messages arrive; NaN where nothing does. */
  readonly arrivals: { readonly time: Float64Array; readonly events: Float64Array }
}

export type ScaleName = keyof Index["positions"]

export const indexOf = (trace: Trace): Index => {
  const { endMs, entries, lanes } = trace
  const onLane = lanes.map((): Array<number> => [])
  const effects = entries.map((): Array<number> => [])
  const lives = lanes.map((): Array<[number, number]> => [])
  const messages: Array<number> = []
  const faults: Array<number> = []
  const violations: Array<number> = []
  const time = new Float64Array(entries.length)
  const events = new Float64Array(entries.length)
  let position = 0
  let before = 0
  for (const [i, entry] of entries.entries()) {
    // Rare events get room, but a pause of a minute only little more than one of a second.
    const cause = entry.cause === undefined ? undefined : entries[entry.cause]
    const isSent = entry.kind === "message" && cause?.kind === "step" && cause.at === entry.at &&
      cause.lane === entry.lane
    // A message leaves where the step is that sent it.
    if (!isSent) position += 1 + Math.log2(1 + (entry.at - before) / 20)
    before = entry.at
    time[i] = entry.at
    events[i] = isSent ? events[entry.cause ?? 0] ?? position : position
    if (entry.cause !== undefined) effects[entry.cause]?.push(i)
    if (entry.kind === "message") messages.push(i)
    else onLane[entry.lane]?.push(i)
    if (entry.kind === "fault") faults.push(i)
    if (entry.kind === "violation") violations.push(i)
    if (entry.kind === "started") lives[entry.lane]?.push([entry.at, endMs])
    if (entry.kind === "ended") {
      const life = lives[entry.lane]?.at(-1)
      if (life !== undefined) life[1] = entry.at
    }
  }
  const index: Index = {
    trace,
    onLane,
    messages,
    effects,
    lives,
    faults,
    violations,
    positions: { time, events },
    arrivals: { time: new Float64Array(entries.length).fill(NaN), events: new Float64Array(entries.length).fill(NaN) }
  }
  for (const i of messages) {
    const entry = entries[i]
    if (entry?.kind !== "message" || entry.arrivedAt === undefined) continue
    const first = effects[i]?.find((effect) => entries[effect]?.at === entry.arrivedAt)
    index.arrivals.time[i] = entry.arrivedAt
    index.arrivals.events[i] = first === undefined
      ? positionOf(index, "events", entry.arrivedAt)
      : events[first] ?? NaN
  }
  return index
}

/** The first index at which the values reach the wanted one. */
export const lowerBound = (length: number, valueAt: (i: number) => number, wanted: number): number => {
  let [low, high] = [0, length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (valueAt(middle) < wanted) low = middle + 1
    else high = middle
  }
  return low
}

/** The position of a moment that need not have an entry. */
export const positionOf = ({ positions, trace: { entries } }: Index, scale: ScaleName, at: number): number => {
  if (scale === "time") return at
  const next = lowerBound(entries.length, (i) => entries[i]?.at ?? 0, at)
  const [after, previous] = [entries[next], entries[next - 1]]
  const [high, low] = [positions.events[next], positions.events[next - 1]]
  if (after === undefined || high === undefined) return (positions.events.at(-1) ?? 0) + 1
  if (previous === undefined || low === undefined) return at / Math.max(1, after.at) * high
  return low + (at - previous.at) / Math.max(1, after.at - previous.at) * (high - low)
}

/** The moment at a position. */
export const momentAt = (
  { positions, trace: { endMs, entries } }: Index,
  scale: ScaleName,
  position: number
): number => {
  if (scale === "time") return position
  const next = lowerBound(entries.length, (i) => positions.events[i] ?? 0, position)
  const [after, previous] = [entries[next], entries[next - 1]]
  const [high = 0, low = 0] = [positions.events[next], positions.events[next - 1]]
  if (after === undefined) return endMs
  if (previous === undefined) return 0
  return previous.at + (position - low) / Math.max(1e-9, high - low) * (after.at - previous.at)
}

export const isTimer = (entry: Entry): entry is StepEntry => entry.kind === "step" && entry.event === "Woken"

export const filterOf = (entry: Entry): Filter =>
  entry.kind === "message" ? "messages" : entry.kind === "step" ? isTimer(entry) ? "timers" : "steps" : "notes"

export const messageText = ({ name, what }: MessageEntry): string =>
  what === "request" ? name : what === "end" ? `end of ${name || "call"}` : `${name} ${what}`

/** One line for an entry. */
export const textOf = (entry: Entry, { lanes }: Trace): string => {
  switch (entry.kind) {
    case "step":
      return entry.event === "init" ? `${entry.machine} begins` : entry.event
    case "message":
      return `${messageText(entry)} → ${lanes[entry.to]?.name}`
    default:
      return entry.text
  }
}

/** The chain of causes, nearest first. */
export const causesOf = ({ trace: { entries } }: Index, i: number): ReadonlyArray<number> => {
  const chain: Array<number> = []
  for (let at = entries[i]?.cause; at !== undefined && chain.length < 500; at = entries[at]?.cause) chain.push(at)
  return chain
}

export const secondsOf = (ms: number, digits = 3): string => (ms / 1_000).toFixed(digits)
