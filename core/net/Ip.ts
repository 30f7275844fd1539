/**
 * IP addresses as canonical text: `20.0.0.1`, `2000::1` (RFC 5952, lower case). Because one address has exactly one
 * text, `===`, sets, record keys and JSON all work on it as it is.
 */
import { Brand, Result, Schema, SchemaGetter } from "effect"
import { NetAddress } from "effect/net"
import * as Memo from "../Memo.ts"

/** The two address families. */
export const Family = Schema.Literals(["v4", "v6"])
export type Family = typeof Family.Type

export const families: ReadonlyArray<Family> = ["v4", "v6"]

/** The length of an address in bits. */
export const bits = (family: Family): 32 | 128 => (family === "v4" ? 32 : 128)

/** A canonical IPv4 or IPv6 address without a prefix length. */
export type Ip = Brand.Branded<string, "Ip">

const isIp = (u: unknown): u is Ip => {
  if (typeof u !== "string") return false
  const parsed = NetAddress.ipFromString(u)
  return Result.isSuccess(parsed) && NetAddress.formatIp(parsed.success) === u
}

const Byte = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))

export const Ip = Schema.declare(isIp, {
  expected: "a canonical IP address, for example 20.0.0.1 or 2000::1",
  toCodecJson: () =>
    Schema.link<Ip>()(Schema.String, {
      decode: SchemaGetter.transform((text) => canonical(text)),
      encode: SchemaGetter.transform((ip: string) => ip)
    }),
  toCodecArbitrary: () =>
    Schema.link<Ip>()(Schema.Struct({ family: Family, low: Schema.Tuple([Byte, Byte, Byte, Byte]) }), {
      decode: SchemaGetter.transform(({ family, low }) => {
        const n = join(low, 8n)
        return fromBigInt(family, family === "v4" ? n : (0xfd00n << 112n) | n)
      }),
      encode: SchemaGetter.forbidden(() => "an address is only generated, never encoded for generation")
    })
})

/** Parses and canonicalises an address; the failure says what was expected and what was found. */
export const parse = (text: string): Result.Result<Ip, string> => {
  const parsed = NetAddress.ipFromString(text)
  return Result.isSuccess(parsed)
    ? Result.succeed(canonical(NetAddress.formatIp(parsed.success)))
    : Result.fail(`"${text}" is not an IP address, for example 20.0.0.1 or 2000::1`)
}

/** Parses an address that is known to be right, such as a literal; throws on a mistake of the programmer. */
export const unsafe = (text: string): Ip => Result.getOrThrow(parse(text))

/** The family of an address. */
export const family = (ip: Ip): Family => (ip.includes(":") ? "v6" : "v4")

/** The address as an unsigned integer. */
export const toBigInt: (ip: Ip) => bigint = Memo.text((ip) =>
  NetAddress.match(NetAddress.ipFromStringUnsafe(ip), {
    onIpv4: (address) => join(NetAddress.ipv4ToOctets(address), 8n),
    onIpv6: (address) => join(NetAddress.ipv6ToSegments(address), 16n)
  })
)

/** The address with the given unsigned integer value; bits above the family's length are dropped. */
export const fromBigInt = (family: Family, n: bigint): Ip => {
  const bytes = new Uint8Array(bits(family) / 8)
  for (let i = bytes.length - 1, rest = n; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn)
  return canonical(NetAddress.formatIp(
    family === "v4" ? NetAddress.ipv4FromBytesUnsafe(bytes) : NetAddress.ipv6FromBytesUnsafe(bytes)
  ))
}

/** Numeric order within a family; IPv4 before IPv6. */
export const compare = (a: Ip, b: Ip): number => {
  if (a === b) return 0
  if (family(a) !== family(b)) return family(a) === "v4" ? -1 : 1
  return toBigInt(a) < toBigInt(b) ? -1 : 1
}

const join = (parts: Iterable<number>, width: bigint): bigint => {
  let n = 0n
  for (const part of parts) n = (n << width) | BigInt(part)
  return n
}

// Unchecked on purpose: only called with the output of the canonical formatter.
const canonical = Brand.nominal<Ip>()
