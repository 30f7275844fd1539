import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schedule } from "effect"
import { execFileSync } from "node:child_process"
import { Cidr, Ip, IpCommand, type Kernel } from "../../core/net/index.ts"
import { Routes } from "../../core/proxy/index.ts"
import * as KernelModel from "../../property-tests/kernel/KernelModel.ts"
import * as Node from "../../property-tests/proxy/Node.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import * as Sysctl from "../netlink/Sysctl.ts"
import * as Forwarding from "./Forwarding.ts"

/** A namespace with the interfaces and addresses of the specimen, each with its other end in a second namespace. */
const node = Effect.gen(function*() {
  const tag = `sl-rt-${process.pid}`
  const here = yield* Namespace.scoped(`${tag}-a`)
  const there = yield* Namespace.scoped(`${tag}-b`)
  const [netlink, far] = [yield* Netlink.make(here), yield* Netlink.make(there)]
  for (const name of Node.interfaces) {
    yield* netlink.createVeth({ namespace: here, name }, { namespace: there, name })
    yield* far.apply([{ _tag: "SetLinkUp", link: name, up: true }])
    yield* netlink.apply([{ _tag: "SetLinkUp", link: name, up: true }])
  }
  yield* netlink.apply(Node.setup)
  return { netlink, here }
})

const sorted = (items: ReadonlyArray<unknown>): ReadonlyArray<string> =>
  items.map((item) => JSON.stringify(item, keysInOrder)).toSorted()

const keysInOrder = (_key: string, value: unknown): unknown =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)))
    : value

/** What the plan decides, in one order. */
const decided = ({ addresses, links, routes, rules }: Kernel.Snapshot) => ({
  ports: sorted(links.filter(({ master }) => master === "bridge0").map(({ name }) => name)),
  bridge: sorted(links.filter(({ name }) => name === "bridge0").map(({ kind, up }) => ({ kind, up }))),
  addresses: sorted(addresses.filter(({ link }) => link === "bridge0")),
  rules: sorted(rules.filter(({ table }) => table === 1)),
  routes: sorted(routes.filter(({ table }) => table === 1).map((route) => ({ ...route, hops: sorted(route.hops) })))
})

/** More for a long run: PROXY_PLANS=1000. */
const plans = Number(process.env["PROXY_PLANS"] ?? 60)

describe("The kernel plan of the proxy on a real kernel", () => {
  it.live(
    "is accepted, leaves nothing to do, and ends where the model says, from one random wish to the next",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const { here, netlink } = yield* node
        const batch = (operations: ReadonlyArray<Kernel.Operation>) =>
          // An address of the same network may be gone with the first one, which ip(8) takes for an error.
          execFileSync("nsenter", [`--net=${here}`, "sh"], {
            input: operations.map(IpCommand.line).concat("true").join("\n"),
            stdio: ["pipe", "ignore", "ignore"]
          })
        const steps = yield* Arbitrary.sampleEffect(
          Arbitrary.all({ wish: Node.desires, trouble: Node.disturbances }),
          { count: plans, seed: 7, size: 10 }
        )
        let changed = 0
        for (const [index, { trouble, wish }] of steps.entries()) {
          for (const operation of trouble.filter(isHarmless)) yield* Effect.ignore(netlink.apply([operation]))
          const before = yield* netlink.snapshot
          const operations = Routes.plan(wish, before)
          // Told to ip(8), the same plan does the same.
          if (index % 4 === 3) batch(operations)
          else yield* netlink.apply(operations)
          const after = yield* netlink.snapshot
          const story = JSON.stringify({ wish, trouble, operations })
          assert.deepStrictEqual(Routes.plan(wish, after), [], story)
          assert.deepStrictEqual(decided(after), decided(KernelModel.applyAll(before, operations)), story)
          changed += operations.length
        }
        assert.isAbove(changed, 3 * plans)
      })),
    600_000
  )
})

const strange = (ip: Ip.Ip): Kernel.Operation => ({
  _tag: "ReplaceNeighbour",
  neighbour: { link: "eth0", ip, mac: "02:00:00:00:00:66", permanent: false }
})

const isRight = (macs: ReadonlyArray<string | undefined>) => macs.every((mac) => mac === "02:00:00:00:00:01")

describe("A bridge that is adopted", () => {
  it.live("tells its neighbours which addresses are its own now", () =>
    Effect.scoped(Effect.gen(function*() {
      const tag = `sl-ra-${process.pid}`
      const [here, there] = [yield* Namespace.scoped(`${tag}-a`), yield* Namespace.scoped(`${tag}-b`)]
      const [netlink, far] = [yield* Netlink.make(here), yield* Netlink.make(there)]
      yield* netlink.createVeth({ namespace: here, name: "tg-1" }, { namespace: there, name: "eth0" })
      yield* netlink.apply([{ _tag: "SetLinkUp", link: "tg-1", up: true }])
      yield* Sysctl.write(Forwarding.announcing.v4, "1", here)
      yield* Sysctl.write(Forwarding.announcing.v6, "1", here)
      const converge = (wish: Routes.Desired) =>
        Effect.flatMap(netlink.snapshot, (seen) => netlink.apply(Routes.plan(wish, seen)))
      yield* converge(Node.desired({ addresses: ["172.16.0.1/24", "fd00::1/64"], loadBalancers: [], targets: [1] }))

      // The far end remembers that the new addresses belong to somebody else.
      const [v4, v6] = [Ip.unsafe("172.16.0.9"), Ip.unsafe("fd00::9")]
      yield* far.apply([
        { _tag: "SetLinkUp", link: "eth0", up: true },
        { _tag: "AddAddress", link: "eth0", cidr: Cidr.unsafe("172.16.0.50/24") },
        { _tag: "AddAddress", link: "eth0", cidr: Cidr.unsafe("fd00::50/64") },
        strange(v4),
        strange(v6)
      ])
      // Until the bridge has a carrier it sends nothing: the kernel takes up to a second to see the far end come up.
      const carries = Effect.map(netlink.snapshot, ({ links }) =>
        links.every(({ carrier, name }) => carrier || !["tg-1", "bridge0"].includes(name)))
      yield* Effect.repeat(carries, {
        until: (yes) =>
          yes,
        schedule: Schedule.spaced("20 millis")
      }).pipe(
        Effect.timeout("10 seconds")
      )
      yield* converge(Node.desired({ addresses: ["172.16.0.9/24", "fd00::9/64"], loadBalancers: [], targets: [1] }))
      const learned = Effect.map(
        far.snapshot,
        ({ neighbours }) => [v4, v6].map((ip) => neighbours.find((known) => known.ip === ip)?.mac)
      )
      yield* Effect.repeat(learned, { until: isRight, schedule: Schedule.spaced("20 millis") }).pipe(
        Effect.timeout("10 seconds")
      )
    })))
})

/** The interfaces are needed until the end. */
const isHarmless = (operation: Kernel.Operation): boolean =>
  operation._tag !== "DeleteLink" || operation.link === "bridge0"
