/**
 * Chooses the identifier of a target in a stream: a number from 1 to `maxTargets` that no other target has. Load
 * balancers spread traffic over these numbers.
 */
import * as Target from "../config/Target.ts"
import * as Seed from "../Seed.ts"

type Targets = ReadonlyArray<Target.Target>

/** The targets of a list that are not this one, which is known by its set of addresses. */
export const others = (targets: Targets, ips: ReadonlyArray<string>): Targets =>
  targets.filter((target) => !Target.sameIps(target.ips, ips))

/** Whether the others leave no room. Every entry counts, even one with a bad or a repeated identifier. */
export const isFull = (others: Targets, maxTargets: number): boolean => others.length >= maxTargets

/** Whether the number may be used and nobody has it. */
export const isFree = (identifier: number, others: Targets, maxTargets: number): boolean =>
  isValid(identifier, maxTargets) && others.every((target) => Target.identifier(target) !== identifier)

export const isValid = (identifier: number, maxTargets: number): boolean => identifier >= 1 && identifier <= maxTargets

/** The kept identifier if it is free, else a uniform draw among the free ones; there is one unless the stream is full. */
export const choose = (
  kept: number | null,
  others: Targets,
  maxTargets: number,
  seed: Seed.Seed
): Seed.Draw<number> => {
  if (kept !== null && isFree(kept, others, maxTargets)) return [kept, seed]
  const taken = new Set(others.flatMap((target) => Target.identifier(target) ?? []).filter((n) => n <= maxTargets))
  const [nth, after] = Seed.between(seed, 1, maxTargets - taken.size)
  let identifier = nth
  for (const below of [...taken].toSorted((a, b) => a - b)) if (below <= identifier) identifier++
  return [identifier, after]
}
