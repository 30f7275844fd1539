import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Routes } from "../../core/loadbalancer/index.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import { sh, world } from "../netlink/Specimen.ts"

const ipOf = (n: number, family: Ip.Family): Ip.Ip =>
  Ip.unsafe(family === "v4" ? `172.16.0.${10 + n}` : `fd00::${10 + n}`)

describe("Routes of the kernel", () => {
  it.live(
    "21: lead each of 100 marks to its target and all else past them, while targets come and go",
    () =>
      Effect.gen(function*() {
        const { apply, path, snapshot } = yield* world
        yield* apply([
          { _tag: "AddBridge", name: "lb-0" },
          { _tag: "SetLinkUp", link: "lb-0", up: true },
          { _tag: "AddAddress", link: "lb-0", cidr: Cidr.unsafe("172.16.0.1/24") },
          { _tag: "AddAddress", link: "lb-0", cidr: Cidr.unsafe("fd00::1/64") }
        ])
        for (const present of [() => true, (n: number) => n % 3 === 0, (n: number) => n === 50, () => false]) {
          const all = Array.from({ length: 100 }, (_, n) => n)
          const targets = all.filter(present).map((n) => ({
            mark: 5_001 + 7 * n,
            ips: Ip.families.map((family) => ipOf(n, family))
          }))
          const desired = {
            targets,
            keep: new Set<number>(),
            range: [5_001, 9_999],
            linkPrefix: "lb-",
            serves: true
          } as const
          yield* apply(Routes.plan.plan(desired, yield* snapshot))
          assert.deepStrictEqual(Routes.plan.plan(desired, yield* snapshot), [])
          for (const [family, vip] of [["v4", "20.0.0.1"], ["v6", "2000::1"]] as const) {
            const to = (mark: number): string =>
              /via (\S+)/.exec(sh(path, `ip route get ${vip} mark ${mark} 2>&1 || true`))?.[1] ?? "nowhere"
            assert.deepStrictEqual(
              [0, 4_999, ...all.map((n) => 5_001 + 7 * n)].map(to),
              ["nowhere", "nowhere", ...all.map((n) => present(n) ? ipOf(n, family) : "nowhere")]
            )
          }
        }
        assert.deepStrictEqual((yield* snapshot).rules.filter(({ priority }) => priority > 0 && priority < 32_766), [])
      }),
    60_000
  )
})
