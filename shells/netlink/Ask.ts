/**
 * Questions to rtnetlink and their answers, over a socket in a namespace.
 *
 * A socket belongs for ever to the namespace in which it was made, and keeps that namespace alive. The kernel answers
 * while it takes the question, so that each is asked and answered in one go, without the event loop.
 */
import { Effect, type Scope } from "effect"
import { fromErrno, type NetlinkError } from "./NetlinkError.ts"
import * as Socket from "./Socket.ts"
import * as Wire from "./Wire.ts"

/** What is asked, in words, for the message of an error. */
export type Words = string | (() => string)

/** Sends a request and returns the bodies of the answer; none for a mere acknowledgement. */
export type Ask = (request: Words, message: Wire.Message) => Effect.Effect<ReadonlyArray<Buffer>, NetlinkError>

/** Opens a socket for questions, in the namespace at the path or in that of this process. */
export const open = (namespace?: string): Effect.Effect<Ask, NetlinkError, Scope.Scope> =>
  Effect.map(
    Socket.open(Socket.route, namespace),
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
const ask = (socket: Socket.Socket, sequence: number, message: Wire.Message): Answer | number => {
  const failure = Socket.send(socket, Wire.request(message, sequence))
  if (failure !== undefined) return failure
  const bodies: Array<Buffer> = []
  let interrupted = false
  for (;;) {
    const bytes = Socket.receive(socket, "wait")
    if (typeof bytes === "number") return bytes
    for (const part of Wire.messages(bytes)) {
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
