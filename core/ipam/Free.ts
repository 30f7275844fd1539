/**
 * The free addresses of a prefix as a binary trie: each level decides one more bit of the address.
 *
 *     10.0.0.0/30 without .1:  { low: { low: "all", high: "none", near: 1 }, high: "all", near: 1 }
 *
 * 1. A half that is wholly free or wholly taken is a leaf, so equal sets have equal tries, whatever led to them.
 * 2. Each split knows how near the largest free block below it is. Finding the lowest free block, claiming and giving
 *    back are one walk down each, at most 128 steps, however many addresses are taken; the rest of the trie is shared.
 *
 * A block of the prefix is the text of the bits that lead to it: `01` is the second quarter.
 */
import { Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"

/** Some of the block is free and some is taken. */
export interface Split {
  readonly low: Free
  readonly high: Free
  /** How many bits lead to the largest block that is wholly free. */
  readonly near: number
}

/** What is free of a block. */
export type Free = "all" | "none" | Split

export const Free: Schema.Codec<Free> = Schema.Union([
  Schema.Literals(["all", "none"]),
  Schema.Struct({
    low: Schema.suspend((): Schema.Codec<Free> => Free),
    high: Schema.suspend((): Schema.Codec<Free> => Free),
    near: Schema.Natural
  })
])

/** Everything but the first and the last address of a prefix of `1 << bits` addresses. */
export const inner = (bits: number): Free => {
  const withoutFirst = claim("all", "0".repeat(bits)) ?? "none"
  return claim(withoutFirst, "1".repeat(bits)) ?? "none"
}

/** The lowest block that is wholly free and that many bits down. */
export const lowest = (free: Free, bits: number): string | undefined => {
  if (nearest(free) > bits) return undefined
  let block = ""
  let at = free
  while (typeof at === "object") {
    const isLow = nearest(at.low) < bits - block.length
    at = isLow ? at.low : at.high
    block += isLow ? "0" : "1"
  }
  return block.padEnd(bits, "0")
}

/** Without the block, or undefined if a part of it is taken. */
export const claim = (free: Free, block: string): Free | undefined => {
  const from = (at: Free, depth: number): Free | undefined => {
    if (at === "none") return undefined
    if (depth === block.length) return at === "all" ? "none" : undefined
    const { high, low } = halves(at)
    const isLow = block[depth] === "0"
    const rest = from(isLow ? low : high, depth + 1)
    if (rest === undefined) return undefined
    return isLow ? joined(rest, high) : joined(low, rest)
  }
  return from(free, 0)
}

/** With the block, wholly. */
export const give = (free: Free, block: string): Free => {
  const from = (at: Free, depth: number): Free => {
    if (at === "all" || depth === block.length) return "all"
    const { high, low } = halves(at)
    return block[depth] === "0" ? joined(from(low, depth + 1), high) : joined(low, from(high, depth + 1))
  }
  return from(free, 0)
}

/** The block of `parent` that is `network`, or undefined if it is none. */
export const blockOf = (parent: Cidr.Cidr, network: Cidr.Cidr): string | undefined => {
  const [above, length] = [Cidr.length(parent), Cidr.length(network)]
  if (length <= above || !Cidr.contains(parent, network)) return undefined
  const hostBits = BigInt(Ip.bits(Cidr.family(network)) - length)
  const address = Ip.toBigInt(Cidr.ip(network))
  if ((address >> hostBits) << hostBits !== address) return undefined
  return BigInt.asUintN(length - above, address >> hostBits).toString(2).padStart(length - above, "0")
}

/** The network of a block of `parent`. */
export const network = (parent: Cidr.Cidr, block: string): Cidr.Cidr => {
  const family = Cidr.family(parent)
  const length = Cidr.length(parent) + block.length
  const offset = BigInt(`0b${block}`) << BigInt(Ip.bits(family) - length)
  return Cidr.make(Ip.fromBigInt(family, Ip.toBigInt(Cidr.ip(parent)) + offset), length)
}

const nearest = (free: Free): number => free === "all" ? 0 : free === "none" ? Infinity : free.near

const halves = (free: Free): Pick<Split, "low" | "high"> => typeof free === "object" ? free : { low: free, high: free }

const joined = (low: Free, high: Free): Free =>
  typeof low === "string" && low === high ? low : { low, high, near: 1 + Math.min(nearest(low), nearest(high)) }
