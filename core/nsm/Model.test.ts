import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Client from "./Client.ts"
import * as ClientState from "./ClientState.ts"
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

const record = (id: string, expiresAt: number, index = 1): Model.Connection => ({
  ...Model.connection(id, "service"),
  path: {
    index,
    segments: [
      { name: "target", id: "target-0", token: "", expiresAt, metrics: {} },
      { name: "nsmgr", id, token: "", metrics: {} }
    ]
  }
})

describe("The records of a client at its manager", () => {
  const [left, current] = [record("left behind", 10), record("current", 20)]
  const own: Model.Connection = { ...current, id: "target-0", path: { ...current.path, index: 0 } }

  it("are those of the manager next to it; the one refreshed last counts", () => {
    assert.strictEqual(Model.clientRecord("target-0", [left, current]), current)
    assert.strictEqual(Model.clientRecord("target-0", [current, left]), current)
    assert.isUndefined(Model.clientRecord("target-1", [left, current]))
    assert.isUndefined(Model.clientRecord("target-0", [record("later hop", 30, 2)]))
  })

  it("say nothing of its connection when they are of one that it left behind", () => {
    assert.isUndefined(Model.recordOf(own, [left]))
    assert.strictEqual(Model.recordOf(own, [record("left behind", 30), current]), current)
    const deleted = { type: "Delete", connections: { left } } as const
    assert.isUndefined(ClientState.changeIn(deleted, own))
    assert.strictEqual(ClientState.changeIn({ type: "Delete", connections: { left, current } }, own), "Down")
    const unanswered = { ...own, path: { index: 0, segments: own.path.segments.slice(0, 1) } }
    assert.strictEqual(Model.recordOf(unanswered, [current]), current)
  })
})
