import { assert, describe, expect, it } from "@effect/vitest"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Maglev from "./Maglev.ts"
import type { Ruleset as Rules } from "./Model.ts"
import * as Ruleset from "./Ruleset.ts"

const vips = [
  { name: "vip-1", address: Cidr.unsafe("20.0.0.1/32") },
  { name: "vip-2", address: Cidr.unsafe("2000::1/128") }
]

const example: Rules = {
  table: "sluice-lb",
  vips: vips.map(({ address }) => address),
  flows: [
    {
      name: "flow-1",
      stream: { trench: "trench-a", conduit: "conduit-a", stream: "stream-1" },
      vips,
      sourceSubnets: [],
      sourcePorts: [],
      destinationPorts: [{ from: 0, to: 4_000 }, { from: 4_001, to: 5_000 }],
      protocols: ["tcp", "udp"],
      byteMatches: [],
      priority: 1
    },
    {
      name: "flow-2",
      stream: { trench: "trench-a", conduit: "conduit-a", stream: "stream-2" },
      vips: vips.slice(0, 1),
      sourceSubnets: [Cidr.unsafe("192.0.2.0/24")],
      sourcePorts: [],
      destinationPorts: [{ from: 4_000, to: 4_000 }],
      protocols: ["tcp"],
      byteMatches: [{ protocol: "tcp", offset: 13, length: 1, mask: 2, value: 2 }],
      priority: 10
    }
  ],
  streams: [
    { name: "stream-1", maxTargets: 4, slots: 11, offset: 5_000, identifiers: [1, 2] },
    { name: "stream-2", maxTargets: 4, slots: 11, offset: 5_100, identifiers: [] }
  ],
  portNats: [{ port: 80, targetPort: 8_080, protocol: "udp", vips: vips.slice(0, 1) }]
}

/** The rules that every packet meets when there is one flow. */
const entrance = (flow: Partial<Rules["flows"][number]>, fastPath?: Rules["fastPath"]): ReadonlyArray<string> => {
  const flows = example.flows.slice(0, 1).map((each) => ({
    ...each,
    destinationPorts: [{ from: 80, to: 80 }],
    ...flow
  }))
  const text = Ruleset.script(undefined, { ...example, flows, ...(fastPath === undefined ? {} : { fastPath }) })
  const [, rules = ""] = /chain balance \{\n.*\n([^}]*)\n/.exec(text) ?? []
  return rules.trim().split(/\n */)
}

describe("Ruleset", () => {
  it("is the text in golden/example.nft", async () => {
    await expect(Ruleset.script(undefined, example)).toMatchFileSnapshot("golden/example.nft")
  })

  it("does not depend on the order of anything", () => {
    const permuted: Rules = {
      table: "sluice-lb",
      vips: example.vips.toReversed(),
      flows: example.flows.toReversed(),
      streams: example.streams.toReversed().map((stream) => ({
        ...stream,
        identifiers: stream.identifiers.toReversed()
      })),
      portNats: example.portNats
    }
    assert.strictEqual(Ruleset.script(undefined, permuted), Ruleset.script(undefined, example))
    assert.strictEqual(Ruleset.script(example, permuted).trim(), "")
  })

  it("looks for the flow of every packet at once only where pings and errors cannot be taken for one", () => {
    const forVips = ["ip daddr @vips4 goto flows4", "ip6 daddr @vips6 goto flows6"]
    assert.deepStrictEqual(entrance({}), [
      "th dport . meta l4proto . ip daddr vmap @flows4-0",
      "ip daddr @vips4 goto flows4",
      "th dport . meta l4proto . ip6 daddr vmap @flows6-0",
      "ip6 daddr @vips6 goto flows6"
    ])
    assert.deepStrictEqual(entrance({}, { externals: ["ext"], hops: [] }), forVips)
    assert.deepStrictEqual(entrance({ protocols: [] }), forVips)
    assert.deepStrictEqual(entrance({ destinationPorts: [{ from: 0, to: 5_000 }] }), forVips)
  })

  it("changes only slots when a target comes or goes", () => {
    const slots = Maglev.size(100)
    const of = (count: number): Rules => ({
      ...example,
      streams: [{
        name: "stream-1",
        maxTargets: 100,
        slots,
        offset: 5_000,
        identifiers: Array.from({ length: count }, (_, n) => n + 1)
      }]
    })
    const change = Ruleset.change(of(100), of(99))
    assert.deepStrictEqual(
      change._tag === "Elements"
        ? change.elements.map(({ added, name, removed }) => [name, removed.length, added.length])
        : [],
      [["slots-5000", 100, 100], ["hits-5000", 1, 0]]
    )
    const script = Ruleset.script(of(100), of(99))
    const [removed = "", added = "", ...rest] = script.trim().split("\n")
    assert.deepStrictEqual(rest, ["delete element inet sluice-lb hits-5000 { 5100 }"])
    assert.match(removed, /^delete element inet sluice-lb slots-5000 \{ \d+(, \d+)* \}$/)
    assert.match(added, /^add element inet sluice-lb slots-5000 \{ \d+ : 50\d\d(, \d+ : 50\d\d)* \}$/)
    assert.isBelow(added.split(",").length, 350)
    assert.notInclude(added, ": 5100")
  })

  it("takes a script where more than elements changes, and where links have to be looked up", () => {
    const other: Rules = { ...example, vips: example.vips.slice(0, 1) }
    assert.strictEqual(Ruleset.change(example, other)._tag, "Script")
    assert.strictEqual(Ruleset.change(undefined, example)._tag, "Script")
    const hops = [5_001, 5_002].map((mark) => ({ mark, ip: Ip.unsafe("172.16.0.1"), link: `nsm-${mark}` }))
    const over = (count: number): Rules => ({
      ...example,
      fastPath: { externals: ["ext"], hops: hops.slice(0, count) }
    })
    assert.strictEqual(Ruleset.change(over(2), over(2))._tag, "Elements")
    const moved: Rules = {
      ...over(2),
      fastPath: { externals: ["ext"], hops: hops.map((hop) => ({ ...hop, link: hop.link + "b" })) }
    }
    assert.strictEqual(Ruleset.change(over(2), moved)._tag, "Script")
  })

  it("installs no flow without VIPs, and none of an unknown stream", () => {
    const [first] = example.flows
    assert.isDefined(first)
    const flows = [
      { ...first, vips: [] },
      { ...first, stream: { ...first.stream, stream: "unknown" } }
    ]
    const text = Ruleset.script(undefined, { ...example, flows })
    assert.notMatch(text, /flows[46]-\d/)
    assert.match(text, /chain flows4 \{\n {4}meta l4proto icmp goto icmp4\n {4}counter drop\n/)
  })

  it("marks each slot with the offset of the stream plus the identifier of the target", () => {
    const marks = Ruleset.marks({ name: "s", maxTargets: 9, slots: 101, offset: 5_000, identifiers: [1, 7] })
    assert.strictEqual(marks.length, 101)
    assert.deepStrictEqual(new Set(marks), new Set([5_001, 5_007]))
  })
})
