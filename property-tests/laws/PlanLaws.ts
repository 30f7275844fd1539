/**
 * The laws that every plan obeys (`core/Plan.ts`), as one suite: `planLaws(plan, options)` in a test file, against a
 * model of the world that the operations change.
 */
import { assert, describe, it } from "@effect/vitest"
import { type Arbitrary, Equal } from "effect"
import type * as Plan from "../../core/Plan.ts"

export interface Options<Desired, Observed, Operation> {
  readonly desired: Arbitrary.Arbitrary<Desired>
  readonly observed: Arbitrary.Arbitrary<Observed>
  /** The model of the world. */
  readonly apply: (observed: Observed, operation: Operation) => Observed
  /** The part of the world that the plan decides, in an order that does not depend on history. */
  readonly outcome: (observed: Observed) => unknown
  /** The part of the world that belongs to others. */
  readonly foreign: (observed: Observed) => unknown
  /** The same wish with every set in another order. */
  readonly permute: (desired: Desired) => Desired
  /** What must hold after every operation. */
  readonly safe?: (observed: Observed, desired: Desired) => void
  readonly runs?: number
}

/** Registers the suite of laws for a plan. */
export const planLaws = <Desired, Observed, Operation>(
  { name, plan }: Plan.Plan<Desired, Observed, Operation>,
  options: Options<Desired, Observed, Operation>
): void => {
  const inputs = { desired: options.desired, observed: options.observed }
  const settings = { arbitrary: { runs: options.runs ?? 200 }, timeout: 120_000 }
  const applyAll = (observed: Observed, operations: ReadonlyArray<Operation>): Observed =>
    operations.reduce(options.apply, observed)

  describe(`${name} obeys the laws of plans`, () => {
    it.prop("applied once, nothing is left to do", inputs, ({ desired, observed }) => {
      assert.deepStrictEqual(plan(desired, applyAll(observed, plan(desired, observed))), [])
    }, settings)

    it.prop("interrupted anywhere, it reaches the same end", inputs, ({ desired, observed }) => {
      const operations = plan(desired, observed)
      const end = options.outcome(applyAll(observed, operations))
      let world = observed
      for (const operation of operations) {
        world = options.apply(world, operation)
        options.safe?.(world, desired)
        assert.deepStrictEqual(options.outcome(applyAll(world, plan(desired, world))), end)
      }
    }, settings)

    it.prop("the order of the wish has no meaning", inputs, ({ desired, observed }) => {
      assert.isTrue(Equal.equals(plan(options.permute(desired), observed), plan(desired, observed)))
    }, settings)

    it.prop("what belongs to others is not touched", inputs, ({ desired, observed }) => {
      assert.deepStrictEqual(
        options.foreign(applyAll(observed, plan(desired, observed))),
        options.foreign(observed)
      )
    }, settings)
  })
}
