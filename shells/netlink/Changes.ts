/**
 * Notifications of rtnetlink, over a socket in a namespace: the socket belongs to that namespace for ever.
 */
import { Cause, Effect, Queue, type Scope, Stream } from "effect"
import koffi from "koffi"
import { createNetlink, type NetlinkSocket } from "netlink/dist/netlink.js"
import * as fs from "node:fs"
import * as Inside from "./Inside.ts"
import { fromThrown, type NetlinkError } from "./NetlinkError.ts"

/**
 * Emits once when listening, then when anything but neighbours changed; bursts are one element.
 *
 * When the receive buffer is full the kernel drops messages. No change is missed for that: a full buffer holds messages
 * that are read, and so announced, after the drop.
 */
export const changes = (namespace?: string): Stream.Stream<void, NetlinkError> =>
  Stream.callback<void, NetlinkError>((queue) =>
    Effect.gen(function*() {
      const socket = yield* acquire(namespace)
      socket.on("message", () => Queue.offerUnsafe(queue, undefined))
      socket.on("error", (error) => Queue.failCauseUnsafe(queue, Cause.fail(fromThrown("listen for changes", error))))
      Queue.offerUnsafe(queue, undefined)
      yield* Effect.never
    }), { bufferSize: 1, strategy: "sliding" })

// RTNLGRP_*: link; IPv4 address, route, rule; IPv6 address, route, rule.
const groups = [1, 5, 7, 8, 9, 11, 19]

const route = 0
const receiveBufferBytes = 4 * 1024 * 1024

const makeListener = (): NetlinkSocket => {
  for (let attempt = 0; attempt < 10; attempt++) {
    const next = firstFree()
    const socket = createNetlink(route, { recvBufferSize: receiveBufferBytes, sendBufferSize: receiveBufferBytes })
    if (portOf(next) === socket.address().port && setsockopt(next, solNetlink, noEnobufs, Int32Array.of(1), 4) === 0) {
      groups.forEach((group) => socket.addMembership(group))
      return socket
    }
    // A thread of the pool took the number meanwhile.
    socket.close()
  }
  throw new Error("NETLINK_NO_ENOBUFS cannot be set")
}

const acquire = (namespace: string | undefined): Effect.Effect<NetlinkSocket, NetlinkError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () => namespace === undefined ? makeListener() : Inside.run(namespace, makeListener),
      catch: (thrown) => fromThrown(`open a socket in ${namespace ?? "the own namespace"}`, thrown)
    }),
    // Later, because fibers also run inside the callbacks of the addon, which uses the socket after they return.
    (socket) => Effect.sync(() => setImmediate(() => socket.close()))
  )

// The addon ends the process when a socket reports an overrun (netlink 0.3.0, an error without system call in its poll
// handler), and it does not tell its file descriptor: it is the number that was free before, known by its port. Looking
// through all descriptors of the process would cost more with each namespace.
const libc = koffi.load(null)
const setsockopt: (fd: number, level: number, name: number, value: Int32Array, length: number) => number = libc.func(
  "setsockopt",
  "int",
  ["int", "int", "int", "const void *", "uint32_t"]
)
const getsockname: (fd: number, address: Buffer, length: Int32Array) => number = libc.func(
  "getsockname",
  "int",
  ["int", "void *", "void *"]
)
const solNetlink = 270
const noEnobufs = 5
const afNetlink = 16

/** The number that the next descriptor of this process gets, unless another thread is faster. */
const firstFree = (): number => {
  const descriptor = fs.openSync("/dev/null", "r")
  fs.closeSync(descriptor)
  return descriptor
}

const portOf = (fd: number): number | undefined => {
  const address = Buffer.alloc(12)
  return getsockname(fd, address, Int32Array.of(address.length)) === 0 && address.readUInt16LE(0) === afNetlink
    ? address.readUInt32LE(4)
    : undefined
}
