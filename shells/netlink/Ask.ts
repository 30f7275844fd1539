/**
 * Questions to rtnetlink and their answers, over a socket in a namespace.
 *
 * A socket belongs for ever to the namespace in which it was made, and keeps that namespace alive. The kernel answers
 * while it takes the question, so that each is asked and answered in one go, without the event loop.
 */
import { Effect, type Scope } from "effect"
import koffi from "koffi"
import * as Inside from "./Inside.ts"
import { fromErrno, fromThrown, type NetlinkError } from "./NetlinkError.ts"
import * as Wire from "./Wire.ts"

/** What is asked, in words, for the message of an error. */
export type Words = string | (() => string)

/** Sends a request and returns the bodies of the answer; none for a mere acknowledgement. */
export type Ask = (request: Words, message: Wire.Message) => Effect.Effect<ReadonlyArray<Buffer>, NetlinkError>

/** Opens a socket for questions, in the namespace at the path or in that of this process. */
export const open = (namespace?: string): Effect.Effect<Ask, NetlinkError, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.try({
        try: () => namespace === undefined ? makeSocket() : Inside.run(namespace, makeSocket),
        catch: (thrown) => fromThrown(`open a socket in ${namespace ?? "the own namespace"}`, thrown)
      }),
      (socket) => Effect.sync(() => close(socket))
    ),
    (socket) => {
      let sequence = 0
      return (request, message) =>
        Effect.suspend(() => {
          for (let attempts = 0;; attempts++) {
            sequence = (sequence + 1) >>> 0
            const answer = ask(socket, sequence, message)
            if (typeof answer === "number") return Effect.fail(fromErrno(wordsOf(request), answer))
            if (answer.errno !== 0) return Effect.fail(fromErrno(wordsOf(request), answer.errno, answer.reason))
            // What changed while it was listed may be missing from the list, or in it twice.
            if (!answer.interrupted || attempts === maxAttempts) return Effect.succeed(answer.bodies)
          }
        })
    }
  )

const maxAttempts = 5

const wordsOf = (request: Words): string => typeof request === "string" ? request : request()

type Native = (...values: ReadonlyArray<number | Uint8Array | Int32Array | BigInt64Array>) => number

const libc = koffi.load(null)
const socket: Native = libc.func("socket", "int", ["int", "int", "int"])
const close: Native = libc.func("close", "int", ["int"])
const send: Native = libc.func("send", "int64", ["int", "const void *", "size_t", "int"])
const recv: Native = libc.func("recv", "int64", ["int", "void *", "size_t", "int"])
const setsockopt: Native = libc.func("setsockopt", "int", ["int", "int", "int", "const void *", "uint32_t"])

const [afNetlink, sockRaw, closeOnExec, route] = [16, 3, 0o2000000, 0]
const [solSocket, receiveTimeout] = [1, 20]
const [solNetlink, capAck, extendedAck] = [270, 10, 11]
const receiveTimeoutSeconds = 10n
const truncate = 0x20

/** Larger than any message of the kernel. */
const inbox = Buffer.alloc(1024 * 1024)

const makeSocket = (): number => {
  const fd = socket(afNetlink, sockRaw | closeOnExec, route)
  if (fd < 0) throw fromErrno("open a netlink socket", koffi.errno())
  // Answers explain errors, and do not repeat the question.
  setsockopt(fd, solNetlink, capAck, Int32Array.of(1), 4)
  setsockopt(fd, solNetlink, extendedAck, Int32Array.of(1), 4)
  setsockopt(fd, solSocket, receiveTimeout, BigInt64Array.of(receiveTimeoutSeconds, 0n), 16)
  return fd
}

interface Answer {
  readonly bodies: ReadonlyArray<Buffer>
  /** 0: success. */
  readonly errno: number
  /** Why, in the words of the kernel. */
  readonly reason?: string
  /** The list is inconsistent: something changed while it was made. */
  readonly interrupted: boolean
}

/** The answer, or the errno of the system call. */
const ask = (fd: number, sequence: number, message: Wire.Message): Answer | number => {
  const request = Wire.request(message, sequence)
  if (send(fd, request, request.length, 0) < 0) return koffi.errno()
  const bodies: Array<Buffer> = []
  let interrupted = false
  for (;;) {
    const size = recv(fd, inbox, inbox.length, truncate)
    if (size < 0) return koffi.errno()
    if (size > inbox.length) return emsgsize
    for (const part of Wire.messages(inbox.subarray(0, size))) {
      // The rest of an answer that was given up.
      if (part.sequence !== sequence) continue
      interrupted ||= (part.flags & Wire.interrupted) !== 0
      if (part.type === Wire.error || part.type === Wire.done) {
        return { bodies, interrupted, ...Wire.verdict(part) }
      }
      // The buffer is used again.
      bodies.push(Buffer.from(part.body))
    }
  }
}

const emsgsize = 90
