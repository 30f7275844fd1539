import { assert, describe, it } from "@effect/vitest"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import * as Client from "./Client.ts"
import * as Model from "./Model.ts"

type Event = typeof Client.Event.Type
type Command = typeof Client.Command.Type

const settings: typeof Client.Settings.Type = {
  name: "tapa",
  netns: "inode://4/1",
  requestTimeoutMs: 15_000,
  maxTokenLifetimeMs: 600_000,
  minBackoffMs: 200,
  maxBackoffMs: 5_000,
  seed: 7
}

machineLaws(Client.machine, {
  outcomes: (command: Command): ReadonlyArray<Event> => {
    switch (command._tag) {
      case "Request":
        return [
          { _tag: "RequestSucceeded", call: command.call, connection: command.connection },
          { _tag: "RequestFailed", call: command.call, reason: "Unavailable", message: "" },
          { _tag: "RequestFailed", call: command.call, reason: "NotFound", message: "" }
        ]
      case "Close":
        return [
          { _tag: "CloseFinished", call: command.call },
          { _tag: "CloseFinished", call: command.call, failure: { reason: "Timeout", message: "" } }
        ]
      case "Monitor":
        return [
          { _tag: "MonitorChanged", call: command.call, change: "Down" },
          { _tag: "MonitorChanged", call: command.call, change: "Lost" },
          { _tag: "MonitorChanged", call: command.call, change: "RefreshRequested" }
        ]
      case "Cancel":
      case "Reply":
        return []
    }
  },
  close: { event: { _tag: "CloseRequested", reply: 999 }, isClosed: Client.isIdle },
  runs: 150
})

/** Plays events and keeps the state and what was commanded last. */
const play = () => {
  let [state] = Client.machine.init(settings, 0)
  return {
    send: (now: number, event: Event | { readonly _tag: "Woken" }): ReadonlyArray<Command> => {
      const [next, commands] = Client.machine.step(state, event, now)
      state = next
      return commands
    },
    wake: () => Client.machine.wake(state),
    view: () => Client.view(state)
  }
}

const wanted: Model.Connection = {
  ...Model.connection("t1-0", "proxy.conduit"),
  labels: { nodeName: "a" },
  payload: "ETHERNET"
}
const answered = (command: Command | undefined, change: Partial<Model.Connection> = {}): Event => {
  if (command?._tag !== "Request") return assert.fail(`a request, not ${command?._tag}`)
  const { connection } = command
  const segments = [...connection.path.segments, {
    name: "mgr",
    id: "m",
    token: "",
    expiresAt: (connection.path.segments[0]?.expiresAt ?? 0) - 300_000,
    metrics: {}
  }]
  return {
    _tag: "RequestSucceeded",
    call: command.call,
    connection: {
      ...connection,
      endpointName: "nse",
      mechanism: Model.kernelMechanism("inode://4/1", "nsm-0"),
      path: { index: 0, segments: segments.slice(0, 2) },
      ...change
    }
  }
}
const tags = (commands: ReadonlyArray<Command>) => commands.map(({ _tag }) => _tag)

const ask = (reply: number): Event => ({
  _tag: "RequestRequested",
  reply,
  connection: wanted,
  interfaceName: "nsm-0"
})

const established = () => {
  const client = play()
  const [request] = client.send(0, { _tag: "RequestRequested", reply: 1, connection: wanted, interfaceName: "nsm-0" })
  const commands = client.send(10, answered(request))
  return { client, commands, request }
}

