import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { Cidr, type Kernel } from "../../core/net/index.ts"
import * as Namespace from "./Namespace.ts"
import * as Netlink from "./Netlink.ts"

const addRule = (from: string): Kernel.Operation => ({
  _tag: "AddRule",
  rule: { family: "v4", priority: 100, table: 1, from: Cidr.unsafe(from), foreign: false }
})

it.live("a snapshot tells rules that did not change by the same array", () =>
  Effect.gen(function*() {
    const { apply, snapshot } = yield* Netlink.make(yield* Namespace.scoped(`sl-sn-${process.pid}`))
    yield* apply([addRule("20.0.0.1/32")])
    const { rules } = yield* snapshot
    yield* apply([{ _tag: "AddBridge", name: "br" }])
    assert.strictEqual((yield* snapshot).rules, rules)
    yield* apply([addRule("20.0.0.2/32")])
    assert.strictEqual((yield* snapshot).rules.length, rules.length + 1)
  }))
