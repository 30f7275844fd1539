/**
 * The configuration in force, wherever it comes from: a good one replaces it as a whole, a bad one is reported once and
 * changes nothing.
 */
import { Effect, Result, Stream, SubscriptionRef } from "effect"
import { type Manifest, type Model, Problem } from "../../core/config/index.ts"
import { Configuration } from "../../core/nsp/index.ts"

/** Which trench is to be served. */
export interface Wanted {
  /** Empty when the source holds only one trench. */
  readonly trench: string
  readonly namespace: string
}

/** A manifest with the configuration picked from it, or what is wrong, one sentence for each mistake. */
export type Judged = Result.Result<Picked, ReadonlyArray<string>>

export interface Picked {
  readonly configuration: Model.Configuration
  readonly manifest: Manifest.Manifest
}

export interface InForce {
  /** What is in force now. */
  readonly current: () => Picked | undefined
  /** Puts it into force, or reports what is wrong with it. */
  readonly offer: (judged: Judged) => Effect.Effect<void>
  /** The configuration in force, once there is one, and each that follows. */
  readonly changes: Stream.Stream<Model.Configuration>
}

/** Nothing is in force yet. The source is for messages. */
export const make = (source: { readonly [kind: string]: string }): Effect.Effect<InForce> =>
  Effect.gen(function*() {
    const inForce = yield* SubscriptionRef.make<Picked | undefined>(undefined)
    const current = () => SubscriptionRef.getUnsafe(inForce)
    let reported: string | undefined
    const accept = (picked: Picked) => {
      reported = undefined
      return Effect.andThen(
        Effect.logInfo(`Configuration of trench ${picked.configuration.trench} is in force`, warnings(picked.manifest)),
        SubscriptionRef.set(inForce, picked)
      )
    }
    const refuse = (problems: ReadonlyArray<string>) => {
      const text = problems.join("\n")
      if (text === reported) return Effect.void
      reported = text
      const kept = current() === undefined ? "there is none yet" : "the last good one stays in force"
      return Effect.logError(`Configuration refused, ${kept}`, { ...source, problems })
    }
    return {
      current,
      offer: (judged) => Effect.suspend(() => Result.match(judged, { onFailure: refuse, onSuccess: accept })),
      changes: SubscriptionRef.changes(inForce).pipe(
        Stream.flatMap((picked) => picked === undefined ? Stream.empty : Stream.make(picked.configuration))
      )
    }
  })

const warnings = ({ dangling, ignored }: Manifest.Manifest) => ({
  ...(ignored.length === 0 ? {} : { ignored }),
  ...(dangling.length === 0 ? {} : { dangling: dangling.map(Problem.format) })
})

/** The trench to serve out of what was read. */
export const pick = (
  read: Result.Result<Manifest.Manifest, ReadonlyArray<Problem.Problem>>,
  wanted: Wanted
): Judged => {
  if (Result.isFailure(read)) return Result.fail(read.failure.map(Problem.format))
  const manifest = read.success
  return Configuration.choose(manifest.deployments, wanted).pipe(
    Result.map(({ configuration }) => ({ configuration, manifest })),
    Result.mapError((problem) => [problem])
  )
}
