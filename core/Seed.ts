/**
 * Randomness as data: a seed in the state, advanced by a pure generator (mulberry32), so that equal inputs give equal
 * draws and a run can be replayed. Not for secrets.
 */
import { Schema } from "effect"

/** The state of the generator: an unsigned integer of 32 bits. */
export const Seed = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff_ffff }))
export type Seed = typeof Seed.Type

/** A drawn value and the seed for the next draw. */
export type Draw<A> = readonly [value: A, seed: Seed]

/** A uniform integer of 32 bits. */
export const next = (seed: Seed): Draw<number> => {
  const advanced = (seed + 0x6d2b_79f5) >>> 0
  let mixed = Math.imul(advanced ^ (advanced >>> 15), advanced | 1)
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
  return [(mixed ^ (mixed >>> 14)) >>> 0, advanced]
}

/** A uniform integer from `low` to `high`, both included; `low` if the range is empty. */
export const between = (seed: Seed, low: number, high: number): Draw<number> => {
  const [value, after] = next(seed)
  return [low + Math.floor((value / 0x1_0000_0000) * Math.max(1, high - low + 1)), after]
}

/** Two independent generators in place of one, for example for a child machine and its parent. */
export const split = (seed: Seed): Draw<Seed> => {
  const [value, after] = next(seed)
  return [(value ^ 0x9e37_79b9) >>> 0, after]
}
