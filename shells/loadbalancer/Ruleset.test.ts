import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Equal, Option } from "effect"
import { Ruleset } from "../../core/loadbalancer/index.ts"
import * as Specimen from "../../property-tests/loadbalancer/Specimen.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Nftables from "../nftables/Nftables.ts"

let counter = 0

const world = Effect.flatMap(
  Effect.suspend(() => Namespace.scoped(`sl-lbr-${process.pid}-${counter++}`)),
  (path) => Nftables.make(path)
)

/** The rules in the kernel without what depends on history: handles, counters, the order of elements. */
const inForce = (nftables: Nftables.Nftables["Service"]) =>
  Effect.map(
    Effect.all([nftables.list("inet", Specimen.table), nftables.list("netdev", Specimen.table)]),
    (tables) =>
      tables.flatMap((objects) => Option.getOrElse(objects, () => [])).flatMap((object) => Object.entries(object))
        .filter(([kind]) => kind !== "metainfo").map(([kind, value]) => `${kind} ${JSON.stringify(value, plain)}`)
        .toSorted().filter((text, i, all) => text !== all[i - 1] || text.startsWith("rule"))
  )

const plain = (key: string, value: unknown): unknown => {
  if (["handle", "packets", "bytes"].includes(key)) return 0
  return key === "elem" && Array.isArray(value)
    ? value.map((element) => JSON.stringify(element)).toSorted()
    : value
}

describe("The rules of the load balancer in the kernel", () => {
  it.live("are accepted, and changing from one to the next leaves exactly the next", () =>
    Effect.gen(function*() {
      const [changed, fresh] = [yield* world, yield* world]
      const steps = yield* Arbitrary.sampleEffect(Specimen.rulesets, { count: 40, seed: 7, size: 30 })
      let before: typeof steps[number] | undefined
      let same = 0
      for (const after of steps) {
        yield* changed.apply(Ruleset.script(before, after))
        yield* fresh.apply(Ruleset.script(undefined, after))
        assert.deepStrictEqual(yield* inForce(changed), yield* inForce(fresh))
        const again = Ruleset.script(after, after)
        assert.strictEqual(again.trim(), "")
        if (before !== undefined && Equal.equals(before, after)) same++
        before = after
      }
      assert.isBelow(same, 10)
    }), 120_000)
})
