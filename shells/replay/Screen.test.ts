import { assert, describe, it } from "@effect/vitest"
import type { Moment, Player } from "./Player.ts"
import * as Screen from "./Screen.ts"

const moment = (number: number, tag: string, isChange: boolean): Moment => ({
  number,
  at: 1_700_000_000_000 + number * 1_000,
  event: number === 0 ? undefined : { _tag: tag, reply: number },
  tag,
  commands: number % 2 === 0 ? [] : [{ _tag: "Reply", reply: number }],
  recorded: number === 5 ? [] : undefined,
  isChange,
  changes: () => isChange ? [{ path: "phase", before: `old ${number}`, after: `new ${number}` }] : [],
  state: () => ({ phase: `new ${number}` })
})

const player: Player = {
  machine: "phone",
  moments: [
    moment(0, "", false),
    moment(1, "Rang", true),
    moment(2, "Woken", false),
    moment(3, "Answered", true),
    moment(4, "Woken", false),
    moment(5, "HungUp", true)
  ]
}

const key = (text: string): Screen.Key =>
  text.length === 1 ? { name: text, text, ctrl: false } : { name: text, text: "", ctrl: false }

/** The screen after keys; words in capitals with a plus are typed letter by letter. */
const after = (...keys: ReadonlyArray<string>): Screen.Screen =>
  keys.flatMap((one) => one.startsWith("+") ? one.slice(1).split("") : [one])
    .reduce((screen, one) => Screen.press(player, screen, key(one))[0], Screen.initial(0))

const shown = (screen: Screen.Screen): string =>
  // oxlint-disable-next-line no-control-regex
  Screen.render(player, screen, "phone.ndjson", { columns: 80, rows: 14 }).join("\n").replaceAll(/\x1b\[\d+m/g, "")

describe("The screen of a replay", () => {
  it("goes forward, back, to the ends and to a number", () => {
    assert.strictEqual(after("right", "n", " ", "left").at, 2)
    assert.strictEqual(after("p").at, 0)
    assert.strictEqual(after("end", "n").at, 5)
    assert.strictEqual(after("G", "home").at, 0)
    assert.strictEqual(after("4", "return").at, 4)
    assert.match(shown(after("+42", "return")), /the last event is 5/)
  })

  it("finds changes, tags, texts, and what is decided otherwise", () => {
    assert.strictEqual(after("c", "c").at, 3)
    assert.strictEqual(after("c", "c", "C").at, 1)
    assert.strictEqual(after("e", "+woken", "return").at, 2)
    assert.strictEqual(after("e", "+woken", "return", "r").at, 4)
    assert.strictEqual(after("e", "+woken", "return", "r", "R").at, 2)
    assert.strictEqual(after("/", "+reply\":3", "return").at, 3)
    assert.strictEqual(after("d").at, 5)
    assert.match(shown(after("/", "+nobody", "return")), /no such event after this one/)
  })

  it("shows event, commands, the change of the state, and the state", () => {
    const text = shown(after("c"))
    assert.match(text, /event 1 of 5 at 2023-11-14T22:13:21.000Z, 1.000 s after/)
    assert.match(text, /> Rang \{ reply: 1 \}\n< Reply \{ reply: 1 \}\n~ phase: "old 1" → "new 1"/)
    assert.match(shown(after("c", "s")), /= state\n {2}\{ phase: "new 1" \}/)
    assert.match(shown(after("d")), /! recorded was no command/)
    assert.match(shown(after("?")), /write a regression test/)
    assert.strictEqual(shown(after("c")).split("\n").length, 14)
  })

  it("writes a test of what lies between the mark and here", () => {
    const marked = after("c", "m", "G", "t")
    assert.match(shown(marked), /write a test to: phone.test.ts/)
    assert.deepStrictEqual(Screen.press(player, marked, key("return"))[1], {
      _tag: "Write",
      file: "phone.test.ts",
      from: 1,
      to: 5
    })
    assert.match(shown(after("G", "m", "t")), /go further, or mark/)
  })

  it("leaves a question with escape and the recording with q or Ctrl-C", () => {
    assert.isUndefined(after("/", "+a", "escape").prompt)
    assert.isUndefined(after("/", "+a", "backspace", "backspace").prompt)
    assert.deepStrictEqual(Screen.press(player, after("c"), key("q"))[1], { _tag: "Quit" })
    assert.deepStrictEqual(Screen.press(player, after("/"), { name: "c", text: "", ctrl: true })[1], { _tag: "Quit" })
  })
})
