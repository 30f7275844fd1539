import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as Cidr from "./Cidr.ts"
import * as Ip from "./Ip.ts"

describe("Cidr", () => {
  it("keeps host bits and canonicalises the address", () => {
    assert.deepStrictEqual(Cidr.parse("FD00::172.16.0.5/120"), Result.succeed(Cidr.unsafe("fd00::ac10:5/120")))
    assert.strictEqual(Cidr.network(Cidr.unsafe("172.16.5.9/20")), "172.16.0.0/20")
    assert.strictEqual(Cidr.network(Cidr.unsafe("fd00::1:2:3/64")), "fd00::/64")
  })

  it.each([
    "10.0.0.1",
    "10.0.0.1/33",
    "10.0.0.1/",
    "10.0.0.1/-1",
    "10.0.0.01/24",
    "::1/129",
    "/24",
    "",
    "10.0.0.1/024"
  ])(
    "refuses %j with the text and an example",
    (text) => {
      const parsed = Cidr.parse(text)
      assert.isTrue(Result.isFailure(parsed) && parsed.failure.includes(JSON.stringify(text)))
    }
  )

  it.each([
    [Cidr.Cidr, "a canonical CIDR, for example 20.0.0.1/32 or 2000::/64"],
    [Schema.toCodecJson(Cidr.Cidr), "a canonical CIDR, for example 20.0.0.1/32 or 2000::/64"],
    [Ip.Ip, "a canonical IP address, for example 20.0.0.1 or 2000::1"],
    [Schema.toCodecJson(Ip.Ip), "a canonical IP address, for example 20.0.0.1 or 2000::1"]
  ])("says by example what is expected where a value does not fit", (schema, expected) => {
    const decoded = Schema.decodeUnknownResult(Schema.Struct({ it: schema }))({ it: "20.0.0.01" })
    assert.isTrue(Result.isFailure(decoded) && decoded.failure.message.includes(`Expected ${expected}`))
  })

  it.prop("an address survives the way through its integer", [Ip.Ip], ([ip]) => {
    assert.strictEqual(Ip.fromBigInt(Ip.family(ip), Ip.toBigInt(ip)), ip)
  })

  it.prop("a network contains the CIDR it comes from, and is its own network", [Cidr.Cidr], ([cidr]) => {
    const network = Cidr.network(cidr)
    assert.isTrue(Cidr.contains(network, cidr))
    assert.strictEqual(Cidr.network(network), network)
    assert.deepStrictEqual(Cidr.parse(cidr), Result.succeed(cidr))
  })

  it.prop("order is total and antisymmetric", [Cidr.Cidr, Cidr.Cidr], ([a, b]) => {
    assert.strictEqual(Math.sign(Cidr.compare(a, b)), -Math.sign(Cidr.compare(b, a)) + 0)
    assert.strictEqual(Cidr.compare(a, b) === 0, a === b)
  })
})
