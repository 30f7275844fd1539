/**
 * Answers for callers outside a machine: a request is an event with a `reply` number, and the machine answers with a
 * command that repeats it. A caller that goes away is forgotten; its number is never used again.
 */
import { Deferred, Effect } from "effect"

export interface Replies<Result> {
  /** Sends the event made for a fresh reply number and waits for the answer. */
  readonly ask: (send: (reply: number) => void) => Effect.Effect<Result>
  /** Gives the answer; unknown numbers (the caller left) are ignored. */
  readonly answer: (reply: number, result: Result) => Effect.Effect<void>
}

export const make = <Result>(): Replies<Result> => {
  const waiting = new Map<number, Deferred.Deferred<Result>>()
  let next = 0
  return {
    ask: (send) =>
      Effect.suspend(() => {
        const reply = next++
        const answer = Deferred.makeUnsafe<Result>()
        waiting.set(reply, answer)
        send(reply)
        return Effect.ensuring(Deferred.await(answer), Effect.sync(() => waiting.delete(reply)))
      }),
    answer: (reply, result) =>
      Effect.suspend(() => {
        const answer = waiting.get(reply)
        return answer === undefined ? Effect.void : Effect.asVoid(Deferred.succeed(answer, result))
      })
  }
}
