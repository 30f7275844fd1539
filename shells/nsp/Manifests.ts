/**
 * Follows the manifests of a trench in a file or folder (`*.yaml`, `*.yml`, `*.json`, not its sub-folders).
 *
 *     change ─▶ settle ─▶ read ─▶ judge ─▶ in force          good: replaced as a whole
 *                                    └───▶ reported once     bad: the last good one stays in force
 */
import { Effect, Queue, Result, Schedule, Schema, Stream, SubscriptionRef } from "effect"
import type { Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { Manifest, type Model, Problem } from "../../core/config/index.ts"
import { Configuration } from "../../core/nsp/index.ts"
import * as Yaml from "./Yaml.ts"

export interface Options {
  /** A file or a folder. It may appear later. */
  readonly path: string
  /** Empty when the manifests hold only one trench. */
  readonly trench: string
  readonly namespace: string
  /** How long the files must be quiet before they are read, so that several changes count as one. Default: 100 ms. */
  readonly settleMs?: number
  /** How often to look even if nobody has told of a change, as on network file systems. Default: 5000 ms. */
  readonly pollMs?: number
}

/** Why manifests cannot be read; `problems` has one sentence for each mistake. */
export class ManifestError extends Schema.TaggedError<ManifestError>()("ManifestError", {
  problems: Schema.Array(Schema.String)
}) {
  override get message(): string {
    return this.problems.join("; ")
  }
}

/** The texts of the files, in the order of their names. */
type Texts = ReadonlyArray<readonly [file: string, text: string]>

/** A configuration in force and the manifest it came from. */
interface InForce {
  readonly configuration: Model.Configuration
  readonly manifest: Manifest.Manifest
}

/** Reads, judges and picks once. With what is in force, changes of immutable fields are refused too. */
export const load = (options: Options): Effect.Effect<Manifest.Manifest, ManifestError> =>
  Effect.flatMap(
    readTexts(options.path),
    (texts) => Effect.map(judge(texts, options, undefined), ({ manifest }) => manifest)
  )

/** Follows the manifests for the life of the scope. The stream starts with the first good configuration. */
export const follow = (options: Options): Effect.Effect<Stream.Stream<Model.Configuration>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { pollMs = 5000, settleMs = 100 } = options
    const inForce = yield* SubscriptionRef.make<InForce | undefined>(undefined)
    const changed = yield* Queue.sliding<void>(1)
    let lastTexts: string | undefined
    const refresh = Effect.gen(function*() {
      const texts = yield* readTexts(options.path)
      const key = JSON.stringify(texts)
      if (key === lastTexts) return
      lastTexts = key
      const next = yield* judge(texts, options, SubscriptionRef.getUnsafe(inForce)?.manifest)
      yield* Effect.logInfo(`Configuration of trench ${next.configuration.trench} is in force`, warnings(next.manifest))
      yield* SubscriptionRef.set(inForce, next)
    })
    let lastProblems: string | undefined
    const refreshOrReport = Effect.matchEffect(refresh, {
      onSuccess: () => Effect.sync(() => lastProblems = undefined),
      onFailure: ({ problems }) => {
        const text = problems.join("\n")
        if (text === lastProblems) return Effect.void
        lastProblems = text
        const kept = SubscriptionRef.getUnsafe(inForce) === undefined
          ? "there is none yet"
          : "the last good one stays in force"
        return Effect.logError(`Configuration refused, ${kept}`, { path: options.path, problems })
      }
    })
    yield* refreshOrReport
    yield* Effect.forkScoped(Effect.retry(notify(options.path, changed), Schedule.spaced(pollMs)))
    yield* Queue.take(changed).pipe(
      Effect.timeoutOption(pollMs),
      Effect.andThen(Effect.sleep(settleMs)),
      Effect.andThen(refreshOrReport),
      Effect.forever,
      Effect.forkScoped
    )
    return SubscriptionRef.changes(inForce).pipe(
      Stream.flatMap((current) => current === undefined ? Stream.empty : Stream.make(current.configuration))
    )
  })

const warnings = ({ dangling, ignored }: Manifest.Manifest) => ({
  ...(ignored.length === 0 ? {} : { ignored }),
  ...(dangling.length === 0 ? {} : { dangling: dangling.map(Problem.format) })
})

const judge = (
  texts: Texts,
  { namespace, trench }: Options,
  before: Manifest.Manifest | undefined
): Effect.Effect<InForce, ManifestError> => {
  const parsed = texts.flatMap(([file, text]) => Yaml.parse(file, text))
  const unreadable = parsed.flatMap((document) => "problem" in document ? [document.problem] : [])
  if (unreadable.length > 0) return Effect.fail(new ManifestError({ problems: unreadable }))
  const documents = parsed.map((document) => "value" in document ? document.value : undefined)
  return Effect.fromResult(
    Manifest.read(documents, before?.resources).pipe(
      Result.mapError((problems) => new ManifestError({ problems: problems.map(Problem.format) })),
      Result.flatMap((manifest) =>
        Configuration.choose(manifest.deployments, { trench, namespace }).pipe(
          Result.map(({ configuration }) => ({ configuration, manifest })),
          Result.mapError((problem) => new ManifestError({ problems: [problem] }))
        )
      )
    )
  )
}

const extensions = new Set([".yaml", ".yml", ".json"])

const readTexts = (root: string): Effect.Effect<Texts, ManifestError> =>
  Effect.tryPromise({
    try: async () => {
      const files = (await fs.promises.stat(root)).isDirectory()
        ? (await fs.promises.readdir(root)).filter((name) =>
          !name.startsWith(".") && extensions.has(path.extname(name))
        )
          .toSorted().map((name) => path.join(root, name))
        : [root]
      return Promise.all(files.map(async (file) => [file, await fs.promises.readFile(file, "utf8")] as const))
    },
    catch: (cause) => new ManifestError({ problems: [cause instanceof Error ? cause.message : String(cause)] })
  })

/** Tells of changes below the folder of the manifests; fails when it cannot be watched (any more). */
const notify = (root: string, changed: Queue.Queue<void>): Effect.Effect<never, Error> =>
  Effect.callback((resume) => {
    const failed = (cause: unknown): void =>
      resume(Effect.fail(cause instanceof Error ? cause : new Error(String(cause))))
    try {
      // The folder of a file is watched, because editors and Kubernetes replace files instead of writing to them.
      const isFolder = fs.statSync(root).isDirectory()
      const watcher = fs.watch(isFolder ? root : path.dirname(root), () => tell(changed)).on("error", failed)
      tell(changed)
      return Effect.sync(() => watcher.close())
    } catch (cause) {
      failed(cause)
      return Effect.void
    }
  })

const tell = (changed: Queue.Queue<void>): void => void Queue.offerUnsafe(changed, undefined)
