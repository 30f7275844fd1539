/**
 * An address with a prefix length as canonical text: `20.0.0.1/32`, `172.16.0.5/24`, `2000::/64`. Host bits are kept,
 * because an interface address needs them; `network` clears them.
 */
import { Brand, Result, Schema, SchemaGetter } from "effect"
import * as Memo from "../Memo.ts"
import * as Ip from "./Ip.ts"

/** A canonical `address/length`. */
export type Cidr = Brand.Branded<string, "Cidr">

const isCidr = (u: unknown): u is Cidr => {
  if (typeof u !== "string") return false
  const parsed = parse(u)
  return Result.isSuccess(parsed) && parsed.success === u
}

export const Cidr = Schema.declare(isCidr, {
  expected: "a canonical CIDR, for example 20.0.0.1/32 or 2000::/64",
  toCodecJson: () =>
    Schema.link<Cidr>()(Schema.String, {
      decode: SchemaGetter.transform((text) => canonical(text)),
      encode: SchemaGetter.transform((cidr: string) => cidr)
    }),
  toCodecArbitrary: () =>
    Schema.link<Cidr>()(Schema.Struct({ ip: Ip.Ip, quarters: Schema.Literals([1, 2, 3, 4]) }), {
      decode: SchemaGetter.transform(({ ip, quarters }) => make(ip, quarters * Ip.bits(Ip.family(ip)) / 4)),
      encode: SchemaGetter.forbidden(() => "a CIDR is only generated, never encoded for generation")
    })
})

/** The two default routes. */
export const defaultRoute = (family: Ip.Family): Cidr => canonical(family === "v4" ? "0.0.0.0/0" : "::/0")

/** Parses and canonicalises `address/length`; the failure says what was expected and what was found. */
export const parse = (text: string): Result.Result<Cidr, string> => {
  const slash = text.indexOf("/")
  const address = Ip.parse(slash < 0 ? "" : text.slice(0, slash))
  const digits = text.slice(slash + 1)
  if (Result.isFailure(address) || !/^(0|[1-9]\d{0,2})$/.test(digits)) return malformed(text)
  const length = Number(digits)
  return length <= Ip.bits(Ip.family(address.success)) ? Result.succeed(make(address.success, length)) : malformed(text)
}

/** Parses a CIDR that is known to be right, such as a literal; throws on a mistake of the programmer. */
export const unsafe = (text: string): Cidr => Result.getOrThrow(parse(text))

/** Joins an address and a prefix length, which the caller keeps within the family's length. */
export const make = (ip: Ip.Ip, length: number): Cidr => canonical(`${ip}/${length}`)

/** The prefix of one address: /32 or /128. */
export const host = (ip: Ip.Ip): Cidr => make(ip, Ip.bits(Ip.family(ip)))

/** The address part. */
export const ip = (cidr: Cidr): Ip.Ip => address(cidr.slice(0, cidr.indexOf("/")))

/** The prefix length in bits. */
export const length = (cidr: Cidr): number => Number(cidr.slice(cidr.indexOf("/") + 1))

/** The family of the address. */
export const family = (cidr: Cidr): Ip.Family => (cidr.includes(":") ? "v6" : "v4")

/** The network with the host bits cleared. */
export const network: (cidr: Cidr) => Cidr = Memo.text((cidr) => {
  const hostBits = BigInt(Ip.bits(family(cidr)) - length(cidr))
  return make(Ip.fromBigInt(family(cidr), (Ip.toBigInt(ip(cidr)) >> hostBits) << hostBits), length(cidr))
})

/** Whether every address of `inner` lies in `outer`; false across families. */
export const contains = (outer: Cidr, inner: Cidr): boolean => {
  if (outer === inner) return true
  if (family(outer) !== family(inner)) return false
  const [one, other] = [parts(outer), parts(inner)]
  if (one.length > other.length) return false
  const hostBits = BigInt(Ip.bits(family(outer)) - one.length)
  return one.value >> hostBits === other.value >> hostBits
}

const parts = Memo.text((cidr: Cidr) => ({ value: Ip.toBigInt(ip(cidr)), length: length(cidr) }))

/** Whether the two share an address. */
export const overlaps = (a: Cidr, b: Cidr): boolean => contains(a, b) || contains(b, a)

/** Orders by family, then address, then length. */
export const compare = (a: Cidr, b: Cidr): number => Ip.compare(ip(a), ip(b)) || length(a) - length(b)

const malformed = (text: string): Result.Result<never, string> =>
  Result.fail(`"${text}" is not an address with a prefix length, for example 20.0.0.1/32 or 2000::/64`)

// Unchecked on purpose: only called with parts of canonical text.
const address = Brand.nominal<Ip.Ip>()
const canonical = Brand.nominal<Cidr>()
