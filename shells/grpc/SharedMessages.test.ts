import { assert, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as Client from "./Client.ts"
import * as Server from "./Server.ts"

it.live("a message that many streams send is encoded once", () =>
  Effect.gen(function*() {
    let encoded = 0
    const responseType = {
      encode: (message: Tap.StreamResponse) => {
        encoded++
        return Tap.StreamResponse.encode(message)
      },
      decode: (bytes: Uint8Array) => Tap.StreamResponse.decode(bytes)
    }
    const { watch } = Tap.TapDefinition.methods
    const definition = { fullName: Tap.TapDefinition.fullName, methods: { watch: { ...watch, responseType } } } as const
    const messages = ["a", "b"].map((name): Tap.StreamResponse => ({
      streamStatus: [{ status: Tap.StreamStatus_Status.PENDING, stream: { name, conduit: undefined } }]
    }))
    const { target } = yield* Server.serve({
      address: "127.0.0.1:0",
      services: [Server.service(definition, { watch: () => Stream.fromIterable(messages) })]
    })
    const client = yield* Client.make({ target })
    const request = { name: "", conduit: undefined }
    const heard = yield* Effect.forEach(
      Array.from({ length: 20 }),
      () => Stream.runCollect(client.stream(Tap.TapDefinition, "watch", request)),
      { concurrency: "unbounded" }
    )
    for (const each of heard) assert.deepStrictEqual([...each], messages)
    assert.strictEqual(encoded, 2)
  }))
