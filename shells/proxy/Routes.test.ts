import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect } from "effect"
import { execFileSync } from "node:child_process"
import { IpCommand, type Kernel } from "../../core/net/index.ts"
import { Routes } from "../../core/proxy/index.ts"
import * as KernelModel from "../../property-tests/kernel/KernelModel.ts"
import * as Node from "../../property-tests/proxy/Node.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"

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

/** The interfaces are needed until the end. */
const isHarmless = (operation: Kernel.Operation): boolean =>
  operation._tag !== "DeleteLink" || operation.link === "bridge0"
