import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import { conduit, everything, flow, gateway, stream } from "../../property-tests/fixtures/Manifests.ts"
import * as ConfigMap from "./ConfigMap.ts"
import * as Manifest from "./Manifest.ts"
import * as Problem from "./Problem.ts"

const place = { namespace: "red", name: "meridio-configuration-t" }

type Data = Parameters<typeof ConfigMap.read>[1]
type Item = { readonly [field: string]: unknown }
const list = (...items: ReadonlyArray<Item>) => ({ items })

const bgpGateway: Item = {
  name: "g",
  address: "2.3.4.5",
  "ip-family": "ipv4",
  bfd: "false",
  protocol: "bgp",
  trench: "t",
  "remote-asn": "1",
  "local-asn": "2",
  "remote-port": "179",
  "local-port": "179",
  "hold-time": "24"
}
const flowItem: Item = {
  name: "f",
  stream: "s",
  priority: "1",
  vips: ["v4"],
  "source-subnets": [],
  "destination-port-ranges": [],
  "source-port-ranges": [],
  protocols: ["tcp"]
}

const vips: readonly [Item, Item] = [
  { name: "v4", address: "20.0.0.1/32", trench: "t" },
  { name: "v6", address: "2000::1/128", trench: "t" }
]

/** What the operator makes of `everything`, each scalar as its source text. */
const data: Data = {
  trench: { name: "t" },
  conduits: list({ name: "c", trench: "t" }),
  streams: list({ name: "s", conduit: "c", "max-targets": "100" }),
  flows: list(flowItem),
  vips: list(...vips),
  attractors: list({ name: "a", trench: "t", vips: ["v4", "v6"], gateways: ["g"] }),
  gateways: list(bgpGateway)
}

const good = (data: Data): Manifest.Manifest =>
  Result.match(ConfigMap.read(place, data), {
    onFailure: (problems) => assert.fail(problems.map(Problem.format).join("\n")),
    onSuccess: (manifest) => manifest
  })

const configuration = (data: Data) => {
  const [deployment, ...others] = good(data).deployments
  assert.isDefined(deployment)
  assert.deepStrictEqual(others, [])
  return deployment.configuration
}

const problems = (data: Data): ReadonlyArray<string> =>
  Result.match(ConfigMap.read(place, data), {
    onFailure: (problems) => problems.map(Problem.format),
    onSuccess: () => []
  })

/** The configuration that manifests of the same objects give. */
const asManifest = (documents: ReadonlyArray<unknown>) =>
  Result.getOrThrow(Manifest.read(documents)).deployments[0]?.configuration

