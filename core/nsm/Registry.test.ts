import { assert, describe, it } from "@effect/vitest"
import type * as Model from "./Model.ts"
import * as Registry from "./Registry.ts"

const service = (name: string, payload = ""): Model.NetworkService => ({ name, payload, matches: [] })
const endpoint = (name: string, change: Partial<Model.Endpoint> = {}): Model.Endpoint => ({
  name,
  networkServices: ["s"],
  labels: { s: { nodeName: "a" } },
  url: `unix:///run/${name}.sock`,
  ...change
})
const register = (state: Registry.State, wanted: Model.Endpoint, now: number): Registry.State =>
  Registry.registerEndpoint(state, wanted, 60_000, now)[0]

describe("Registry", () => {
  it("caps the life of an endpoint at a minute, and keeps the time of its first registration", () => {
    const first = register(Registry.empty, endpoint("e", { expiresAt: 1e12 }), 1_000)
    assert.deepInclude(first.endpoints["e"], { expiresAt: 61_000, registeredAt: 1_000 })
    const again = register(first, endpoint("e", { expiresAt: 7_000 }), 5_000)
    assert.deepInclude(again.endpoints["e"], { expiresAt: 7_000, registeredAt: 1_000 })
  })

  it("forgets an endpoint when its time is over, not before", () => {
    const state = register(Registry.empty, endpoint("e"), 0)
    assert.strictEqual(Registry.wake(state), 60_000)
    assert.strictEqual(Registry.expire(state, 59_999), state)
    assert.deepStrictEqual(Registry.expire(state, 60_000), Registry.empty)
  })

  it.each([endpoint(""), endpoint("e", { url: "" })])("refuses an endpoint without name or url", (wrong) => {
    const [state, answer] = Registry.registerEndpoint(Registry.empty, wrong, 60_000, 0)
    assert.strictEqual(state, Registry.empty)
    assert.strictEqual(answer._tag, "Failed")
  })

  it("unregisters what is there and what is not", () => {
    const state = register(Registry.empty, endpoint("e"), 0)
    const [without, answer] = Registry.unregisterEndpoint(state, { name: "e" })
    assert.deepStrictEqual(without, Registry.empty)
    assert.deepStrictEqual(answer, { _tag: "Unregistered" })
    assert.deepStrictEqual(Registry.unregisterEndpoint(without, { name: "e" }), [without, { _tag: "Unregistered" }])
  })

  it("keeps the name of an endpoint for the identity that registered it, until it is gone", () => {
    const mine = endpoint("e", { pathIds: ["spiffe://d/me", "spiffe://d/nsmgr"] })
    const other = { ...mine, pathIds: ["spiffe://d/other", "spiffe://d/nsmgr"] }
    const state = register(Registry.empty, mine, 0)
    const denied = { _tag: "Failed", reason: "Denied", message: "no sufficient privileges" } as const
    assert.deepStrictEqual(Registry.registerEndpoint(state, other, 60_000, 1), [state, denied])
    assert.deepStrictEqual(Registry.unregisterEndpoint(state, other), [state, denied])
    assert.strictEqual(register(state, mine, 1_000).endpoints["e"]?.expiresAt, 61_000)
    const [without] = Registry.unregisterEndpoint(state, mine)
    assert.deepStrictEqual(register(without, other, 1).endpoints["e"]?.pathIds, other.pathIds)
  })

  it("compares times in seconds, and matches as a whole", () => {
    const any = { name: "", networkServices: [], labels: {}, url: "" }
    const state = register(Registry.empty, endpoint("e", { expiresAt: 7_900 }), 0)
    const [found] = Object.values(state.endpoints)
    assert.isDefined(found)
    assert.isTrue(Registry.fitsEndpoint({ ...any, expiresAt: 7_000 }, found))
    assert.isFalse(Registry.fitsEndpoint({ ...any, expiresAt: 8_000 }, found))
    const match = { source: { a: "1" }, destinations: [{ b: "2" }], fallthrough: false }
    const defined = { ...service("s"), matches: [match] }
    assert.isTrue(Registry.fitsService({ ...service(""), matches: [{ ...match }] }, defined))
    assert.isFalse(Registry.fitsService({ ...service(""), matches: [{ ...match, fallthrough: true }] }, defined))
  })

  it("gives a definition the payload IP by default, and replaces it", () => {
    const [first] = Registry.registerService(Registry.empty, service("s"))
    assert.strictEqual(first.services["s"]?.payload, "IP")
    assert.strictEqual(Registry.registerService(first, service("s", "ETHERNET"))[0].services["s"]?.payload, "ETHERNET")
  })

  it("keeps a definition that endpoints rely on", () => {
    const [defined] = Registry.registerService(Registry.empty, service("s"))
    const offered = register(defined, endpoint("e"), 0)
    assert.strictEqual(Registry.unregisterService(offered, "s")[0], offered)
    assert.deepStrictEqual(Registry.unregisterService(defined, "s")[0], Registry.empty)
  })

  it.each([
    ["nothing", {}, true],
    ["the name", { name: "e" }, true],
    ["another name", { name: "f" }, false],
    ["part of the url", { url: "/run/" }, true],
    ["another url", { url: "tcp" }, false],
    ["its service", { networkServices: ["s"] }, true],
    ["another service", { networkServices: ["s", "t"] }, false],
    ["its labels", { labels: { s: { nodeName: "a" } } }, true],
    ["other labels", { labels: { s: { nodeName: "b" } } }, false]
  ])("finds an endpoint by %s as it should", (_, template, fits) => {
    const any: Model.Endpoint = { name: "", networkServices: [], labels: {}, url: "" }
    assert.strictEqual(Registry.fitsEndpoint({ ...any, ...template }, endpoint("e")), fits)
  })

  it("tells watchers what is new, what changed and what is gone", () => {
    const before = { a: endpoint("a"), b: endpoint("b"), c: endpoint("c") }
    const after = { a: before.a, b: endpoint("b"), d: endpoint("d") }
    assert.deepStrictEqual(
      Registry.changes(before, after, () => true).map(({ deleted, value }) => `${value.name}${deleted ? "-" : "+"}`),
      ["b+", "d+", "c-"]
    )
    assert.deepStrictEqual(Registry.changes(before, before, () => true), [])
  })
})
