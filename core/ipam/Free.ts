/**
 * The free addresses of a prefix, as sorted ranges that neither touch nor overlap.
 *
 * Blocks of one size make the lowest free block the start of the first range, so that allocation does not depend on how
 * many blocks are taken; giving back finds its place by halving.
 */
import { Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"

/** Addresses as integers, both ends included. */
export const Range = Schema.Struct({ first: Schema.BigInt, last: Schema.BigInt })
export type Range = typeof Range.Type

export const Free = Schema.Array(Range)
export type Free = typeof Free.Type

/** Everything in a prefix. */
export const whole = (prefix: Cidr.Cidr): Free => [range(prefix)]

/** Everything in a prefix but its first and its last address. */
export const inner = (prefix: Cidr.Cidr): Free => {
  const { first, last } = range(prefix)
  return last - first < 2n ? [] : [{ first: first + 1n, last: last - 1n }]
}

/** The addresses of a prefix. */
export const range = (prefix: Cidr.Cidr): Range => {
  const family = Cidr.family(prefix)
  const size = 1n << BigInt(Ip.bits(family) - Cidr.length(prefix))
  const first = Ip.toBigInt(Cidr.ip(Cidr.network(prefix)))
  return { first, last: first + size - 1n }
}

/** The start of the lowest free block of `size` addresses, a power of two, aligned to its size. */
export const lowest = (free: Free, size: bigint): bigint | undefined => {
  for (const { first, last } of free) {
    const start = ((first + size - 1n) / size) * size
    if (start + size - 1n <= last) return start
  }
  return undefined
}

/** Without the range, or undefined if a part of it is taken. */
export const claim = (free: Free, taken: Range): Free | undefined => {
  const at = indexAfter(free, taken.first) - 1
  const around = free[at]
  if (around === undefined || around.last < taken.last) return undefined
  const rest: Array<Range> = []
  if (around.first < taken.first) rest.push({ first: around.first, last: taken.first - 1n })
  if (taken.last < around.last) rest.push({ first: taken.last + 1n, last: around.last })
  return free.toSpliced(at, 1, ...rest)
}

/** With the range, of which no part may be free. */
export const give = (free: Free, given: Range): Free => {
  const at = indexAfter(free, given.first)
  const before = free[at - 1]
  const after = free[at]
  const joinsBefore = before !== undefined && before.last + 1n === given.first
  const joinsAfter = after !== undefined && given.last + 1n === after.first
  const joined = {
    first: joinsBefore ? before.first : given.first,
    last: joinsAfter ? after.last : given.last
  }
  return free.toSpliced(joinsBefore ? at - 1 : at, (joinsBefore ? 1 : 0) + (joinsAfter ? 1 : 0), joined)
}

// The index of the first range that starts after the address.
const indexAfter = (free: Free, address: bigint): number => {
  let low = 0
  let high = free.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const candidate = free[middle]
    if (candidate !== undefined && candidate.first <= address) low = middle + 1
    else high = middle
  }
  return low
}