describe("ConfigMap", () => {
  it("gives the configuration that the manifests of the same objects give, but no pods", () => {
    assert.deepStrictEqual(configuration(data), asManifest(everything))
    assert.deepStrictEqual(good(data).deployments[0]?.attractors, [])
  })

  it("keeps every field of a conduit, a stream, a flow and a gateway", () => {
    const nat = { port: "80", "target-port": "8080", vips: ["v4"], protocol: "tcp" }
    const flowFields = { "source-subnets": ["10.0.0.0/8"], priority: 7, "byte-matches": ["tcp[12:1] & 0x02 = 0x02"] }
    const bfd = { switch: true, "min-tx": "300ms", "min-rx": "200ms", multiplier: 3 }
    const bgp = { "remote-asn": 4_294_967_295, "local-asn": 2, "remote-port": 10_179, "local-port": 10_180 }
    assert.deepStrictEqual(
      configuration({
        ...data,
        conduits: list({ name: "c", trench: "t", "destination-port-nats": [nat] }),
        streams: list({ name: "s", conduit: "c", "max-targets": "7" }),
        flows: list({
          ...flowItem,
          ...flowFields,
          priority: "7",
          "destination-port-ranges": ["5000", "6000-6001"],
          "source-port-ranges": ["any"]
        }),
        gateways: list({
          ...bgpGateway,
          bfd: "true",
          "min-tx": "300",
          "min-rx": "200",
          multiplier: "3",
          "remote-asn": "4294967295",
          "remote-port": "10179",
          "local-port": "10180",
          "hold-time": "90",
          "bgp-auth": { key: "k", source: "secret" }
        })
      }),
      asManifest([
        ...everything.filter(({ kind }) => !["Conduit", "Stream", "Flow", "Gateway"].includes(kind)),
        conduit("c", { "destination-port-nats": [{ ...nat, port: 80, "target-port": 8080 }] }),
        stream("s", { "max-targets": 7 }),
        flow("f", { ...flowFields, "destination-ports": ["5000", "6000-6001"], "source-ports": ["any"] }),
        gateway({
          bgp: { ...bgp, "hold-time": "1m30s", bfd, auth: { "key-name": "k", "key-source": "secret" } }
        })
      ])
    )
  })

  it("takes absent, null and empty keys for empty, and zeros for absent numbers", () => {
    const { attractors, conduits, flows, gateways, streams, trench, vips } = configuration({
      trench: { name: "t" },
      conduits: list({ name: "c", trench: "t", "destination-port-nats": null }),
      streams: list({ name: "s", conduit: "c", "max-targets": "0" }, { name: "loose", conduit: "" }),
      flows: null,
      vips: {},
      attractors: { items: null },
      gateways: list({ name: "g", address: "2000::1", protocol: "static", trench: "t", bfd: "no", "remote-asn": "0" })
    })
    assert.strictEqual(trench, "t")
    assert.deepStrictEqual(conduits, [{ trench: "t", conduit: "c", portNats: [] }])
    assert.deepStrictEqual(streams, [{ trench: "t", conduit: "c", stream: "s", maxTargets: 100 }])
    assert.deepStrictEqual<unknown>(gateways, [{ _tag: "Static", name: "g", address: "2000::1" }])
    assert.deepStrictEqual([flows, vips, attractors], [[], [], []])
  })

  it("passes over what belongs to another trench, and serves what refers to nothing without it", () => {
    const strangers = {
      conduits: list({ name: "c", trench: "t" }, { name: "x", trench: "other" }),
      streams: list({ name: "s", conduit: "c" }, { name: "y", conduit: "x" }),
      flows: list({ ...flowItem, vips: ["gone", "v4"] }, { ...flowItem, name: "h", stream: "y" })
    }
    const manifest = good({ ...data, ...strangers })
    const names = configuration({ ...data, ...strangers })
    assert.deepStrictEqual(names.conduits.map(({ conduit }) => conduit), ["c"])
    assert.deepStrictEqual(names.streams.map(({ stream }) => stream), ["s"])
    assert.deepStrictEqual(names.flows.map(({ name, vips }) => [name, vips.map(({ name }) => name)]), [["f", ["v4"]]])
    assert.deepStrictEqual(manifest.ignored, ["Conduit red/x of trench other"])
    assert.isTrue(manifest.dangling.some(({ path, value }) => path === "spec.vips[0]" && value === "\"gone\""))
  })

  const inMap = "ConfigMap red/meridio-configuration-t: data."
  it.each<readonly [what: string, changed: Data, start: string, part: string]>([
    ["no trench", { trench: undefined }, `${inMap}trench.name is missing`, "required"],
    ["an unknown key", { flows: list({ ...flowItem, prio: "1" }) }, `${inMap}flows.items[0].prio is "1"`, "no such"],
    ["a list that is none", { vips: { items: "x" } }, `${inMap}vips.items is "x"`, "array"],
    ["a nameless object", { vips: list({ address: "1.1.1.1/32", trench: "t" }) }, `${inMap}vips.items[0].name`, "requ"],
    [
      "a port beyond 16 bits",
      { gateways: list({ ...bgpGateway, "local-port": "65536" }) },
      `${inMap}gateways.items[0].local-port is "65536"`,
      "0 to 65535"
    ],
    [
      "an AS number beyond 32 bits",
      { gateways: list({ ...bgpGateway, "local-asn": "4294967296" }) },
      `${inMap}gateways.items[0].local-asn`,
      "4294967295"
    ],
    [
      "a priority beyond 32 bits",
      { flows: list({ ...flowItem, priority: "2147483648" }) },
      `${inMap}flows.items[0].priority`,
      "2147483647"
    ],
    [
      "a negative limit",
      { streams: list({ name: "s", "max-targets": "-1" }) },
      `${inMap}streams.items[0].max-t`,
      "0 to"
    ],
    ["no boolean", { gateways: list({ ...bgpGateway, bfd: "2" }) }, `${inMap}gateways.items[0].bfd is "2"`, "true or"],
    [
      "a VIP with host bits",
      { vips: list({ name: "v4", address: "1.1.1.1/8", trench: "t" }) },
      "Vip red/v4: spec.",
      "/8"
    ],
    ["too many targets", { streams: list({ name: "s", "max-targets": "10001" }) }, "Stream red/s: spec.max-t", "10000"],
    ["a priority below 0", { flows: list({ ...flowItem, priority: "-1" }) }, "Flow red/f: spec.priority", "0"],
    [
      "a name twice",
      { conduits: list({ name: "c", trench: "t" }, { name: "c", trench: "t" }) },
      "Conduit red/c",
      "twice"
    ],
    [
      "a short hold time",
      { gateways: list({ ...bgpGateway, "hold-time": "2" }) },
      "Gateway red/g: spec.bgp.hold",
      "3000ms"
    ],
    [
      "no AS number",
      { gateways: list({ ...bgpGateway, "local-asn": "0" }) },
      "Gateway red/g: spec.bgp.local-asn",
      "AS"
    ],
    [
      "BGP in a static gateway",
      { gateways: list({ ...bgpGateway, protocol: "static" }) },
      "Gateway red/g: spec.bgp",
      "bgp"
    ],
    [
      "an unknown protocol",
      { gateways: list({ ...bgpGateway, protocol: "BGP" }) },
      "Gateway red/g: spec.protocol",
      "bgp"
    ],
    [
      "BFD without multiplier",
      { gateways: list({ ...bgpGateway, bfd: "true" }) },
      "Gateway red/g: spec.bgp.bfd.mul",
      "need"
    ],
    [
      "a gateway of the name of BIRD's own session",
      { gateways: list({ ...bgpGateway, name: "BFD" }) },
      "Gateway red/BFD",
      "low"
    ]
  ])("refuses %s", (_, changed, start, part) => {
    const found = problems({ ...data, ...changed })
    assert.strictEqual(found.length, 1, found.join("\n"))
    assert.isTrue(found[0]?.startsWith(start) === true && found[0].includes(part), found[0])
  })

  it("tells of all mistakes at once", () => {
    const found = problems({
      ...data,
      trench: {},
      vips: list({ name: "v" }),
      flows: list({ ...flowItem, priority: "x" })
    })
    assert.strictEqual(found.length, 3, found.join("\n"))
  })

  it("lets a max-targets change, which the operator has judged", () => {
    assert.isTrue(Result.isSuccess(ConfigMap.read(place, data)))
    const [changed] = configuration({ ...data, streams: list({ name: "s", conduit: "c", "max-targets": "7" }) }).streams
    assert.strictEqual(changed?.maxTargets, 7)
  })

  const Scalar = Schema.Union([
    Schema.NullOr(Schema.String),
    Schema.Literals(["t", "c", "0", "1", "true", "20.0.0.1/32"])
  ])
  const Value = Schema.Union([Scalar, Schema.Array(Scalar), Schema.Record(Schema.String, Scalar)])
  const Change = Schema.Struct({
    key: Schema.Literals(ConfigMap.keys),
    field: Schema.Union([
      Schema.Literals(["name", "trench", "vips", "bfd", "protocol", "hold-time", "destination-port-nats", "priority"]),
      Schema.String
    ]),
    value: Value
  })

  it.prop("gives a configuration or sentences, whatever the data are", [Schema.Array(Change)], ([changes]) => {
    const changed = changes.reduce<{ readonly [K in ConfigMap.Key]?: unknown }>((data, { field, key, value }) => {
      const item = key === "gateways" ? bgpGateway : flowItem
      return { ...data, [key]: key === "trench" ? { [field]: value } : list({ ...item, [field]: value }) }
    }, data)
    const read = ConfigMap.read(place, changed)
    assert.isTrue(
      Result.isSuccess(read) || read.failure.length > 0 && read.failure.every(({ remedy }) => remedy !== "")
    )
  })

  it("does not mind in which order the items stand", () => {
    const [v4, v6] = vips
    assert.deepStrictEqual(configuration({ ...data, vips: list(v6, v4) }), configuration(data))
  })
})
