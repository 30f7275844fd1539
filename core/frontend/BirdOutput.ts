/**
 * Reads the answers of BIRD's control socket, version 2 and 3, into rows. Text that is not such an answer is refused
 * with the line and what was expected: a wrong guess here would announce or withdraw VIPs.
 *
 * `show protocols all` is a table whose rows start at the margin, each followed by indented details; `show bfd session`
 * is a table per protocol. Columns are separated by blanks and never empty, except the last. Names hold no blanks.
 */
import { Result, Schema } from "effect"
import { Ip } from "../net/index.ts"

/** The routes of one channel. */
export const Routes = Schema.Struct({
  imported: Schema.Natural,
  exported: Schema.Natural,
  preferred: Schema.Natural
})
export type Routes = typeof Routes.Type

/** A row of `show protocols`. */
export const Protocol = Schema.Struct({
  name: Schema.String,
  /** `BGP`, `Static`, `BFD`, ... */
  kind: Schema.String,
  /** `up`, `start`, `down`, `stop`, `flush`. */
  state: Schema.String,
  /** `Established`, `Active        Socket: Connection refused`, or empty. */
  info: Schema.String,
  /** Absent while the channel is down. */
  routes: Schema.optionalKey(Routes)
})
export type Protocol = typeof Protocol.Type

/** A row of `show bfd session`. */
export const Session = Schema.Struct({
  address: Ip.Ip,
  link: Schema.String,
  /** `Up`, `Down`, `Init`, `AdminDown`. */
  state: Schema.String
})
export type Session = typeof Session.Type

/** Reads `show protocols` or `show protocols all`. */
export const protocols = (text: string): Result.Result<ReadonlyArray<Protocol>, string> => {
  const lines = contentOf(text)
  if (!/^name\s+proto\s+table\s+state\s+since/i.test(lines[0] ?? "")) {
    return expected("the title line of \"show protocols\"", lines[0])
  }
  const rows: Array<Protocol> = []
  for (const line of lines.slice(1)) {
    if (/^\s/.test(line)) {
      const last = rows.pop()
      if (last === undefined) return expected("a protocol before its details", line)
      const routes = last.routes === undefined ? routesOf(line) : undefined
      rows.push(routes === undefined ? last : { ...last, routes })
      continue
    }
    const found = /^(\S+)\s+(\S+)\s+(\S+)\s+(up|start|down|stop|flush)\s+([\d-]+ [\d:.]+|\S+)\s*(.*?)\s*$/.exec(line)
    if (found === null) return expected("name, proto, table, state, since and info of a protocol", line)
    const [, name = "", kind = "", , state = "", , info = ""] = found
    rows.push({ name, kind, state, info })
  }
  return Result.succeed(rows)
}

/** Reads `show bfd session`. */
export const sessions = (text: string): Result.Result<ReadonlyArray<Session>, string> => {
  const rows: Array<Session> = []
  for (const line of contentOf(text)) {
    if (/^\S+:$/.test(line) || /^ip address\s+interface\s+state/i.test(line)) continue
    const found = /^(\S+)\s+(\S+)\s+(Up|Down|Init|AdminDown)\s+\S/.exec(line)
    const address = found === null ? undefined : Ip.parse(found[1] ?? "")
    if (found === null || address === undefined || Result.isFailure(address)) {
      return expected("address, interface and state of a BFD session", line)
    }
    rows.push({ address: address.success, link: found[2] ?? "", state: found[3] ?? "" })
  }
  return Result.succeed(rows)
}

/** What BIRD says about a new configuration. */
export const Verdict = Schema.TaggedUnion({
  Accepted: {},
  /** Something is wrong in the file, which has no effect. */
  Refused: { message: Schema.String },
  /** It is shutting down. */
  Ignored: {}
})
export type Verdict = typeof Verdict.Type

/**
 * Reads the answer to `configure` and `configure check` by its code (BIRD doc/reply_codes): 3 done, 4 in progress, 5
 * queued behind another one (accepted as well, unlike in Meridio), 20 checked, 6 shutting down, 8002 an error of the file.
 */
export const verdict = (code: number, text: string): Verdict => {
  if (code === 6) return { _tag: "Ignored" }
  return code < 8000 ? { _tag: "Accepted" } : { _tag: "Refused", message: contentOf(text).at(-1) ?? "" }
}

const contentOf = (text: string): ReadonlyArray<string> =>
  text.split("\n").filter((line) => line.trim() !== "" && !/^BIRD \S+ ready\.$/.test(line))

const routesOf = (line: string): Routes | undefined => {
  const found = /^\s+Routes:\s+(.*)$/.exec(line)
  if (found === null) return undefined
  const count = (word: string): number => Number(new RegExp(`(\\d+) ${word}`).exec(found[1] ?? "")?.[1] ?? 0)
  return { imported: count("imported"), exported: count("exported"), preferred: count("preferred") }
}

const expected = (what: string, line: string | undefined): Result.Result<never, string> =>
  Result.fail(`expected ${what}, found ${line === undefined ? "nothing" : JSON.stringify(line)}`)
