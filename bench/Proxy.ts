/**
 * The kernel plan of the proxy by the number of ports, with as many VIPs: from an empty node, with nothing left to do,
 * and with one more port; and a thousand operations through rtnetlink beside `ip -batch`.
 */
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { Cidr, Ip, type Kernel } from "../core/net/index.ts"
import { type Model, Routes } from "../core/proxy/index.ts"
import * as KernelModel from "../property-tests/kernel/KernelModel.ts"
import * as Namespace from "../shells/netlink/Namespace.ts"
import * as Netlink from "../shells/netlink/Netlink.ts"
import * as Bench from "./Bench.ts"

const sizes = [10, 100, 1_000, 5_000]

const host = (base: string, n: number): Ip.Ip => Ip.fromBigInt("v4", Ip.toBigInt(Ip.unsafe(base)) + BigInt(n))

/** Every tenth port is a load balancer's. */
const port = (n: number): Model.Port => ({
  link: `nsm-${n}`,
  role: n % 10 === 0 ? "LoadBalancer" : "Target",
  remotes: [Cidr.make(host("172.16.0.2", n), 16)],
  phase: "Live"
})

const desired = (ports: number): Routes.Desired => ({
  families: ["v4"],
  bridge: { name: "bridge0", mac: "02:00:00:00:00:01", addresses: [Cidr.unsafe("172.16.0.1/16")] },
  ports: Array.from({ length: ports }, (_, n) => port(n)),
  vips: Array.from({ length: ports }, (_, n) => Cidr.make(host("20.0.0.0", n), 32)),
  table: 1,
  priority: 32_000,
  settled: true,
  foreignPorts: "Detach"
})

const link = (name: string): Kernel.Link => ({
  name,
  kind: name === "bridge0" ? "bridge" : "veth",
  mac: "02:00:00:00:00:01",
  up: true,
  carrier: true,
  mtu: 1500
})

/** What the model makes of the plan, without its cost for each operation. */
const converged = (wish: Routes.Desired): Kernel.Snapshot => {
  const names = wish.ports.map((port) => port.link)
  const empty: Kernel.Snapshot = { links: names.map(link), addresses: [], rules: [], routes: [], neighbours: [] }
  const operations = Routes.plan({ ...wish, vips: [] }, empty).filter(({ _tag }) => _tag !== "SetLinkMaster")
  const { addresses, routes } = KernelModel.applyAll(empty, operations)
  return {
    links: [link("bridge0"), ...names.map((name): Kernel.Link => ({ ...link(name), master: "bridge0" }))],
    addresses,
    rules: [
      { family: "v4", priority: 32_000, table: 1, iif: wish.bridge.name, foreign: false },
      ...(wish.vips ?? []).map((from): Kernel.Rule => ({
        family: "v4",
        priority: 32_000,
        table: 1,
        from,
        foreign: false
      }))
    ],
    routes,
    neighbours: []
  }
}

interface Case {
  readonly wish: Routes.Desired
  readonly seen: Kernel.Snapshot
}

const fresh = (ports: number): Case => {
  const wish = desired(ports)
  const links = wish.ports.map((port) => link(port.link))
  return { wish, seen: { links, addresses: [], rules: [], routes: [], neighbours: [] } }
}
const idle = (ports: number): Case => ({ wish: desired(ports), seen: converged(desired(ports)) })
const oneMore = (ports: number): Case => {
  const { seen, wish } = idle(ports)
  const added = port(ports + 1)
  return {
    wish: { ...wish, ports: [...wish.ports, added] },
    seen: { ...seen, links: [...seen.links, link(added.link)] }
  }
}

/** The same again as new values, as a program gets them from outside: nothing may be known of them from before. */
const renewed = ({ seen, wish }: Case): Case => ({
  wish: { ...wish, ports: [...wish.ports], vips: [...wish.vips ?? []] },
  seen: { ...seen, links: [...seen.links], rules: [...seen.rules] }
})

/** As `renewed`, but VIPs and rules did not change meanwhile. */
const withOtherPorts = ({ seen, wish }: Case): Case => ({
  wish: { ...wish, ports: [...wish.ports] },
  seen: { ...seen, links: [...seen.links] }
})

/** Nanoseconds of a plan for each port. */
const cost = (
  make: (ports: number) => Case,
  renew: (given: Case) => Case,
  ports: number
): Bench.Variant<never> => {
  let made: Case | undefined
  return {
    name: `${ports.toLocaleString("en")} ports`,
    run: Effect.sync(() => {
      const given = made ??= make(ports)
      Routes.plan(given.wish, given.seen)
      const cases = Array.from({ length: Math.max(1, Math.floor(5_000 / ports)) }, () => renew(given))
      const begin = process.hrtime.bigint()
      for (const { seen, wish } of cases) Routes.plan(wish, seen)
      return Number(process.hrtime.bigint() - begin) / cases.length / ports
    })
  }
}

