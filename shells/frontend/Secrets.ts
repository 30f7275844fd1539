/**
 * The Secrets of gateways: objects of Kubernetes, or folders `<folder>/<secret>/<key>`, which is how Kubernetes mounts
 * them and how a single machine has them.
 *
 * The bytes stay here. Whoever watches learns only that a key exists, whether it can be a password, and a number that
 * changes with its bytes.
 */
import { Effect, Equal, Result, Stream } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { BirdConfig, type Model } from "../../core/frontend/index.ts"
import * as Kubernetes from "../kubernetes/Kubernetes.ts"
import * as KubernetesSecrets from "../kubernetes/Secrets.ts"

type Tell = (source: string, secret: Model.Secret | undefined) => void

export interface Secrets {
  /** Tells about each Secret at once and after each change, for as long as it runs. */
  readonly watch: (sources: ReadonlyArray<string>, tell: Tell) => Effect.Effect<never>
  /** The password as it was when the watcher last told; one byte per character. */
  readonly passwordOf: (ref: Model.SecretRef) => string | undefined
}

export interface Options {
  /** Where the folders are; empty for Kubernetes, or `/etc/meridio/secrets` where there is none. */
  readonly folder: string
  /** Of the Secrets in Kubernetes. */
  readonly namespace: string
}

const mounted = "/etc/meridio/secrets"

/** Kubernetes is looked for when the first Secret is needed. */
export const make = ({ folder, namespace }: Options): Secrets => {
  const store = makeStore()
  const source = (): Effect.Effect<(sources: ReadonlyArray<string>, hear: Hear) => Effect.Effect<never>> =>
    folder !== "" ? Effect.succeed(ofFolder(folder)) : Effect.gen(function*() {
      const connected = yield* Effect.result(Kubernetes.connect)
      if (Result.isSuccess(connected)) {
        yield* Effect.logInfo("Secrets are read from Kubernetes", { server: connected.success.server, namespace })
        return ofKubernetes(connected.success, namespace)
      }
      const { message, reason } = connected.failure
      yield* reason === "NoCluster" ? Effect.logInfo(message) : Effect.logError(message)
      yield* Effect.logInfo(`Secrets are read from ${mounted}`)
      return ofFolder(mounted)
    })
  return {
    watch: (sources, tell) =>
      Effect.gen(function*() {
        store.retain(sources)
        if (sources.length === 0) return yield* Effect.never
        const told = new Map<string, Model.Secret | undefined>()
        const follow = yield* source()
        return yield* follow(sources, (source, entries) => {
          const secret = store.take(source, entries)
          if (told.has(source) && Equal.equals(told.get(source), secret)) return
          told.set(source, secret)
          tell(source, secret)
        })
      }),
    passwordOf: store.passwordOf
  }
}

/** Key to bytes; undefined when there is no such Secret. */
type Entries = Iterable<readonly [key: string, bytes: string]> | undefined
type Hear = (source: string, entries: Entries) => void

interface Value {
  readonly bytes: string
  readonly revision: number
}

const makeStore = () => {
  const known = new Map<string, ReadonlyMap<string, Value>>()
  let revision = 0
  return {
    retain: (sources: ReadonlyArray<string>): void => {
      for (const source of known.keys()) if (!sources.includes(source)) known.delete(source)
    },
    take: (source: string, entries: Entries): Model.Secret | undefined => {
      if (entries === undefined) {
        known.delete(source)
        return undefined
      }
      const before = known.get(source)
      const after = new Map<string, Value>()
      for (const [key, bytes] of entries) {
        const old = before?.get(key)
        after.set(key, old?.bytes === bytes ? old : { bytes, revision: revision++ })
      }
      known.set(source, after)
      return { source, keys: [...after].map(([key, value]) => describe(key, value)) }
    },
    passwordOf: ({ key, source }: Model.SecretRef): string | undefined => known.get(source)?.get(key)?.bytes
  }
}

const describe = (key: string, { bytes, revision }: Value): Model.SecretKey => {
  const problem = BirdConfig.passwordProblem(bytes)
  return problem === undefined ? { key, revision } : { key, revision, problem }
}

const ofKubernetes =
  (kubernetes: Kubernetes.Kubernetes, namespace: string) =>
  (sources: ReadonlyArray<string>, hear: Hear): Effect.Effect<never> =>
    Effect.forEach(
      sources,
      (source) =>
        Stream.runForEach(
          KubernetesSecrets.follow(kubernetes, namespace, source),
          (data) => Effect.sync(() => hear(source, data))
        ),
      { concurrency: "unbounded", discard: true }
    ).pipe(Effect.andThen(Effect.never))

// Writers replace several files one after the other; and a folder that does not exist yet cannot be watched.
const settleMs = 100
const lookMs = 2000

const ofFolder = (folder: string) => (sources: ReadonlyArray<string>, hear: Hear): Effect.Effect<never> =>
  Effect.gen(function*() {
    while (true) {
      for (const source of sources) hear(source, read(path.join(folder, source)))
      yield* Effect.raceFirst(changed([folder, ...sources.map((s) => path.join(folder, s))]), Effect.sleep(lookMs))
    }
  })

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
