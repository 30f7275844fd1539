import { assert, describe, it } from "@effect/vitest"
import type * as Config from "../config/Model.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Nsm from "../nsm/Model.ts"
import * as Ambassador from "./Ambassador.ts"
import type * as Model from "./Model.ts"

const settings = {
  name: "target",
  node: "n",
  namespace: "ns",
  timeoutMs: 15_000,
  tokenLifetimeMs: 600_000,
  entryTimeoutMs: 30_000
}
const key = (stream: string, conduit = "c", trench = "t"): Config.StreamKey => ({ trench, conduit, stream })
const all = { trench: "", conduit: "", stream: "" }

const connection = (wanted: Nsm.Connection): Nsm.Connection => ({
  ...wanted,
  state: "Up",
  context: { ...Nsm.emptyContext, ip: { ...Nsm.emptyIp, srcAddrs: [Cidr.unsafe("172.16.0.2/24")] } }
})

/** What a world in which everything works answers. */
const healthy = (command: Ambassador.Command): Ambassador.Event | undefined => {
  switch (command._tag) {
    case "QueryConnection":
      return { _tag: "QuerySucceeded", at: command.at, call: command.call, connection: null }
    case "RequestConnection": {
      const { at, call } = command
      return { _tag: "RequestSucceeded", at, call, connection: connection(command.connection) }
    }
    case "CloseConnection":
      return { _tag: "CloseSucceeded", at: command.at, call: command.call }
    case "WatchStreams": {
      const { at, call } = command
      return {
        _tag: "StreamsChanged",
        at,
        call,
        streams: ["s", "r"].map((stream) => ({ ...at, stream, maxTargets: 2 }))
      }
    }
    case "ListTargets":
      return { _tag: "ListSucceeded", at: command.at, call: command.call, targets: [] }
    case "RegisterTarget":
      return { _tag: "RegisterSucceeded", at: command.at, call: command.call }
    case "UnregisterTarget":
      return { _tag: "UnregisterSucceeded", at: command.at, call: command.call }
    default:
      return undefined
  }
}

/** Drives an ambassador; `work` answers what is pending as a healthy world would. */
const drive = () => {
  let now = 1_000
  let replies = 0
  let [state, commands] = Ambassador.init({ settings, seed: 1 })
  let pending: Array<Ambassador.Command> = []
  const send = (event: Ambassador.Event | { readonly _tag: "Woken" }) => {
    const [next, more] = Ambassador.step(state, event, now)
    state = next
    commands = more
    const gone = new Set(more.flatMap((command) => command._tag === "Cancel" ? [command.call] : []))
    pending = [...pending.filter((command) => !("call" in command && gone.has(command.call))), ...more]
  }
  const driver = {
    get state() {
      return state
    },
    get did() {
      return commands.map((command) => command._tag === "Reply" ? command.answer._tag : command._tag)
    },
    get commands() {
      return commands
    },
    now: () => now,
    send,
    open: (stream: Model.Request) => send({ _tag: "OpenRequested", reply: replies++, stream }),
    close: (stream: Config.StreamKey) => send({ _tag: "CloseRequested", reply: replies++, stream }),
    statuses: (filter = all) => Ambassador.statuses(state, filter).map(({ at, status }) => `${at.stream} ${status}`),
    wake: () => {
      now = Math.max(now, Ambassador.wake(state) ?? now)
      send({ _tag: "Woken" })
    },
    work: () => {
      const done: Array<string> = []
      while (pending.length > 0) {
        const [command, ...rest] = pending
        pending = rest
        const event = command === undefined ? undefined : healthy(command)
        if (event === undefined) continue
        send(event)
        done.push(...driver.did)
      }
      return done
    },
    opened: (...keys: ReadonlyArray<Config.StreamKey>) => {
      for (const key of keys) driver.open(key)
      driver.work()
      return driver
    }
  }
  return driver
}

