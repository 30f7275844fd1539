import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { Cidr, Ip } from "../net/index.ts"
import * as Nsm from "../nsm/Model.ts"
import * as IpContext from "./IpContext.ts"
import type { Pair } from "./Model.ts"

const cidrs = (...texts: ReadonlyArray<string>): ReadonlyArray<Cidr.Cidr> => texts.map(Cidr.unsafe)
const pair: Pair = { src: cidrs("172.16.0.2/24", "fd00::2/64"), dst: cidrs("172.16.0.3/24", "fd00::3/64") }
const bridge = cidrs("172.16.0.1/24", "fd00::1/64")
const vips = cidrs("20.0.0.1/32", "2000::1/128")
const policy = (from: string, nextHop: string): Nsm.Policy => ({
  from: Cidr.unsafe(from),
  routes: [{ prefix: Cidr.defaultRoute(from.includes(":") ? "v6" : "v4"), nextHop: Ip.unsafe(nextHop) }]
})

describe("The IP context", () => {
  it("of a load balancer has our end as source and its end, the next hop, as destination", () => {
    const { dstAddrs, srcAddrs } = IpContext.toLoadBalancer({ ...Nsm.emptyIp, srcAddrs: vips }, pair)
    assert.deepStrictEqual([srcAddrs, dstAddrs], [pair.dst, pair.src])
  })

  it("of a new target gets its addresses, ours and the gateways", () => {
    assert.deepStrictEqual(IpContext.toTarget(Nsm.emptyIp, pair, bridge), {
      ...Nsm.emptyIp,
      srcAddrs: pair.src,
      dstAddrs: pair.dst,
      extraPrefixes: bridge
    })
  })

  it("of a target that adds VIPs is answered as it is", () => {
    const ip: Nsm.IpContext = {
      ...Nsm.emptyIp,
      srcAddrs: [...pair.src, ...vips],
      dstAddrs: pair.dst,
      extraPrefixes: bridge,
      policies: [policy("20.0.0.1/32", "172.16.0.1")]
    }
    assert.strictEqual(IpContext.toTarget(ip, pair, bridge), ip)
  })

  it("of a target that comes from another node gets new addresses behind its VIPs, and policies by the new gateways", () => {
    const ip: Nsm.IpContext = {
      ...Nsm.emptyIp,
      srcAddrs: cidrs("172.16.5.2/24", "20.0.0.1/32", "fd00:0:0:5::2/64", "2000::1/128"),
      dstAddrs: cidrs("172.16.5.3/24", "fd00:0:0:5::3/64"),
      extraPrefixes: cidrs("172.16.5.1/24", "fd00:0:0:5::1/64"),
      policies: [policy("20.0.0.1/32", "172.16.5.1"), policy("2000::1/128", "fd00:0:0:5::1")]
    }
    const answer = IpContext.toTarget(ip, pair, bridge)
    assert.deepStrictEqual(answer.srcAddrs, [...vips, ...pair.src])
    assert.deepStrictEqual(answer.dstAddrs, pair.dst)
    assert.deepStrictEqual(answer.extraPrefixes, bridge)
    assert.deepStrictEqual(answer.policies, [policy("20.0.0.1/32", "172.16.0.1"), policy("2000::1/128", "fd00::1")])
  })

  it("does not give an address twice when a request has our addresses but no gateway, as Meridio does", () => {
    const ip: Nsm.IpContext = { ...Nsm.emptyIp, srcAddrs: [...pair.src, ...vips], dstAddrs: pair.dst }
    const answer = IpContext.toTarget(ip, pair, bridge)
    assert.deepStrictEqual(answer, { ...ip, extraPrefixes: bridge })
  })

  it("loses the next hop of a policy whose family has no gateway any more", () => {
    const ip = { ...Nsm.emptyIp, policies: [policy("2000::1/128", "fd00::1")] }
    const answer = IpContext.toTarget(ip, { src: pair.src.slice(0, 1), dst: pair.dst.slice(0, 1) }, bridge.slice(0, 1))
    assert.deepStrictEqual(answer.policies, [
      { from: Cidr.unsafe("2000::1/128"), routes: [{ prefix: Cidr.defaultRoute("v6") }] }
    ])
  })

  const Address = Schema.Literals([
    "172.16.0.1/24",
    "172.16.0.2/24",
    "172.16.0.3/24",
    "172.16.0.9/24",
    "172.16.5.2/24",
    "fd00::2/64",
    "fd00::3/64",
    "fd00:0:0:5::2/64",
    "20.0.0.1/32",
    "20.0.0.2/32",
    "2000::1/128"
  ])
  const Addresses = Schema.Array(Address)
  const Gateways = Schema.Array(Schema.Literals(["172.16.0.1/24", "172.16.5.1/24", "fd00::1/64", "fd00:0:0:5::1/64"]))

  it.prop(
    "I10: has one own address and one gateway of each family, keeps VIPs in order, and stays when it is applied again",
    {
      src: Addresses,
      dst: Addresses,
      gateways: Gateways
    },
    ({ dst, gateways, src }) => {
      const ip: Nsm.IpContext = {
        ...Nsm.emptyIp,
        srcAddrs: cidrs(...src),
        dstAddrs: cidrs(...dst),
        extraPrefixes: cidrs(...gateways)
      }
      const answer = IpContext.toTarget(ip, pair, bridge)
      const isProxys = (address: Cidr.Cidr) =>
        [...bridge, ...ip.extraPrefixes].some((gateway) => Cidr.contains(gateway, Cidr.host(Cidr.ip(address))))
      const check = (
        after: ReadonlyArray<Cidr.Cidr>,
        before: ReadonlyArray<Cidr.Cidr>,
        own: ReadonlyArray<Cidr.Cidr>
      ) => {
        assert.sameMembers(after.filter(isProxys), [...own])
        assert.deepStrictEqual(
          after.filter((address) => !isProxys(address)),
          before.filter((address) => !isProxys(address))
        )
      }
      check(answer.srcAddrs, ip.srcAddrs, pair.src)
      check(answer.dstAddrs, ip.dstAddrs, pair.dst)
      assert.sameMembers([...answer.extraPrefixes], [...bridge])
      assert.strictEqual(IpContext.toTarget(answer, pair, bridge), answer)
    },
    { arbitrary: { runs: 500 } }
  )

  it.prop("I11: of a load balancer never has one address at both ends", { src: Addresses }, ({ src }) => {
    const answer = IpContext.toLoadBalancer({ ...Nsm.emptyIp, srcAddrs: cidrs(...src) }, pair)
    assert.isFalse(answer.srcAddrs.some((address) => answer.dstAddrs.includes(address)))
  })
})
