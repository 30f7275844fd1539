/**
 * The texts that Go programs accept in their environment: durations, integers, booleans, URLs and lists, parsed as
 * `time.ParseDuration`, `strconv.ParseInt(_, 0, 64)`, `strconv.ParseBool`, `url.Parse` and envconfig do.
 *
 * Every parser returns the value or the sentence that says what was expected.
 */
import { Result } from "effect"

type Parsed<A> = Result.Result<A, string>

const nanosecondsOf: { readonly [unit: string]: bigint } = {
  ns: 1n,
  us: 1000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n
}

const durationForm = /^(?<sign>[+-]?)(?<parts>(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+)$/
const durationPart = /(?<whole>\d*)\.?(?<fraction>\d*)(?<unit>ns|us|\u00b5s|\u03bcs|ms|s|m|h)/g
const expectedDuration = "a duration with units such as 500ms, 15s or 1m30s"
const maxNanoseconds = (1n << 63n) - 1n

/** A duration in nanoseconds: `15s`, `1m30s`, `1.5h`, `-2us`, `0`. A bare number other than 0 is an error. */
export const durationNs = (text: string): Parsed<bigint> => {
  if (/^[+-]?0$/.test(text)) return Result.succeed(0n)
  const groups = durationForm.exec(text)?.groups
  if (groups === undefined) return Result.fail(expectedDuration)
  let total = 0n
  for (const { groups: part } of (groups["parts"] ?? "").matchAll(durationPart)) {
    // Both letters mu. As names of fields they would make two-byte text of each whole bundle, and half a MB of memory.
    const unit = nanosecondsOf[(part?.["unit"] ?? "").replace(/[\u00b5\u03bc]/, "u")] ?? 0n
    const fraction = part?.["fraction"] ?? ""
    total += BigInt(part?.["whole"] || "0") * unit + (BigInt(fraction || "0") * unit) / 10n ** BigInt(fraction.length)
  }
  if (total > maxNanoseconds) return Result.fail("a duration below 292 years")
  return Result.succeed(groups["sign"] === "-" ? -total : total)
}

/** A duration in milliseconds, with a fraction for shorter units. */
export const durationMs = (text: string): Parsed<number> =>
  Result.map(durationNs(text), (ns) => Number(ns / 1_000_000n) + Number(ns % 1_000_000n) / 1e6)

/** Milliseconds as Go would write them: `1m30s`, `500ms`, `0s`. */
export const formatDurationMs = (ms: number): string => {
  if (ms === 0) return "0s"
  if (ms < 0) return `-${formatDurationMs(-ms)}`
  const ns = BigInt(Math.round(ms * 1e6))
  if (ns < 1000n) return `${ns}ns`
  if (ns < 1_000_000n) return `${decimal(ns, 1000n)}\u00b5s`
  if (ns < 1_000_000_000n) return `${decimal(ns, 1_000_000n)}ms`
  const hours = ns / 3_600_000_000_000n
  const minutes = (ns / 60_000_000_000n) % 60n
  const seconds = `${decimal(ns % 60_000_000_000n, 1_000_000_000n)}s`
  if (hours > 0n) return `${hours}h${minutes}m${seconds}`
  return minutes > 0n ? `${minutes}m${seconds}` : seconds
}

const decimal = (value: bigint, unit: bigint): string => {
  const fraction = String(value % unit).padStart(String(unit).length - 1, "0").replace(/0+$/, "")
  return fraction === "" ? String(value / unit) : `${value / unit}.${fraction}`
}

const integerForm = /^[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|0|[1-9](?:_?\d)*)$/

/** An integer in base 10, or 16, 8 or 2 by its prefix; **a leading zero means octal**; `_` may separate digits. */
export const integer = (text: string): Parsed<number> => {
  if (!integerForm.test(text)) return Result.fail("an integer such as 7778 (a leading zero means octal)")
  const digits = text.replaceAll("_", "").replace(/^[+-]/, "").replace(/^0(?=[0-7])/, "0o")
  const value = text.startsWith("-") ? -Number(digits) : Number(digits)
  return Number.isSafeInteger(value) ? Result.succeed(value) : Result.fail("an integer below 2^53")
}

const truths = new Set(["1", "t", "T", "TRUE", "true", "True"])
const lies = new Set(["0", "f", "F", "FALSE", "false", "False"])

/** A boolean: `1`, `t`, `T`, `true`, `TRUE`, `True` and the forms of false. */
export const boolean = (text: string): Parsed<boolean> =>
  truths.has(text) || lies.has(text) ? Result.succeed(truths.has(text)) : Result.fail("true or false")

const expectedUrl = "a URL such as unix:///path/of.sock or tcp://host:port"

/** A URL in its own words: Go keeps the text, so do we. Empty, relative and opaque URLs are legal. */
export const url = (text: string): Parsed<string> => {
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(text)) return Result.fail(expectedUrl)
  const scheme = /^[A-Za-z][A-Za-z0-9+.-]*:/.exec(text)?.[0] ?? ""
  const rest = text.slice(scheme.length)
  const firstSegment = rest.split(/[/?#]/, 1)[0] ?? ""
  if (scheme === "" && firstSegment.includes(":")) return Result.fail(expectedUrl)
  if (/%(?![0-9A-Fa-f]{2})/.test(rest.split("?", 1)[0] ?? "")) return Result.fail(expectedUrl)
  if (!rest.startsWith("//")) return Result.succeed(text)
  const authority = rest.slice(2).split(/[/?#]/, 1)[0] ?? ""
  const isHost = /^(?:[^@\s]*@)?(?:\[[0-9A-Fa-f:.%]+\]|[^\s:[\]<>"]*)(?::\d*)?$/.test(authority)
  return isHost ? Result.succeed(text) : Result.fail(expectedUrl)
}

/** A list separated by commas; items are kept as they are, blanks included; a blank text is the empty list. */
export const list = (text: string): ReadonlyArray<string> => text.trim() === "" ? [] : text.split(",")
