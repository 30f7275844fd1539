import { assert, describe, it } from "@effect/vitest"
import { Cidr, Ip, Kernel } from "../net/index.ts"
import * as Guard from "./Guard.ts"

const byDefault = (table: number, link: string): Kernel.Route => ({
  family: "v4",
  table,
  destination: Cidr.defaultRoute("v4"),
  type: "unicast",
  metric: 0,
  hops: [{ via: Ip.unsafe("10.0.0.1"), link }],
  protocol: 3,
  onlink: false
})

const vip = Cidr.unsafe("20.0.0.1/32")

/** A pod whose VIPs leave by one link, and all else by another. */
const pod = (outside: string, inside: string): Kernel.Snapshot => ({
  ...Kernel.empty,
  rules: [{ family: "v4", priority: 100, table: 4096, from: vip, foreign: false }],
  routes: [byDefault(4096, outside), byDefault(254, inside)]
})

const find = (snapshot: Kernel.Snapshot, externals?: ReadonlyArray<string>) =>
  Guard.find({ linkPrefix: "lb-", ...externals === undefined ? {} : { externals } }, [vip], snapshot)

describe("Guard", () => {
  it("guards the links of the main table's default routes", () => {
    assert.deepStrictEqual(find(pod("ext", "eth0")), { linkPrefix: "lb-", inside: ["eth0"] })
    assert.deepStrictEqual(find(pod("ext", "eth0"), []), { linkPrefix: "lb-", inside: ["eth0"] })
  })

  it("is not needed without such a route", () => {
    assert.isUndefined(find({ ...pod("ext", "eth0"), routes: [byDefault(4096, "ext")] }))
  })

  it("leaves alone the links by which VIPs leave, and those that are named as external", () => {
    assert.isUndefined(find(pod("eth0", "eth0")))
    assert.isUndefined(find(pod("ext", "eth0"), ["eth0"]))
    assert.isUndefined(find(pod("ext", "lb-1")))
  })
})
