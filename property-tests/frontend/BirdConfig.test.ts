import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Admission, BirdConfig, Connectivity, type Model } from "../../core/frontend/index.ts"
import { Ip } from "../../core/net/index.ts"
import { bird, gateways, offers, secrets, vips } from "./Specimen.ts"

// Each is one process; SLUICE_BIRD_CONFIGS says how many.
const runs = Number(process.env["SLUICE_BIRD_CONFIGS"] ?? 2_000)

const vrrps = [Ip.unsafe("169.254.100.254"), Ip.unsafe("100:100::254")]

/** Any gateway at all: most are refused, the rest must be right for BIRD. */
const Name = Schema.Union([Schema.String, Schema.Literals(["a", "gw.1", "x:y_z-0", "if", "protocol", "A'b", "9"])])
const Number16 = Schema.Union([Schema.Literals([0, 1, 3, 179, 65_535, 65_536]), Schema.Natural])
const anyGateway: Arbitrary.Arbitrary<Model.OfferedGateway> = Arbitrary.all({
  name: Arbitrary.schema(Name),
  address: Arbitrary.schema(Schema.Union([Ip.Ip, Schema.Literals(["fe80::1", "::", "224.0.0.1", "1.2.3.4/24", "x"])])),
  protocol: Arbitrary.schema(Schema.Literals(["bgp", "static", "ospf"])),
  remoteAs: Arbitrary.schema(Number16),
  localAs: Arbitrary.schema(Number16),
  remotePort: Arbitrary.schema(Number16),
  localPort: Arbitrary.schema(Number16),
  holdTimeS: Arbitrary.schema(Number16),
  bfd: Arbitrary.schema(Schema.Boolean),
  minTxMs: Arbitrary.schema(Number16),
  minRxMs: Arbitrary.schema(Number16),
  multiplier: Arbitrary.schema(Number16),
  keySource: Arbitrary.schema(Schema.Literals(["", "bgp-keys", "bgp keys\""])),
  keyName: Arbitrary.schema(Schema.Literals(["", "gw.key", "other", "gw\"key"]))
})

const inputs = Arbitrary.map(
  Arbitrary.all({
    offer: offers,
    more: Arbitrary.array(anyGateway, { maxLength: 4 }),
    secret: Arbitrary.schema(Schema.Natural),
    vrrp: Arbitrary.schema(Schema.Boolean),
    ecmp: Arbitrary.schema(Schema.Boolean),
    advertise: Arbitrary.schema(Schema.Boolean)
  }),
  ({ advertise, ecmp, more, offer, secret, vrrp }): BirdConfig.Input => {
    const admitted = Admission.admit({ vips: offer.vips, gateways: [...offer.gateways, ...more] })
    const known = secrets[secret % (secrets.length + 1)]
    return {
      settings: { ...bird, ecmp, vrrps: vrrp ? vrrps : [], logFile: { path: "/var/log/bird.log", bytes: 20_000 } },
      vips: admitted.vips,
      announces: advertise ? admitted.vips : [],
      gateways: admitted.gateways,
      secrets: known === undefined ? [] : [known]
    }
  }
)

const accepts = (text: string): string => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "sl-bird-")), "bird.conf")
  fs.writeFileSync(file, text)
  try {
    execFileSync("bird", ["-p", "-c", file], { stdio: ["ignore", "pipe", "pipe"] })
    return "accepted"
  } catch (error) {
    return `${String(error)}\n${text}`
  } finally {
    fs.rmSync(path.dirname(file), { recursive: true })
  }
}

const protocols = (text: string): ReadonlyMap<string, string> => {
  const blocks = text.match(/^protocol [^]*?^\}|^protocol .*\}$/gm) ?? []
  return new Map(blocks.map((block) => [/^protocol \w+ '([^']+)'/.exec(block)?.[1] ?? "unnamed", block]))
}

describe("A configuration of BIRD", () => {
  it.prop("4: is accepted by BIRD", { input: inputs }, ({ input }) => {
    const password = BirdConfig.fill(BirdConfig.render(input).text, () => "p'$&;{}#é")
    assert.strictEqual(password._tag === "Success" ? accepts(password.success) : password.failure, "accepted")
  }, { arbitrary: { runs }, timeout: 600_000 })

  it.prop("3: does not depend on the order of its input", { input: inputs }, ({ input }) => {
    const reversed = {
      ...input,
      vips: input.vips.toReversed(),
      announces: input.announces.toReversed(),
      gateways: input.gateways.toReversed(),
      secrets: input.secrets.toReversed()
    }
    assert.deepStrictEqual(BirdConfig.render(reversed), BirdConfig.render(input))
  })

  it.prop("5: names every protocol once, in at most 64 characters", { input: inputs }, ({ input }) => {
    const { text } = BirdConfig.render(input)
    const names = [...protocols(text).keys()]
    assert.notInclude(names, "unnamed")
    assert.strictEqual(names.length, text.match(/^protocol /gm)?.length)
    assert.isTrue(names.every((name) => name.length <= 64))
    assert.match(text, /^router id \d+\.\d+\.\d+\.\d+;$/m)
  })

  it.prop("5: the first VIP of a family touches nothing of the other family and no session", { input: inputs }, (
    { input }
  ) => {
    const { vips: [vip4, vip6] } = Admission.admit({ vips: [vips[0] ?? "", vips[2] ?? ""], gateways: [] })
    if (vip4 === undefined || vip6 === undefined) return assert.fail("two VIPs")
    const one = protocols(BirdConfig.render({ ...input, vips: [vip4], announces: [vip4] }).text)
    const two = protocols(BirdConfig.render({ ...input, vips: [vip4, vip6], announces: [vip4, vip6] }).text)
    const changed = [...two.keys()].filter((name) => one.get(name) !== two.get(name))
    assert.deepStrictEqual(changed, ["VIP6"])
  })

  it.prop(
    "7: nothing is learned in VRRP mode; a gateway without its password is not spoken to, and still counts",
    { input: inputs },
    ({ input }) => {
      const all = protocols(BirdConfig.render(input).text)
      const usable = new Set(
        input.secrets.flatMap(({ keys, source }) =>
          keys.filter(({ problem }) => problem === undefined).map(({ key }) => `${source}/${key}`)
        )
      )
      for (const gateway of input.gateways) {
        const block = all.get(`NBR-${gateway.name}`)
        const password = gateway.routing._tag === "Bgp" ? gateway.routing.password : undefined
        const isMuted = password !== undefined && !usable.has(`${password.source}/${password.key}`)
        assert.strictEqual(block === undefined, isMuted, gateway.name)
        if (input.settings.vrrps.length > 0) assert.notMatch(block ?? "", /import (?!none)/)
        const judged = Connectivity.judge([gateway], [], [], false)
        assert.strictEqual(judged[Ip.family(gateway.address)], "Down")
      }
    }
  )

  it.prop("6: no text from outside leaves its place", { gateway: anyGateway }, ({ gateway }) => {
    const { gateways: taken } = Admission.admit({ vips: [], gateways: [gateway] })
    const { text } = BirdConfig.render({ settings: bird, vips: [], announces: [], gateways: taken, secrets })
    assert.isAtMost(protocols(text).size, protocols(base).size + 1)
  })
})

const base = BirdConfig.render({ settings: bird, vips: [], announces: [], gateways: [], secrets: [] }).text

it("the specimens hold gateways of every kind", () => {
  const { gateways: taken } = Admission.admit({ vips: [], gateways })
  assert.isAbove(taken.length, 5)
})
