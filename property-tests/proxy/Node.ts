/**
 * Nodes on which a proxy may find itself, and what it may want of them, for the tests of its plan: three interfaces of
 * load balancers, two of targets, and the pod's own. Worlds are made by an earlier plan and by disturbances, so that each
 * could exist in a kernel.
 */
import { Arbitrary, Schema } from "effect"
import { Cidr, Kernel } from "../../core/net/index.ts"
import type * as Model from "../../core/proxy/Model.ts"
import * as Routes from "../../core/proxy/Routes.ts"
import * as KernelModel from "../kernel/KernelModel.ts"

const veth = (name: string): Kernel.Link => ({
  name,
  kind: "veth",
  mac: "02:00:00:00:00:07",
  up: true,
  carrier: true,
  mtu: 1500
})

/** The interfaces before the proxy starts, up, with the addresses that the forwarder gives them. */
export const interfaces = ["eth0", "lb-1", "lb-2", "lb-3", "tg-1", "tg-2"] as const

/** Addresses at the proxy's end of the interfaces, in the order in which they appear. */
const ownAddresses: ReadonlyArray<readonly [link: string, cidr: Cidr.Cidr]> = [
  ["eth0", Cidr.unsafe("10.0.0.2/24")],
  ["lb-1", Cidr.unsafe("172.16.0.31/24")],
  ["lb-1", Cidr.unsafe("fd00::31/64")],
  ["lb-2", Cidr.unsafe("172.16.0.32/24")]
]

/** The addresses of the node, and rules that others need. */
export const setup: ReadonlyArray<Kernel.Operation> = [
  ...ownAddresses.map(([link, cidr]): Kernel.Operation => ({ _tag: "AddAddress", link, cidr })),
  {
    _tag: "AddRule",
    rule: { family: "v4", priority: 100, table: 7, from: Cidr.unsafe("20.0.0.1/32"), foreign: false }
  },
  {
    _tag: "AddRule",
    rule: { family: "v4", priority: 200, table: 1, from: Cidr.unsafe("20.0.0.9/32"), mark: 3, foreign: false }
  },
  { _tag: "AddRule", rule: { family: "v4", priority: 200, table: 1, iif: "eth0", foreign: false } }
]

/** The node as the proxy's first process finds it. */
export const baseline: Kernel.Snapshot = KernelModel.applyAll({ ...Kernel.empty, links: interfaces.map(veth) }, setup)

/** A wish in short form. */
export interface Wish {
  readonly addresses: ReadonlyArray<string>
  readonly loadBalancers: ReadonlyArray<number>
  readonly closing?: ReadonlyArray<number>
  readonly targets: ReadonlyArray<number>
  readonly vips?: ReadonlyArray<string>
  readonly families?: ReadonlyArray<"v4" | "v6">
  readonly settled?: boolean
  readonly foreignPorts?: "Leave" | "Detach"
}

/** The far end of a load balancer: an address in each subnet that the bridge may have; 3 clashes with some bridges. */
const remotes = (n: number): ReadonlyArray<Cidr.Cidr> =>
  [
    `172.16.0.1${n}/24`,
    `172.16.1.1${n}/24`,
    `fd00::1${n}/64`,
    `fd00:0:0:1::1${n}/64`,
    ...(n === 3 ? ["172.16.0.9/24", "fd00::9/64"] : [])
  ].map(Cidr.unsafe)

const port = (role: Model.Port["role"], phase: Model.Port["phase"]) => (n: number): Model.Port => ({
  link: `${role === "Target" ? "tg" : "lb"}-${n}`,
  role,
  remotes: role === "Target" ? [] : remotes(n),
  phase
})

export const desired = (wish: Wish): Routes.Desired => {
  return {
    families: wish.families ?? ["v4", "v6"],
    bridge: { name: "bridge0", mac: "02:00:00:00:00:01", addresses: wish.addresses.map(Cidr.unsafe) },
    ports: [
      ...wish.loadBalancers.map(port("LoadBalancer", "Live")),
      ...(wish.closing ?? []).map(port("LoadBalancer", "Closing")),
      ...wish.targets.map(port("Target", "Live"))
    ],
    ...(wish.vips === undefined ? {} : { vips: wish.vips.map(Cidr.unsafe) }),
    table: 1,
    priority: 32_000,
    settled: wish.settled ?? true,
    foreignPorts: wish.foreignPorts ?? "Leave"
  }
}

const some = <const A extends string | number>(items: ReadonlyArray<A>) =>
  Arbitrary.map(
    Arbitrary.schema(Schema.Array(Schema.Literals(items)).check(Schema.isMaxLength(items.length))),
    (chosen) => [...new Set(chosen)]
  )

