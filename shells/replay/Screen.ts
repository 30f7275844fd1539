/**
 * The screen on which a recording is walked through: what keys do, and what is shown. Pure.
 *
 *     key, screen ──press──▶ screen, action     screen ──render──▶ lines
 */
import { styleText } from "node:util"
import { find, type Player, type Query } from "./Player.ts"
import * as Report from "./Report.ts"

export interface Screen {
  /** The moment that is shown. */
  readonly at: number
  /** Lines above the visible part. */
  readonly scroll: number
  readonly isFull: boolean
  /** Events and commands with all their values. */
  readonly isLong: boolean
  /** Where a window begins. */
  readonly mark: number
  readonly prompt: { readonly kind: "goto" | "tag" | "text" | "test"; readonly text: string } | undefined
  readonly last: Query | undefined
  readonly note: string
  readonly isHelp: boolean
}

export interface Key {
  /** As `node:readline` names it. */
  readonly name: string
  /** What it writes; empty for keys that do not. */
  readonly text: string
  readonly ctrl: boolean
}

export type Action =
  | { readonly _tag: "Quit" }
  | { readonly _tag: "Write"; readonly file: string; readonly from: number; readonly to: number }

export const initial = (at: number): Screen => ({
  at,
  scroll: 0,
  isFull: false,
  isLong: false,
  mark: 0,
  prompt: undefined,
  last: undefined,
  note: "",
  isHelp: false
})

const help = [
  "→ n space   next event                ← p        the event before",
  "g           the first state           G          the last event",
  "digits      to an event by number",
  "c           next change of the state  C          the one before",
  "e           next event with a tag     /          next event or command with a text",
  "r           once more, forward        R          once more, back",
  "d           next decision that is not the recorded one",
  "v           values in full            s          the whole state",
  "↓ ↑         scroll",
  "m           mark: a window begins here",
  "t           write a regression test of the window, from the mark to here",
  "q           leave"
]

export const press = (player: Player, screen: Screen, key: Key): readonly [Screen, Action | undefined] => {
  if (key.ctrl && key.name === "c") return [screen, { _tag: "Quit" }]
  if (screen.prompt !== undefined) return typed(player, screen, screen.prompt, key)
  const quiet = { ...screen, note: "", isHelp: false }
  const last = player.moments.length - 1
  const to = (
    at: number
  ): readonly [Screen, undefined] => [{ ...quiet, at: Math.min(last, Math.max(0, at)), scroll: 0 }, undefined]
  const ask = (kind: NonNullable<Screen["prompt"]>["kind"], text = ""): readonly [Screen, undefined] => [
    { ...quiet, prompt: { kind, text } },
    undefined
  ]
  if (/^\d$/.test(key.text)) return ask("goto", key.text)
  switch (key.text) {
    case "n":
    case " ":
      return to(screen.at + 1)
    case "p":
      return to(screen.at - 1)
    case "g":
      return to(0)
    case "G":
      return to(last)
    case "c":
      return [seek(player, quiet, 1, { _tag: "Change" }), undefined]
    case "C":
      return [seek(player, quiet, -1, { _tag: "Change" }), undefined]
    case "d":
      return [seek(player, quiet, 1, { _tag: "Differs" }), undefined]
    case "e":
      return ask("tag")
    case "/":
      return ask("text")
    case "r":
    case "R":
      return [
        screen.last === undefined
          ? { ...quiet, note: "nothing was looked for yet" }
          : seek(player, quiet, key.text === "r" ? 1 : -1, screen.last),
        undefined
      ]
    case "s":
      return [{ ...quiet, isFull: !screen.isFull, scroll: 0 }, undefined]
    case "v":
      return [{ ...quiet, isLong: !screen.isLong, scroll: 0 }, undefined]
    case "m":
      return [{ ...quiet, mark: screen.at, note: `a window begins after event ${screen.at}` }, undefined]
    case "t":
      return screen.at <= screen.mark
        ? [
          { ...quiet, note: `the window begins after event ${screen.mark}: go further, or mark (m) earlier` },
          undefined
        ]
        : ask("test", `${player.machine}.test.ts`)
    case "q":
      return [screen, { _tag: "Quit" }]
    case "?":
    case "h":
      return [{ ...quiet, isHelp: !screen.isHelp }, undefined]
  }
  switch (key.name) {
    case "right":
      return to(screen.at + 1)
    case "left":
      return to(screen.at - 1)
    case "home":
      return to(0)
    case "end":
      return to(last)
    case "down":
      return [{ ...quiet, scroll: screen.scroll + 1 }, undefined]
    case "up":
      return [{ ...quiet, scroll: Math.max(0, screen.scroll - 1) }, undefined]
    case "pagedown":
      return [{ ...quiet, scroll: screen.scroll + 10 }, undefined]
    case "pageup":
      return [{ ...quiet, scroll: Math.max(0, screen.scroll - 10) }, undefined]
    default:
      return [quiet, undefined]
  }
}

