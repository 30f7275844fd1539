/**
 * The file of a unix socket before and after a server binds it. Its calls block, which takes some microseconds; to wait
 * for them would start the threads that Node keeps for files, and that costs a cold start 2 ms.
 */
import { Effect } from "effect"
import { chmodSync, lstatSync, mkdirSync, unlinkSync } from "node:fs"
import { createConnection } from "node:net"
import { dirname } from "node:path"
import * as GrpcError from "./Error.ts"

/**
 * Makes the path free to be bound: its folder exists and a socket left behind by a crash is gone. Fails with
 * UNAVAILABLE if somebody answers there, or if there is something that is not a socket.
 */
export const prepare = (path: string): Effect.Effect<void, GrpcError.GrpcError> =>
  Effect.gen(function*() {
    yield* io(path, () => mkdirSync(dirname(path), { recursive: true }))
    const found = yield* Effect.orElseSucceed(
      Effect.try({ try: () => lstatSync(path), catch: String }),
      () => undefined
    )
    if (found === undefined) return
    if (!found.isSocket()) return yield* GrpcError.error("Unavailable", `${path} exists and is not a socket`)
    if (!(yield* isAbandoned(path))) {
      return yield* GrpcError.error("Unavailable", `${path} is served by another process`)
    }
    yield* io(path, () => unlinkSync(path))
  })

/** Lets every user connect (mode 0777), as applications run under users of their own. */
export const openToAll = (path: string): Effect.Effect<void, GrpcError.GrpcError> =>
  io(path, () => chmodSync(path, 0o777))

/** Whether the process that bound the socket is gone. */
export const isAbandoned = (path: string): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = createConnection({ path })
    const end = (abandoned: boolean): void => {
      socket.destroy()
      resume(Effect.succeed(abandoned))
    }
    socket.once("connect", () => end(false))
    // Anything else says that somebody is there, perhaps too busy, or not for us.
    socket.once("error", (error) => end("code" in error && error.code === "ECONNREFUSED"))
    return Effect.sync(() => socket.destroy())
  })

const io = (path: string, action: () => unknown): Effect.Effect<void, GrpcError.GrpcError> =>
  Effect.try({
    try: action,
    catch: (cause) =>
      GrpcError.error("Unavailable", `cannot prepare the socket ${path}: ${GrpcError.fromUnknown(cause).details}`)
  }).pipe(Effect.asVoid)
