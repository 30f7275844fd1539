import { assert, describe, it } from "@effect/vitest"
import { Equal, Schema } from "effect"
import * as KernelModel from "../../property-tests/kernel/KernelModel.ts"
import { planLaws } from "../../property-tests/laws/PlanLaws.ts"
import { baseline, desired as specimen, desires, observations } from "../../property-tests/proxy/Node.ts"
import { Cidr, Ip, type Kernel } from "../net/index.ts"
import type { Port } from "./Model.ts"
import * as Routes from "./Routes.ts"

describe("Routes", () => {
  const both = specimen({
    addresses: ["172.16.0.1/24", "fd00::1/64"],
    loadBalancers: [1, 2],
    targets: [2],
    vips: ["20.0.0.1/32", "2000::1/128"]
  })

  it("builds everything on an empty node, in the order of the stages", () => {
    const tags = Routes.plan(both, baseline).map(({ _tag }) => _tag)
    assert.deepStrictEqual(tags, [
      "AddBridge",
      "SetLinkUp",
      "ReplaceRoute",
      "ReplaceRoute",
      "AddRule",
      "AddRule",
      "AddAddress",
      "AddAddress",
      "SetLinkMaster",
      "SetLinkMaster",
      "SetLinkMaster",
      "ReplaceRoute",
      "ReplaceRoute",
      "AddRule",
      "AddRule"
    ])
  })

  it("does nothing when the bridge's name is taken by another kind of link, and says so", () => {
    const taken = { ...baseline, links: [...baseline.links, { ...dummy, name: "bridge0" }] }
    assert.deepStrictEqual(Routes.plan(both, taken), [])
    assert.strictEqual(Routes.fault(both, taken), "bridge0 is a dummy link, not a bridge: delete or rename it")
  })

  it("replaces rules without a fixed priority, as Meridio makes them, after its own are there", () => {
    const from = Cidr.unsafe("20.0.0.1/32")
    const old = [32_764, 32_765].map((priority): Kernel.Rule => ({
      family: "v4",
      priority,
      table: 1,
      from,
      foreign: false
    }))
    const built = KernelModel.applyAll(baseline, Routes.plan(both, baseline))
    const observed = { ...built, rules: [...built.rules.filter(({ iif }) => iif !== undefined), ...old] }
    const operations = Routes.plan(both, observed)
    assert.deepStrictEqual(operations.map(({ _tag }) => _tag), ["AddRule", "AddRule", "DeleteRule", "DeleteRule"])
  })

  it("never lets a VIP of length 0 capture the traffic of the pod", () => {
    const operations = Routes.plan({ ...both, vips: [Cidr.unsafe("0.0.0.0/0")] }, baseline)
    assert.isFalse(operations.some((one) => one._tag === "AddRule" && one.rule.iif === undefined))
  })

  it("leaves rules and routes of an earlier run alone until it knows better", () => {
    const before = KernelModel.applyAll(baseline, Routes.plan(both, baseline))
    const { vips: _, ...restarted } = { ...both, bridge: { ...both.bridge, addresses: [] }, ports: [], settled: false }
    assert.deepStrictEqual(Routes.plan(restarted, before), [])
  })

  it("announces the bridge on its ports when an adopted one gets an address, before traffic is sent through it", () => {
    const before = KernelModel.applyAll(baseline, Routes.plan(both, baseline))
    const moved = specimen({ addresses: ["172.16.0.9/24", "fd00::1/64"], loadBalancers: [1, 2, 3], targets: [2] })
    assert.deepStrictEqual(Routes.plan(moved, before).map(({ _tag }) => _tag), [
      "DeleteAddress",
      "AddAddress",
      "SetLinkMaster",
      "SetLinkMac",
      "ReplaceRoute",
      "ReplaceRoute"
    ])
  })

  it("moves the bridge to new addresses when the IPAM has lost its data", () => {
    const before = KernelModel.applyAll(baseline, Routes.plan(both, baseline))
    const moved = specimen({
      addresses: ["172.16.0.9/24", "fd00:0:0:1::1/64"],
      loadBalancers: [1],
      targets: [],
      vips: ["20.0.0.1/32"]
    })
    const after = KernelModel.applyAll(before, Routes.plan(moved, before))
    assert.deepStrictEqual(
      after.addresses.filter(({ link }) => link === "bridge0").map(({ cidr }) => String(cidr)).toSorted(),
      ["172.16.0.9/24", "fd00:0:0:1::1/64"]
    )
    assert.deepStrictEqual(hopsOf(after, "v4"), ["172.16.0.11 bridge0"])
  })
})

