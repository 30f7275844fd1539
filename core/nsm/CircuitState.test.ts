import { assert, describe, it } from "@effect/vitest"
import * as CircuitState from "./CircuitState.ts"
import * as Model from "./Model.ts"

/** The connection as the manager holds it, second in a path whose third segment is the endpoint's. */
const segment = (name: string, id: string) => ({ name, id, token: "", metrics: {} })
const path = (index: number): Model.Path => ({
  index,
  segments: [segment("client", "c"), segment("manager", "m"), segment("endpoint", "e")]
})
const own: Model.Connection = { ...Model.connection("m", "echo"), path: path(1) }
const there: Model.Connection = { ...Model.connection("e", "echo"), path: path(2) }

const changeIn = (type: Model.ConnectionEvent["type"], ...connections: ReadonlyArray<Model.Connection>) =>
  CircuitState.changeIn({ type, connections: Object.fromEntries(connections.map((one) => [one.id, one])) }, own)

describe("An event of an endpoint's monitor", () => {
  it("asks for a refresh when the endpoint has forgotten the connection, and says nothing when it is not the first", () => {
    assert.strictEqual(changeIn("Initial"), "RefreshRequested")
    assert.isUndefined(changeIn("Update"))
    assert.isUndefined(changeIn("Delete", { ...there, id: "other", path: { ...there.path, segments: [] } }))
  })

  it("tells what became of the connection there", () => {
    assert.isUndefined(changeIn("Initial", there))
    assert.strictEqual(changeIn("Update", { ...there, state: "RefreshRequested" }), "RefreshRequested")
    assert.strictEqual(changeIn("Update", { ...there, state: "Down" }), "Down")
    assert.strictEqual(changeIn("Delete", there), "Down")
  })
})
