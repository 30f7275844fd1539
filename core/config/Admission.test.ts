import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import {
  attractor,
  bgp,
  conduit,
  everything,
  flow,
  gateway,
  object,
  stream,
  trench,
  vip,
  vlan
} from "../../property-tests/fixtures/Manifests.ts"
import { problems, wrong } from "../../property-tests/fixtures/Problems.ts"
import * as Manifest from "./Manifest.ts"
import * as Problem from "./Problem.ts"

const isOne = (found: ReadonlyArray<string>, start: string, part: string): void => {
  assert.strictEqual(found.length, 1, found.join("\n"))
  assert.isTrue(found[0]?.startsWith(start) === true && found[0].includes(part), found[0])
}

const nat = (port: number, target: number, protocol = "tcp", vips = ["v4"]) => ({
  port,
  "target-port": target,
  vips,
  protocol
})

describe("Admission", () => {
  it.each([
    ["a document that is no object", ["x"], "document -/number 9: it", "object"],
    ["an unknown version", { ...trench, apiVersion: "meridio.nordix.org/v9" }, "Trench red/t: apiVersion", "v1alpha1"],
    ["a wrong name", object("Vip", "V_1", { address: "1.1.1.1/32" }), "Vip red/V_1: metadata.name", "DNS"],
    ["a missing label", object("Vip", "v", { address: "1.1.1.1/32" }, ""), "Vip red/v: metadata.labels.trench", "red"],
    ["a name that is taken", vip("v4", "1.1.1.1/32"), "Vip red/v4: metadata.name", "twice"],
    ["a VIP with host bits", vip("v", "20.0.0.1/24"), "Vip red/v: spec.address", "write 20.0.0.0/24"],
    ["a VIP without a length", vip("v", "20.0.0.1"), "Vip red/v: spec.address", "prefix length"]
  ])("refuses %s", (_, document, start, part) => isOne(problems(...everything, document), start, part))

  it("refuses an object of a trench that does not exist, or of none", () => {
    isOne(
      wrong(object("Vip", "v", { address: "1.1.1.1/32" }, "x")),
      "Vip red/v: metadata.labels.trench is \"x\"",
      "create"
    )
    isOne(
      problems(object("Conduit", "c", { type: "stateless-lb" }, null)),
      "Conduit red/c: metadata.labels.trench is missing",
      "label"
    )
  })

  const field = "spec.destination-port-nats[1]"
  it.each([
    ["a conduit without type", conduit("c", { type: undefined }), "Conduit red/c: spec.type", "stateless-lb"],
    ["a conduit of another type", conduit("c", { type: "mesh" }), "Conduit red/c: spec.type", "stateless-lb"],
    [
      "port translations to merge",
      conduit("c", { "destination-port-nats": [nat(1, 2), nat(1, 2, "tcp", ["v6"])] }),
      `Conduit red/c: ${field}`,
      "merge"
    ],
    [
      "two translations of a port",
      conduit("c", { "destination-port-nats": [nat(1, 2), nat(1, 3)] }),
      `Conduit red/c: ${field}`,
      "collides with [0]"
    ],
    [
      "two translations to a port",
      conduit("c", { "destination-port-nats": [nat(1, 2), nat(3, 2)] }),
      `Conduit red/c: ${field}`,
      "collides with [0]"
    ],
    [
      "a translation to a translated port",
      conduit("c", { "destination-port-nats": [nat(1, 2), nat(2, 3)] }),
      `Conduit red/c: ${field}`,
      "collides with [0]"
    ],
    ["too many targets", stream("s", { "max-targets": 10_001 }), "Stream red/s: spec.max-targets", "10000"],
    ["a protocol twice", flow("f", { protocols: ["tcp", "tcp"] }), "Flow red/f: spec.protocols", "twice"],
    [
      "a subnet with host bits",
      flow("f", { "source-subnets": ["10.0.0.1/8"] }),
      "Flow red/f: spec.source-subnets[0]",
      "10.0.0.0/8"
    ],
    [
      "overlapping subnets",
      flow("f", { "source-subnets": ["10.0.0.0/8", "10.1.0.0/16"] }),
      "Flow red/f: spec.source-subnets[1]",
      "[0]"
    ],
    [
      "overlapping ports",
      flow("f", { "destination-ports": ["1-5", "5"] }),
      "Flow red/f: spec.destination-ports[1]",
      "[0]"
    ],
    ["any besides a port", flow("f", { "source-ports": ["any", "5"] }), "Flow red/f: spec.source-ports[1]", "[0]"],
    ["a port that is a number", flow("f", { "source-ports": [5] }), "Flow red/f: spec.source-ports[0]", "string"],
    ["a range backwards", flow("f", { "source-ports": ["5-1"] }), "Flow red/f: spec.source-ports[0]", "3000-4000"],
    ["a port beyond 65535", flow("f", { "source-ports": ["65536"] }), "Flow red/f: spec.source-ports[0]", "65535"],
    [
      "a byte match of 3 bytes",
      flow("f", { "byte-matches": ["tcp[1:3] = 1"] }),
      "Flow red/f: spec.byte-matches[0]",
      "byte match"
    ],
    [
      "a byte match outside the header",
      flow("f", { "byte-matches": ["udp[7:2] = 1"] }),
      "Flow red/f: spec.byte-matches[0]",
      "beyond"
    ],
    [
      "a byte match that cannot be",
      flow("f", { "byte-matches": ["udp[0:1] = 256"] }),
      "Flow red/f: spec.byte-matches[0]",
      "hold"
    ],
    ["two composites", attractor("a", { composites: ["c", "d"] }), "Attractor red/a: spec.composites", "one"],
    [
      "a VIP of two attractors",
      attractor("b", { composites: [], vips: ["v4"] }),
      "Attractor red/b: spec.vips",
      "attractor a"
    ],
    ["a conduit of two attractors", attractor("b", { vips: [] }), "Attractor red/b: spec.composites", "attractor a"],
    [
      "a long interface name",
      attractor("a", { interface: { ...vlan, name: "x".repeat(14) } }),
      "Attractor red/a: spec.interface.name",
      "13"
    ],
    [
      "an interface without prefix",
      attractor("a", { interface: { ...vlan, "ipv6-prefix": undefined } }),
      "Attractor red/a: spec.interface.ipv6-prefix",
      "needs"
    ],
    [
      "a prefix of the wrong family",
      attractor("a", { interface: { ...vlan, "ipv4-prefix": "100::/64" } }),
      "Attractor red/a: spec.interface.ipv4-prefix",
      "IPv4"
    ],
    [
      "an interface without VLAN",
      attractor("a", { interface: { ...vlan, "nsm-vlan": { "base-interface": "eth0" } } }),
      "Attractor red/a: spec.interface.nsm-vlan.vlan-id",
      "needs"
    ],
    [
      "no attachment",
      attractor("a", { interface: { name: "x", type: "network-attachment" } }),
      "Attractor red/a: spec.interface.network-attachments",
      "one"
    ],
    ["a gateway with a mask", gateway({ address: "1.1.1.1/32" }), "Gateway red/g: spec.address", "not an IP address"],
    ["BGP without AS number", gateway({ bgp: { "local-asn": 1 } }), "Gateway red/g: spec.bgp.remote-asn", "AS number"],
    ["port 0", gateway({ bgp: { ...bgp, "remote-port": 0 } }), "Gateway red/g: spec.bgp.remote-port", "1 to 65535"],
    [
      "a short hold time",
      gateway({ bgp: { ...bgp, "hold-time": "2999ms" } }),
      "Gateway red/g: spec.bgp.hold-time",
      "3000ms"
    ],
    [
      "a hold time without unit",
      gateway({ bgp: { ...bgp, "hold-time": "90" } }),
      "Gateway red/g: spec.bgp.hold-time",
      "duration"
    ],
    [
      "a static section for BGP",
      gateway({ static: { bfd: { switch: false } } }),
      "Gateway red/g: spec.static",
      "protocol"
    ],
    ["a BGP section for static", gateway({ protocol: "static" }), "Gateway red/g: spec.bgp", "protocol"],
    [
      "BFD without switch",
      gateway({ bgp: { ...bgp, bfd: { multiplier: 3 } } }),
      "Gateway red/g: spec.bgp.bfd.switch",
      "true"
    ],
    [
      "BFD without interval",
      gateway({ bgp: { ...bgp, bfd: { switch: true, "min-tx": "1s", multiplier: 3 } } }),
      "Gateway red/g: spec.bgp.bfd.min-rx",
      "needed"
    ],
    [
      "a negative interval",
      gateway({ bgp: { ...bgp, bfd: { switch: false, "min-rx": "-1s" } } }),
      "Gateway red/g: spec.bgp.bfd.min-rx",
      "duration"
    ],
    [
      "a key name with a slash",
      gateway({ bgp: { ...bgp, auth: { "key-name": "a/b", "key-source": "s" } } }),
      "Gateway red/g: spec.bgp.auth.key-name",
      "letters"
    ],
    [
      "a secret in capitals",
      gateway({ bgp: { ...bgp, auth: { "key-name": "a", "key-source": "S" } } }),
      "Gateway red/g: spec.bgp.auth.key-source",
      "DNS"
    ],
    [
      "a hold time beyond BGP's 16 bits",
      gateway({ bgp: { ...bgp, "hold-time": "65536s" } }),
      "Gateway red/g: spec.bgp.hold-time",
      "65535s"
    ],
    [
      "a BFD multiplier beyond 8 bits",
      gateway({ bgp: { ...bgp, bfd: { switch: true, "min-tx": "1s", "min-rx": "1s", multiplier: 256 } } }),
      "Gateway red/g: spec.bgp.bfd.multiplier",
      "1 to 255"
    ],
    ["the name of BIRD's own session", gateway({}, "BFD"), "Gateway red/BFD: metadata.name", "lower-case"],
    [
      "a gateway name too long for BIRD",
      gateway({}, "g".repeat(61)),
      `Gateway red/${"g".repeat(61)}: metadata.name`,
      "60"
    ]
  ])("refuses %s", (_, changed, start, part) => isOne(wrong(changed), start, part))

  it("makes the address of a gateway canonical, as BIRD wants it", () => {
    const { deployments } = Result.getOrThrow(Manifest.read([trench, gateway({ address: "2000:0::00A" })]))
    assert.deepStrictEqual(deployments[0]?.configuration.gateways.map(({ address }): string => address), ["2000::a"])
  })

  it("refuses a VIP in flows of two known conduits, and only then", () => {
    const second = [stream("s2", { conduit: "d" }), flow("f2", { stream: "s2" })]
    isOne(wrong(conduit("d"), ...second), "Flow red/f2: spec.vips is \"v4\"", "Flow f of conduit c")
    assert.deepStrictEqual(wrong(...second), [])
    assert.deepStrictEqual(wrong(flow("f2", { stream: "unknown" })), [])
    assert.deepStrictEqual(wrong(stream("s2"), flow("f2", { stream: "s2" })), [])
  })

  it.each([
    ["max-targets", stream("s", { "max-targets": 50 }), "Stream red/s: spec.max-targets"],
    ["the family of a trench", { ...trench, spec: { "ip-family": "ipv4" } }, "Trench red/t: spec.ip-family"],
    [
      "the VLAN of an attractor",
      attractor("a", { interface: { ...vlan, "nsm-vlan": { "vlan-id": 101, "base-interface": "eth0" } } }),
      "Attractor red/a: spec.interface.nsm-vlan"
    ]
  ])("refuses to change %s of an object in force", (_, changed, start) => {
    const { resources } = Result.getOrThrow(Manifest.read(everything))
    const next = everything.map((one) =>
      one.kind === changed.kind && one.metadata.name === changed.metadata.name ? changed : one
    )
    const result = Manifest.read(next, resources)
    isOne(Result.isFailure(result) ? result.failure.map(Problem.format) : [], start, "cannot change")
    assert.isTrue(Result.isSuccess(Manifest.read(next)))
  })
})