const seek = (player: Player, screen: Screen, by: 1 | -1, query: Query): Screen => {
  const at = find(player, screen.at, by, query)
  return at === undefined
    ? { ...screen, last: query, note: `no such event ${by === 1 ? "after" : "before"} this one` }
    : { ...screen, last: query, at, scroll: 0 }
}

const typed = (
  player: Player,
  screen: Screen,
  { kind, text }: NonNullable<Screen["prompt"]>,
  key: Key
): readonly [Screen, Action | undefined] => {
  const closed: Screen = { ...screen, prompt: undefined }
  if (key.name === "escape") return [closed, undefined]
  if (key.name === "backspace") {
    return [text === "" ? closed : { ...screen, prompt: { kind, text: text.slice(0, -1) } }, undefined]
  }
  if (key.name !== "return") return [{ ...screen, prompt: { kind, text: text + key.text } }, undefined]
  if (text === "") return [closed, undefined]
  switch (kind) {
    case "goto": {
      const at = Number(text)
      return [
        at < player.moments.length
          ? { ...closed, at, scroll: 0 }
          : { ...closed, note: `the last event is ${player.moments.length - 1}` },
        undefined
      ]
    }
    case "tag":
      return [seek(player, closed, 1, { _tag: "Tag", tag: text }), undefined]
    case "text":
      return [seek(player, closed, 1, { _tag: "Text", text }), undefined]
    case "test":
      return [closed, { _tag: "Write", file: text, from: screen.mark, to: screen.at }]
  }
}

const prompts = { goto: "go to event", tag: "next event named", text: "next with the text", test: "write a test to" }

const styles: { readonly [role in Report.Line["role"]]: Parameters<typeof styleText>[0] } = {
  head: "bold",
  event: "cyan",
  command: "yellow",
  path: "bold",
  old: "red",
  new: "green",
  wrong: "magenta",
  plain: "reset"
}

/** What is on the screen: as many lines as it has rows. */
export const render = (
  player: Player,
  screen: Screen,
  file: string,
  size: { readonly columns: number; readonly rows: number }
): ReadonlyArray<string> => {
  const moment = player.moments[screen.at]
  const room = size.rows - 3
  const body = moment === undefined
    ? []
    : Report.lines(player, moment, {
      width: size.columns,
      isFull: screen.isFull,
      isBrief: !screen.isLong
    })
  const top = Math.min(screen.scroll, Math.max(0, body.length - room))
  const visible = screen.isHelp
    ? help
    : body.slice(top, top + room).map(({ role, text }) =>
      styleText(styles[role], text.slice(0, size.columns), { validateStream: false })
    )
  const done = Math.round((screen.at / Math.max(1, player.moments.length - 1)) * (size.columns - 2))
  const hidden = body.length - top - room
  const foot = screen.prompt === undefined
    ? screen.note !== ""
      ? screen.note
      : hidden > 0
      ? `↓ ${hidden} more lines · ? keys · q leave`
      : "→ next · ← back · c change · e event · / text · v values · s state · ? keys · q leave"
    : `${prompts[screen.prompt.kind]}: ${screen.prompt.text}▏`
  const title = `${player.machine} · ${file}${screen.mark > 0 ? ` · window from ${screen.mark}` : ""}`
  return [
    styleText("inverse", ` ${title}`.padEnd(size.columns).slice(0, size.columns), { validateStream: false }),
    ...Array.from({ length: room }, (_, row) => visible[row] ?? ""),
    styleText("dim", "━".repeat(done) + "─".repeat(Math.max(0, size.columns - done)), { validateStream: false }),
    foot.slice(0, size.columns)
  ]
}
