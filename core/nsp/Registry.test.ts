import { assert, describe, it } from "@effect/vitest"
import { HashMap, Schema } from "effect"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import type { StreamKey } from "../config/Model.ts"
import { Kind, Target } from "../config/Target.ts"
import * as Machine from "../Machine.ts"
import * as Registry from "./Registry.ts"

const settings: Registry.Settings = { entryTimeoutMs: 60_000 }
const stream = { trench: "t", conduit: "c", stream: "s" }
const target = (fields: Partial<Target> = {}): Target => ({
  kind: "default",
  stream,
  ips: ["172.16.0.1/24", "fd00::1/64"],
  context: { identifier: "1" },
  status: "enabled",
  ...fields
})
const register = (target: Target): Registry.Event => ({ _tag: "RegisterRequested", reply: 0, target })
const unregister = (target: Target): Registry.Event => ({ _tag: "UnregisterRequested", reply: 0, target })
const any: Registry.Filter = { kind: "default", status: "any" }

/** Plays events at given times from an empty registry. */
const play = (...events: ReadonlyArray<readonly [now: number, event: Registry.Event | Machine.Woken]>) =>
  events.reduce<Machine.Step<Registry.State, Registry.Command>>(
    ([state], [now, event]) => Registry.machine.step(state, event, now),
    Registry.machine.init({ settings, stored: [] }, 0)
  )

const mapNames = ({ conduit, stream, trench }: StreamKey, f: (name: string) => string) => ({
  trench: f(trench),
  conduit: f(conduit),
  stream: f(stream)
})

const byIp = (a: Target, b: Target): number => (a.ips.join() < b.ips.join() ? -1 : 1)