const dummy: Kernel.Link = {
  name: "dummy0",
  kind: "dummy",
  mac: "02:00:00:00:00:09",
  up: true,
  carrier: true,
  mtu: 1500
}

const hopsOf = ({ routes }: Kernel.Snapshot, family: Ip.Family): ReadonlyArray<string> =>
  routes.filter(({ family: of, table, type }) => of === family && table === 1 && type === "unicast")
    .flatMap(({ hops }) => hops.map(({ link = "", via = "" }) => `${via} ${link}`)).toSorted()

/** The stage of an operation; an address leaves first only if it is in the way of the one that comes. */
const stageOf = (operation: Kernel.Operation, at: number, all: ReadonlyArray<Kernel.Operation>): number => {
  switch (operation._tag) {
    case "AddBridge":
    case "SetLinkUp":
      return 1
    case "AddAddress":
      return 4
    case "DeleteAddress":
      return all.slice(at).some(({ _tag }) => _tag === "AddAddress") ? 4 : 11
    case "SetLinkMaster":
      return operation.master === undefined ? 10 : 5
    case "SetLinkMac":
      return 5.5
    case "ReplaceRoute":
      return operation.route.type === "unreachable" ? 2 : 6
    case "AddRule":
      return operation.rule.iif === undefined ? 7 : 3
    case "DeleteRule":
      return 8
    case "DeleteRoute":
      return 9
    default:
      return Number.NaN
  }
}

const isOfVip = ({ foreign, from, iif, mark, table }: Kernel.Rule): boolean =>
  table === 1 && !foreign && mark === undefined && iif === undefined && from !== undefined
const isGuard = ({ foreign, from, iif, mark, table }: Kernel.Rule): boolean =>
  table === 1 && !foreign && mark === undefined && iif === "bridge0" && from === undefined
const isOurs = (rule: Kernel.Rule): boolean => isOfVip(rule) || isGuard(rule)
const sorted = (items: ReadonlyArray<unknown>): ReadonlyArray<string> =>
  items.map((item) => JSON.stringify(item)).toSorted()

describe("I12 I15 I17: what every plan promises", () => {
  planLaws(Routes.routes, {
    desired: desires,
    observed: observations,
    apply: KernelModel.apply,
    outcome: ({ addresses, links, routes, rules }) => ({
      links: sorted(links),
      addresses: sorted(addresses.filter(({ link }) => link === "bridge0")),
      rules: sorted(rules),
      routes: sorted(routes.filter(({ table }) => table === 1).map((route) => ({ ...route, hops: sorted(route.hops) })))
    }),
    foreign: ({ addresses, links, routes, rules }) => ({
      links: sorted(links.filter(({ name }) => name !== "bridge0").map((link) => ({ ...link, master: "" }))),
      addresses: sorted(addresses.filter(({ link }) => link !== "bridge0")),
      rules: sorted(rules.filter((rule) => !isOurs(rule))),
      routes: sorted(
        routes.filter(({ hops, table }) => table !== 1 && hops.every(({ link }) => link !== "bridge0"))
      )
    }),
    permute: (desired) => ({
      ...desired,
      families: desired.families.toReversed(),
      bridge: { ...desired.bridge, addresses: desired.bridge.addresses.toReversed() },
      ports: desired.ports.toReversed(),
      ...(desired.vips === undefined ? {} : { vips: desired.vips.toReversed() })
    }),
    runs: 1500
  })
})

const known = (desired: Routes.Desired): Routes.Desired => ({ ...desired, vips: desired.vips ?? [], settled: true })

