/**
 * The lookup table of consistent hashing (Maglev, Eisenbud et al., NSDI 2016): which target owns which slot.
 *
 * 1. Every slot has an owner while there is one; the shares of two owners differ by at most one slot.
 * 2. The table depends on its size and the set of identifiers only, so all load balancers agree.
 * 3. A change of the set moves few slots of those who stay.
 *
 * Sizes follow nfqlb (about 100 slots for each possible target); permutations come from a hash of the identifier
 * instead of the C library's generator, so that they do not depend on how many targets may exist.
 */

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

/** The owner of each slot; empty without identifiers. */
export const table = (size: number, identifiers: Iterable<number>): ReadonlyArray<number> => {
  const sorted = [...new Set(identifiers)].toSorted((a, b) => a - b)
  return populate(size, sorted.map((identifier) => ({ identifier, ...preference(size, identifier) })))
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
