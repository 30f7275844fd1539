import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { Manifest, type Model, Target } from "../../core/config/index.ts"
import { Registry } from "../../core/nsp/index.ts"
import { bgp, conduit, everything, flow, gateway } from "../../property-tests/fixtures/Manifests.ts"
import * as Message from "../../proto/gen/api/nsp/v1/model.ts"
import { Target as TargetMessage } from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as TargetWire from "./TargetWire.ts"
import * as Wire from "./Wire.ts"

const replaced = new Set(["Conduit", "Flow", "Gateway"])
const { deployments: [deployment] } = Result.getOrThrow(Manifest.read([
  ...everything.filter(({ kind }) => !replaced.has(kind)),
  conduit("c", { "destination-port-nats": [{ port: 80, "target-port": 8080, vips: ["v4"], protocol: "tcp" }] }),
  flow("f", {
    "byte-matches": ["tcp[12:1] & 0x02 = 2"],
    "destination-ports": ["any"],
    "source-subnets": ["10.0.0.0/8"]
  }),
  gateway({ bgp: { ...bgp, bfd: { switch: true, "min-rx": "1s", "min-tx": "1s", multiplier: 3 } } }),
  gateway({ protocol: "static", bgp: undefined, address: "2000::9" }, "h")
]))
assert.isDefined(deployment)
const configuration: Model.Configuration = deployment.configuration

/** Encodes, sends as bytes, decodes. */
const sent =
  <M>(codec: { encode: (m: M) => { finish: () => Uint8Array }; decode: (b: Uint8Array) => M }) => (message: M) =>
    codec.decode(codec.encode(message).finish())

const clean = <A>(values: ReadonlyArray<A>) => ({ values, rejected: [] })

const vipMessage = (address: string): Message.Vip => ({ name: address, address, trench: { name: "t" } })

describe("Wire", () => {
  it("brings every object back as it was", () => {
    const { attractors, conduits, flows, gateways, streams, vips } = configuration
    assert.deepStrictEqual(Wire.vips(vips.map(Wire.toVip("t")).map(sent(Message.Vip))), clean(vips))
    assert.deepStrictEqual(Wire.conduits(conduits.map(Wire.toConduit).map(sent(Message.Conduit))), clean(conduits))
    assert.deepStrictEqual(
      Wire.streams(streams.map(Wire.toStream(configuration)).map(sent(Message.Stream))),
      clean(streams)
    )
    assert.deepStrictEqual(Wire.flows(flows.map(Wire.toFlow(configuration)).map(sent(Message.Flow))), clean(flows))
    assert.deepStrictEqual(
      Wire.gateways(gateways.map(Wire.toGateway("t")).map(sent(Message.Gateway))),
      clean(gateways)
    )
    assert.deepStrictEqual(
      Wire.attractors(attractors.map(Wire.toAttractor("t")).map(sent(Message.Attractor))),
      clean(attractors)
    )
  })

  it("sends objects fully nested: a flow carries its stream with the limit and its conduit with the translations", () => {
    const [message] = configuration.flows.map(Wire.toFlow(configuration))
    assert.strictEqual(message?.stream?.maxTargets, 100)
    assert.strictEqual(message?.stream?.conduit?.destinationPortNats[0]?.vips[0]?.address, "20.0.0.1/32")
    assert.strictEqual(message?.stream?.conduit?.trench?.name, "t")
    assert.deepStrictEqual(message?.destinationPortRanges, ["0-65535"])
    assert.deepStrictEqual(configuration.gateways.map(Wire.toGateway("t")).map(({ ipFamily }) => ipFamily), [
      "ipv4",
      "ipv6"
    ])
  })

  it("leaves a bad object out and says why, and keeps the good ones", () => {
    const { rejected, values } = Wire.vips([vipMessage("20.0.0.1"), vipMessage("20.0.0.9/32")])
    assert.deepStrictEqual(values.map(({ address }) => String(address)), ["20.0.0.9/32"])
    assert.strictEqual(rejected.length, 1)
    assert.match(rejected[0] ?? "", /^vip 20\.0\.0\.1: .*CIDR, for example.*"20\.0\.0\.1".*address/)
  })

  it("leaves a bad VIP or gateway out of an object without losing the object", () => {
    const [good] = configuration.gateways.map(Wire.toGateway("t"))
    assert.isDefined(good)
    const gateways = [good, { ...good, name: "odd", protocol: "ospf" }, { ...good, name: "cut", address: "2.3.4.5/24" }]
    const message: Message.Attractor = { name: "a", trench: { name: "t" }, vips: [vipMessage("x")], gateways }
    const { rejected, values } = Wire.attractors([message])
    assert.deepStrictEqual(values.map(({ gateways }) => gateways.map(({ name }) => name)), [["g", "cut"]])
    assert.deepStrictEqual(rejected.map((text) => text.split(":")[0]), ["in attractor a", "in attractor a"])
  })

  it("leaves a flow out when it would match something else without its bad part", () => {
    const [message] = configuration.flows.map(Wire.toFlow(configuration))
    assert.isDefined(message)
    for (
      const part of [{ sourceSubnets: ["x"] }, { protocols: ["icmp"] }, { destinationPortRanges: ["9-1"] }, {
        byteMatches: ["?"]
      }]
    ) {
      assert.strictEqual(Wire.flows([{ ...message, ...part }]).values.length, 0)
    }
    assert.strictEqual(Wire.flows([{ ...message, vips: [] }]).values.length, 1)
  })

  it("reads the limit of an old NSP, which sends none, as 100", () => {
    const stream = Wire.toStreamKey({ trench: "t", conduit: "c", stream: "s" })
    assert.deepStrictEqual(Wire.streams([stream]).values.map(({ maxTargets }) => maxTargets), [100])
  })

  it.prop("a target survives the way over the wire", [Target.Target], ([target]) => {
    const message = TargetWire.toTarget(target)
    assert.deepStrictEqual(TargetWire.target(message), Result.succeed(target))
    const { context: _, ...rest } = target
    const [back] = TargetWire.targets([sent(TargetMessage)({ ...message, context: {} })]).values
    // Lone surrogates do not survive UTF-8, in the original as here.
    if (JSON.stringify(rest).isWellFormed() && !/\\ud[89a-f]/.test(JSON.stringify(rest))) {
      assert.deepStrictEqual(back, { ...rest, context: {} })
    }
  })

  it.prop("a filter survives the way over the wire", [Registry.Filter], ([filter]) => {
    assert.deepStrictEqual(TargetWire.filter(TargetWire.toFilter(filter)), Result.succeed(filter))
  })

  it("refuses a target with a status that only filters have, or half a stream", () => {
    const message = TargetWire.toFilter({ kind: "default", status: "any" })
    const any = TargetWire.target(message)
    assert.isTrue(Result.isFailure(any) && any.failure.includes("status"))
    const half = Wire.toStreamKey({ trench: "t", conduit: "", stream: "s" })
    const result = TargetWire.target({ ...message, status: 0, stream: half })
    assert.isTrue(Result.isFailure(result) && result.failure.includes("conduit"))
  })
})
