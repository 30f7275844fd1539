import { assert, describe, it } from "@effect/vitest"
import * as Cidr from "../net/Cidr.ts"
import * as Nsm from "../nsm/Model.ts"
import * as Conduit from "./Conduit.ts"

const at = { trench: "t", conduit: "c" }
const stream = { ...at, stream: "s" }
const settings = {
  name: "target",
  node: "n",
  namespace: "ns",
  timeoutMs: 15_000,
  tokenLifetimeMs: 600_000,
  entryTimeoutMs: 30_000
}
const cidrs = (...texts: ReadonlyArray<string>) => texts.map((text) => Cidr.unsafe(text))
const gateways = cidrs("172.16.0.1/24", "fd00::1/64")

const granted = (ip: Partial<Nsm.IpContext> = {}, more: Partial<Nsm.Connection> = {}): Nsm.Connection => ({
  ...Nsm.connection("target-proxy.c.t.ns-0", "proxy.c.t.ns"),
  mechanism: { cls: "LOCAL", type: "KERNEL", parameters: { name: "nsm-0", inodeURL: "inode://1/2" } },
  path: { index: 0, segments: [{ name: "target", id: "x", token: "", expiresAt: 60_000, metrics: {} }] },
  endpointName: "proxy-1",
  labels: { nodeName: "elsewhere", kept: "yes" },
  ...more,
  context: {
    ...Nsm.emptyContext,
    ip: { ...Nsm.emptyIp, srcAddrs: cidrs("172.16.0.2/24"), extraPrefixes: gateways, ...ip }
  }
})

type Command = Conduit.Command
type Tag = Command["_tag"]

/** Drives a conduit with one stream; outcomes go to the newest command of their kind. */
const drive = () => {
  let now = 1_000
  let [state, commands] = Conduit.init({ stream, opened: 0, settings, nextCall: 0, seed: 1 }, now)
  const issued: Array<Command> = [...commands]
  const send = (event: Conduit.Event | { readonly _tag: "Woken" }) => {
    const [next, more] = Conduit.step(state, event, now)
    state = next
    commands = more
    issued.push(...more)
  }
  const call = (tag: Tag): number => {
    const found = issued.findLast((command) => command._tag === tag)
    return found !== undefined && "call" in found ? found.call : -1
  }
  const driver = {
    get state() {
      return state
    },
    get link() {
      return state.attachment.phase._tag
    },
    get status() {
      return state.streams[0]?.status
    },
    get did() {
      return commands.map(({ _tag }) => _tag)
    },
    /** The connection of the last request. */
    get requested() {
      const found = issued.findLast((command) => command._tag === "RequestConnection")
      return found?._tag === "RequestConnection" ? found : undefined
    },
    now: () => now,
    wakesIn: () => (Conduit.wake(state) ?? 0) - now,
    send,
    wake: () => {
      now = Math.max(now, Conduit.wake(state) ?? now)
      send({ _tag: "Woken" })
    },
    queried: (connection: Nsm.Connection | null = null) =>
      send({ _tag: "QuerySucceeded", at, call: call("QueryConnection"), connection }),
    answered: (connection: Nsm.Connection = granted()) =>
      send({ _tag: "RequestSucceeded", at, call: call("RequestConnection"), connection }),
    refused: () => send({ _tag: "RequestFailed", at, call: call("RequestConnection"), reason: "Unavailable" }),
    streams: (...names: ReadonlyArray<string>) =>
      send({
        _tag: "StreamsChanged",
        at,
        call: call("WatchStreams"),
        streams: names.map((name) => ({ ...at, stream: name, maxTargets: 2 }))
      }),
    vips: (...vips: ReadonlyArray<string>) =>
      send({ _tag: "VipsChanged", at, call: call("WatchVips"), vips: cidrs(...vips) }),
    monitor: (connection: Nsm.Connection) =>
      send({ _tag: "ConnectionChanged", at, call: call("WatchConnection"), connection }),
    lost: (what: "Streams" | "Vips" | "Connection") =>
      send({ _tag: `${what}Lost`, at, call: call(`Watch${what}`), reason: "Unavailable" }),
    listed: () => send({ _tag: "ListSucceeded", at: stream, call: call("ListTargets"), targets: [] }),
    registered: () => send({ _tag: "RegisterSucceeded", at: stream, call: call("RegisterTarget") }),
    up: () => {
      driver.queried()
      driver.answered()
      return driver
    },
    open: () => {
      driver.up().streams("s")
      driver.listed()
      driver.registered()
      driver.listed()
      driver.registered()
      assert.strictEqual(driver.status, "Open")
      return driver
    }
  }
  return driver
}

const withVips = (conduit: ReturnType<typeof drive>) => granted(conduit.requested?.connection.context.ip)

