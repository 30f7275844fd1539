import { assert, describe, it } from "@effect/vitest"
import { Cidr, Ip } from "../net/index.ts"
import * as RouterId from "./RouterId.ts"

const address = (link: string, cidr: string) => ({ link, cidr: Cidr.unsafe(cidr), dadFailed: false })

describe("RouterId", () => {
  it("is the lowest IPv4 address of the external interface, else of any", () => {
    const lo = address("lo", "127.0.0.1/8")
    const eth0 = [address("eth0", "10.0.0.9/24"), address("eth0", "2000::1/64")]
    const ext = [address("ext-vlan", "169.254.100.10/24"), address("ext-vlan", "169.254.100.9/24")]
    assert.strictEqual(RouterId.derive([lo, ...eth0, ...ext], "ext-vlan", "fe"), "169.254.100.9")
    assert.strictEqual(RouterId.derive([lo, ...eth0], "ext-vlan", "fe"), "10.0.0.9")
  })

  it("is made from the host name where there is only IPv6", () => {
    const only6 = [address("lo", "127.0.0.1/8"), address("ext-vlan", "2000::1/64")]
    const one = RouterId.derive(only6, "ext-vlan", "fe-1")
    assert.isTrue(Cidr.contains(Cidr.unsafe("240.0.0.0/4"), Cidr.host(one)))
    assert.strictEqual(RouterId.derive(only6, "ext-vlan", "fe-1"), one)
    assert.notStrictEqual(RouterId.derive(only6, "ext-vlan", "fe-2"), one)
    assert.strictEqual(Ip.family(one), "v4")
  })
})
