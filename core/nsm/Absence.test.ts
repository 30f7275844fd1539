import { assert, describe, it } from "@effect/vitest"
import { ask, close, endpoint, standing, tags } from "../../property-tests/nsm/Scenario.ts"

describe("a connection whose endpoint is away", () => {
  it("E5: lets a refresh wait for an endpoint that is away, and goes down, not touching the datapath, if it stays so", () => {
    const manager = standing()
    manager.send(ask(2))
    assert.deepStrictEqual(manager.settle("RequestEndpoint", 1), [])
    assert.strictEqual(manager.connection()?.state, "Up")
    assert.strictEqual(manager.wake(), 10_000)
    assert.deepStrictEqual(tags(manager.send({ _tag: "Woken" }, 10_000)), ["RequestEndpoint"])
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint", 1, 10_000)), ["Reply"])
    assert.strictEqual(manager.connection()?.state, "Down")
    manager.establish()
    assert.strictEqual(manager.connection()?.state, "Up")
  })

  it("lets no close wait behind a refresh that waits", () => {
    const manager = standing()
    manager.settle("WatchEndpoint", 2)
    assert.deepStrictEqual(manager.send(ask(2)), [])
    assert.deepStrictEqual(tags(manager.send(close(3))), ["RequestEndpoint"])
    assert.deepStrictEqual(tags(manager.settle("RequestEndpoint", 1)), ["Reply", "CloseEndpoint"])
  })

  it("stays up while its endpoint restarts, then has it refreshed there", () => {
    const manager = standing()
    assert.deepStrictEqual(manager.settle("WatchEndpoint", 2), [])
    assert.strictEqual(manager.connection()?.state, "Up")
    manager.offer("other")
    assert.strictEqual(manager.connection()?.state, "Up")
    const url = "unix:///again"
    manager.send({ _tag: "RegisterEndpointRequested", reply: 5, endpoint: { ...endpoint("nse"), url } })
    assert.strictEqual(manager.connection()?.state, "RefreshRequested")
    manager.send(ask(2))
    assert.strictEqual(manager.find("RequestEndpoint").target.url, url)
    manager.settle("RequestEndpoint")
    assert.deepStrictEqual(manager.find("Plumb").cross, manager.find("Plumb").previous)
    assert.deepStrictEqual(tags(manager.settle("Plumb")), ["WatchEndpoint", "SaveRecord", "Reply"])
    assert.strictEqual(manager.connection()?.state, "Up")
  })

  it("goes down when its endpoint does not come back", () => {
    const manager = standing()
    manager.settle("WatchEndpoint", 2)
    assert.deepStrictEqual(manager.send({ _tag: "Woken" }, 9_999), [])
    assert.strictEqual(manager.connection()?.state, "Up")
    manager.send({ _tag: "Woken" }, 10_000)
    assert.strictEqual(manager.connection()?.state, "Down")
  })
})
