/**
 * The text of byte matches: `tcp[12:1] & 0x02 = 0x02`. As in C a leading 0 makes a number octal.
 * Source: Meridio `pkg/configuration/reader/validation.go`, nfqueue-loadbalancer `src/lib/match.c`.
 */
import { Result } from "effect"
import type { ByteMatch, Protocol } from "./Model.ts"

const pattern =
  /^(sctp|tcp|udp)\[(?<offset>\d+) *: *(?<length>[124])\](?: *& *(?<mask>0x[0-9a-f]+))? *= *(?<value>\d+|0x[0-9a-f]+)$/

/** The bytes of a transport header that can be compared. */
const headerLength: Record<Protocol, number> = { tcp: 20, udp: 8, sctp: 12 }

/** Parses a byte match. */
export const parse = (text: string): Result.Result<ByteMatch, string> => {
  const groups = pattern.exec(text)?.groups
  const protocol = protocolOf(text)
  if (groups === undefined || protocol === undefined) {
    return Result.fail(`"${text}" is not a byte match, for example tcp[12:1] & 0x02 = 0x02`)
  }
  const offset = number(groups["offset"] ?? "")
  const length = lengthOf(groups["length"] ?? "")
  const value = number(groups["value"] ?? "")
  const mask = groups["mask"] === undefined ? undefined : number(groups["mask"])
  if (!(offset + length <= headerLength[protocol])) {
    return Result.fail(`"${text}" reaches beyond the ${headerLength[protocol]} bytes of a ${protocol} header`)
  }
  const largest = 2 ** (8 * length) - 1
  if (!(value <= largest && (mask === undefined || mask <= largest))) {
    return Result.fail(`"${text}" has a number that ${length} byte(s) cannot hold`)
  }
  return Result.succeed({ protocol, offset, length, value, ...(mask === undefined ? {} : { mask }) })
}

/** The text on the wire. */
export const format = ({ length, mask, offset, protocol, value }: ByteMatch): string =>
  `${protocol}[${offset}:${length}]${mask === undefined ? "" : ` & 0x${mask.toString(16)}`} = ${value}`

const number = (text: string): number =>
  text.startsWith("0x") || !/^0\d/.test(text) ? Number(text) : Number(`0o${text.slice(1)}`)

const lengthOf = (text: string): ByteMatch["length"] => (text === "1" ? 1 : text === "2" ? 2 : 4)

const protocolOf = (text: string): Protocol | undefined =>
  text.startsWith("tcp[") ? "tcp" : text.startsWith("udp[") ? "udp" : text.startsWith("sctp[") ? "sctp" : undefined
