/**
 * The other end of a relay for tests: takes the files that come with the first bytes of each connection, as a Go peer
 * does, and passes the bytes on to a server that knows nothing of it.
 */
import { Effect, Queue } from "effect"
import type { Scope } from "effect"
import { closeSync } from "node:fs"
import * as net from "node:net"
import * as Message from "./Message.ts"

/** What came with the first bytes of a connection. */
export interface Arrival {
  readonly bytes: Buffer
  readonly descriptors: ReadonlyArray<number>
  /** Closes the descriptors, which otherwise stay open until the scope of the receiver ends. */
  readonly close: () => void
}

/** Listens on one socket path and passes on to another. */
export const listen = (
  socketPath: string,
  target: string
): Effect.Effect<Queue.Dequeue<Arrival>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const arrivals = yield* Queue.unbounded<Arrival>()
    const open = new Set<net.Socket>()
    const kept = new Set<number>()
    const close = (descriptors: Iterable<number>) => {
      for (const descriptor of descriptors) if (kept.delete(descriptor)) closeSync(descriptor)
    }
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (accepted) => {
      const passOn = (bytes: Buffer, descriptors: ReadonlyArray<number>) => {
        descriptors.forEach((descriptor) => kept.add(descriptor))
        Queue.offerUnsafe(arrivals, { bytes, descriptors, close: () => close(descriptors) })
        const dialled = net.connect({ path: target, allowHalfOpen: true })
        open.add(dialled)
        dialled.on("error", () => accepted.destroy()).on("close", () => open.delete(dialled))
        accepted.on("close", () => dialled.destroySoon())
        dialled.write(bytes)
        dialled.pipe(accepted)
        accepted.pipe(dialled)
      }
      open.add(accepted)
      accepted.on("error", () => undefined).on("close", () => open.delete(accepted))
      poll(accepted, passOn)
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(socketPath, () => resume(Effect.void))
      }),
      () =>
        Effect.callback<void>((resume) => {
          server.close(() => {
            close(kept)
            resume(Effect.void)
          })
          open.forEach((socket) => socket.destroy())
        })
    )
    return arrivals
  })

const poll = (accepted: net.Socket, arrived: (bytes: Buffer, descriptors: ReadonlyArray<number>) => void): void => {
  const socket = Message.descriptorOf(accepted)
  if (socket === undefined) return
  const received = Message.receive(socket, 65_536)
  switch (received._tag) {
    case "Empty":
      return void setTimeout(poll, 1, accepted, arrived)
    case "Failed":
      return void accepted.destroy()
    case "Received":
      if (received.bytes.length > 0) arrived(received.bytes, received.descriptors)
      else accepted.destroy()
  }
}
