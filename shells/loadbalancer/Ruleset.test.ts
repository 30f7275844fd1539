import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Equal, Option } from "effect"
import { type Model, Ruleset } from "../../core/loadbalancer/index.ts"
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

/** The same with others of the targets that a stream may have. */
const withTargets = (rules: Model.Ruleset, n: number): Model.Ruleset => ({
  ...rules,
  streams: rules.streams.map((stream) => ({ ...stream, identifiers: [1, 2, 3].filter((each) => each !== n % 3) })),
  ...(rules.fastPath === undefined
    ? {}
    : { fastPath: { ...rules.fastPath, hops: rules.fastPath.hops.filter((_, i) => i !== n % 3) } })
})

describe("The rules of the load balancer in the kernel", () => {
  it.live("are accepted, and changing from one to the next leaves exactly the next", () =>
    Effect.gen(function*() {
      const [changed, fresh] = [yield* world, yield* world]
      const steps = yield* Arbitrary.sampleEffect(Specimen.rulesets, { count: 40, seed: 7, size: 30 })
      let before: typeof steps[number] | undefined
      let same = 0
      let byElements = 0
      for (const after of steps.flatMap((step, n) => [step, withTargets(step, n)])) {
        const change = Ruleset.change(before, after)
        if (change._tag === "Elements" && change.elements.length > 0) byElements++
        yield* change._tag === "Elements" ? changed.update(change.elements) : changed.apply(change.script)
        yield* fresh.apply(Ruleset.script(undefined, after))
        assert.deepStrictEqual(yield* inForce(changed), yield* inForce(fresh))
        const again = Ruleset.script(after, after)
        assert.strictEqual(again.trim(), "")
        if (before !== undefined && Equal.equals(before, after)) same++
        before = after
      }
      assert.isBelow(same, 20)
      assert.isAbove(byElements, 20)
    }), 120_000)
})
