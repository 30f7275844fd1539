/**
 * Gives memory back that a process no longer needs: what starting took, and what a burst of work left behind.
 *
 * V8 keeps pages and compiled code for work to come, which a process that mostly waits does not do.
 */
import { Effect, Stream } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

/** How long it must be quiet, and how long memory is left alone after it was given back. */
export interface Options {
  /** Default: 1000 ms. */
  readonly quietMs?: number
  /** Default: 60 000 ms. */
  readonly restMs?: number
  /** What gives it back. Default: `giveBack`. */
  readonly by?: Effect.Effect<void>
}

/**
 * Gives memory back whenever there was work and then none for a while; never ends. It stops the process for some 20 ms
 * each time, so it is for programs that wait most of the time.
 */
export const giveBackWhenQuiet = (
  work: Stream.Stream<unknown>,
  { by = giveBack, quietMs = 1000, restMs = 60_000 }: Options = {}
): Effect.Effect<never> =>
  work.pipe(
    Stream.debounce(quietMs),
    Stream.runForEach(() => Effect.andThen(by, Effect.sleep(restMs))),
    Effect.andThen(Effect.never)
  )

/** Collects all garbage, drops code that can be compiled again, and returns free pages to the system. */
export const giveBack: Effect.Effect<void> = Effect.sync(() => {
  const collect = collector()
  thorough.forEach(setFlagsFromString)
  collect?.({ type: "major", flavor: "last-resort" })
  usual.forEach(setFlagsFromString)
})

// Code goes that has not run since the last collection, and not since the sixth before; machine code, which V8 keeps for
// ever otherwise, as well. That is 3 MB of a sidecar with ten streams.
const thorough = ["--bytecode-old-age=1", "--flush-baseline-code"]
const usual = ["--bytecode-old-age=6", "--no-flush-baseline-code"]

type Collect = (options: { readonly type: "major"; readonly flavor: "last-resort" }) => void

let collect: Collect | undefined

/** V8's own `gc`, which it shows only to contexts that are made while its flag is set. */
const collector = (): Collect | undefined => {
  if (collect !== undefined) return collect
  setFlagsFromString("--expose-gc")
  const found: unknown = runInNewContext("gc")
  setFlagsFromString("--no-expose-gc")
  if (isCollect(found)) collect = found
  return collect
}

const isCollect = (value: unknown): value is Collect => typeof value === "function"
