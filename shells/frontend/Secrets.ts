/**
 * Secrets as folders: `<folder>/<secret>/<key>`, which is how Kubernetes mounts them and how a single machine has them.
 *
 * The bytes stay here. Whoever watches learns only that a key exists, whether it can be a password, and a number that
 * changes with its bytes.
 */
import { Effect, Equal } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { BirdConfig, type Model } from "../../core/frontend/index.ts"

export interface Secrets {
  /** Tells about each Secret at once and after each change, for as long as it runs. */
  readonly watch: (
    sources: ReadonlyArray<string>,
    tell: (source: string, secret: Model.Secret | undefined) => void
  ) => Effect.Effect<never>
  /** The password as it was when the watcher last told; one byte per character. */
  readonly passwordOf: (ref: Model.SecretRef) => string | undefined
}

// Writers replace several files one after the other; and a folder that does not exist yet cannot be watched.
const settleMs = 100
const lookMs = 2000

export const make = (folder: string): Secrets => {
  const known = new Map<string, ReadonlyMap<string, Value>>()
  let revision = 0

  const look = (source: string, tell: (source: string, secret: Model.Secret | undefined) => void): void => {
    const before = known.get(source)
    const files = read(path.join(folder, source))
    if (files === undefined) {
      known.delete(source)
      return tell(source, undefined)
    }
    const after = new Map<string, Value>()
    for (const [key, bytes] of files) {
      const old = before?.get(key)
      after.set(key, old?.bytes === bytes ? old : { bytes, revision: revision++ })
    }
    known.set(source, after)
    tell(source, { source, keys: [...after].map(([key, value]) => describe(key, value)) })
  }

  return {
    watch: (sources, tell) =>
      Effect.gen(function*() {
        for (const source of known.keys()) if (!sources.includes(source)) known.delete(source)
        const told = new Map<string, Model.Secret | undefined>()
        const once = Effect.sync(() => {
          for (const source of sources) {
            look(source, (source, secret) => {
              if (told.has(source) && Equal.equals(told.get(source), secret)) return
              told.set(source, secret)
              tell(source, secret)
            })
          }
        })
        while (true) {
          yield* once
          yield* Effect.raceFirst(changed([folder, ...sources.map((s) => path.join(folder, s))]), Effect.sleep(lookMs))
        }
      }),
    passwordOf: ({ key, source }) => known.get(source)?.get(key)?.bytes
  }
}

interface Value {
  readonly bytes: string
  readonly revision: number
}

const describe = (key: string, { bytes, revision }: Value): Model.SecretKey => {
  const problem = BirdConfig.passwordProblem(bytes)
  return problem === undefined ? { key, revision } : { key, revision, problem }
}

/** The regular files of a folder by name, sorted; names with a dot in front belong to the mount. */
const read = (folder: string): ReadonlyArray<readonly [string, string]> | undefined => {
  try {
    return fs.readdirSync(folder).filter((key) => !key.startsWith(".")).toSorted().flatMap((key) => {
      const file = path.join(folder, key)
      return fs.statSync(file).isFile() ? [[key, fs.readFileSync(file, "latin1")] as const] : []
    })
  } catch {
    return undefined
  }
}

/** Ends some time after the first change in one of the folders. */
const changed = (folders: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const watchers = folders.flatMap((folder) => watchFolder(folder, () => resume(Effect.void)))
    return Effect.sync(() => watchers.forEach((watcher) => watcher.close()))
  }).pipe(Effect.andThen(Effect.sleep(settleMs)))

/** A folder that is not there, or not any more, is looked at again after a while. */
const watchFolder = (folder: string, onChange: () => void): ReadonlyArray<fs.FSWatcher> => {
  try {
    return [fs.watch(folder, { persistent: false }, onChange).on("error", () => undefined)]
  } catch {
    return []
  }
}
