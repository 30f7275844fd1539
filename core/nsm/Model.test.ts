import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Client from "./Client.ts"
import * as Model from "./Model.ts"

const settings = {
  name: "target",
  netns: "inode://4/1",
  requestTimeoutMs: 5_000,
  maxTokenLifetimeMs: 60_000,
  minBackoffMs: 200,
  maxBackoffMs: 5_000,
  seed: 1
}

const signed: Model.Connection = {
  ...Model.connection("id", "service"),
  path: { index: 0, segments: [{ name: "target", id: "id", token: "header.secret.signature", metrics: {} }] }
}

describe("The token of a path segment", () => {
  it("is left out of everything encoded: connections, and the states and commands of machines", () => {
    const { machine } = Client
    const [requesting, commands] = machine.step(machine.init(settings, 0)[0], {
      _tag: "RequestRequested",
      reply: 0,
      connection: signed,
      interfaceName: "nsm-0"
    }, 0)
    const [command] = commands
    const call = command?._tag === "Request" ? command.call : -1
    const answer = { _tag: "RequestSucceeded", call, connection: signed } as const
    const [established] = machine.step(requesting, answer, 1)
    assert.include(JSON.stringify(established), "secret")
    const texts = [
      Schema.encodeSync(Schema.fromJsonString(Schema.toCodecJson(machine.State)))(established),
      Schema.encodeSync(Schema.fromJsonString(Schema.toCodecJson(machine.Event)))(answer),
      Schema.encodeSync(Schema.fromJsonString(Schema.toCodecJson(Model.Connection)))(signed)
    ]
    for (const text of texts) {
      assert.notInclude(text, "secret")
      assert.include(text, "\"token\":\"\"")
    }
  })

  it("is read as it is, so that a connection of the wire keeps it", () => {
    const [segment] = Schema.decodeUnknownSync(Model.Connection)(signed).path.segments
    assert.strictEqual(segment?.token, "header.secret.signature")
  })
})
