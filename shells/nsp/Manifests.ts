/**
 * Follows the manifests of a trench in a file or folder (`*.yaml`, `*.yml`, `*.json`, not its sub-folders).
 *
 *     change ─▶ settle ─▶ read ─▶ judge ─▶ in force          good: replaced as a whole
 *                                    └───▶ reported once     bad: the last good one stays in force
 */
import { Effect, Queue, Result, Schema } from "effect"
import type { Scope, Stream } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { Manifest, type Model } from "../../core/config/index.ts"
import * as Supervision from "../runtime/Supervision.ts"
import * as InForce from "./InForce.ts"
import * as Yaml from "./Yaml.ts"

export interface Options extends InForce.Wanted {
  /** A file or a folder. It may appear later. */
  readonly path: string
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

/** Follows the manifests for the life of the scope. The stream starts with the first good configuration. */
export const follow = (options: Options): Effect.Effect<Stream.Stream<Model.Configuration>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { pollMs = 5000, settleMs = 100 } = options
    const inForce = yield* InForce.make({ path: options.path })
    const changed = yield* Queue.sliding<void>(1)
    let lastTexts: string | undefined
    const refresh = Effect.matchEffect(readTexts(options.path), {
      onFailure: ({ problems }) => {
        lastTexts = undefined
        return inForce.offer(Result.fail(problems))
      },
      onSuccess: (texts) => {
        const key = JSON.stringify(texts)
        if (key === lastTexts) return Effect.void
        lastTexts = key
        return inForce.offer(judge(texts, options, inForce.current()?.manifest))
      }
    })
    yield* refresh
    yield* Supervision.fork(
      "nsp-notify",
      notify(options.path, changed).pipe(Effect.catch(() => Effect.sleep(pollMs)), Effect.forever)
    )
    yield* Supervision.fork(
      "nsp-manifests",
      Queue.take(changed).pipe(
        Effect.timeoutOption(pollMs),
        Effect.andThen(Effect.sleep(settleMs)),
        Effect.andThen(refresh),
        Effect.forever
      )
    )
    return inForce.changes
  })

const judge = (texts: Texts, wanted: InForce.Wanted, before: Manifest.Manifest | undefined): InForce.Judged => {
  const parsed = texts.flatMap(([file, text]) => Yaml.parse(file, text))
  const unreadable = parsed.flatMap((document) => "problem" in document ? [document.problem] : [])
  if (unreadable.length > 0) return Result.fail(unreadable)
  const documents = parsed.map((document) => "value" in document ? document.value : undefined)
  return InForce.pick(Manifest.read(documents, before?.resources), wanted)
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
