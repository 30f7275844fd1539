import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import type * as Machine from "../Machine.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ipam from "./Ipam.ts"
import { type Child, explain, type Settings } from "./Model.ts"

const settings: Settings = {
  trench: "trench-a",
  pools: [{ family: "v4", prefix: Cidr.unsafe("10.0.0.0/25"), conduitLength: 26, nodeLength: 29 }],
  sweep: true,
  sweepIntervalMs: 120_000,
  leaseMs: 40_000
}

const child = (conduit: string, name: string): Child => ({
  trench: "trench-a",
  conduit,
  family: "v4",
  node: "node-1",
  name
})

/** Plays events a second apart from an empty store; gives the last state and all commands, readable. */
const play = (...events: ReadonlyArray<Ipam.Event | Machine.Woken>) => {
  let now = 0
  let [state, commands] = Ipam.machine.init({ settings, entries: [] }, now)
  const log: Array<string> = commands.map(read)
  for (const event of events) {
    now += 1_000
    const [next, more] = Ipam.machine.step(state, event, now)
    state = next
    log.push(...more.map(read))
  }
  return { state, log, now }
}

const read = (command: Ipam.Command): string => {
  if (command._tag === "Persist") {
    return `Persist ${command.call}: ` + command.changes.map((change) =>
      change._tag === "SaveEntry"
        ? `+/${change.entry.path.join("/")} ${change.entry.network}`
        : `-/${change.path.join("/")}`
    ).join(", ")
  }
  const { answer, reply } = command
  switch (answer._tag) {
    case "Allocated":
      return `Reply ${reply}: ${answer.address}/${answer.length}`
    case "Released":
      return `Reply ${reply}: released`
    case "Refused":
      return `Reply ${reply}: ${explain(answer.refusal)}`
  }
}

const saved = (call: number): Ipam.Event => ({ _tag: "PersistSucceeded", call })
const failed = (call: number): Ipam.Event => ({ _tag: "PersistFailed", call, reason: "disk full" })
const conduits = (...conduits: ReadonlyArray<string>): Ipam.Event => ({ _tag: "ConduitsChanged", conduits })
const allocate = (reply: number, conduit: string, name: string): Ipam.Event => ({
  _tag: "AllocateRequested",
  reply,
  child: child(conduit, name)
})

