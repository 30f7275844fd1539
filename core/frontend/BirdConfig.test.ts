import { assert, describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import { bird, gateways, secrets } from "../../property-tests/frontend/Specimen.ts"
import { Cidr } from "../net/index.ts"
import * as Admission from "./Admission.ts"
import * as BirdConfig from "./BirdConfig.ts"

const good = Admission.admit({ vips: ["20.0.0.1/32", "2000::1/128"], gateways: gateways.slice(0, 2) })
const guarded = Admission.admit({ vips: [], gateways: gateways.filter(({ name }) => name === "guarded") })

const withSecret = (secret: typeof secrets[number] | undefined) =>
  BirdConfig.render({
    settings: bird,
    vips: [],
    announces: [],
    gateways: guarded.gateways,
    secrets: secret === undefined ? [] : [secret]
  })

describe("BirdConfig", () => {
  it("renders a dual-stack attractor with BFD", async () => {
    const config = BirdConfig.render({
      settings: { ...bird, logFile: { path: "/var/log/bird.log", bytes: 20_000 } },
      vips: good.vips,
      announces: good.vips,
      gateways: good.gateways,
      secrets: []
    })
    await expect(config.text).toMatchFileSnapshot("./golden/dual-stack-bfd.conf")
  })

  it("keeps what the kernel gets as it is when VIPs come, for BIRD 3 crashes when that changes before it is up", () => {
    const kernelOf = (vips: typeof good.vips): ReadonlyArray<string> => {
      const { text } = BirdConfig.render({ settings: bird, vips, announces: vips, gateways: [], secrets: [] })
      return text.match(/protocol kernel [^]*?\n}/g) ?? []
    }
    assert.strictEqual(kernelOf([]).length, 2)
    assert.deepStrictEqual(kernelOf([]), kernelOf(good.vips))
  })

  it("takes the shortest intervals and the largest multiplier of static gateways", () => {
    const { gateways: statics } = Admission.admit({
      vips: [],
      gateways: gateways.filter(({ protocol }) => protocol === "static")
    })
    const { text } = BirdConfig.render({ settings: bird, vips: [], announces: [], gateways: statics, secrets: [] })
    assert.isTrue(BirdConfig.hasDifferentBfd(statics))
    assert.isFalse(BirdConfig.hasDifferentBfd(statics.slice(0, 1)))
    assert.include(text, "interface \"ext-vlan\" { min rx interval 300 ms; min tx interval 300 ms; multiplier 9; };")
  })

  it("imports nothing from gateways in VRRP mode", () => {
    const { gateways: all } = Admission.admit({ vips: [], gateways })
    const vrrps = [Cidr.ip(Cidr.unsafe("169.254.100.254/32")), Cidr.ip(Cidr.unsafe("100:100::254/128"))]
    const { text } = BirdConfig.render({
      settings: { ...bird, vrrps },
      vips: [],
      announces: [],
      gateways: all,
      secrets
    })
    const afterKernel = text.slice(text.indexOf("'NBR-"))
    assert.notInclude(afterKernel, "import filter")
    assert.include(text, "route 0.0.0.0/0 via 169.254.100.254%'ext-vlan' onlink;")
    assert.include(text, "route ::/0 via 100:100::254%'ext-vlan' onlink;")
  })

  it("keeps a place for a password and leaves the gateway out without one", () => {
    const config = withSecret(secrets[0])
    assert.include(config.text, "password \"<bgp-keys/gw.key>\";")
    assert.deepStrictEqual(config.passwords, [{ source: "bgp-keys", key: "gw.key", revision: 0 }])
    for (const secret of [undefined, secrets[2], secrets[3]]) assert.notInclude(withSecret(secret).text, "NBR-guarded")
    assert.deepStrictEqual(
      BirdConfig.fill(config.text, () => "a$&\\b<x/y>"),
      Result.succeed(config.text.replace("<bgp-keys/gw.key>", () => "a$&\\b<x/y>"))
    )
    assert.deepStrictEqual(BirdConfig.fill(config.text, () => undefined), Result.fail("bgp-keys/gw.key"))
    assert.deepStrictEqual(BirdConfig.fill(config.text, () => "a\"; x"), Result.fail("bgp-keys/gw.key"))
  })

  it.each([
    ["", "is empty"],
    ["x".repeat(81), "has 81 bytes"],
    ["secret\n", "holds a line break"],
    ["a\"b", "holds a quote"],
    ["a\0b", "holds a quote or a NUL"]
  ])("refuses the password %j", (password, reason) => {
    assert.include(BirdConfig.passwordProblem(password), reason)
  })

  it("names the protocol an error message points at", () => {
    const { text } = BirdConfig.render({
      settings: bird,
      vips: [],
      announces: [],
      gateways: good.gateways,
      secrets: []
    })
    const line = text.split("\n").findIndex((line) => line.includes("neighbor 100:100::150")) + 1
    assert.strictEqual(BirdConfig.culprit(text, `/x/y.conf:${line}:7 syntax error`), "NBR-gateway-v6-a")
    assert.strictEqual(BirdConfig.culprit(text, "/x/y.conf: No such file"), undefined)
  })

  it("is silenced by taking the VIPs out", () => {
    const speak = { settings: bird, vips: good.vips, gateways: good.gateways, secrets: [] }
    assert.deepStrictEqual(
      BirdConfig.silence(BirdConfig.render({ ...speak, announces: good.vips })),
      BirdConfig.render({ ...speak, announces: [] })
    )
  })
})

describe("Admission", () => {
  it("takes what can be served and says why it leaves the rest", () => {
    const { gateways: taken, rejected, vips } = Admission.admit({
      vips: ["2000::1/128", "20.0.0.1/32", "20.0.0.1", "0.0.0.0/0", "10.0.0.1/8", "127.0.0.1/32", "2000:0::1/128"],
      gateways: [...gateways, ...gateways.slice(4, 5)]
    })
    assert.deepStrictEqual(vips, [Cidr.unsafe("20.0.0.1/32"), Cidr.unsafe("2000::1/128")])
    assert.deepStrictEqual(
      taken.map(({ name }) => name),
      ["gateway-v4-a", "gateway-v4-b", "gateway-v6-a", "guarded", "static-slow", "static-v6"]
    )
    assert.deepStrictEqual(rejected.map(({ item, reason }) => `${item}: ${reason.slice(0, 34)}`), [
      "gateway BFD: its name must be 1 to 60 letters, ",
      "gateway hasty: its hold time is 2; write 3 to 655",
      "gateway in jection' {: its name must be 1 to 60 letters, ",
      "gateway nowhere: \"nowhere\" is not an IP address, fo",
      "gateway ospf: its protocol is \"ospf\"; write bgp ",
      "gateway static-v4: two gateways of the attractor have",
      "vip 0.0.0.0/0: a default route is not a VIP; writ",
      "vip 10.0.0.1/8: it has host bits; write 10.0.0.0/8",
      "vip 127.0.0.1/32: it is not a unicast address",
      "vip 20.0.0.1: \"20.0.0.1\" is not an address with "
    ])
  })
})
