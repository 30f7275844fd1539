/** Walks through a recording in a terminal: keys in, screens out. */
import { Effect } from "effect"
import * as readline from "node:readline"
import type { ReadStream, WriteStream } from "node:tty"
import type { Player } from "./Player.ts"
import * as Screen from "./Screen.ts"

export interface Options {
  readonly player: Player
  readonly file: string
  readonly input: ReadStream
  readonly output: WriteStream
  /** Writes a test; the result is told. */
  readonly write: (action: Extract<Screen.Action, { readonly _tag: "Write" }>) => string
}

/** Another screen, so that what was in the terminal comes back. */
const enter = "\x1b[?1049h\x1b[?25l"
const leave = "\x1b[?25h\x1b[?1049l"

/** Ends when the user leaves; the terminal is then as it was. */
export const walk = ({ file, input, output, player, write }: Options): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    let screen = Screen.initial(0)
    const show = (): void => {
      const size = { columns: output.columns || 80, rows: output.rows || 24 }
      const lines = Screen.render(player, screen, file, size)
      output.write(`\x1b[H${lines.map((line) => `${line}\x1b[K`).join("\r\n")}\x1b[J`)
    }
    const press = (text: string | undefined, key: readline.Key): void => {
      const isPrintable = text !== undefined && /^[ -~]$/.test(text)
      const [next, action] = Screen.press(player, screen, {
        name: key.name ?? "",
        text: isPrintable ? text : "",
        ctrl: key.ctrl ?? false
      })
      screen = next
      if (action?._tag === "Quit") {
        stop()
        return resume(Effect.void)
      }
      if (action?._tag === "Write") screen = { ...screen, note: write(action) }
      show()
    }
    const stop = (): void => {
      input.off("keypress", press)
      output.off("resize", show)
      input.setRawMode(false)
      input.pause()
      output.write(leave)
    }
    readline.emitKeypressEvents(input)
    input.setRawMode(true)
    input.on("keypress", press)
    output.on("resize", show)
    input.resume()
    output.write(enter)
    show()
    return Effect.sync(stop)
  })
