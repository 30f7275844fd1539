import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect } from "effect"
import * as Ground from "./Ground.ts"
import * as Scenario from "./Scenario.ts"
import * as Sequence from "./Sequence.ts"

const runs = Number(process.env["SLUICE_TEST_RUNS"] ?? 300)

const holds = (sequence: Sequence.Sequence) =>
  Sequence.play(sequence, Ground.modelled(Scenario.settings.name)).pipe(
    Effect.as(true),
    Effect.catchDefect((broken) => Effect.fail(broken instanceof Error ? broken.message : String(broken)))
  )

describe("nsmgr on modelled kernels", () => {
  it.effect("leaves nothing behind, whatever the order of requests, closes and crashes", () =>
    Effect.gen(function*() {
      const found = yield* Arbitrary.checkEffect(Sequence.sequences, holds, { runs, size: 20 })
      assert.strictEqual(Arbitrary.formatCheckFailure(found), undefined)
    }))
})
