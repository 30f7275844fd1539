/**
 * A folder for sockets whose paths this process may choose, in the directory of temporary files. A process that is killed
 * leaves its folder behind; the next one of the same kind removes it.
 */
import { Effect, type Scope } from "effect"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as GrpcError from "./Error.ts"
import * as Socket from "./Socket.ts"

/** A new folder, which ends with the scope. The kind is short, as the path of a socket has at most 107 bytes. */
export const make = (kind: string): Effect.Effect<string, GrpcError.GrpcError, Scope.Scope> =>
  Effect.gen(function*() {
    const prefix = join(tmpdir(), `sluice-${kind}-`)
    yield* Effect.forEach(foldersOf(kind), removeAbandoned, { discard: true })
    return yield* Effect.acquireRelease(
      Effect.try({
        try: () => mkdtempSync(prefix),
        catch: (cause) =>
          GrpcError.error("Unavailable", `cannot make the folder ${prefix}*: ${GrpcError.fromUnknown(cause).details}`)
      }),
      remove
    )
  })

const foldersOf = (kind: string): ReadonlyArray<string> =>
  entries(tmpdir()).filter((name) => name.startsWith(`sluice-${kind}-`)).map((name) => join(tmpdir(), name))

/** A folder without a socket is not abandoned: it may be about to get one. */
const removeAbandoned = (folder: string): Effect.Effect<void> => {
  const sockets = entries(folder).map((name) => join(folder, name))
  return Effect.flatMap(
    Effect.forEach(sockets, Socket.isAbandoned),
    (abandoned) => abandoned.length > 0 && abandoned.every(Boolean) ? remove(folder) : Effect.void
  )
}

const remove = (folder: string): Effect.Effect<void> =>
  Effect.sync(() => rmSync(folder, { recursive: true, force: true }))

/** What another process removes meanwhile, or what is not for us, is none of ours. */
const entries = (folder: string): ReadonlyArray<string> => {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
