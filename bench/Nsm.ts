/**
 * What a connection costs at the embedded NSM, by the number of connections that stand: gRPC, manager, forwarder, and
 * real veth pairs between real namespaces. Ten connections share a namespace on each side, as targets of a node share
 * its proxy. The baseline is as many calls of a bare gRPC server. Needs root.
 */
import { Effect, References } from "effect"
import type { Scope } from "effect"
import type * as Bench from "./Bench.ts"
import * as World from "./NsmWorld.ts"

const perPair = 10
const inFlight = 8
/** How many requests are measured at once, and then one after another. */
const batch = 100

/** What was measured of one kind of call. */
interface Figures {
  readonly perSecond: number
  /** Milliseconds of each call, while nothing else is asked. */
  readonly alone: ReadonlyArray<number>
  /** Of the server. */
  readonly cpuMs: number
}

/** One load. */
interface Load {
  readonly name: string
  readonly size: number
  readonly isSecure: boolean
}

const loads: ReadonlyArray<Load> = [
  { name: "1 connection", size: 1, isSecure: false },
  { name: "100 connections", size: 100, isSecure: false },
  { name: "1,000 connections", size: 1_000, isSecure: false },
  { name: "100 connections, TLS", size: 100, isSecure: true }
]

const timed = (effect: Effect.Effect<unknown>): Effect.Effect<number> =>
  Effect.gen(function*() {
    const begin = process.hrtime.bigint()
    yield* effect
    return Number(process.hrtime.bigint() - begin) / 1e6
  })

const atOnce = (calls: ReadonlyArray<Effect.Effect<void>>): Effect.Effect<void> =>
  Effect.forEach(calls, (call) => call, { concurrency: inFlight, discard: true })

/** Measures the calls all at once, then those that follow one by one. */
const measure = (
  program: { readonly cpuMs: () => number },
  together: ReadonlyArray<Effect.Effect<void>>,
  alone: Effect.Effect<ReadonlyArray<number>>
): Effect.Effect<Figures> =>
  Effect.gen(function*() {
    const before = program.cpuMs()
    const ms = yield* timed(atOnce(together))
    const cpuMs = (program.cpuMs() - before) / together.length
    return { perSecond: together.length / ms * 1000, cpuMs, alone: yield* alone }
  })

interface Measured {
  readonly load: Load
  readonly connect: Figures
  readonly refresh: Figures
  readonly bare: Figures
  readonly kB: number
  readonly bareKB: number
}

const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, n) => n)

const underLoad = (bare: World.Bare, load: Load): Effect.Effect<Measured, Error, Scope.Scope> =>
  Effect.gen(function*() {
    const { isSecure, size } = load
    const world = yield* World.make(isSecure)
    const pairs = yield* Effect.forEach(numbers(Math.ceil(size / perPair)), () => world.pair)
    const spare = yield* Effect.forEach(numbers(batch / perPair), () => world.pair)
    const of = (all: ReadonlyArray<World.Pair>, n: number, does: "request" | "close"): Effect.Effect<void> =>
      all[n % all.length]?.[does](`client-${all === spare ? "spare" : "kept"}-${n}`) ?? Effect.void
    const spares = (does: "request" | "close") => numbers(batch).map((n) => of(spare, n, does))

    // What is loaded and compiled once is nobody's cost.
    yield* atOnce(spares("request"))
    yield* atOnce(spares("close"))
    const before = world.kB()
    yield* atOnce(numbers(size).map((n) => of(pairs, n, "request")))
    const kB = (world.kB() - before) / size

    const connect = yield* measure(
      world,
      spares("request"),
      Effect.andThen(
        atOnce(spares("close")),
        Effect.forEach(numbers(batch), (n) => Effect.tap(timed(of(spare, n, "request")), () => of(spare, n, "close")))
      )
    )
    const refreshes = numbers(5 * batch).map((n) => of(pairs, n % size, "request"))
    const refresh = yield* measure(world, refreshes, Effect.forEach(refreshes, timed))
    const bareBefore = bare.kB()
    const calls = numbers(Math.max(size, 5 * batch)).map(() => bare.call)
    const called = yield* measure(bare, calls, Effect.forEach(calls.slice(0, 5 * batch), timed))
    return { load, connect, refresh, bare: called, kB, bareKB: (bare.kB() - bareBefore) / size }
  })

const quantile = (values: ReadonlyArray<number>, q: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN
}

const views: ReadonlyArray<readonly [metric: string, unit: string, view: (figures: Figures) => number]> = [
  ["per second", "1/s", ({ perSecond }) => perSecond],
  ["p50", "ms", ({ alone }) => quantile(alone, 0.5)],
  ["p99", "ms", ({ alone }) => quantile(alone, 0.99)],
  ["CPU of the manager", "ms", ({ cpuMs }) => cpuMs]
]

const row = (metric: string, unit: string, value: number, baseline: number): Bench.Row => ({
  bench: "nsm",
  metric,
  unit,
  value,
  baseline,
  ratio: value / baseline
})

/** Each figure beside the bare call of the same run. */
const rowsOf = ({ bare, bareKB, kB, load, ...kinds }: Measured): ReadonlyArray<Bench.Row> => [
  ...(["connect", "refresh"] as const).flatMap((kind) =>
    views.map(([metric, unit, view]) => row(`${kind} ${metric}, ${load.name}`, unit, view(kinds[kind]), view(bare)))
  ),
  // What one connection takes is lost in the noise of the process.
  ...(load.size > 1 ? [row(`memory per connection, ${load.name}`, "kB", kB, bareKB)] : [])
]

/** How each figure grows from one connection to the most. */
const growth = (all: ReadonlyArray<Measured>): ReadonlyArray<Bench.Row> => {
  const plain = all.filter(({ load }) => !load.isSecure)
  const [first, last] = [plain[0], plain.at(-1)]
  return first === undefined || last === undefined ?
    [] :
    (["connect", "refresh"] as const).flatMap((kind) =>
      views.map(([metric, unit, view]) =>
        row(
          `${kind} ${metric}, ${last.load.name} against ${first.load.name}`,
          unit,
          view(last[kind]),
          view(first[kind])
        )
      )
    )
}

export const bench: Bench.Bench = {
  name: "nsm",
  summary: "connects and refreshes through manager and forwarder by number of connections, against bare gRPC calls",
  rows: Effect.scoped(Effect.gen(function*() {
    const bare = yield* World.bare
    const measured = yield* Effect.forEach(loads, (load) => Effect.scoped(underLoad(bare, load)))
    return [...measured.flatMap(rowsOf), ...growth(measured)]
  })).pipe(Effect.orDie, Effect.provideService(References.MinimumLogLevel, "Error"))
}
