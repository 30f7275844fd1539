/**
 * The lookup table of consistent hashing: which target owns which slot.
 *
 * Every slot has a home, found as Maglev finds owners (Eisenbud et al., NSDI 2016) for all identifiers a stream may
 * have. While its home is away, the slot goes to a stand-in: the first identifier present in an order of its own.
 *
 * 1. Every slot has an owner while there is one. With every identifier present the shares differ by at most one slot.
 * 2. The table depends on its shape and the set of identifiers only, so all load balancers agree.
 * 3. A target that leaves moves its own slots and no others; one that returns takes back exactly these.
 *
 * Plain Maglev fills the table for those present only, which keeps every set even to one slot but moves one or two of a
 * hundred slots of the targets that stay: connections that stand would break at each change of a stream.
 *
 * Sizes follow nfqlb (about 100 slots for each possible target); permutations come from a hash of the identifier
 * instead of the C library's generator, so that they do not depend on how many targets may exist.
 */

import * as Memo from "../Memo.ts"

/** The measures of a stream's table, both fixed for its life. */
export interface Shape {
  readonly maxTargets: number
  /** See `size`. */
  readonly slots: number
}

/** The order in which an identifier wants slots: `offset`, `offset + skip`, ... modulo the size. */
export interface Preference {
  readonly offset: number
  /** From 1 to the size less one. */
  readonly skip: number
}

/** The most targets a stream may have; beyond it the tables would not fit into the kernel in reasonable time. */
export const maxTargetsLimit = 10_000

/** The number of slots of a stream: a prime, 100 per possible target up to 1000 of them, at least 10 beyond. */
export const size = (maxTargets: number): number =>
  nextPrime(Math.min(100 * maxTargets, Math.max(100_000, 10 * maxTargets)))

/** The owner of each slot; empty without identifiers. Identifiers are 1 to `maxTargets`. */
export const table = ({ maxTargets, slots }: Shape, identifiers: Iterable<number>): ReadonlyArray<number> => {
  const present = [...new Set(identifiers)]
  if (present.length === 0) return []
  // Looked into up to 16 times for each slot: a set takes twice as long.
  const isPresent = new Uint8Array(maxTargets + 1)
  for (const identifier of present) isPresent[identifier] = 1
  return homesOf(`${maxTargets}/${slots}`).map((home, slot) =>
    isPresent[home] === 1 ? home : standIn(slot, present, isPresent)
  )
}

// The same for the whole life of a stream.
const homesOf = Memo.text((shape) => {
  const [maxTargets = 0, slots = 0] = shape.split("/").map(Number)
  const everyone = Array.from({ length: maxTargets }, (_, index) => index + 1)
  return populate(slots, everyone.map((identifier) => ({ identifier, ...preference(slots, identifier) })))
}, 32)

// Most slots find a stand-in in a few draws; the ranking of those present serves streams that are nearly empty.
const draws = 16

/** The owner of a slot whose home is away: the first present in an order that depends on the slot alone. */
const standIn = (slot: number, present: ReadonlyArray<number>, isPresent: Uint8Array): number => {
  const maxTargets = isPresent.length - 1
  for (let draw = 1; draw <= draws; draw++) {
    const candidate = hash(slot, Math.imul(draw, 0x9e3779b1)) % maxTargets + 1
    if (isPresent[candidate] === 1) return candidate
  }
  const seed = hash(slot, 0x27d4eb2f)
  let best = 0
  let highest = -1
  for (const identifier of present) {
    const rank = hash(identifier, seed)
    if (rank > highest || (rank === highest && identifier < best)) {
      best = identifier
      highest = rank
    }
  }
  return best
}

/** The wishes of an identifier in a table of the size. */
export const preference = (size: number, identifier: number): Preference => ({
  offset: hash(identifier, 0x9e3779b9) % size,
  skip: size < 3 ? 1 : hash(identifier, 0x85ebca6b) % (size - 1) + 1
})

/** In turns, each owner takes the next slot of its wishes that is still free. */
export const populate = (
  size: number,
  owners: ReadonlyArray<Preference & { readonly identifier: number }>
): ReadonlyArray<number> => {
  if (owners.length === 0) return []
  const slots = Array.from({ length: size }, () => -1)
  const next = owners.map(({ offset }) => offset)
  let taken = 0
  while (true) {
    for (const [turn, { identifier, skip }] of owners.entries()) {
      let slot = next[turn] ?? 0
      while (slots[slot] !== -1) slot = (slot + skip) % size
      slots[slot] = identifier
      next[turn] = (slot + skip) % size
      if (++taken === size) return slots
    }
  }
}

// The finalizer of MurmurHash3: a bijection of 32 bits in which every bit of the input moves half of the output.
const hash = (n: number, seed: number): number => {
  let h = Math.imul(n, 0x01000193) ^ seed
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

const nextPrime = (n: number): number => {
  let candidate = Math.max(2, n)
  while (!isPrime(candidate)) candidate++
  return candidate
}

const isPrime = (n: number): boolean => {
  for (let divisor = 2; divisor * divisor <= n; divisor++) if (n % divisor === 0) return false
  return n >= 2
}