describe("The invariants of Routes", () => {
  const inputs = { desired: desires, observed: observations }
  const settings = { arbitrary: { runs: 1500 } }

  it.prop(
    "I13 I14: one rule for each VIP, and the default's hops are the live load balancers",
    inputs,
    ({ desired, observed }) => {
      const wanted = known(desired)
      const after = KernelModel.applyAll(observed, Routes.plan(wanted, observed))
      const vips = new Set(
        (wanted.vips ?? []).map(Cidr.network).filter((vip) => wanted.families.includes(Cidr.family(vip)))
      )
      assert.deepStrictEqual(
        sorted(after.rules.filter(isOfVip).map(({ from, priority }) => ({ from, priority }))),
        sorted(
          [...vips].map((from) => ({ from, priority: 32_000 }))
        )
      )
      for (const family of Ip.families) {
        const hops = wanted.families.includes(family) ? Routes.hops(family, wanted, observed) : []
        assert.deepStrictEqual(hopsOf(after, family), hops.map((via) => `${via} bridge0`).toSorted())
        const fallbacks = after.routes.filter((route) =>
          route.family === family && route.table === 1 && route.type === "unreachable"
        )
        assert.lengthOf(fallbacks, wanted.families.includes(family) ? 1 : 0)
      }
    },
    settings
  )

  it.prop("what comes from the bridge has no way but the table", inputs, ({ desired, observed }) => {
    const after = KernelModel.applyAll(observed, Routes.plan(desired, observed))
    assert.deepStrictEqual(
      sorted(after.rules.filter(isGuard).map(({ family, priority }) => ({ family, priority }))),
      sorted(desired.families.map((family) => ({ family, priority: 32_000 })))
    )
  }, settings)

  it.prop("I16: hops have one family, lie in the bridge's subnet and occur once", inputs, ({ desired, observed }) => {
    for (const operation of Routes.plan(desired, observed)) {
      if (operation._tag !== "ReplaceRoute" || operation.route.type !== "unicast") continue
      const { family, hops } = operation.route
      const subnet = desired.bridge.addresses.find((address) => Cidr.family(address) === family)
      assert.strictEqual(new Set(hops.map(({ via }) => via)).size, hops.length)
      for (const { link, via } of hops) {
        assert.strictEqual(link, "bridge0")
        assert.isTrue(via !== undefined && subnet !== undefined && Cidr.contains(subnet, Cidr.host(via)))
      }
    }
  }, settings)

  it.prop("I18: one load balancer less never cuts off another", {
    ...inputs,
    gone: Schema.Literals([1, 2])
  }, ({ desired, gone, observed }) => {
    const wanted = known(desired)
    const before = KernelModel.applyAll(observed, Routes.plan(wanted, observed))
    const withoutIt = { ...wanted, ports: wanted.ports.filter(({ link }: Port) => link !== `lb-${gone}`) }
    let world = before
    for (const operation of Routes.plan(withoutIt, before)) {
      world = KernelModel.apply(world, operation)
      for (const family of wanted.families) {
        const rest = Routes.hops(family, withoutIt, before).map((via) => `${via} bridge0`)
        assert.includeMembers([...hopsOf(world, family)], rest)
      }
    }
  }, settings)

  it.prop("I16: operations come in the order of the stages", inputs, ({ desired, observed }) => {
    const stages = Routes.plan(desired, observed).map(stageOf)
    assert.deepStrictEqual(stages, stages.toSorted((a, b) => a - b))
  }, settings)

  it.prop(
    "I15: no operation but on the bridge, the ports, the table and its rules",
    inputs,
    ({ desired, observed }) => {
      for (const operation of Routes.plan(desired, observed)) {
        switch (operation._tag) {
          case "AddBridge":
            assert.strictEqual(operation.name, "bridge0")
            break
          case "SetLinkUp":
          case "SetLinkMac":
          case "AddAddress":
          case "DeleteAddress":
            assert.strictEqual(operation.link, "bridge0")
            break
          case "SetLinkMaster": {
            const link = observed.links.find(({ name }) => name === operation.link)
            const isPort = desired.ports.some((port) => port.link === operation.link)
            assert.isTrue(isPort || (operation.master === undefined && link?.master === "bridge0"))
            break
          }
          case "AddRule":
          case "DeleteRule":
            assert.isTrue(isOurs(operation.rule))
            break
          case "ReplaceRoute":
          case "DeleteRoute":
            assert.strictEqual(operation.route.table, 1)
            assert.strictEqual(operation.route.destination, Cidr.defaultRoute(operation.route.family))
            break
          default:
            assert.fail(`${operation._tag} is not in the plan`)
        }
      }
    },
    settings
  )

  it.prop("every operation of a plan is one the kernel accepts", inputs, ({ desired, observed }) => {
    let world = observed
    for (const operation of Routes.plan(desired, observed)) {
      assert.strictEqual(KernelModel.attempt(world, operation)._tag, "Success", JSON.stringify(operation))
      world = KernelModel.apply(world, operation)
    }
  }, settings)

  it.prop("duplicates of a VIP change nothing", inputs, ({ desired, observed }) => {
    const doubled = { ...desired, ...(desired.vips === undefined ? {} : { vips: [...desired.vips, ...desired.vips] }) }
    assert.isTrue(Equal.equals(Routes.plan(doubled, observed), Routes.plan(desired, observed)))
  }, settings)
})
