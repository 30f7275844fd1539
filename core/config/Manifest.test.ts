import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import {
  attractor,
  bgp,
  conduit,
  everything,
  flow,
  gateway,
  object,
  stream,
  trench
} from "../../property-tests/fixtures/Manifests.ts"
import { wrong } from "../../property-tests/fixtures/Problems.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import { Deployment } from "./Deployment.ts"
import * as Manifest from "./Manifest.ts"

describe("Manifest", () => {
  it("resolves references, fills in defaults and decodes texts", () => {
    const manifest = Result.getOrThrow(Manifest.read(
      [
        ...everything,
        conduit("c", { "destination-port-nats": [{ port: 80, "target-port": 8080, vips: ["v6"], protocol: "tcp" }] }),
        flow("f", {
          "source-subnets": ["10.20.30.40/30"],
          "destination-ports": ["2000-3000", "5000"],
          "source-ports": ["any"],
          "byte-matches": ["tcp[12:1] & 0x02 = 010"]
        }),
        gateway({
          bgp: {
            ...bgp,
            "hold-time": "2m1500ms",
            "remote-port": 10179,
            bfd: { switch: true, "min-rx": "400.5ms", "min-tx": "0.3s", multiplier: 3 },
            auth: { "key-name": "k", "key-source": "secret" }
          }
        })
      ].slice(1).filter((one, index, all) =>
        all.findLastIndex(({ kind, metadata }) => kind === one.kind && metadata.name === one.metadata.name) === index
      ).concat(trench)
    ))
    const v4 = { name: "v4", address: Cidr.unsafe("20.0.0.1/32") }
    const v6 = { name: "v6", address: Cidr.unsafe("2000::1/128") }
    const key = { trench: "t", conduit: "c", stream: "s" }
    const expected = {
      _tag: "Bgp",
      name: "g",
      address: Ip.unsafe("2.3.4.5"),
      remoteAsn: 1,
      localAsn: 2,
      remotePort: 10179,
      localPort: 179,
      holdTimeS: 122,
      bfd: { minRxMs: 401, minTxMs: 300, multiplier: 3 },
      auth: { keyName: "k", keySource: "secret" }
    } as const
    assert.deepStrictEqual(manifest.deployments, [{
      namespace: "red",
      ipFamily: "dualstack",
      configuration: {
        trench: "t",
        conduits: [{
          trench: "t",
          conduit: "c",
          portNats: [{ port: 80, targetPort: 8080, protocol: "tcp", vips: [v6] }]
        }],
        streams: [{ ...key, maxTargets: 100 }],
        flows: [{
          name: "f",
          stream: key,
          vips: [v4],
          sourceSubnets: [Cidr.unsafe("10.20.30.40/30")],
          sourcePorts: [{ from: 0, to: 65_535 }],
          destinationPorts: [{ from: 2000, to: 3000 }, { from: 5000, to: 5000 }],
          protocols: ["tcp"],
          byteMatches: [{ protocol: "tcp", offset: 12, length: 1, mask: 2, value: 8 }],
          priority: 1
        }],
        vips: [v4, v6],
        attractors: [{ name: "a", vips: [v4, v6], gateways: [expected] }],
        gateways: [expected]
      },
      attractors: [{
        name: "a",
        replicas: 1,
        conduits: ["c"],
        interface: {
          _tag: "NsmVlan",
          name: "ext",
          ipv4Prefix: Cidr.unsafe("169.254.100.0/24"),
          ipv6Prefix: Cidr.unsafe("100:100::/64"),
          baseInterface: "eth0",
          vlanId: 100
        }
      }]
    }])
    assert.isTrue(Schema.is(Schema.Array(Deployment))(manifest.deployments))
    assert.deepStrictEqual(manifest.dangling, [])
  })

  it("keeps trenches apart, also of the same name in two namespaces", () => {
    const blue = { ...object("Trench", "t", {}, null, "blue"), apiVersion: "meridio.nordix.org/v1alpha1" }
    const other = object("Conduit", "c", { type: "stateless-lb" }, "t", "blue")
    const { deployments } = Result.getOrThrow(Manifest.read([...everything, blue, other]))
    assert.deepStrictEqual(
      deployments.map((
        { configuration, namespace }
      ) => [namespace, configuration.conduits.length, configuration.vips.length]),
      [["blue", 1, 0], ["red", 1, 2]]
    )
  })

  it("unfolds lists, takes null for absent, skips empty documents and lists foreign kinds", () => {
    const foreign = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web" }, spec: { replicas: 1 } }
    const bare = {
      apiVersion: "meridio.nordix.org/v1",
      kind: "Trench",
      metadata: { name: "t", namespace: "red" },
      spec: null
    }
    const manifest = Result.getOrThrow(Manifest.read([
      null,
      { apiVersion: "v1", kind: "List", items: [bare, ...everything.slice(1)] },
      foreign
    ]))
    assert.deepStrictEqual(manifest.ignored, ["apps/v1 Deployment default/web"])
    assert.strictEqual(manifest.deployments[0]?.configuration.flows.length, 1)
  })

  it("takes the network of an attractor from its attachment", () => {
    const attachment = { name: "nad", namespace: "red" }
    const nad = {
      ...object("NetworkAttachmentDefinition", "nad", { config: "{\"type\":\"bridge\"}" }, null),
      apiVersion: "k8s.cni.cncf.io/v1"
    }
    const one = attractor("a", {
      interface: { name: "ext", type: "network-attachment", "network-attachments": [attachment] }
    })
    const { deployments } = Result.getOrThrow(Manifest.read([trench, one, nad]))
    assert.deepStrictEqual(deployments[0]?.attractors[0]?.interface, {
      _tag: "NetworkAttachment",
      name: "ext",
      attachment: { namespace: "red", name: "nad" },
      config: { type: "bridge" }
    })
  })

  it("serves what refers to missing objects without them, and says so", () => {
    const manifest = Result.getOrThrow(Manifest.read([
      trench,
      conduit(),
      stream("s", { conduit: "x" }),
      stream("unused", { conduit: "" }),
      flow(),
      attractor()
    ]))
    const configuration = manifest.deployments[0]?.configuration
    assert.deepStrictEqual([configuration?.streams, configuration?.flows, configuration?.attractors], [[], [], [{
      name: "a",
      vips: [],
      gateways: []
    }]])
    assert.deepStrictEqual(manifest.dangling.map(({ path, value }) => [path, value]), [
      ["spec.conduit", "\"x\""],
      ["spec.vips[0]", "\"v4\""],
      ["spec.gateways[0]", "\"g\""],
      ["spec.vips[0]", "\"v4\""],
      ["spec.vips[1]", "\"v6\""]
    ])
  })

  it("reports all problems of all objects at once, with object, field, value and remedy", () => {
    assert.deepStrictEqual(
      wrong(
        flow("f", { priority: -1, protocols: ["tpc"] }),
        stream("s", { "max-targets": 0 }),
        gateway({ adress: "1.1.1.1" })
      ),
      [
        "Flow red/f: spec.protocols[0] is \"tpc\": expected \"tcp\" | \"udp\" | \"sctp\"",
        "Flow red/f: spec.priority is -1: expected an integer from 0 to 2147483647",
        "Stream red/s: spec.max-targets is 0: expected an integer from 1 to 10000",
        "Gateway red/g: spec.adress is \"1.1.1.1\": there is no such field; correct its name or remove it"
      ].toSorted((a, b) => order.indexOf(a.split(" ")[0] ?? "") - order.indexOf(b.split(" ")[0] ?? ""))
    )
  })

  it("accepts the whole it is tested with", () => assert.deepStrictEqual(wrong(), []))

  const order = ["Flow", "Stream", "Gateway"]

  it.prop("the order of the documents does not matter", [Schema.Array(Schema.Natural)], ([keys]) => {
    const shuffled = everything.map((one, index) => ({ one, key: keys[index] ?? index })).toSorted((a, b) =>
      a.key - b.key
    )
    const manifest = Result.getOrThrow(Manifest.read(shuffled.map(({ one }) => one)))
    assert.deepStrictEqual(manifest.deployments, Result.getOrThrow(Manifest.read(everything)).deployments)
  })

  it.prop("no document makes it throw", [Schema.Array(Schema.Json)], ([documents]) => {
    Manifest.read(documents)
    Manifest.read(everything.map((one, index) => ({ ...one, spec: documents[index] ?? one.spec })))
  })
})
