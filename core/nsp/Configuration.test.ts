import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { conduit, everything, flow, object, stream, trench } from "../../property-tests/fixtures/Manifests.ts"
import * as Manifest from "../config/Manifest.ts"
import * as Configuration from "./Configuration.ts"

const blue = { ...trench, metadata: { ...trench.metadata, namespace: "blue" } }
const second = object("Trench", "u", {}, null)
const deploymentsOf = (...documents: ReadonlyArray<unknown>) => Result.getOrThrow(Manifest.read(documents)).deployments

const [deployment] = deploymentsOf(
  ...everything,
  conduit("d"),
  stream("s2"),
  stream("s3", { conduit: "d" }),
  flow("f2", { stream: "s2" }),
  flow("f3", { stream: "s3", vips: ["v6"] })
)
assert.isDefined(deployment)
const { configuration } = deployment

const flows = (selector: Configuration.Selector) => Configuration.flows(configuration, selector).map(({ name }) => name)

const chosen = (deployments: Parameters<typeof Configuration.choose>[0], trench: string, namespace: string) =>
  Result.match(Configuration.choose(deployments, { trench, namespace }), {
    onFailure: (problem) => problem,
    onSuccess: ({ configuration, namespace }) => `${namespace}/${configuration.trench}`
  })

describe("Configuration", () => {
  it("takes an empty name and a missing parent for any", () => {
    assert.deepStrictEqual(flows({}), ["f", "f2", "f3"])
    assert.deepStrictEqual(flows({ name: "", stream: "", conduit: "", trench: "" }), ["f", "f2", "f3"])
    assert.deepStrictEqual(flows({ conduit: "c" }), ["f", "f2"])
    assert.deepStrictEqual(flows({ conduit: "c", stream: "s2" }), ["f2"])
    assert.deepStrictEqual(flows({ trench: "x" }), [])
    assert.deepStrictEqual(flows({ name: "f3", conduit: "c" }), [])
  })

  it("selects each kind by its name and its parents", () => {
    const names = Configuration.streams(configuration, { conduit: "c" }).map(({ stream }) => stream)
    assert.deepStrictEqual(names, ["s", "s2"])
    assert.strictEqual(Configuration.streams(configuration, { name: "s3", trench: "t" }).length, 1)
    assert.strictEqual(Configuration.conduits(configuration, { name: "d" }).length, 1)
    assert.strictEqual(Configuration.conduits(configuration, { trench: "x" }).length, 0)
    for (const select of [Configuration.vips, Configuration.attractors, Configuration.gateways]) {
      assert.isAbove(select(configuration, { trench: "t" }).length, 0)
      assert.strictEqual(select(configuration, { trench: "x" }).length, 0)
      assert.strictEqual(select(configuration, { name: "x" }).length, 0)
    }
    assert.deepStrictEqual(Configuration.trenches(configuration, { name: "t" }), ["t"])
    for (const name of ["u", ""]) assert.deepStrictEqual(Configuration.trenches(configuration, { name }), [])
  })

  it("serves the only trench, the named one, and of two with one name the one in its namespace", () => {
    assert.strictEqual(chosen(deploymentsOf(trench), "", "default"), "red/t")
    assert.strictEqual(chosen(deploymentsOf(trench, second), "u", "default"), "red/u")
    assert.strictEqual(chosen(deploymentsOf(trench, blue), "t", "blue"), "blue/t")
    assert.match(chosen(deploymentsOf(trench, second), "", "default"), /red\/t, red\/u.*NSP_TRENCH/)
    assert.match(chosen(deploymentsOf(trench), "x", "default"), /no trench x, but red\/t/)
    assert.match(chosen([], "", "default"), /no trench at all/)
  })
})
