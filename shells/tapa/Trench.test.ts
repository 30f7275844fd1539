import { assert, it } from "@effect/vitest"
import { Effect, Logger, Result, Stream } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Manifests from "../../property-tests/fixtures/Manifests.ts"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import { TargetRegistryDefinition } from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as Client from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as TargetWire from "../nsp/TargetWire.ts"
import * as Settings from "../runtime/Settings.ts"
import * as Ambassador from "./Ambassador.ts"
import * as Config from "./Config.ts"
import { serve } from "./Main.ts"
import * as ManagerInMemory from "./ManagerInMemory.ts"
import * as NspRig from "./NspRig.ts"

const { OPEN, UNAVAILABLE } = Tap.StreamStatus_Status
const stream: Tap.Stream = { name: "s", conduit: { name: "c", trench: { name: "t" } } }
const filter = TargetWire.toFilter({
  kind: "default",
  status: "any",
  stream: { trench: "t", conduit: "c", stream: "s" }
})

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "tapa-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

const startTapa = (files: string, n: number, port: number) =>
  Effect.gen(function*() {
    const socket = join(files, `ambassador-${n}.sock`)
    const settings = Result.getOrThrow(Settings.decode(Config.settings, {
      MERIDIO_NAME: `target-${n}`,
      MERIDIO_SOCKET: socket,
      MERIDIO_NSP_ENTRY_TIMEOUT: "300ms",
      SLUICE_NSP_ADDRESS: `127.0.0.1:${port}`
    }))
    const { layer } = yield* ManagerInMemory.make(`172.16.0.${n + 1}/24`)
    yield* Effect.forkScoped(
      Effect.provide(serve(settings, Ambassador.start(settings)), [
        layer,
        Health.serve(`unix://${files}/health-${n}.sock`)
      ])
    )
    return yield* Client.make({ target: `unix://${socket}`, waitForReady: true, maxBackoffMs: 50 })
  })

/** The first status in a watch that is none of the passing ones. */
const settled = (client: Client.Client, wanted: ReadonlyArray<number>) =>
  client.stream(Tap.TapDefinition, "watch", stream).pipe(
    Stream.map(({ streamStatus }) => streamStatus[0]?.status),
    Stream.filter((status) => status !== undefined && wanted.includes(status)),
    Stream.runHead,
    Effect.timeout("20 seconds")
  )

it.live(
  "targets share a stream of the real NSP: two are open, and a third gets the place of one that leaves",
  () =>
    Effect.scoped(Effect.gen(function*() {
      const files = yield* folder
      const { port } = yield* NspRig.start(files, Manifests.changed(Manifests.stream("s", { "max-targets": 2 })))
      const nsp = yield* Client.make({ target: `127.0.0.1:${port}`, waitForReady: true })
      const identifiers = Stream.map(
        nsp.stream(TargetRegistryDefinition, "watch", filter),
        ({ targets }) =>
          targets.filter(({ status }) => status === 0).map(({ context }) => Number(context["identifier"])).toSorted((
            a,
            b
          ) => a - b)
      )
      const [first, second] = [yield* startTapa(files, 1, port), yield* startTapa(files, 2, port)]
      for (const client of [first, second]) yield* client.call(Tap.TapDefinition, "open", stream)
      for (const client of [first, second]) yield* settled(client, [OPEN])
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(identifiers, 1)), [[1, 2]])

      const third = yield* startTapa(files, 3, port)
      yield* third.call(Tap.TapDefinition, "open", stream)
      yield* Effect.sleep("100 millis")
      // Unavailable also while it connects; that it never opens shows at the NSP, where both others stay.
      yield* settled(third, [UNAVAILABLE])
      yield* first.call(Tap.TapDefinition, "close", stream)
      yield* settled(third, [OPEN])
      yield* Stream.runHead(Stream.filter(identifiers, (all) => all.length === 2)).pipe(Effect.timeout("20 seconds"))
      yield* settled(second, [OPEN])
    })).pipe(Effect.provide(Logger.layer([]))),
  60_000
)
