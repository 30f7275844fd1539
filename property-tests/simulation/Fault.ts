/** What can be done to a simulated trench, as data: by nature, by its operator, by its applications. */
import { Schema } from "effect"
import * as Machine from "../../core/Machine.ts"
import * as Trench from "./Trench.ts"

const Process = Schema.String
const Ms = Schema.Natural

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
  /** The wall clock leaps. */
  Jump: { process: Process, byMs: Schema.Int },
  /** The application of target n opens or closes stream m. */
  Open: { target: Schema.Natural, stream: Schema.Natural },
  Close: { target: Schema.Natural, stream: Schema.Natural },
  /** The operator adds or removes a stream with its flow, or a VIP of both families. */
  SetStream: { stream: Schema.Natural, present: Schema.Boolean },
  SetVip: { vip: Schema.Natural, present: Schema.Boolean }
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
  Math.max(0, ...schedule.map(({ at, fault }) => at + lastsMs(fault) + (fault._tag === "Restart" ? 30_000 : 0)))

/** The latency of messages while nothing slows them down. */
const usual: readonly [low: number, high: number] = [1, 15]

export interface Injector {
  readonly latency: () => readonly [low: number, high: number]
  readonly inject: (trench: Trench.Trench, schedule: Schedule) => void
}

/** Carries faults out at their times. */
export const injector = (): Injector => {
  let latency = usual
  const inject = (trench: Trench.Trench, schedule: Schedule): void => {
    const { ground, nsp, targets, world } = trench
    const streams = new Set(nsp.configuration().streams.map((_, n) => n))
    const vips = new Set([1])
    const maxTargets = nsp.configuration().streams[0]?.maxTargets ?? 100
    const configure = (): void =>
      nsp.configure(Trench.configuration(
        [...streams].toSorted((a, b) => a - b),
        [...vips].toSorted((a, b) => a - b).flatMap(Trench.vip),
        Trench.configuredGateways(trench.gateways.length),
        maxTargets
      ))
    const toggle = (all: Set<number>, n: number, present: boolean): void => {
      if (present) all.add(n)
      else all.delete(n)
      configure()
    }
    const act = (fault: Fault): void => {
      switch (fault._tag) {
        case "Crash":
          if (!world.isAlive(fault.process)) return
          world.crash(fault.process)
          return world.later(fault.downMs, () => world.start(fault.process))
        case "Restart":
          if (!world.isAlive(fault.process)) return
          return world.stop(
            fault.process,
            () => world.later(fault.pauseMs, () => world.start(fault.process))
          )
        case "Part":
          ground.network.part(fault.a, fault.b)
          return world.later(fault.forMs, () => ground.network.heal(fault.a, fault.b))
        case "Cut":
          return ground.network.cut(fault.a, fault.b)
        case "Slow":
          latency = [fault.lowMs, fault.highMs]
          return world.later(fault.forMs, () => {
            latency = usual
          })
        case "Jump":
          return world.jump(fault.process, fault.byMs)
        case "Open":
          return targets[fault.target]?.open(Trench.stream(fault.stream))
        case "Close":
          return targets[fault.target]?.close(Trench.stream(fault.stream))
        case "SetStream":
          return toggle(streams, fault.stream, fault.present)
        case "SetVip":
          return toggle(vips, fault.vip, fault.present)
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
