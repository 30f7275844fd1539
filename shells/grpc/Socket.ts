/** The file of a unix socket before and after a server binds it. */
import { Effect } from "effect"
import { chmod, lstat, mkdir, unlink } from "node:fs/promises"
import { createConnection } from "node:net"
import { dirname } from "node:path"
import * as GrpcError from "./Error.ts"

/**
 * Makes the path free to be bound: its folder exists and a socket left behind by a crash is gone. Fails with
 * UNAVAILABLE if somebody answers there, or if there is something that is not a socket.
 */
export const prepare = (path: string): Effect.Effect<void, GrpcError.GrpcError> =>
  Effect.gen(function*() {
    yield* io(path, () => mkdir(dirname(path), { recursive: true }))
    const found = yield* Effect.promise(() => lstat(path).catch(() => undefined))
    if (found === undefined) return
    if (!found.isSocket()) return yield* GrpcError.error("Unavailable", `${path} exists and is not a socket`)
    if (yield* answers(path)) return yield* GrpcError.error("Unavailable", `${path} is served by another process`)
    yield* io(path, () => unlink(path))
  })

/** Lets every user connect (mode 0777), as applications run under users of their own. */
export const openToAll = (path: string): Effect.Effect<void, GrpcError.GrpcError> => io(path, () => chmod(path, 0o777))

const io = (path: string, action: () => Promise<unknown>): Effect.Effect<void, GrpcError.GrpcError> =>
  Effect.tryPromise({
    try: action,
    catch: (cause) =>
      GrpcError.error("Unavailable", `cannot prepare the socket ${path}: ${GrpcError.fromUnknown(cause).details}`)
  }).pipe(Effect.asVoid)

const answers = (path: string): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = createConnection({ path })
    const end = (answered: boolean) => () => {
      socket.destroy()
      resume(Effect.succeed(answered))
    }
    socket.once("connect", end(true)).once("error", end(false))
    return Effect.sync(() => socket.destroy())
  })
