import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as GoSyntax from "./GoSyntax.ts"

const value = <A>(result: Result.Result<A, string>): A | "error" => Result.getOrElse(result, () => "error" as const)

describe("GoSyntax", () => {
  it("reads durations as time.ParseDuration", () => {
    const cases: ReadonlyArray<readonly [string, number | "error"]> = [
      ["15s", 15_000],
      ["1m30s", 90_000],
      ["1.5h3m.5s", 5_580_500],
      ["5.s", 5000],
      [".5s", 500],
      ["0", 0],
      ["-0", 0],
      ["-1m", -60_000],
      ["+1ms", 1],
      ["2us", 0.002],
      ["2\u00b5s", 0.002],
      ["2\u03bcs", 0.002],
      ["24h", 86_400_000],
      ["15", "error"],
      ["1d", "error"],
      ["5 s", "error"],
      ["", "error"],
      [".s", "error"],
      ["s", "error"],
      ["9000000h", "error"]
    ]
    for (const [text, expected] of cases) assert.strictEqual(value(GoSyntax.durationMs(text)), expected, text)
  })

  it.prop("writes durations so that they read back", { ms: Schema.Int }, ({ ms }) => {
    const bounded = ms % 1e11
    return value(GoSyntax.durationMs(GoSyntax.formatDurationMs(bounded))) === bounded
  })

  it("writes durations as Go", () => {
    assert.deepStrictEqual(
      [0, 1, 1500, 90_000, 86_400_000, -250, 0.0015].map(GoSyntax.formatDurationMs),
      ["0s", "1ms", "1.5s", "1m30s", "24h0m0s", "-250ms", "1.5\u00b5s"]
    )
  })

  it("reads integers in base 0", () => {
    const cases: ReadonlyArray<readonly [string, number | "error"]> = [
      ["7778", 7778],
      ["0x1E62", 7778],
      ["0o17", 15],
      ["0b1", 1],
      ["010", 8],
      ["1_000", 1000],
      ["-1", -1],
      ["+1", 1],
      ["0", 0],
      ["00", 0],
      ["08", "error"],
      ["1__0", "error"],
      ["_1", "error"],
      ["1_", "error"],
      ["", "error"],
      ["1.5", "error"],
      ["tcp://10.0.0.1:7778", "error"],
      ["99999999999999999999", "error"]
    ]
    for (const [text, expected] of cases) assert.strictEqual(value(GoSyntax.integer(text)), expected, text)
  })

  it.prop("reads every integer in every base", { n: Schema.Int }, ({ n }) => {
    const sign = n < 0 ? "-" : ""
    const size = Math.abs(n)
    const texts = [
      `${n}`,
      `${sign}0x${size.toString(16)}`,
      `${sign}0b${size.toString(2)}`,
      `${sign}0${size.toString(8)}`
    ]
    return texts.every((text) => value(GoSyntax.integer(text)) === n || n === 0)
  })

  it("reads booleans as strconv.ParseBool", () => {
    assert.deepStrictEqual(["1", "T", "true", "0", "False", "yes", ""].map((text) => value(GoSyntax.boolean(text))), [
      true,
      true,
      true,
      false,
      false,
      "error",
      "error"
    ])
  })

  it("accepts and refuses the URLs that url.Parse does", () => {
    const good = ["unix:///a/b", "unix:/a/b", "tcp://1.2.3.4:5", "/a/b", "", "localhost:5", "tcp://[::1]:7778"]
    const bad = [":x", "1.2.3.4:5", "unix://a b", "tcp://h:port", "a\nb", "/%zz"]
    for (const text of good) assert.strictEqual(value(GoSyntax.url(text)), text)
    for (const text of bad) assert.strictEqual(value(GoSyntax.url(text)), "error", text)
  })

  it("keeps blanks in lists", () => {
    assert.deepStrictEqual(GoSyntax.list("a, b"), ["a", " b"])
    assert.deepStrictEqual(GoSyntax.list(" "), [])
  })
})
