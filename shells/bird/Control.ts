/**
 * The control socket of BIRD: one command, one reply, as birdc does it, without a process.
 *
 * A reply is lines of `NNNN-text` (more follows) or ` text` (the code of the line before), up to `NNNN text`. BIRD greets
 * with `0001 BIRD 2.0.12 ready.`; codes from 8000 are errors. Words must be written out: birdc expands them, BIRD does not.
 */
import { Effect, Schema } from "effect"
import * as net from "node:net"

/** BIRD cannot be run, reached or understood. */
export class BirdError extends Schema.TaggedError<BirdError>()("BirdError", { detail: Schema.String }) {
  override get message(): string {
    return `BIRD: ${this.detail}`
  }
}

export interface Reply {
  /** Of the last line with one, except for the closing 0000. */
  readonly code: number
  /** Without codes. */
  readonly text: string
}

/** Sends one command and returns the reply, whatever its code; fails when there is none in time. */
export const ask = (socket: string, command: string, timeoutMs: number): Effect.Effect<Reply, BirdError> =>
  Effect.callback<Reply, BirdError>((resume) => {
    const connection = net.createConnection({ path: socket })
    const lines: Array<string> = []
    let rest = ""
    let greeted = false
    const fail = (detail: string) => resume(Effect.fail(new BirdError({ detail: `${command}: ${detail}` })))
    connection.setEncoding("latin1")
    connection.on("data", (data) => {
      const parts = `${rest}${String(data)}`.split("\n")
      rest = parts.pop() ?? ""
      for (const line of parts) {
        lines.push(line)
        if (!/^\d{4} /.test(line)) continue
        if (greeted) {
          connection.destroy()
          return resume(Effect.succeed(parse(lines)))
        }
        greeted = true
        lines.length = 0
        connection.write(`${command}\n`, "latin1")
      }
    })
    connection.on("error", (error) => fail(error.message))
    connection.on("close", () => fail("the control socket was closed before the reply"))
    return Effect.sync(() => connection.destroy())
  }).pipe(
    Effect.timeoutOrElse({
      duration: timeoutMs,
      orElse: () => Effect.fail(new BirdError({ detail: `${command}: no reply within ${timeoutMs} ms` }))
    })
  )

/** Joins the lines of a reply. */
export const parse = (lines: ReadonlyArray<string>): Reply => {
  let code = 0
  const texts: Array<string> = []
  for (const line of lines) {
    const found = /^(\d{4})[- ](.*)$/.exec(line)
    // A line that begins with + is a log message for whoever listens, not part of the reply.
    if (found === null && line.startsWith("+")) continue
    const number = Number(found?.[1] ?? code)
    if (found !== null && number !== 0) code = number
    if (found === null || number !== 0) texts.push(found?.[2] ?? line.slice(1))
  }
  return { code, text: `${texts.join("\n")}\n` }
}

/** The reply, or a failure if it is an error. */
export const askOk = (socket: string, command: string, timeoutMs: number): Effect.Effect<string, BirdError> =>
  Effect.flatMap(
    ask(socket, command, timeoutMs),
    ({ code, text }) =>
      code < 8000 ? Effect.succeed(text) : Effect.fail(new BirdError({ detail: `${command}: ${text.trim()}` }))
  )
