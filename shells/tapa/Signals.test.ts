import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as Rig from "./Rig.ts"
import * as Sidecar from "./Sidecar.ts"

/** More with `TAPA_SIGTERMS=50`. */
const count = Number(process.env["TAPA_SIGTERMS"] ?? 8)

/** Over which time after its start the signals are spread: from loading its code to registering its stream. */
const spreadMs = 2_000

/** Two steps of `MERIDIO_TIMEOUT` and what Main allows beyond; a drain that hangs would take all of it. */
const budgetMs = 2 * 1_000 + 5_000

it.live(
  `a SIGTERM at whatever moment ends it within its budget (${count} times)`,
  () =>
    Effect.forEach(
      Array.from({ length: count }, (_, n) => Math.round(((n + 0.5) / count) * spreadMs)),
      (afterMs) =>
        Effect.scoped(Effect.gen(function*() {
          const folder = yield* Sidecar.folder
          yield* Rig.nsp(`unix://${folder}/nsp-t.sock`)
          const child = yield* Sidecar.start({ MERIDIO_TIMEOUT: "1s", MERIDIO_DIAL_TIMEOUT: "200ms" }, { folder })
          const wish = child.client.call(Tap.TapDefinition, "open", Rig.streamOf("s"), { timeoutMs: spreadMs })
          yield* Effect.forkChild(Effect.ignore(wish))
          yield* Effect.sleep(afterMs)
          const begin = Date.now()
          yield* child.kill("SIGTERM")
          const code = yield* child.ended
          const took = Date.now() - begin
          // Before its code is loaded nobody hears the signal but the kernel.
          assert.include([0, "SIGTERM"], code, `after ${afterMs} ms: ${child.text.out}${child.text.err}`)
          assert.isBelow(took, budgetMs, `after ${afterMs} ms: ${child.text.out}`)
          assert.notInclude(child.text.out, "Not drained within")
        })),
      { concurrency: 2, discard: true }
    ),
  30_000 + count * 5_000
)
