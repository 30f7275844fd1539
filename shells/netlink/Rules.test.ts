import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { IpCommand, Kernel } from "../../core/net/index.ts"
import { rule, sh, world } from "./Specimen.ts"

describe("Rules of the kernel", () => {
  it.live("writes and reads rules about a part of the mark, and those that go on at another rule, as ip(8) does", () =>
    Effect.gen(function*() {
      const { apply, path, snapshot } = yield* world
      const rules = [
        rule(undefined, { mark: 5, mask: 0xff }),
        rule(undefined, { mark: 0, mask: Kernel.wholeMark, inverted: true }),
        rule(undefined, { family: "v6", mark: 5, inverted: true }),
        rule(undefined, { table: 0, mark: 1, mask: 3, inverted: true, goto: 101 }),
        rule(undefined, { table: 0, family: "v6", goto: 32_766 })
      ]
      const ours = Effect.map(snapshot, (snapshot) => snapshot.rules.filter(({ priority }) => priority === 100))
      yield* apply(rules.map((rule) => ({ _tag: "AddRule", rule })))
      assert.sameDeepMembers([...yield* ours], rules)
      sh(path, "ip rule del fwmark 5/0xff lookup 1 prio 100; ip rule del not fwmark 0/0xffffffff lookup 1 prio 100")
      sh(path, "ip -6 rule del not fwmark 5 lookup 1 prio 100; ip rule del not fwmark 1/0x3 goto 101 prio 100")
      sh(path, "ip -6 rule del goto 32766 prio 100")
      assert.deepStrictEqual(yield* ours, [])
      for (const rule of rules) sh(path, IpCommand.line({ _tag: "AddRule", rule }))
      assert.sameDeepMembers([...yield* ours], rules)
      yield* apply(rules.map((rule) => ({ _tag: "DeleteRule", rule })))
      assert.deepStrictEqual(yield* ours, [])
    }))

  it.live("writes and reads rules about protocols and ports as ip(8) does", () =>
    Effect.gen(function*() {
      const { apply, path, snapshot } = yield* world
      const rules = [
        rule("20.0.0.1/32", { traffic: { protocol: 6, destinationPorts: { first: 80, last: 90 } } }),
        rule("2000::1/128", { traffic: { protocol: 17, sourcePorts: { first: 53, last: 53 } } })
      ]
      const own = Effect.map(snapshot, (snapshot) => snapshot.rules.filter((rule) => rule.table === 1))
      yield* apply(rules.map((rule) => ({ _tag: "AddRule", rule })))
      assert.sameDeepMembers([...yield* own], rules)
      sh(path, "ip rule del from 20.0.0.1 ipproto tcp dport 80-90 lookup 1")
      sh(path, "ip -6 rule del from 2000::1 ipproto udp sport 53 lookup 1")
      assert.deepStrictEqual(yield* own, [])
      sh(path, "ip rule add from 20.0.0.1 ipproto tcp dport 80-90 lookup 1 prio 100")
      assert.deepStrictEqual(yield* own, [rule("20.0.0.1/32", { ...rules[0], priority: 100 })])
      yield* apply([{ _tag: "DeleteRule", rule: rule("20.0.0.1/32", { ...rules[0], priority: 100 }) }])
      assert.deepStrictEqual(yield* own, [])
    }))
})