describe("nsm-client", () => {
  it("asks with its own signed segment and its kernel mechanism, answers, and monitors", () => {
    const { commands, request } = established()
    assert.deepInclude(request, {
      preferences: [{ cls: "LOCAL", type: "KERNEL", parameters: { inodeURL: "inode://4/1", name: "nsm-0" } }],
      timeoutMs: 15_000
    })
    assert.isTrue(request?._tag === "Request" && request.connection.path.segments[0]?.expiresAt === 600_000)
    assert.deepStrictEqual(tags(commands), ["Monitor", "Reply"])
  })

  it("refreshes after a fifth of the shortest token lifetime", () => {
    const { client } = established()
    assert.strictEqual(client.wake(), 10 + Math.floor((300_000 - 10) / 5))
    assert.deepStrictEqual(tags(client.send(70_000, { _tag: "Woken" })), ["Request"])
  })

  it("retries a failed refresh with back-off, then heals at another endpoint under the same name", () => {
    const { client } = established()
    for (let attempt = 0; attempt < 3; attempt++) {
      const now = client.wake() ?? assert.fail("a deadline")
      const [refresh] = client.send(now, { _tag: "Woken" })
      assert.isTrue(refresh?._tag === "Request" && refresh.connection.endpointName === "nse")
      const call = refresh?._tag === "Request" ? refresh.call : -1
      client.send(now, { _tag: "RequestFailed", call, reason: "Unavailable", message: "" })
      assert.isAbove(client.wake() ?? 0, now)
    }
    assert.strictEqual(client.view()?.state, "Down")
    const [heal] = client.send(client.wake() ?? 0, { _tag: "Woken" })
    assert.isTrue(heal?._tag === "Request" && heal.connection.state === "ReselectRequested")
    assert.isTrue(heal?._tag === "Request" && heal.connection.endpointName === "")
    assert.isTrue(heal?._tag === "Request" && heal.preferences[0]?.parameters["name"] === "nsm-0")
    client.send(200_000, answered(heal))
    assert.strictEqual(client.view()?.state, "Up")
  })

  it("changes context only, keeping labels, mechanism and payload as they were established", () => {
    const { client } = established()
    const context = { ...Model.emptyContext, mtu: 1400 }
    const stripped = { ...Model.connection("t1-0", "proxy.conduit"), context }
    const [update] = client.send(20, {
      _tag: "RequestRequested",
      reply: 2,
      connection: stripped,
      interfaceName: "other"
    })
    assert.isTrue(update?._tag === "Request")
    if (update?._tag !== "Request") return
    assert.deepInclude(update.connection, { context, labels: { nodeName: "a" }, payload: "ETHERNET" })
    assert.strictEqual(Model.interfaceName(update.connection), "nsm-0")
    const commands = client.send(30, answered(update))
    assert.deepStrictEqual(tags(commands), ["Reply"])
  })

  it("serves requests one after another", () => {
    const { client } = established()
    const [second] = client.send(20, ask(2))
    assert.deepStrictEqual(client.send(20, ask(3)), [])
    assert.deepStrictEqual(tags(client.send(30, answered(second))), ["Reply", "Request"])
  })

  it("heals although the user asks again and again, once the monitor has said that the connection is down", () => {
    const { client, commands } = established()
    const monitor = commands[0]?._tag === "Monitor" ? commands[0].call : -1
    const asked: Array<string> = []
    for (let attempt = 0; attempt < 4; attempt++) {
      const now = 1_000 * (attempt + 1)
      const connection = { ...wanted, context: { ...Model.emptyContext, extra: { [attempt]: "" } } }
      const [request] = client.send(now, { _tag: "RequestRequested", reply: 9, connection, interfaceName: "nsm-0" })
      if (request?._tag !== "Request") return assert.fail("a request")
      if (attempt === 0) client.send(now, { _tag: "MonitorChanged", call: monitor, change: "Down" })
      asked.push(request.connection.state)
      client.send(now, { _tag: "RequestFailed", call: request.call, reason: "Unavailable", message: "" })
    }
    assert.deepStrictEqual(asked, ["Up", "Up", "Up", "ReselectRequested"])
  })

  it("waits before it heals, and keeps a pinned endpoint", () => {
    const client = play()
    const connection = { ...wanted, endpointName: "nse" }
    const [request] = client.send(0, { _tag: "RequestRequested", reply: 1, connection, interfaceName: "nsm-0" })
    const [monitor] = client.send(10, answered(request))
    const call = monitor?._tag === "Monitor" ? monitor.call : -1
    assert.deepStrictEqual(tags(client.send(20, { _tag: "MonitorChanged", call, change: "Down" })), ["Cancel"])
    const deadline = client.wake() ?? assert.fail("a deadline")
    assert.isAbove(deadline, 20)
    const [heal] = client.send(deadline, { _tag: "Woken" })
    assert.isTrue(heal?._tag === "Request" && heal.connection.endpointName === "nse")
  })

  it("asks for the same again when the manager went away", () => {
    const { client, commands } = established()
    const call = commands[0]?._tag === "Monitor" ? commands[0].call : -1
    client.send(20, { _tag: "MonitorChanged", call, change: "Lost" })
    const deadline = client.wake() ?? assert.fail("a deadline")
    assert.isBelow(deadline, 1_000)
    const [refresh] = client.send(deadline, { _tag: "Woken" })
    assert.isTrue(refresh?._tag === "Request" && refresh.connection.state === "Up")
  })

  it("gives a close up after four attempts", () => {
    const { client } = established()
    let commands = client.send(20, { _tag: "CloseRequested", reply: 2 })
    assert.deepStrictEqual(tags(commands), ["Cancel", "Close"])
    for (let attempt = 1; attempt < 4; attempt++) {
      const call = commands.flatMap((command) => command._tag === "Close" ? [command.call] : [])[0] ?? -1
      client.send(30, { _tag: "CloseFinished", call, failure: { reason: "Unavailable", message: "gone" } })
      commands = client.send(client.wake() ?? 0, { _tag: "Woken" })
    }
    const call = commands.flatMap((command) => command._tag === "Close" ? [command.call] : [])[0] ?? -1
    const failure: Model.Failure = { reason: "Unavailable", message: "gone" }
    assert.deepStrictEqual(client.send(30, { _tag: "CloseFinished", call, failure }), [
      { _tag: "Reply", reply: 2, result: { _tag: "Failed", ...failure } }
    ])
    assert.isUndefined(client.view())
  })

  it("names the interface in the mechanism of a connection that it takes over", () => {
    const found = { ...wanted, mechanism: Model.kernelMechanism("inode://4/1") }
    const [command] = play().send(0, { _tag: "RequestRequested", reply: 1, connection: found, interfaceName: "nsm-3" })
    assert.strictEqual(command?._tag === "Request" ? Model.interfaceName(command.connection) : "", "nsm-3")
  })
})