describe("Ipam", () => {
  it("answers when the lease is stored, and stores what came meanwhile in one go", () => {
    const { log } = play(
      saved(0),
      conduits("a"),
      saved(1),
      allocate(0, "a", "bridge"),
      allocate(1, "a", "x"),
      allocate(2, "a", "y"),
      saved(2),
      saved(3)
    )
    assert.deepStrictEqual(log, [
      "Persist 0: +/ 10.0.0.0/25",
      "Persist 1: +/a 10.0.0.0/26",
      "Persist 2: +/a/node-1 10.0.0.0/29, +/a/node-1/bridge 10.0.0.1/32",
      "Reply 0: 10.0.0.1/29",
      "Persist 3: +/a/node-1 10.0.0.0/29, +/a/node-1/x 10.0.0.2/32, +/a/node-1 10.0.0.0/29, +/a/node-1/y 10.0.0.3/32",
      "Reply 1: 10.0.0.2/29",
      "Reply 2: 10.0.0.3/29"
    ])
  })

  it("lets a request for an unknown conduit wait, and only that one", () => {
    const { log } = play(
      saved(0),
      allocate(0, "later", "x"),
      allocate(1, "later", "y"),
      { _tag: "RequestAbandoned", reply: 1 },
      conduits("later"),
      saved(1),
      saved(2)
    )
    assert.deepStrictEqual(log.slice(1), [
      "Persist 1: +/later 10.0.0.0/26",
      "Persist 2: +/later/node-1 10.0.0.0/29, +/later/node-1/x 10.0.0.1/32",
      "Reply 0: 10.0.0.1/29"
    ])
  })

  it("refuses at once what can never be given", () => {
    const { log } = play(
      saved(0),
      conduits("a", "b", "c"),
      saved(1),
      allocate(0, "c", "x"),
      { _tag: "AllocateRequested", reply: 1, child: { ...child("a", "x"), family: "v6" } },
      { _tag: "AllocateRequested", reply: 2, child: { ...child("a", "x"), trench: "trench-b" } },
      { _tag: "AllocateRequested", reply: 3, child: { family: "v4", node: "n", name: "x" } },
      { _tag: "ReleaseRequested", reply: 4, child: { ...child("a", "x"), trench: "trench-b" } },
      { _tag: "ReleaseRequested", reply: 5, child: child("nowhere", "x") }
    )
    assert.deepStrictEqual(log.slice(2), [
      "Reply 0: no conduit of length /26 is free in 10.0.0.0/25: enlarge the prefix",
      "Reply 1: IP family v6 is not served: the trench has no pool for it (IPAM_IP_FAMILY)",
      "Reply 2: trench trench-b is not served: this is the IPAM of trench trench-a",
      "Reply 3: the request names no conduit: set subnet.conduit.name",
      "Reply 4: released",
      "Reply 5: released"
    ])
  })

  it("refuses while storing fails, stores again and then serves the same address", () => {
    const { log, state } = play(
      saved(0),
      conduits("a"),
      saved(1),
      allocate(0, "a", "x"),
      failed(2),
      allocate(1, "a", "y"),
      { _tag: "Woken" },
      saved(3),
      allocate(2, "a", "x")
    )
    assert.deepStrictEqual(log.slice(2), [
      "Persist 2: +/a/node-1 10.0.0.0/29, +/a/node-1/x 10.0.0.1/32",
      "Reply 0: leases cannot be stored: disk full",
      "Reply 1: leases cannot be stored: disk full",
      "Persist 3: +/a/node-1 10.0.0.0/29, +/a/node-1/x 10.0.0.1/32",
      "Reply 2: 10.0.0.1/29"
    ])
    assert.strictEqual(state.store._tag, "Idle")
  })

  it("frees conduits that were removed while it was down", () => {
    const entries = play(saved(0), conduits("a", "b"), saved(1)).state.leases.v4
    assert.isDefined(entries)
    const stored = ["a", "b"].map((name, n) => ({
      family: "v4" as const,
      path: [name],
      network: Cidr.unsafe(`10.0.0.${64 * n}/26`),
      touchedAt: 0
    }))
    const root = { family: "v4" as const, path: [], network: Cidr.unsafe("10.0.0.0/25"), touchedAt: 0 }
    const [state, commands] = Ipam.machine.init({ settings, entries: [...stored, root] }, 0)
    assert.deepStrictEqual(commands, [])
    assert.deepStrictEqual(Ipam.machine.step(state, conduits("b", "c"), 1)[1].map(read), [
      "Persist 0: -/a, +/c 10.0.0.0/26"
    ])
  })

  it("believes a list without conduits only when it stands", () => {
    const before = play(saved(0), conduits("a"), saved(1), conduits())
    assert.strictEqual(Ipam.machine.wake(before.state), 9_000)
    const [kept, none] = Ipam.machine.step(before.state, conduits("a"), 7_000)
    assert.deepStrictEqual([Ipam.machine.wake(kept), none], [120_000, []])
    const [emptied, commands] = Ipam.machine.step(before.state, { _tag: "Woken" }, 9_000)
    assert.deepStrictEqual(commands.map(read), ["Persist 2: -/a"])
    assert.strictEqual(Ipam.machine.step(emptied, conduits(), 10_000)[0], emptied)
  })

  it("takes leases back that nobody renews", () => {
    const { log, now, state } = play(saved(0), conduits("a"), saved(1), allocate(0, "a", "x"), saved(2))
    assert.strictEqual(log.length, 4)
    const wake = Ipam.machine.wake(state)
    assert.strictEqual(wake, 120_000)
    assert.strictEqual(Ipam.machine.step(state, { _tag: "Woken" }, now)[0], state)
    const [swept, commands] = Ipam.machine.step(state, { _tag: "Woken" }, 120_000)
    assert.deepStrictEqual(commands.map(read), ["Persist 3: -/a/node-1"])
    assert.strictEqual(Ipam.machine.wake(swept), 240_000)
  })
})

const names = Schema.Literals(["a", "b", "c"])
const Request = Schema.Struct({ reply: Schema.Natural, conduit: names, name: names })
const events = Arbitrary.map(
  Arbitrary.all({
    kind: Arbitrary.schema(Schema.Literals(["allocate", "release", "conduits", "abandon", "stale"])),
    request: Arbitrary.schema(Request),
    listed: Arbitrary.schema(Schema.Array(names))
  }),
  ({ kind, listed, request: { conduit, name, reply } }): Ipam.Event => {
    switch (kind) {
      case "allocate":
        return allocate(reply, conduit, name)
      case "release":
        return { _tag: "ReleaseRequested", reply, child: child(conduit, name) }
      case "conduits":
        return { _tag: "ConduitsChanged", conduits: listed }
      case "abandon":
        return { _tag: "RequestAbandoned", reply }
      case "stale":
        return { _tag: "PersistSucceeded", call: 1_000_000 + reply }
    }
  }
)

machineLaws(Ipam.machine, {
  inputs: Arbitrary.Constant({ settings, entries: [] }),
  events,
  outcomes: (command): ReadonlyArray<Ipam.Event> =>
    command._tag === "Persist" ? [saved(command.call), failed(command.call)] : [],
  close: {
    event: { _tag: "CloseRequested" },
    isClosed: (state) => Ipam.isClosed(state) && state.waiting.length === 0
  }
})
