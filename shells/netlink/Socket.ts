/**
 * Sockets of netlink that wait for the kernel, which answers while it takes what is sent.
 *
 * A socket belongs for ever to the namespace in which it was made, and keeps that namespace alive.
 */
import { Effect, type Scope } from "effect"
import koffi from "koffi"
import * as Inside from "./Inside.ts"
import { fromErrno, fromThrown, type NetlinkError } from "./NetlinkError.ts"

/** A file descriptor. */
export type Socket = number

/** NETLINK_ROUTE and NETLINK_NETFILTER. */
export const route = 0
export const netfilter = 12

/** Opens a socket in the namespace at the path or in that of this process. */
export const open = (protocol: number, namespace?: string): Effect.Effect<Socket, NetlinkError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () => namespace === undefined ? make(protocol) : Inside.run(namespace, () => make(protocol)),
      catch: (thrown) => fromThrown(`open a socket in ${namespace ?? "the own namespace"}`, thrown)
    }),
    (socket) => Effect.sync(() => close(socket))
  )

/** Sends all of it at once; answers with the errno if that fails. */
export const send = (socket: Socket, bytes: Buffer): number | undefined =>
  sendBytes(socket, bytes, bytes.length, 0) < 0 ? koffi.errno() : undefined

/**
 * What came, until the next call, or the errno: EAGAIN when nothing came for 10 s, or when nothing is there and it is not
 * to be waited for.
 */
export const receive = (socket: Socket, mode: "wait" | "look"): Buffer | number => {
  const size = receiveBytes(socket, inbox, inbox.length, mode === "wait" ? truncate : truncate | dontWait)
  if (size < 0) return koffi.errno()
  return size > inbox.length ? emsgsize : inbox.subarray(0, size)
}

type Native = (...values: ReadonlyArray<number | Uint8Array | Int32Array | BigInt64Array>) => number

const libc = koffi.load(null)
const socket: Native = libc.func("socket", "int", ["int", "int", "int"])
const close: Native = libc.func("close", "int", ["int"])
const sendBytes: Native = libc.func("send", "int64", ["int", "const void *", "size_t", "int"])
const receiveBytes: Native = libc.func("recv", "int64", ["int", "void *", "size_t", "int"])
const setsockopt: Native = libc.func("setsockopt", "int", ["int", "int", "int", "const void *", "uint32_t"])

const [afNetlink, sockRaw, closeOnExec] = [16, 3, 0o2000000]
const [solSocket, receiveTimeout, sendBufferForce] = [1, 20, 32]
const [solNetlink, capAck, extendedAck] = [270, 10, 11]
const receiveTimeoutSeconds = 10n
const [dontWait, truncate] = [0x40, 0x20]
const emsgsize = 90

/** More than is ever sent at once; the kernel takes no more than this many bytes. */
const sendBufferBytes = 64 * 1024 * 1024

/** Larger than any message of the kernel. */
const inbox = Buffer.alloc(1024 * 1024)

const make = (protocol: number): Socket => {
  const fd = socket(afNetlink, sockRaw | closeOnExec, protocol)
  if (fd < 0) throw fromErrno("open a netlink socket", koffi.errno())
  // Answers explain errors, and do not repeat the question.
  setsockopt(fd, solNetlink, capAck, Int32Array.of(1), 4)
  setsockopt(fd, solNetlink, extendedAck, Int32Array.of(1), 4)
  setsockopt(fd, solSocket, receiveTimeout, BigInt64Array.of(receiveTimeoutSeconds, 0n), 16)
  setsockopt(fd, solSocket, sendBufferForce, Int32Array.of(sendBufferBytes), 4)
  return fd
}
