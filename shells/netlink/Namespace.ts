/**
 * Network namespaces: holding one open, finding one by its NSM URL, making one; `Inside.ts` enters one.
 *
 * A namespace is named by a path that can be opened: `/run/netns/x`, `/proc/PID/ns/net`, `/proc/PID/fd/N`.
 */
import { Effect, Schema, type Scope } from "effect"
import { execFile } from "node:child_process"
import * as fs from "node:fs"

/** A namespace could not be found, opened, entered, made or deleted. */
export class NamespaceError extends Schema.TaggedError<NamespaceError>()("NamespaceError", {
  namespace: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `network namespace ${this.namespace}: ${this.detail}`
  }
}

/** An open namespace. `path` stays valid, and the namespace alive, as long as the Scope that opened it. */
export interface Open {
  /** Usable by this process and by its children. */
  readonly path: string
  /** The NSM name of the namespace: `inode://4/4026531840`. */
  readonly url: string
}

/** Opens a namespace and holds it for the life of the Scope. */
export const open = (path: string): Effect.Effect<Open, NamespaceError, Scope.Scope> =>
  Effect.acquireRelease(attempt(path, () => openPath(path)), (fd) => Effect.sync(() => fs.closeSync(fd))).pipe(
    Effect.map((fd) => ({ path: `/proc/${process.pid}/fd/${fd}`, url: urlOf(fs.fstatSync(fd)) }))
  )

/** The NSM URL of the namespace at the path. */
export const url = (path: string): Effect.Effect<string, NamespaceError> =>
  attempt(path, () => urlOf(fs.statSync(path)))

/** The NSM URL of the namespace of this process. */
export const currentUrl: Effect.Effect<string, NamespaceError> = Effect.suspend(() => url(ownPath))

/**
 * Finds and opens the namespace with the given NSM URL, `inode://DEVICE/INODE` in decimal, among this process, the named
 * namespaces and the namespaces of all visible processes. Fails when none of them has it: its owner is gone, or runs
 * where this process cannot see it (needs the host's process namespace).
 */
export const resolve = (inodeUrl: string): Effect.Effect<Open, NamespaceError, Scope.Scope> =>
  Effect.gen(function*() {
    if (!/^inode:\/\/\d+\/\d+$/.test(inodeUrl)) {
      return yield* new NamespaceError({ namespace: inodeUrl, detail: "not of the form inode://4/4026531840" })
    }
    const seen = lastSeen.get(inodeUrl)
    for (const path of seen === undefined ? candidates() : [seen, ...candidates()]) {
      if (urlAt(path) !== inodeUrl) continue
      const found = yield* Effect.option(open(path))
      // The process may have ended between the look and the opening, and its number may have been reused.
      if (found._tag === "None" || found.value.url !== inodeUrl) continue
      if (lastSeen.size >= maxSeen) lastSeen.clear()
      if (path !== ownPath) lastSeen.set(inodeUrl, path)
      return found.value
    }
    lastSeen.delete(inodeUrl)
    return yield* new NamespaceError({ namespace: inodeUrl, detail: "no process and no named namespace has it" })
  })

// Where a namespace was last time; looked at first, believed only if it is still there.
const lastSeen = new Map<string, string>()
const maxSeen = 10_000

/**
 * The namespaces that a visible process or a name keeps alive, by NSM URL, each with a path. One that only open
 * descriptors hold is not among them: its owner is gone.
 */
export const visible: Effect.Effect<ReadonlyMap<string, string>> = Effect.sync(() => {
  const found = new Map<string, string>()
  for (const path of candidates()) {
    const url = urlAt(path)
    if (url !== undefined && !found.has(url)) found.set(url, path)
  }
  return found
})

/** The path of a named namespace. */
export const named = (name: string): string => `/run/netns/${name}`

/** Makes a named namespace with its loopback up; fails when the name is taken. */
export const create = (name: string): Effect.Effect<void, NamespaceError> =>
  ip(name, "netns", "add", name).pipe(
    Effect.andThen(ip(name, "-n", name, "link", "set", "lo", "up"))
  )

/** Deletes a named namespace; success when there is none. The namespace dies when its last user does. */
export const remove = (name: string): Effect.Effect<void, NamespaceError> =>
  Effect.suspend(() => fs.existsSync(named(name)) ? ip(name, "netns", "del", name) : Effect.void)

/** Makes a named namespace that lives as long as the Scope, and returns its path. */
export const scoped = (name: string): Effect.Effect<string, NamespaceError, Scope.Scope> =>
  Effect.acquireRelease(create(name), () => Effect.orDie(remove(name))).pipe(Effect.as(named(name)))

/** The namespace of the calling thread. */
export const ownPath = "/proc/thread-self/ns/net"

/** Opens it without holding it for a scope; the caller closes the descriptor. Throws what the file system says. */
export const openPath = (path: string): number => fs.openSync(path, fs.constants.O_RDONLY)

const urlOf = (stat: fs.Stats): string => `inode://${stat.dev}/${stat.ino}`

const urlAt = (path: string): string | undefined => {
  const stat = attemptSync(() => fs.statSync(path, { throwIfNoEntry: false }))
  return stat === undefined ? undefined : urlOf(stat)
}

const candidates = function*(): Generator<string> {
  yield ownPath
  for (const name of attemptSync(() => fs.readdirSync("/run/netns")) ?? []) yield named(name)
  for (const pid of attemptSync(() => fs.readdirSync("/proc")) ?? []) {
    if (/^\d+$/.test(pid)) yield `/proc/${pid}/ns/net`
  }
}

const attemptSync = <A>(f: () => A): A | undefined => {
  try {
    return f()
  } catch {
    return undefined
  }
}

const attempt = <A>(namespace: string, f: () => A): Effect.Effect<A, NamespaceError> =>
  Effect.try({
    try: f,
    catch: (thrown) =>
      thrown instanceof NamespaceError
        ? thrown
        : new NamespaceError({ namespace, detail: thrown instanceof Error ? thrown.message : String(thrown) })
  })

const ip = (namespace: string, ...args: ReadonlyArray<string>): Effect.Effect<void, NamespaceError> =>
  Effect.callback((resume) => {
    execFile("ip", args, (error, _stdout, stderr) => {
      resume(error === null ? Effect.void : new NamespaceError({ namespace, detail: stderr.trim() || error.message }))
    })
  })
