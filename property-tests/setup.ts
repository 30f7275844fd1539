/**
 * The random choices of all property tests come from one seed. It is fixed, so that a test fails because of a change and not by
 * chance; `SLUICE_TEST_SEED=any` draws a fresh one (each failure prints how to replay it), and `SLUICE_TEST_RUNS` sets how many
 * cases each property is tried with.
 */
import { Arbitrary } from "effect"

const { SLUICE_TEST_RUNS, SLUICE_TEST_SEED = "sluice" } = process.env
const seed = SLUICE_TEST_SEED === "any" ? undefined : SLUICE_TEST_SEED

Arbitrary.configureGlobal({
  check: { seed, runs: SLUICE_TEST_RUNS === undefined ? undefined : Number(SLUICE_TEST_RUNS) },
  sample: { seed }
})