/** How many operations a plan has. */
const operations = (make: (ports: number) => Case): ReadonlyArray<Bench.Variant<never>> =>
  sizes.map((ports) => ({
    name: `${ports.toLocaleString("en")} ports`,
    run: Effect.sync(() => {
      const { seen, wish } = make(ports)
      return Routes.plan(wish, seen).length
    })
  }))

const count = 1_000

const rules = Array.from({ length: count }, (_, n): Kernel.Rule => ({
  family: "v4",
  priority: 32_000,
  table: 1,
  from: Cidr.make(host("20.0.0.0", n), 32),
  foreign: false
}))

const routes = Array.from({ length: count }, (_, n): Kernel.Route => ({
  family: "v4",
  table: 7,
  destination: Cidr.make(host("30.0.0.0", n), 32),
  type: "unicast",
  metric: 0,
  hops: [{ link: "br" }],
  protocol: 3,
  onlink: false
}))

/** A thousand operations that make, and a thousand that delete again; as `ip -batch` would be told. */
interface Work {
  readonly name: string
  readonly make: ReadonlyArray<Kernel.Operation>
  readonly remove: ReadonlyArray<Kernel.Operation>
  readonly ip: { readonly make: ReadonlyArray<string>; readonly remove: ReadonlyArray<string> }
}

const works: ReadonlyArray<Work> = [
  {
    name: "rules",
    make: rules.map((rule) => ({ _tag: "AddRule", rule })),
    remove: rules.map((rule) => ({ _tag: "DeleteRule", rule })),
    ip: {
      make: rules.map(({ from }) => `rule add from ${from} priority 32000 lookup 1`),
      remove: rules.map(({ from }) => `rule del from ${from} priority 32000 lookup 1`)
    }
  },
  {
    name: "routes",
    make: routes.map((route) => ({ _tag: "ReplaceRoute", route })),
    remove: routes.map((route) => ({ _tag: "DeleteRoute", route })),
    ip: {
      make: routes.map(({ destination }) => `route replace ${destination} dev br table 7`),
      remove: routes.map(({ destination }) => `route del ${destination} table 7`)
    }
  }
]

const milliseconds = (work: Effect.Effect<unknown>): Effect.Effect<number> =>
  Effect.map(Bench.perSecond(1_000, Effect.asVoid(work)), (perSecond) => 1e6 / perSecond)

/** The time of the deletes is taken in the same round as that of the adds, from which it cannot be separated. */
const timed = (make: Effect.Effect<unknown>, remove: Effect.Effect<unknown>) => {
  let removing = 0
  return {
    make: Effect.gen(function*() {
      const making = yield* milliseconds(make)
      removing = yield* milliseconds(remove)
      return making
    }),
    remove: Effect.sync(() => removing)
  }
}

const throughNetlink = Effect.scoped(Effect.gen(function*() {
  const path = yield* Namespace.scoped(`sl-bench-${process.pid}`)
  const netlink = yield* Netlink.make(path)
  yield* netlink.apply([{ _tag: "AddBridge", name: "br" }, { _tag: "SetLinkUp", link: "br", up: true }])
  const batch = (lines: ReadonlyArray<string>) =>
    Effect.sync(() => execFileSync("nsenter", [`--net=${path}`, "ip", "-batch", "-"], { input: lines.join("\n") }))
  const found: Array<Bench.Row> = []
  for (const { ip, make, name, remove } of works) {
    const other = timed(batch(ip.make), batch(ip.remove))
    const own = timed(Effect.orDie(netlink.apply(make)), Effect.orDie(netlink.apply(remove)))
    const all = [
      { name: `add ${name}: ip -batch`, run: other.make },
      { name: `delete ${name}: ip -batch`, run: other.remove },
      { name: `add ${name}: sluice`, run: own.make },
      { name: `delete ${name}: sluice`, run: own.remove }
    ]
    const values = yield* Bench.medians(all, 9)
    for (const { name } of all) {
      const value = values.get(name) ?? Number.NaN
      const baseline = values.get(name.replace("sluice", "ip -batch")) ?? Number.NaN
      found.push({
        bench: "proxy",
        metric: `1 000 times ${name}`,
        unit: "ms",
        value,
        baseline,
        ratio: value / baseline
      })
    }
  }
  return found
})).pipe(Effect.orDie)

export const bench: Bench.Bench = {
  name: "proxy",
  summary: "the kernel plan by the number of ports, and rtnetlink beside ip -batch",
  rows: Effect.gen(function*() {
    const found: Array<Bench.Row> = []
    const cases = [
      ["empty node", fresh, renewed],
      ["nothing to do", idle, renewed],
      ["one more port", oneMore, withOtherPorts]
    ] as const
    for (const [name, make, renew] of cases) {
      const variants = sizes.map((ports) => cost(make, renew, ports))
      found.push(...yield* Bench.rows("proxy", `plan, ${name}`, "ns/port", variants, 7))
    }
    found.push(...yield* Bench.rows("proxy", "one more port", "operations", operations(oneMore), 1))
    return [...found, ...yield* throughNetlink]
  })
}