const v4Addresses = ["", "172.16.0.1/24", "172.16.0.9/24", "172.16.1.1/24", "172.16.0.1/20"] as const
const v6Addresses = ["", "fd00::1/64", "fd00::9/64", "fd00:0:0:1::1/64", "fd00::1/56"] as const

const wishes: Arbitrary.Arbitrary<Wish> = Arbitrary.map(
  Arbitrary.all({
    v4: Arbitrary.schema(Schema.Literals(v4Addresses)),
    v6: Arbitrary.schema(Schema.Literals(v6Addresses)),
    loadBalancers: some([1, 2, 3, 4]),
    closing: some([1, 2, 3]),
    targets: some([1, 2, 3]),
    vips: some(["20.0.0.1/32", "20.0.0.2/32", "30.0.0.0/24", "2000::1/128", "2000::2/128"]),
    families: Arbitrary.schema(Schema.Literals(["both", "both", "v4", "v6"])),
    flags: Arbitrary.schema(Schema.Struct({ vips: Schema.Boolean, settled: Schema.Boolean, detach: Schema.Boolean }))
  }),
  ({ closing, families, flags, loadBalancers, targets, v4, v6, vips }): Wish => ({
    addresses: [families === "v6" ? "" : v4, families === "v4" ? "" : v6].filter((address) => address !== ""),
    loadBalancers,
    closing: closing.filter((n) => !loadBalancers.includes(n)),
    targets,
    ...(flags.vips ? { vips } : {}),
    families: families === "both" ? ["v4", "v6"] : [families],
    settled: flags.settled,
    foreignPorts: flags.detach ? "Detach" : "Leave"
  })
)

/** What a proxy may want. Load balancer 4 and target 3 have no interface yet. */
export const desires: Arbitrary.Arbitrary<Routes.Desired> = Arbitrary.map(wishes, desired)

const rule = (priority: number, from: string): Kernel.Rule => ({
  family: from.includes(":") ? "v6" : "v4",
  priority,
  table: 1,
  from: Cidr.unsafe(from),
  foreign: false
})

const troubles: ReadonlyArray<Kernel.Operation> = [
  { _tag: "SetLinkUp", link: "bridge0", up: false },
  { _tag: "DeleteLink", link: "bridge0" },
  { _tag: "DeleteLink", link: "lb-2" },
  { _tag: "SetLinkMaster", link: "lb-1" },
  { _tag: "SetLinkMaster", link: "tg-2", master: "bridge0" },
  { _tag: "AddBridge", name: "bridge0" },
  { _tag: "AddAddress", link: "bridge0", cidr: Cidr.unsafe("172.16.0.1/24") },
  { _tag: "AddAddress", link: "bridge0", cidr: Cidr.unsafe("172.16.0.7/24") },
  { _tag: "AddAddress", link: "bridge0", cidr: Cidr.unsafe("fd00::7/64") },
  { _tag: "DeleteAddress", link: "bridge0", cidr: Cidr.unsafe("172.16.0.1/24") },
  { _tag: "DeleteAddress", link: "bridge0", cidr: Cidr.unsafe("fd00::1/64") },
  { _tag: "AddRule", rule: rule(32_765, "20.0.0.1/32") },
  { _tag: "AddRule", rule: rule(32_764, "20.0.0.1/32") },
  { _tag: "AddRule", rule: rule(32_765, "2000::7/128") },
  {
    _tag: "ReplaceRoute",
    route: {
      family: "v4",
      table: 1,
      destination: Cidr.defaultRoute("v4"),
      type: "blackhole",
      metric: 0,
      hops: [],
      protocol: 3,
      onlink: false
    }
  },
  {
    _tag: "ReplaceRoute",
    route: {
      family: "v6",
      table: 1,
      destination: Cidr.defaultRoute("v6"),
      type: "unreachable",
      metric: 4_294_967_295,
      hops: [],
      protocol: 3,
      onlink: false
    }
  }
]

/** What others may do to the node between two plans. */
export const disturbances: Arbitrary.Arbitrary<ReadonlyArray<Kernel.Operation>> = Arbitrary.map(
  Arbitrary.array(
    Arbitrary.map(
      Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: troubles.length - 1 }))),
      (index) => troubles.slice(index, index + 1)
    ),
    { maxLength: 4 }
  ),
  (chosen) => chosen.flat()
)

/** What may be found: what an earlier proxy left, disturbed. */
export const observations: Arbitrary.Arbitrary<Kernel.Snapshot> = Arbitrary.map(
  Arbitrary.all({ earlier: desires, trouble: disturbances }),
  ({ earlier, trouble }) =>
    KernelModel.applyAll(KernelModel.applyAll(baseline, Routes.plan(earlier, baseline)), trouble)
)