const closing = () => {
  const conduit = drive().up()
  conduit.send({ _tag: "StreamUnwanted", at: stream })
  assert.deepStrictEqual([conduit.link, conduit.did], ["Closing", ["Cancel", "Cancel", "Cancel", "CloseConnection"]])
  return conduit
}

describe("Conduit", () => {
  it("C1 asks for a connection when there is none to take over", () => {
    for (const old of [null, granted({}, { mechanism: { cls: "REMOTE", type: "VXLAN", parameters: {} } })]) {
      const conduit = drive()
      assert.deepStrictEqual([conduit.link, conduit.status, conduit.wakesIn()], ["Querying", "Unavailable", 15_000])
      conduit.queried(old)
      assert.deepStrictEqual([conduit.link, conduit.did], ["Requesting", ["RequestConnection"]])
      const connection = conduit.requested?.connection
      assert.deepStrictEqual(
        [connection?.id, connection?.networkService, connection?.payload, connection?.labels],
        ["target-proxy.c.t.ns-0", "proxy.c.t.ns", "ETHERNET", { nodeName: "n" }]
      )
    }
  })

  it("C1 a manager that cannot tell is asked without recovery", () => {
    const conduit = drive()
    conduit.send({ _tag: "QueryFailed", at, call: 0, reason: "Failed" })
    assert.deepStrictEqual(conduit.link, "Requesting")
  })

  it("C2 a connection that is up is taken over, its interface name as a preference", () => {
    const conduit = drive()
    conduit.queried(granted({}, { path: { index: 1, segments: [] } }))
    const request = conduit.requested
    assert.strictEqual(request?.interfaceName, "nsm-0")
    assert.deepStrictEqual(request?.connection.mechanism?.parameters, { inodeURL: "inode://1/2" })
    assert.deepStrictEqual(request?.connection.labels, { nodeName: "n", kept: "yes" })
    assert.deepStrictEqual([request?.connection.path.index, request?.connection.endpointName], [0, ""])
  })

  it("C3 a connection that is down is asked for anew", () => {
    const conduit = drive()
    conduit.queried(granted({}, { state: "Down" }))
    const connection = conduit.requested?.connection
    assert.deepStrictEqual(
      [connection?.state, connection?.endpointName, connection?.mechanism],
      ["ReselectRequested", "", undefined]
    )
  })

  it("C4 and C5 a failed attempt is repeated from the start after two seconds", () => {
    const failing: ReadonlyArray<(conduit: ReturnType<typeof drive>) => void> = [
      (conduit) => conduit.send({ _tag: "QueryFailed", at, call: 0, reason: "Unavailable" }),
      (conduit) => (conduit.queried(), conduit.refused()),
      (conduit) => conduit.wake(),
      (conduit) => (conduit.queried(), conduit.wake())
    ]
    for (const fail of failing) {
      const conduit = drive()
      fail(conduit)
      assert.deepStrictEqual([conduit.link, conduit.wakesIn()], ["Waiting", 2_000])
      conduit.wake()
      assert.deepStrictEqual([conduit.link, conduit.did], ["Querying", ["QueryConnection"]])
    }
  })

  it("C6 once up it watches, and removes VIPs that a recovered connection still has", () => {
    const conduit = drive()
    conduit.queried()
    conduit.answered(granted({ policies: [{ from: Cidr.unsafe("20.0.0.9/32"), routes: [] }] }))
    assert.deepStrictEqual([conduit.link, conduit.did], ["Up", ["WatchVips", "WatchConnection", "WatchStreams"]])
    conduit.vips()
    assert.deepStrictEqual(conduit.did, ["RequestConnection"])
    assert.deepStrictEqual(conduit.requested?.connection.context.ip.policies, [])
  })

  it("C7 and C8 the configuration decides about streams, also of a connection that comes later", () => {
    const conduit = drive().up()
    assert.strictEqual(conduit.status, "Unavailable")
    conduit.streams("other")
    assert.strictEqual(conduit.status, "Undefined")
    conduit.monitor(granted({}, { state: "Down" }))
    conduit.streams("s")
    assert.deepStrictEqual([conduit.status, conduit.did], ["Unavailable", []])
    conduit.monitor(granted())
    assert.deepStrictEqual([conduit.status, conduit.did], ["Pending", ["ListTargets"]])
  })

  it("C9 wanted VIPs go onto the connection, sorted, with routes over the gateways of their family", () => {
    const conduit = drive().up()
    conduit.vips("2000::1/128", "20.0.0.2/32", "20.0.0.1/32", "20.0.0.2/32", "172.16.0.77/32")
    assert.strictEqual(conduit.wakesIn(), 15_000)
    const ip = conduit.requested?.connection.context.ip
    assert.deepStrictEqual(ip?.srcAddrs, cidrs("172.16.0.2/24", "20.0.0.1/32", "20.0.0.2/32", "2000::1/128"))
    assert.deepStrictEqual(ip?.extraPrefixes, gateways)
    assert.deepStrictEqual(JSON.parse(JSON.stringify(ip?.policies)), [
      { from: "20.0.0.1/32", routes: [{ prefix: "0.0.0.0/0", nextHop: "172.16.0.1" }] },
      { from: "20.0.0.2/32", routes: [{ prefix: "0.0.0.0/0", nextHop: "172.16.0.1" }] },
      { from: "2000::1/128", routes: [{ prefix: "::/0", nextHop: "fd00::1" }] }
    ])
  })

  it("C10 a VIP that overlaps a gateway's subnet causes no further requests", () => {
    const conduit = drive().up()
    conduit.vips("172.16.0.77/32")
    assert.deepStrictEqual(conduit.did, [])
  })

  it("C10 after an update the newest VIPs follow, or nothing if they are the same", () => {
    const conduit = drive().up()
    conduit.vips("20.0.0.1/32")
    conduit.vips("20.0.0.2/32")
    assert.deepStrictEqual(conduit.did, [])
    conduit.answered(withVips(conduit))
    assert.deepStrictEqual(conduit.did, ["RequestConnection"])
    assert.deepStrictEqual(conduit.requested?.connection.context.ip.srcAddrs, cidrs("172.16.0.2/24", "20.0.0.2/32"))
    conduit.answered(withVips(conduit))
    assert.deepStrictEqual([conduit.did, conduit.link], [[], "Up"])
  })

  it("C11 and C12 a failed update is repeated after a second, with new VIPs at once", () => {
    const late = drive().up()
    late.vips("20.0.0.1/32")
    late.wake()
    assert.deepStrictEqual([late.did, late.wakesIn()], [["Cancel"], 1_000])
    late.wake()
    assert.deepStrictEqual(late.did, ["RequestConnection"])
    const failed = drive().up()
    failed.vips("20.0.0.1/32")
    failed.refused()
    assert.strictEqual(failed.wakesIn(), 1_000)
    failed.vips("20.0.0.2/32")
    assert.deepStrictEqual(failed.did, ["RequestConnection"])
    assert.deepStrictEqual(failed.requested?.connection.context.ip.srcAddrs, cidrs("172.16.0.2/24", "20.0.0.2/32"))
  })

  it("C12 after an update that failed the former VIPs are sent as well, for it may have had its effect", () => {
    const gaveUp: ReadonlyArray<(conduit: ReturnType<typeof drive>) => void> = [
      (conduit) => conduit.refused(),
      (conduit) => conduit.wake(),
      (conduit) => conduit.monitor(granted({}, { state: "Down" }))
    ]
    for (const giveUp of gaveUp) {
      const conduit = drive().up()
      conduit.vips("20.0.0.1/32")
      giveUp(conduit)
      conduit.vips()
      conduit.monitor(granted())
      assert.deepStrictEqual(conduit.requested?.connection.context.ip.srcAddrs, cidrs("172.16.0.2/24"))
      conduit.answered()
      conduit.monitor(granted())
      assert.deepStrictEqual(conduit.did, [])
    }
  })

  it("C13 the same addresses after a refresh touch no stream", () => {
    const conduit = drive().open()
    conduit.monitor(granted({ dstAddrs: cidrs("172.16.0.1/24") }))
    assert.deepStrictEqual([conduit.did, conduit.status], [[], "Open"])
  })

  it("C13 new gateways replace the routes of the VIPs", () => {
    const conduit = drive().up()
    conduit.vips("20.0.0.1/32")
    conduit.answered(withVips(conduit))
    conduit.monitor(granted({ ...conduit.requested?.connection.context.ip, extraPrefixes: cidrs("172.16.0.254/24") }))
    assert.deepStrictEqual(conduit.did, ["RequestConnection"])
    assert.deepStrictEqual(
      conduit.requested?.connection.context.ip.policies.map(({ routes }) => routes[0]?.nextHop),
      [Cidr.ip(Cidr.unsafe("172.16.0.254/24"))]
    )
  })

  it("C14 new local addresses are registered in place of the old ones", () => {
    const conduit = drive().open()
    conduit.monitor(granted({ srcAddrs: cidrs("172.16.0.3/24") }))
    assert.deepStrictEqual([conduit.did, conduit.status], [["UnregisterTarget"], "Pending"])
  })

  it("C10 and C14 new local addresses in the answer to a VIP update are registered at once", () => {
    const conduit = drive().open()
    conduit.vips("20.0.0.1/32")
    conduit.answered(granted({ ...conduit.requested?.connection.context.ip, srcAddrs: cidrs("172.16.0.3/24") }))
    assert.deepStrictEqual([conduit.did, conduit.status], [["UnregisterTarget"], "Pending"])
  })

  it("C15 and C16 a connection that is down takes its streams out of service until it is back", () => {
    for (const down of [granted({}, { state: "Down" }), granted({ srcAddrs: [] })]) {
      const conduit = drive().open()
      conduit.monitor(down)
      assert.deepStrictEqual([conduit.link, conduit.did, conduit.status], [
        "Degraded",
        ["UnregisterTarget"],
        "Unavailable"
      ])
      conduit.monitor(granted())
      assert.deepStrictEqual([conduit.link, conduit.status], ["Up", "Pending"])
    }
  })

  it("C15 a connection that stays down for a minute is asked for anew", () => {
    const conduit = drive().up()
    conduit.monitor(granted({}, { state: "Down" }))
    assert.strictEqual(conduit.wakesIn(), 60_000)
    conduit.wake()
    assert.deepStrictEqual([conduit.link, conduit.requested?.connection.state], ["Requesting", "ReselectRequested"])
  })

  it("C17 and C18 lost watches are opened again, and what was known stays in force", () => {
    const pauses = { Streams: 500, Vips: 2_000, Connection: 5_000 } as const
    for (const what of ["Streams", "Vips", "Connection"] as const) {
      const conduit = drive().up()
      conduit.streams("other")
      conduit.lost(what)
      assert.deepStrictEqual([conduit.status, conduit.wakesIn()], ["Undefined", pauses[what]])
      conduit.wake()
      assert.deepStrictEqual(conduit.did, [`Watch${what}`])
    }
  })

  it("C19 an empty list right after a watch was opened again has to last two seconds", () => {
    const reopened = () => {
      const conduit = drive().open()
      conduit.lost("Streams")
      conduit.wake()
      conduit.streams()
      assert.deepStrictEqual([conduit.status, conduit.did, conduit.wakesIn()], ["Open", [], 2_000])
      return conduit
    }
    const back = reopened()
    back.streams("s")
    assert.deepStrictEqual([back.status, back.did, back.wakesIn() > 2_000], ["Open", [], true])
    const gone = reopened()
    gone.wake()
    assert.deepStrictEqual([gone.status, gone.did], ["Undefined", ["UnregisterTarget"]])
    const sure = drive().open()
    sure.streams()
    assert.strictEqual(sure.status, "Undefined")
  })

  it("A12 the last stream takes the connection along, and everything that is pending", () => {
    const conduit = closing()
    conduit.send({ _tag: "CloseSucceeded", at, call: conduit.state.nextCall - 1 })
    assert.isTrue(Conduit.isClosed(conduit.state))
    const early = drive()
    early.send({ _tag: "StreamUnwanted", at: stream })
    assert.deepStrictEqual([early.link, early.did], ["Closed", ["Cancel"]])
    const requesting = drive()
    requesting.queried()
    requesting.send({ _tag: "StreamUnwanted", at: stream })
    assert.deepStrictEqual(requesting.did, ["Cancel", "CloseConnection"])
  })

  it("A13 a close that failed is repeated until the token expires, and does not block the conduit", () => {
    const conduit = closing()
    conduit.wake()
    assert.deepStrictEqual([conduit.link, conduit.did, Conduit.isGone(conduit.state)], ["Lingering", ["Cancel"], true])
    const pauses: Array<number> = []
    while (!Conduit.isClosed(conduit.state)) {
      pauses.push(conduit.wakesIn())
      conduit.wake()
      assert.deepStrictEqual(conduit.did, ["CloseConnection"])
      conduit.send({ _tag: "CloseFailed", at, call: conduit.state.nextCall - 1, reason: "Unavailable" })
    }
    assert.deepStrictEqual(pauses, [1_000, 2_000, 4_000, 8_000, 16_000])
    assert.isTrue(conduit.now() < 60_000, "the token that the connection came with has expired then")
    const wanted = closing()
    wanted.wake()
    wanted.send({ _tag: "StreamWanted", at: stream, opened: 1 })
    assert.deepStrictEqual([wanted.link, wanted.did], ["Querying", ["QueryConnection"]])
  })

  it("A13 a connection that nobody has seen is closed as long as any token may live", () => {
    const conduit = drive()
    conduit.queried()
    conduit.send({ _tag: "StreamUnwanted", at: stream })
    const begun = conduit.now()
    let longest = 0
    while (!Conduit.isClosed(conduit.state)) {
      conduit.send({ _tag: "CloseFailed", at, call: conduit.state.nextCall - 1, reason: "Unavailable" })
      longest = Math.max(longest, conduit.wakesIn())
      conduit.wake()
    }
    assert.strictEqual(longest, 60_000)
    assert.isTrue(conduit.now() - begun > settings.tokenLifetimeMs - 60_000)
    assert.isTrue(conduit.now() - begun <= settings.tokenLifetimeMs)
  })
})
