import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import type * as Model from "./Model.ts"
import * as Select from "./Select.ts"

const endpoint = (name: string, labels: Model.Labels = {}, service = "s"): Model.Endpoint => ({
  name,
  networkServices: [service],
  labels: { [service]: labels },
  url: `unix:///${name}`
})
const service = (...matches: ReadonlyArray<Partial<Model.Match>>): Model.NetworkService => ({
  name: "s",
  payload: "",
  matches: matches.map((match) => ({ source: {}, destinations: [], fallthrough: false, ...match }))
})
const names = (endpoints: ReadonlyArray<Model.Endpoint>) => endpoints.map(({ name }) => name)

// What Meridio's proxies register: a client reaches the proxy of its own node.
const sameNode = service({ source: { nodeName: "{{.nodeName}}" }, destinations: [{ nodeName: "{{.nodeName}}" }] })

describe("Select", () => {
  it("allows every endpoint of the service when it has no matches", () => {
    assert.deepStrictEqual(names(Select.matching(service(), [endpoint("a"), endpoint("b", {}, "t")], {})), ["a"])
  })

  it("resolves templates with the labels of the client", () => {
    const proxies = [endpoint("a", { nodeName: "a" }), endpoint("b", { nodeName: "b" })]
    assert.deepStrictEqual(names(Select.matching(sameNode, proxies, { nodeName: "b" })), ["b"])
    assert.deepStrictEqual(names(Select.matching(sameNode, proxies, { nodeName: "c" })), [])
    assert.deepStrictEqual(names(Select.matching(sameNode, proxies, {})), [])
  })

  it("goes on to the next match only when told to", () => {
    const first = { source: { app: "x" }, destinations: [{ zone: "1" }] }
    const second = { destinations: [{ zone: "2" }] }
    const endpoints = [endpoint("a", { zone: "2" })]
    assert.deepStrictEqual(names(Select.matching(service(first, second), endpoints, { app: "x" })), [])
    assert.deepStrictEqual(
      names(Select.matching(service({ ...first, fallthrough: true }, second), endpoints, { app: "x" })),
      ["a"]
    )
    assert.deepStrictEqual(names(Select.matching(service(first, second), endpoints, { app: "y" })), ["a"])
  })

  it("allows all for a match that only selects the forwarder", () => {
    assert.deepStrictEqual(names(Select.matching(service({ metadata: { p2p: "true" } }), [endpoint("a")], {})), ["a"])
  })

  it("takes turns, and tries the failed endpoint last", () => {
    const endpoints = [endpoint("c"), endpoint("a"), endpoint("b")]
    const order = (turn: number, avoid?: string) =>
      names(Select.candidates(service(), endpoints, {
        labels: {},
        pinned: "",
        ...(avoid === undefined ? {} : { avoid })
      }, turn)).join("")
    assert.deepStrictEqual([0, 1, 2, 3].map((turn) => order(turn)), ["abc", "bca", "cab", "abc"])
    assert.strictEqual(order(0, "a"), "bca")
  })

  it("knows only the pinned endpoint", () => {
    const endpoints = [endpoint("a"), endpoint("b")]
    assert.deepStrictEqual(names(Select.candidates(service(), endpoints, { labels: {}, pinned: "b" }, 0)), ["b"])
    assert.deepStrictEqual(Select.candidates(service(), endpoints, { labels: {}, pinned: "x" }, 0), [])
  })

  const Few = Schema.Literals(["x", "y", "z"])
  const Labels = Schema.Record(Few, Few)
  it.prop("lists who may exactly once, whatever the turn", {
    endpoints: Schema.Array(Labels).check(Schema.isMaxLength(6)),
    labels: Labels,
    destinations: Schema.Array(Labels).check(Schema.isMaxLength(3)),
    turn: Schema.Natural
  }, ({ endpoints, labels, destinations, turn }) => {
    const offered = endpoints.map((own, i) => endpoint(`e${i}`, own))
    const definition = service({ destinations })
    const found = Select.candidates(definition, offered, { labels, pinned: "" }, turn)
    assert.deepStrictEqual(names(found).toSorted(), names(Select.matching(definition, offered, labels)).toSorted())
    assert.strictEqual(new Set(names(found)).size, found.length)
    for (const { name } of found) {
      const own = offered.find((endpoint) => endpoint.name === name)?.labels["s"] ?? {}
      assert.isTrue(destinations.some((wanted) => Object.entries(wanted).every(([key, value]) => own[key] === value)))
    }
  })
})
