/**
 * The shape of every convergence: what a kernel, a BIRD file, an nftables table or an xDS cache should look like.
 *
 *     desired, observed ──plan──▶ ordered operations (none when converged)
 *
 * Laws (checked for every plan by `property-tests/laws/PlanLaws.ts`, against a model of the world that is changed):
 *
 * 1. Applying the plan and planning again gives no operations.
 * 2. Any prefix of the plan is safe: planning again after it reaches the same end state.
 * 3. The order of sets in the input does not change the plan.
 * 4. No operation touches an object the plan does not own.
 */

/** A pure planner: `plan(desired, observed)` lists the operations that turn `observed` into `desired`, in order. */
export interface Plan<Desired, Observed, Operation> {
  /** For logs, metrics and `sluice plan`, for example `proxy`. */
  readonly name: string
  readonly plan: (desired: Desired, observed: Observed) => ReadonlyArray<Operation>
}

/** Checks a planner against the shape while keeping its own types. */
export const make = <Desired, Observed, Operation>(
  plan: Plan<Desired, Observed, Operation>
): Plan<Desired, Observed, Operation> => plan
