import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import * as Cross from "./Cross.ts"
import * as Forward from "./Forward.ts"
import * as Model from "./Model.ts"

const vip = Cidr.unsafe("20.0.0.1/32")
const make = (
  ip: Partial<Model.IpContext>,
  payload = "ETHERNET",
  context: Partial<Model.Context> = {},
  parameters: Model.Labels = {}
) =>
  Cross.make({
    manager: "mgr",
    connection: {
      ...Model.connection("id", "service"),
      payload,
      mechanism: Model.kernelMechanism("inode://4/1", "nsm-0"),
      context: { ...Model.emptyContext, ...context, ip: { ...Model.emptyIp, ...ip } }
    },
    endpoint: {
      ...Model.kernelMechanism("inode://4/2"),
      parameters: { inodeURL: "inode://4/2", name: "service-x", ...parameters }
    },
    taken: () => new Set()
  })
const made = (ip: Partial<Model.IpContext>, payload?: string) => Result.getOrThrow(make(ip, payload))

/** The rules that a namespace without anything gets. */
const rules = (ip: Partial<Model.IpContext>) =>
  Forward.plan.plan({ cross: made(ip) }, {}).flatMap((operation) =>
    operation._tag === "Change" && operation.operation._tag === "AddRule" ? [operation.operation.rule] : []
  )

describe("A policy by protocol and ports", () => {
  it("has a rule and a table of its own, asked before those that say less", () => {
    const wanted = rules({
      policies: [
        { from: vip, routes: [] },
        { from: vip, proto: "6", dstPort: "80-90", routes: [] },
        { from: vip, proto: "17", srcPort: "53", dstPort: "53", routes: [] }
      ]
    })
    assert.deepStrictEqual(wanted.map(({ traffic }) => traffic), [
      undefined,
      { protocol: 6, destinationPorts: { first: 80, last: 90 } },
      { protocol: 17, sourcePorts: { first: 53, last: 53 }, destinationPorts: { first: 53, last: 53 } }
    ])
    assert.deepStrictEqual(wanted.map(({ priority }) => priority), [15_000, 14_998, 14_997])
    assert.strictEqual(new Set(wanted.map(({ table }) => table)).size, 3)
  })

  it("without a source is for both families", () => {
    assert.deepStrictEqual(rules({ policies: [{ proto: "58", routes: [] }] }).map(({ family }) => family), ["v4", "v6"])
  })

  it.each([
    [{ proto: "tcp" }, "proto \"tcp\""],
    [{ proto: "0" }, "proto \"0\""],
    [{ proto: "256" }, "proto \"256\""],
    [{ dstPort: "0" }, "dst_port \"0\""],
    [{ dstPort: "90-80" }, "dst_port \"90-80\""],
    [{ srcPort: "1-2-3" }, "src_port \"1-2-3\""],
    [{ srcPort: "1024-65535" }, "src_port \"1024-65535\""]
  ])("is refused with what is wrong: %j", (policy, words) => {
    const refused = make({ policies: [{ from: vip, ...policy, routes: [] }] })
    assert.include(Result.isFailure(refused) ? refused.failure : "", words)
  })
})

describe("A VLAN", () => {
  it.each([
    ["the context", { ethernet: { srcMac: "", dstMac: "", vlan: 7 } }, {}],
    ["the endpoint's mechanism", {}, { vlan: "7" }]
  ])("in %s is refused, with what to do", (_, context, parameters) => {
    const refused = make({}, "ETHERNET", context, parameters)
    assert.include(Result.isFailure(refused) ? refused.failure : "", "VLAN 7")
  })
})

describe("Neighbours", () => {
  const client = Ip.unsafe("10.0.0.2")
  const endpoint = Ip.unsafe("10.0.0.1")
  const addresses = { srcAddrs: [Cidr.unsafe("10.0.0.2/24")], dstAddrs: [Cidr.unsafe("10.0.0.1/24")] }
  const listed = { ip: Ip.unsafe("10.0.0.9"), mac: "02:00:00:00:00:0A" }

  it("are the addresses of the other side with payload IP, and what the context lists", () => {
    const cross = made({ ...addresses, neighbours: [listed] }, "IP")
    const known = { ip: listed.ip, mac: "02:00:00:00:00:0a" }
    assert.deepStrictEqual(cross.client.neighbours, [{ ip: endpoint, mac: cross.endpoint.mac }, known])
    assert.deepStrictEqual(cross.endpoint.neighbours, [{ ip: client, mac: cross.client.mac }, known])
  })

  it("are only what the context lists with payload ETHERNET, and nobody is its own", () => {
    const own = { ip: Ip.unsafe("10.0.0.1"), mac: listed.mac }
    const cross = made({ ...addresses, neighbours: [own, { ip: listed.ip, mac: "nonsense" }] })
    assert.deepStrictEqual(cross.client.neighbours, [{ ip: own.ip, mac: "02:00:00:00:00:0a" }])
    assert.deepStrictEqual(cross.endpoint.neighbours, [])
  })
})
