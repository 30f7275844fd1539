import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Chunk, Equal, Schema } from "effect"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import type * as Machine from "../Machine.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ipam from "./Ipam.ts"
import * as Leases from "./Leases.ts"
import { type Child, type Entry, explain, type Settings } from "./Model.ts"
import * as Notices from "./Notices.ts"

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

const root: Entry = { family: "v4", path: [], network: Cidr.unsafe("10.0.0.0/25"), touchedAt: 0 }

/** Entries that fill their level from the bottom, touched at the epoch. */
const stored = (...paths: ReadonlyArray<string>): ReadonlyArray<Entry> => {
  const next = [0, 0, 1]
  return paths.map((text) => {
    const path = text.split("/")
    const level = path.length - 1
    const size = [64, 8, 1][level] ?? 0
    const at = (next[level] ?? 0) * size
    next[level] = (next[level] ?? 0) + 1
    return { family: "v4", path, network: Cidr.unsafe(`10.0.0.${at}/${[26, 29, 32][level]}`), touchedAt: 0 }
  })
}

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
      "Persist 3: +/a/node-1/x 10.0.0.2/32, +/a/node-1/y 10.0.0.3/32",
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
    const [state, commands] = Ipam.machine.init({ settings, entries: [...stored("a", "b"), root] }, 0)
    assert.deepStrictEqual(commands, [])
    assert.deepStrictEqual(Ipam.machine.step(state, conduits("b", "c"), 1)[1].map(read), [
      "Persist 0: -/a, +/c 10.0.0.0/26"
    ])
  })

  it("keeps a conduit that is gone from the list until nobody holds an address in it", () => {
    const entries = [...stored("a", "b", "a/node-1", "a/node-1/x"), root]
    const listed = (sweep: boolean, ...names: ReadonlyArray<string>) =>
      Ipam.machine.step(Ipam.machine.init({ settings: { ...settings, sweep }, entries }, 0)[0], conduits(...names), 1)
    const after = (event: Ipam.Event | Machine.Woken, now: number) => Ipam.machine.step(gone, event, now)[1].map(read)
    const [gone, nothing] = listed(true, "b")
    assert.deepStrictEqual(nothing, [])
    assert.deepStrictEqual(after(allocate(0, "a", "y"), 2), ["Persist 0: +/a/node-1/y 10.0.0.2/32"])
    assert.deepStrictEqual(after(conduits("b", "a"), 2), [])
    assert.deepStrictEqual(after({ _tag: "ReleaseRequested", reply: 0, child: child("a", "x") }, 2), [
      "Persist 0: -/a/node-1/x, -/a"
    ])
    assert.deepStrictEqual(after({ _tag: "Woken" }, 120_000), ["Persist 0: -/a/node-1, -/a"])
    // Where leases do not expire, they would never come back.
    assert.deepStrictEqual(listed(false, "b")[1].map(read), ["Persist 0: -/a"])
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

  it("refuses at once when a node, or the conduit, is full", () => {
    const children = Array.from({ length: 7 }, (_, n) => allocate(n, "a", `child-${n}`))
    const nodes = Array.from({ length: 8 }, (_, n): Ipam.Event => ({
      _tag: "AllocateRequested",
      reply: 10 + n,
      child: { ...child("a", "bridge"), node: `other-${n}` }
    }))
    const { log } = play(saved(0), conduits("a"), saved(1), ...children, ...nodes, saved(2), saved(3))
    assert.deepStrictEqual(log.filter((line) => line.includes("free")), [
      "Reply 6: no address of length /32 is free in 10.0.0.0/29: release connections or shorten the node prefix",
      "Reply 17: no node of length /29 is free in 10.0.0.0/26: enlarge the prefix"
    ])
  })

  it("refuses when too many requests wait for the store, and goes on afterwards", () => {
    const { state } = play(saved(0), conduits("a"))
    const many = Array.from({ length: 65_536 }, (_, n) => allocate(n, "a", "x"))
    const full = many.reduce((state, event) => Ipam.machine.step(state, event, 5_000)[0], state)
    assert.deepStrictEqual(Ipam.machine.step(full, allocate(70_000, "a", "x"), 5_000)[1].map(read), [
      "Reply 70000: 65536 requests already wait to be stored: ask again later"
    ])
    const [next] = Ipam.machine.step(full, saved(1), 6_000)
    assert.strictEqual(Ipam.machine.step(next, saved(2), 6_000)[1].length, 65_536)
  })

  it("refuses when too many requests wait for conduits", () => {
    const { state } = play(saved(0))
    const many = Array.from({ length: 4_096 }, (_, n) => allocate(n, "later", "x"))
    const full = many.reduce((state, event) => Ipam.machine.step(state, event, 5_000)[0], state)
    assert.deepStrictEqual(Ipam.machine.step(full, allocate(5_000, "later", "x"), 5_000)[1].map(read), [
      "Reply 5000: 4096 requests already wait for a conduit: check that the conduit is configured"
    ])
  })

  it("deletes stored leases that it cannot honour, so that no later start finds them", () => {
    const [, commands] = Ipam.machine.init({ settings, entries: [root, ...stored("a", "orphan/n", "orphan/n/x")] }, 0)
    assert.deepStrictEqual(commands.map(read), ["Persist 0: -/orphan/n, -/orphan/n/x"])
  })

  it("takes the configured pool when nothing is leased in the stored one", () => {
    const [, commands] = Ipam.machine.init({ settings, entries: [{ ...root, network: Cidr.unsafe("10.9.0.0/16") }] }, 0)
    assert.deepStrictEqual(commands.map(read), ["Persist 0: +/ 10.0.0.0/25"])
  })

  it("keeps its state through JSON", () => {
    const { state } = play(
      saved(0),
      conduits("a"),
      saved(1),
      allocate(0, "a", "x"),
      allocate(1, "a", "y"),
      allocate(2, "b", "z")
    )
    const codec = Schema.toCodecJson(Ipam.machine.State)
    const text = JSON.stringify(Schema.encodeSync(codec)(state))
    assert.isTrue(Equal.equals(Schema.decodeUnknownSync(codec)(JSON.parse(text)), state))
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

describe("The sweep of the Ipam", () => {
  const patienceMs = settings.leaseMs + Leases.renewMs
  const inUse = [root, ...stored("a", "a/n", "a/n/bridge", "a/n/x")]
  const hour = 3_600_000

  it("spares what is renewed as seldom as the lease allows, although not every renewal is written", () => {
    let { now, state } = play(saved(0), conduits("a"), saved(1))
    const hasLease = () => state.leases.v4 !== undefined && Leases.entries(state.leases.v4).length === 4
    for (let n = 0; n < 200; n++) {
      now += settings.leaseMs - 1
      for (const event of [allocate(n, "a", "x"), saved(2 + n), { _tag: "Woken" as const }]) {
        const [next, commands] = Ipam.machine.step(state, event, now)
        state = next
        for (const command of commands) {
          if (command._tag === "Persist") state = Ipam.machine.step(state, saved(command.call), now)[0]
        }
      }
      assert.isTrue(hasLease(), `renewal ${n}`)
    }
  })

  it("waits for a whole lease after a start, as nobody could renew while it was down", () => {
    const eager = { ...settings, sweepIntervalMs: 1_000 }
    const [started] = Ipam.machine.init({ settings: eager, entries: inUse }, hour)
    const [early, none] = Ipam.machine.step(started, { _tag: "Woken" }, hour + 1_000)
    assert.deepStrictEqual([none, Ipam.machine.wake(early)], [[], hour + patienceMs])
    const [, commands] = Ipam.machine.step(early, { _tag: "Woken" }, hour + patienceMs)
    assert.deepStrictEqual(commands.map(read), ["Persist 0: -/a/n"])
  })

  it("waits for a whole lease after the store failed", () => {
    const failing = play(saved(0), conduits("a"), failed(1))
    assert.strictEqual(failing.state.store._tag, "Failed")
    const [blocked, none] = Ipam.machine.step(
      { ...failing.state, store: { _tag: "Failed", changes: Chunk.empty(), reason: "disk full", retryAt: hour } },
      { _tag: "Woken" },
      120_000
    )
    assert.deepStrictEqual([none, Ipam.machine.wake(blocked)], [[], 240_000])
    const [retrying] = Ipam.machine.step({ ...blocked, sweepAt: hour + 1 }, { _tag: "Woken" }, hour)
    const [recovered] = Ipam.machine.step(retrying, saved(2), hour)
    assert.strictEqual(recovered.servingSince, hour)
    const [swept] = Ipam.machine.step(recovered, { _tag: "Woken" }, hour + 1)
    assert.strictEqual(Ipam.machine.wake(swept), hour + patienceMs)
  })

  it("waits for a whole lease when the clock leapt or the process was suspended", () => {
    const [started] = Ipam.machine.init({ settings, entries: inUse }, 0)
    const [late, none] = Ipam.machine.step(started, { _tag: "Woken" }, 120_000 + hour)
    assert.deepStrictEqual([none, Ipam.machine.wake(late)], [[], 120_000 + hour + patienceMs])
    const [, commands] = Ipam.machine.step(started, { _tag: "Woken" }, 121_000)
    assert.deepStrictEqual(commands.map(read), ["Persist 0: -/a/n"])
  })

  it("never happens when it is switched off", () => {
    const [state] = Ipam.machine.init({ settings: { ...settings, sweep: false }, entries: inUse }, 0)
    assert.isUndefined(Ipam.machine.wake(state))
  })
})

describe("Notices", () => {
  it("say nothing about leases that are as configured", () => {
    assert.deepStrictEqual(Notices.notices({ settings, entries: [root, ...stored("a", "a/n", "a/n/x")] }), [])
  })

  it("name a stored pool that differs, one too small for its conduits, and leases that are dropped", () => {
    const entries = [
      { ...root, network: Cidr.unsafe("10.0.0.0/26") },
      { ...root, path: ["a"], network: Cidr.unsafe("10.0.0.0/27") },
      { ...root, path: ["b"], network: Cidr.unsafe("10.0.0.0/27") }
    ]
    assert.deepStrictEqual(Notices.notices({ settings, entries }), [
      "addresses of family v4 are leased in 10.0.0.0/26, which stays in use; the configured prefix 10.0.0.0/25 counts "
      + "once every conduit was removed and the IPAM restarted, or with another IPAM_DATASOURCE",
      "10.0.0.0/26 cannot be cut into conduits of /26: no new conduit gets a prefix",
      "the stored lease b of 10.0.0.0/27 is dropped: it has no parent, or does not fit or overlaps there"
    ])
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