describe("Registry", () => {
  it("stores an unknown target disabled, whatever it asks for, and believes it the second time", () => {
    const [once, commands] = play([0, register(target())])
    assert.deepStrictEqual(Registry.targets(once, any), [target({ status: "disabled" })])
    assert.deepStrictEqual(commands, [
      { _tag: "SaveTarget", target: target({ status: "disabled" }) },
      { _tag: "Reply", reply: 0 }
    ])
    const [twice] = play([0, register(target())], [1, register(target())])
    assert.deepStrictEqual(Registry.targets(twice, any), [target()])
  })

  it("takes targets for the same when their addresses are the same in another order", () => {
    const [state] = play([0, register(target())], [1, register(target({ ips: ["fd00::1/64", "172.16.0.1/24"] }))])
    assert.deepStrictEqual(Registry.targets(state, any).map(({ status }) => status), ["enabled"])
    const [other] = play([0, register(target())], [1, register(target({ ips: ["fd00::1/64"] }))])
    assert.strictEqual(Registry.targets(other, any).length, 2)
  })

  it("saves nothing when a target is only refreshed, but keeps it longer", () => {
    const known = target({ status: "disabled" })
    const [state, commands] = play([0, register(known)], [40_000, register(known)], [60_000, Machine.woken])
    assert.deepStrictEqual(commands, [])
    assert.strictEqual(Registry.targets(state, any).length, 1)
    assert.strictEqual(Registry.machine.wake(state), 100_000)
  })

  it("removes a target that is not registered again in time, and no other", () => {
    const late = target({ ips: ["172.16.0.2/24"] })
    const [state, commands] = play([0, register(target())], [1, register(late)], [60_000, Machine.woken])
    assert.deepStrictEqual(commands, [{ _tag: "RemoveTarget", target: target({ status: "disabled" }) }])
    assert.deepStrictEqual(Registry.targets(state, any), [{ ...late, status: "disabled" }])
  })

  it("takes an expired target for unknown even before it is woken", () => {
    const [state] = play([0, register(target())], [1, register(target())], [60_001, register(target())])
    assert.deepStrictEqual(Registry.targets(state, any), [target({ status: "disabled" })])
  })

  it("keeps a target disabled for as long as another is enabled with its identifier", () => {
    const other = target({ ips: ["10.0.0.9/24"] })
    const both = [0, 1].flatMap((at) => [[at, register(target())], [at, register(other)]] as const)
    const [state] = play(...both)
    assert.deepStrictEqual(Registry.targets(state, { ...any, status: "enabled" }), [target()])
    const [later] = play(...both, [2, unregister(target())], [3, register(other)])
    assert.deepStrictEqual(Registry.targets(later, any), [other])
    const [expired] = play(...both, [59_000, register(other)], [60_001, Machine.woken], [60_002, register(other)])
    assert.deepStrictEqual(Registry.targets(expired, any), [other])
  })

  it("forgets a target that unregisters, and answers even if it is unknown", () => {
    const [state, commands] = play([0, register(target())], [1, unregister(target({ ips: target().ips.toReversed() }))])
    assert.deepStrictEqual(Registry.targets(state, any), [])
    assert.strictEqual(Registry.machine.wake(state), undefined)
    assert.strictEqual(commands.length, 2)
    assert.deepStrictEqual(play([0, unregister(target())])[1], [{ _tag: "Reply", reply: 0 }])
  })

  it("gives stored targets their status back and a full life", () => {
    const [state] = Registry.machine.init({ settings, stored: [target()] }, 1000)
    assert.deepStrictEqual(Registry.targets(state, any), [target()])
    assert.strictEqual(Registry.machine.wake(state), 61_000)
  })

  it("does not change the targets of one stream when another changes", () => {
    const [before] = play([0, register(target())])
    const [after] = Registry.machine.step(before, register(target({ stream: { ...stream, stream: "other" } })), 1)
    const group = Registry.groupOf(target())
    assert.strictEqual(HashMap.getUnsafe(after.targets, group), HashMap.getUnsafe(before.targets, group))
  })

  it.each<readonly [string, Registry.Filter, number]>([
    ["any status", any, 3],
    ["a status", { ...any, status: "enabled" }, 1],
    ["a kind", { kind: "frontend", status: "any" }, 1],
    ["a stream", { ...any, stream }, 2],
    ["a conduit", { ...any, stream: { trench: "", conduit: "c", stream: "" } }, 2],
    ["a stream of any conduit", { ...any, stream: { trench: "t", conduit: "", stream: "s" } }, 3],
    ["another trench", { ...any, stream: { ...stream, trench: "x" } }, 0],
    ["a kind that has no stream, by stream", { kind: "frontend", status: "any", stream }, 0]
  ])("filters by %s", (_, filter, expected) => {
    const other = target({ stream: { ...stream, conduit: "d" } })
    const frontend: Target = { kind: "frontend", ips: ["host"], context: {}, status: "enabled" }
    const [state] = play(
      [0, register(target())],
      [0, register(target())],
      [0, register(target({ ips: ["10.0.0.9/24"] }))],
      [0, register(other)],
      [0, register(frontend)]
    )
    assert.strictEqual(Registry.targets(state, filter).length, expected)
  })

  const Name = Schema.Literals(["", "a", "b", "a,b"])
  const Watch = Schema.Struct({
    kind: Kind,
    status: Schema.Literal("any"),
    stream: Schema.optionalKey(Schema.Struct({ trench: Name, conduit: Name, stream: Name }))
  })

  it.prop("tells a change to those whose filter lets the target through, and to nobody else", [Watch, Target], ([
    filter,
    one
  ]) => {
    const { stream } = filter
    const named = stream === undefined ? {} : { stream: mapNames(stream, (name) => name === "" ? "a" : name) }
    for (const target of [one, { ...one, kind: filter.kind, ...named }, { ...one, ...named }]) {
      const isTold = Registry.patternsOf(target).includes(Registry.patternOf(filter))
      assert.strictEqual(isTold, Registry.matches(filter, target))
    }
  })

  const Few = Schema.Array(Schema.Struct({
    which: Schema.Literals([0, 1, 2, 3]),
    unregister: Schema.Boolean,
    enabled: Schema.Boolean,
    passMs: Schema.Literals([0, 20_000, 59_999, 60_000])
  }))

  it.prop("agrees with a naive registry that scans a list", [Few], ([moves]) => {
    let list: ReadonlyArray<{ readonly target: Target; readonly until: number }> = []
    let [state] = Registry.machine.init({ settings, stored: [] }, 0)
    let now = 0
    for (const { enabled, passMs, unregister: leaves, which } of moves) {
      now += passMs
      const one = target({
        ips: [`10.0.0.${which}/24`],
        context: { identifier: which < 2 ? "1" : String(which) },
        status: enabled ? "enabled" : "disabled"
      })
      const isOther = ({ target }: { readonly target: Target }) => target.ips[0] !== one.ips[0]
      list = list.filter(({ until }) => until > now)
      const isKnown = !list.every(isOther)
      list = list.filter(isOther)
      if (!leaves) {
        const isFree = list.every(({ target: { context, status } }) =>
          status === "disabled" || context["identifier"] !== one.context["identifier"]
        )
        list = [...list, { target: isKnown && isFree ? one : { ...one, status: "disabled" }, until: now + 60_000 }]
      }
      state = Registry.machine.step(state, Machine.woken, now)[0]
      state = Registry.machine.step(state, leaves ? unregister(one) : register(one), now)[0]
      assert.deepStrictEqual(
        Registry.targets(state, any).toSorted(byIp),
        list.map(({ target }) => target).toSorted(byIp)
      )
    }
  })

  machineLaws(Registry.machine, { outcomes: () => [] })
})