describe("Ambassador", () => {
  it("A1 a request without all names is refused", () => {
    const ambassador = drive()
    const before = ambassador.state
    for (const stream of [{ stream: "s" }, { stream: "s", conduit: "c" }, key(""), key("s", ""), key("s", "c", "")]) {
      ambassador.open(stream)
      assert.deepStrictEqual([ambassador.did, ambassador.state], [["Invalid"], before])
    }
  })

  it("A2 the first open connects the trench and the conduit, and is answered at once", () => {
    const ambassador = drive()
    ambassador.open(key("s"))
    assert.deepStrictEqual(ambassador.did, ["ConnectNsp", "QueryConnection", "Ok"])
    assert.deepStrictEqual(ambassador.statuses(), ["s Unavailable"])
  })

  it("A3 a second trench is refused", () => {
    const ambassador = drive().opened(key("s"))
    ambassador.open(key("s", "c", "other"))
    const [command] = ambassador.commands
    assert.deepStrictEqual(command?._tag === "Reply" ? command.answer : undefined, {
      _tag: "Conflict",
      message: "open failed to set trench: another trench is already connected"
    })
  })

  it("A4 another conduit of the trench is attached beside the first", () => {
    const ambassador = drive().opened(key("s"))
    ambassador.open(key("s", "d"))
    assert.deepStrictEqual(ambassador.did, ["QueryConnection", "Ok"])
  })

  it("A5 a stream of a conduit that is not up is unavailable", () => {
    const ambassador = drive()
    ambassador.open(key("s"))
    ambassador.open(key("r"))
    assert.deepStrictEqual([ambassador.did, ambassador.statuses()], [["Ok"], ["s Unavailable", "r Unavailable"]])
  })

  it("A6 a stream outside of the configuration is undefined", () => {
    const ambassador = drive().opened(key("s"))
    ambassador.open(key("unknown"))
    assert.deepStrictEqual([ambassador.did, ambassador.statuses()], [["Ok"], ["s Open", "unknown Undefined"]])
  })

  it("A7 a configured stream of a conduit that is up is pending", () => {
    const ambassador = drive().opened(key("s"))
    ambassador.open(key("r"))
    assert.deepStrictEqual([ambassador.did, ambassador.statuses()], [["ListTargets", "Ok"], ["s Open", "r Pending"]])
  })

  it("A8 opening an open stream changes nothing", () => {
    const ambassador = drive().opened(key("s"))
    const { conduits } = ambassador.state
    ambassador.open(key("s"))
    assert.deepStrictEqual(ambassador.did, ["Ok"])
    assert.strictEqual(ambassador.state.conduits, conduits)
  })

  it("A9 an open behind a close of the same stream, conduit or trench waits for it", () => {
    for (const wanted of [key("s"), key("r"), key("s", "c", "other")]) {
      const ambassador = drive().opened(key("s"))
      ambassador.close(key("s"))
      ambassador.open(wanted)
      assert.deepStrictEqual([ambassador.did, ambassador.statuses()], [[], []])
      const done = ambassador.work()
      assert.isTrue(done.indexOf("DisconnectNsp") < done.indexOf("ConnectNsp") && done.includes("Ok"), done.join(" "))
      assert.deepStrictEqual(ambassador.state.trench, wanted.trench)
      assert.deepStrictEqual(ambassador.statuses(), [`${wanted.stream} Open`])
    }
  })

  it("A9 a close takes back the open that waits", () => {
    const ambassador = drive().opened(key("s"))
    ambassador.close(key("s"))
    ambassador.open(key("s"))
    ambassador.close(key("s"))
    assert.deepStrictEqual(ambassador.did, ["Ok", "Ok"])
    ambassador.work()
    assert.deepStrictEqual(ambassador.state.conduits, [])
  })

  it("A10 closing an unknown stream is fine", () => {
    const ambassador = drive().opened(key("s"))
    const before = ambassador.state
    ambassador.close(key("r"))
    assert.deepStrictEqual([ambassador.did, ambassador.state], [["Ok"], before])
  })

  it("A11 and A12 closing answers at once; the last stream takes conduit and trench along", () => {
    const ambassador = drive().opened(key("s"), key("r"))
    ambassador.close(key("s"))
    assert.deepStrictEqual([ambassador.did, ambassador.statuses()], [["Ok", "UnregisterTarget"], ["r Open"]])
    assert.deepStrictEqual(ambassador.work().includes("CloseConnection"), false)
    ambassador.close(key("r"))
    assert.isTrue(ambassador.work().includes("CloseConnection"))
    assert.strictEqual(ambassador.state.trench, null)
  })

  it("A13 a conduit that cannot be closed does not keep the trench", () => {
    const ambassador = drive().opened(key("s"))
    ambassador.close(key("s"))
    // Neither the unregistration nor the close of the connection is answered.
    ambassador.wake()
    ambassador.wake()
    assert.deepStrictEqual(ambassador.did, ["Cancel", "DisconnectNsp"])
    ambassador.open(key("s", "c", "other"))
    assert.isTrue(ambassador.did.includes("Ok"))
  })

  it("A14 without conduits the trench is forgotten", () => {
    const ambassador = drive().opened(key("s"))
    ambassador.close(key("s"))
    ambassador.work()
    assert.deepStrictEqual([ambassador.state.trench, ambassador.state.conduits], [null, []])
    assert.strictEqual(Ambassador.wake(ambassador.state), undefined)
  })

  it("A15 a watch sees what its filter names, in the order of opening", () => {
    const ambassador = drive().opened(key("r"), key("s", "d"), key("s"))
    assert.deepStrictEqual(ambassador.statuses(), ["r Open", "s Open", "s Open"])
    assert.deepStrictEqual(ambassador.statuses({ ...all, conduit: "d" }), ["s Open"])
    assert.deepStrictEqual(ambassador.statuses({ ...all, trench: "other" }), [])
  })

  it("A16 without a trench it stops at once", () => {
    const ambassador = drive()
    ambassador.send({ _tag: "ShutdownRequested" })
    assert.isTrue(Ambassador.isStopped(ambassador.state))
  })

  it("A17 it drains everything at once, refuses to open meanwhile, and stops", () => {
    const ambassador = drive().opened(key("s"), key("s", "d"))
    ambassador.send({ _tag: "ShutdownRequested" })
    assert.deepStrictEqual(ambassador.did, ["UnregisterTarget", "UnregisterTarget"])
    ambassador.open(key("r"))
    assert.deepStrictEqual(ambassador.did, ["Unavailable"])
    const done = ambassador.work()
    assert.strictEqual(done.filter((tag) => tag === "CloseConnection").length, 2)
    assert.isTrue(Ambassador.isStopped(ambassador.state))
  })

  it("A17 a close that failed is repeated while it drains", () => {
    const ambassador = drive().opened(key("s"))
    ambassador.send({ _tag: "ShutdownRequested" })
    const unregister = ambassador.commands[0]
    const call = unregister !== undefined && "call" in unregister ? unregister.call : -1
    ambassador.send({ _tag: "UnregisterSucceeded", at: key("s"), call })
    for (let i = 0; i < 3; i++) {
      const close = ambassador.commands.find(({ _tag }) => _tag === "CloseConnection")
      assert.strictEqual(close?._tag, "CloseConnection")
      if (close?._tag !== "CloseConnection") return
      ambassador.send({ _tag: "CloseFailed", at: close.at, call: close.call, reason: "Unavailable" })
      assert.isFalse(Ambassador.isStopped(ambassador.state))
      ambassador.wake()
    }
    ambassador.work()
    assert.isTrue(Ambassador.isStopped(ambassador.state))
  })

  it("A17 it stops in bounded time when nobody answers", () => {
    const ambassador = drive().opened(key("s"))
    const before = ambassador.now()
    ambassador.send({ _tag: "ShutdownRequested" })
    for (let i = 0; i < 9 && !Ambassador.isStopped(ambassador.state); i++) ambassador.wake()
    assert.isTrue(Ambassador.isStopped(ambassador.state))
    assert.isTrue(ambassador.now() - before <= 31_000)
    assert.strictEqual(Ambassador.wake(ambassador.state), undefined)
  })
})
