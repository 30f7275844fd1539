/**
 * Finding a listening unix socket of this machine by the name that NSM gives its file, `inode://DEVICE/INODE`: the file
 * may be in the mount namespace of another process only, so each process is asked where its namespaces differ.
 *
 * Upstream hands the file over with the registration; a manager that sees all processes need not receive anything.
 */
import { Effect, type Scope } from "effect"
import * as fs from "node:fs"
import * as GrpcError from "../grpc/Error.ts"

/** Whether the URL names a file in this way. */
export const isNamed = (url: string): boolean => form.test(url)

const form = /^inode:\/\/\d+\/\d+$/

/** A path to connect to, valid for the life of the scope. Fails with UNAVAILABLE when no process listens there. */
export const open = (url: string): Effect.Effect<string, GrpcError.GrpcError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      const descriptor = find(url)
      return descriptor === undefined
        ? Effect.fail(GrpcError.error("Unavailable", `no process of this machine listens on the socket ${url}`))
        : Effect.succeed(descriptor)
    }),
    (descriptor) => Effect.sync(() => fs.closeSync(descriptor))
  ).pipe(Effect.map((descriptor) => `/proc/self/fd/${descriptor}`))

// Where a socket was last time; looked at first, believed only if the file there still has the name.
const lastSeen = new Map<string, string>()
const maxSeen = 10_000

const find = (url: string): number | undefined => {
  const seen = lastSeen.get(url)
  const again = seen === undefined ? undefined : hold(seen, url)
  if (again !== undefined) return again
  lastSeen.delete(url)
  for (const path of listening()) {
    const descriptor = hold(path, url)
    if (descriptor === undefined) continue
    if (lastSeen.size >= maxSeen) lastSeen.clear()
    lastSeen.set(url, path)
    return descriptor
  }
  return undefined
}

// Without right to read or write, which is all that a name needs, and all that a socket file allows.
const O_PATH = 0o10000000

/** The file open, so that it stays what it is. */
const hold = (path: string, url: string): number | undefined => {
  if (urlOf(attempt(() => fs.statSync(path, { throwIfNoEntry: false }))) !== url) return undefined
  const descriptor = attempt(() => fs.openSync(path, O_PATH))
  if (descriptor === undefined) return undefined
  if (urlOf(fs.fstatSync(descriptor)) === url) return descriptor
  fs.closeSync(descriptor)
  return undefined
}

const urlOf = (stat: fs.Stats | undefined): string | undefined =>
  stat === undefined ? undefined : `inode://${stat.dev}/${stat.ino}`

/** Paths of listening sockets, as this process can open them, once per pair of network and mount namespace. */
const listening = function*(): Generator<string> {
  const asked = new Set<string>()
  for (const pid of ["self", ...fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))]) {
    const place = attempt(() => `${fs.readlinkSync(`/proc/${pid}/ns/net`)} ${fs.readlinkSync(`/proc/${pid}/ns/mnt`)}`)
    if (place === undefined || asked.has(place)) continue
    asked.add(place)
    const table = attempt(() => fs.readFileSync(`/proc/${pid}/net/unix`, "utf8")) ?? ""
    for (const line of table.split("\n")) {
      const path = row.exec(line)?.groups?.["path"]
      if (path !== undefined) yield `/proc/${pid}/root${path}`
    }
  }
}

// Num RefCount Protocol Flags Type St Inode Path: a stream socket that accepts connections.
const row = /^\S+ \S+ \S+ 00010000 0001 \S+ +\d+ (?<path>\/.*)$/

const attempt = <A>(action: () => A): A | undefined => {
  try {
    return action()
  } catch {
    return undefined
  }
}
