/** What can be done to simulated trenches, as data: by nature, by its operator, by its applications. */
import { Schema } from "effect"
import type * as Config from "../../core/config/Model.ts"
import * as Machine from "../../core/Machine.ts"
import type * as Cluster from "./Cluster.ts"
import * as Manifests from "./Manifests.ts"

const Process = Schema.String
const Ms = Schema.Natural
/** Counts from 0; absent: the first one. */
const Trench = Schema.optionalKey(Schema.Natural)

export const Fault = Schema.TaggedUnion({
  /** The process dies without a word and starts again, with its disk alone. */
  Crash: { process: Process, downMs: Ms },
  /** It is asked to end, ends or is killed, and starts again: an upgrade. */
  Restart: { process: Process, pauseMs: Ms },
  /** No message gets through between the two; connections stay until their keepalive. */
  Part: { a: Process, b: Process, forMs: Ms },
  /** Every connection between the two breaks. */
  Cut: { a: Process, b: Process },
  /** All messages are slow. */
  Slow: { forMs: Ms, lowMs: Ms, highMs: Ms },
  /** What the process asks of its machine fails: disk, kernel, BIRD. Changes stop half-way; BIRD may die. */
  Break: { process: Process, forMs: Ms },
  /** The wall clock leaps, to that far from the true time. */
  Jump: { process: Process, byMs: Schema.Int },
  /** The application of target n opens stream m, or closes it; before it opens one it closes those of other trenches. */
  Open: { target: Schema.Natural, stream: Schema.Natural, trench: Trench },
  Close: { target: Schema.Natural, stream: Schema.Natural, trench: Trench },
  /** The pod ends in order; another one with another name, namespace and addresses takes its place. */
  Replace: { process: Process, pauseMs: Ms },
  /** The operator adds or removes an object, or changes how many targets a stream can have. */
  Set: { kind: Manifests.Kind, n: Schema.Natural, present: Schema.Boolean, trench: Trench },
  Resize: { stream: Schema.Natural, maxTargets: Schema.Natural, trench: Trench }
})
export type Fault = typeof Fault.Type

/** Faults with their times since the beginning. */
export const Schedule = Schema.Array(Schema.Struct({ at: Machine.Millis, fault: Fault }))
export type Schedule = typeof Schedule.Type

/** One line for people. */
export const describe = ({ at, fault }: Schedule[number]): string =>
  `${(at / 1_000).toFixed(3).padStart(9)} s  ${brief(fault)}`

const brief = ({ _tag, ...fields }: Fault): string =>
  `${_tag} ${Object.entries(fields).map(([name, value]) => `${name}=${String(value)}`).join(" ")}`

/** The processes that a fault strikes. */
const strikes = (fault: Fault): ReadonlyArray<string> =>
  "process" in fault
    ? [fault.process]
    : "a" in fault
    ? [fault.a, fault.b]
    : "target" in fault
    ? [`target-${fault.target}`]
    : []

/** How long a fault itself lasts. */
const lastsMs = (fault: Fault): number =>
  "downMs" in fault ? fault.downMs : "pauseMs" in fault ? fault.pauseMs : "forMs" in fault ? fault.forMs : 0

/** When the last fault is over; a process may take its time to end in order. */
export const endOf = (schedule: Schedule): number =>
  Math.max(0, ...schedule.map(({ at, fault }) => at + lastsMs(fault) + ("pauseMs" in fault ? 30_000 : 0)))

/** The latency of messages while nothing slows them down. */
const usual: readonly [low: number, high: number] = [1, 15]

export interface Injector {
  readonly latency: () => readonly [low: number, high: number]
  readonly inject: (cluster: Cluster.Cluster, schedule: Schedule) => void
}

/** Carries faults out at their times. */
export const injector = (): Injector => {
  let latency = usual
  const inject = (cluster: Cluster.Cluster, schedule: Schedule): void => {
    const { current, ground, targets, world } = cluster
    const crash = (process: string, downMs: number): void => {
      if (!world.isAlive(process)) return
      world.crash(process)
      world.later(downMs, () => world.start(process))
    }
    const restart = (process: string, pauseMs: number): void => {
      if (world.isAlive(process)) world.stop(process, () => world.later(pauseMs, () => world.start(process)))
    }
    const part = (a: string, b: string, forMs: number): void => {
      ground.network.part(a, b)
      world.later(forMs, () => ground.network.heal(a, b))
    }
    const open = (target: number, stream: Config.StreamKey): void => {
      for (const wish of targets[target]?.wished() ?? []) {
        if (wish.trench !== stream.trench) targets[target]?.close(wish)
      }
      targets[target]?.open(stream)
    }
    const act = (fault: Fault): void => {
      const { manifests, nsp } = ("trench" in fault ? cluster.trenches[fault.trench ?? 0] : undefined)
        ?? cluster.trenches[0]
      switch (fault._tag) {
        case "Crash":
          return crash(current(fault.process), fault.downMs)
        case "Restart":
          return restart(current(fault.process), fault.pauseMs)
        case "Part":
          return part(current(fault.a), current(fault.b), fault.forMs)
        case "Cut":
          return ground.network.cut(current(fault.a), current(fault.b))
        case "Slow":
          latency = [fault.lowMs, fault.highMs]
          return world.later(fault.forMs, () => {
            latency = usual
          })
        case "Break":
          return world.break(current(fault.process), fault.forMs)
        case "Jump":
          return world.jump(current(fault.process), fault.byMs)
        case "Open":
          return open(fault.target, manifests.stream(fault.stream))
        case "Close":
          return targets[fault.target]?.close(manifests.stream(fault.stream))
        case "Replace":
          return cluster.replace(fault.process, fault.pauseMs)
        case "Set":
          manifests.set(fault.kind, fault.n, fault.present)
          return nsp.configure(manifests.configuration())
        case "Resize":
          manifests.resize(fault.stream, fault.maxTargets)
          return nsp.configure(manifests.configuration())
      }
    }
    for (const one of schedule) {
      world.later(one.at - world.elapsed(), () => {
        world.journal?.note("world", "Fault", brief(one.fault), strikes(one.fault), lastsMs(one.fault))
        act(one.fault)
      })
    }
  }
  return { latency: () => latency, inject }
}
