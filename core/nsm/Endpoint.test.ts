import { assert, describe, it } from "@effect/vitest"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import * as Host from "./Host.ts"
import * as Model from "./Model.ts"
import * as Naming from "./Naming.ts"
import * as Registration from "./Registration.ts"

machineLaws(Registration.machine, {
  outcomes: (command): ReadonlyArray<Registration.Event> => {
    switch (command._tag) {
      case "DefineService":
        return [
          { _tag: "DefineSucceeded", call: command.call },
          { _tag: "CallFailed", call: command.call, reason: "Unavailable", message: "" }
        ]
      case "RegisterEndpoint":
        return [
          { _tag: "RegisterSucceeded", call: command.call },
          { _tag: "CallFailed", call: command.call, reason: "Unavailable", message: "" }
        ]
      case "WatchEndpoint":
        return [{ _tag: "WatchLost", call: command.call }]
      case "UnregisterEndpoint":
        return [{ _tag: "UnregisterFinished", call: command.call }]
      case "Cancel":
        return []
    }
  },
  close: { event: { _tag: "CloseRequested" }, isClosed: Registration.isClosed }
})

machineLaws(Host.machine, {
  outcomes: (command): ReadonlyArray<Host.Event> => {
    switch (command._tag) {
      case "HandleRequest":
        return [
          { _tag: "HandleSucceeded", call: command.call, connection: command.connection },
          { _tag: "HandleFailed", call: command.call, reason: "Failed", message: "" }
        ]
      case "HandleClose":
        return [{ _tag: "CloseFinished", call: command.call }]
      case "Reply":
        return []
    }
  },
  runs: 150
})

const settings: Host.Settings = {
  name: "nse",
  netns: "inode://4/2",
  requestTimeoutMs: 15_000,
  maxTokenLifetimeMs: 600_000
}
const segment = (name: string, id: string): Model.PathSegment => ({
  name,
  id,
  token: "",
  expiresAt: 600_000,
  metrics: {}
})
const asked: Model.Connection = {
  ...Model.connection("m1", "conduit.trench"),
  path: { index: 1, segments: [segment("client", "c"), segment("mgr", "m1")] }
}
const request = (reply: number, connection = asked): Host.Event => ({
  _tag: "RequestRequested",
  reply,
  freshId: `e${reply}`,
  random: "abcdefgh",
  connection,
  preferences: [Model.kernelMechanism("")]
})

const host = () => {
  let [state] = Host.machine.init(settings, 0)
  return {
    send: (event: Host.Event | { readonly _tag: "Woken" }, now = 0) => {
      const [next, commands] = Host.machine.step(state, event, now)
      state = next
      return commands
    },
    wake: () => Host.machine.wake(state),
    ids: () => Object.keys(Host.connections(state))
  }
}

const standing = () => {
  const endpoint = host()
  const [handle] = endpoint.send(request(1))
  if (handle?._tag !== "HandleRequest") return assert.fail("the handler is asked")
  const [reply] = endpoint.send({ _tag: "HandleSucceeded", call: handle.call, connection: handle.connection })
  if (reply?._tag !== "Reply" || reply.result._tag !== "Succeeded") return assert.fail("the caller is answered")
  return { endpoint, handle, answer: reply.result.connection }
}

describe("nsm-endpoint", () => {
  it("gives its namespace and a name, and answers in the caller's view", () => {
    const { answer, endpoint, handle } = standing()
    assert.deepStrictEqual(handle.connection.mechanism, Model.kernelMechanism("inode://4/2", "conduit.tr-abcd"))
    assert.strictEqual(handle.connection.id, "e1")
    assert.deepStrictEqual([answer.id, answer.path.index], ["m1", 1])
    assert.deepStrictEqual(answer.path.segments.map(({ id }) => id), ["c", "m1", "e1"])
    assert.strictEqual(answer.path.segments[2]?.expiresAt, 600_000)
    assert.deepStrictEqual(endpoint.ids(), ["e1"])
  })

  it("keeps id and name on a refresh, whether the mechanism is repeated or not", () => {
    const { answer, endpoint } = standing()
    const { mechanism: _, ...without } = answer
    for (const connection of [answer, without]) {
      const [handle] = endpoint.send({ ...request(2, connection) })
      if (handle?._tag !== "HandleRequest") return assert.fail("the handler is asked")
      assert.strictEqual(handle.connection.id, "e1")
      assert.strictEqual(Model.interfaceName(handle.connection), "conduit.tr-abcd")
      endpoint.send({ _tag: "HandleSucceeded", call: handle.call, connection: handle.connection })
    }
  })

  it("closes once: when asked, or a request timeout before the token of the manager expires", () => {
    const { answer, endpoint } = standing()
    assert.strictEqual(endpoint.wake(), 585_000)
    const [close] = endpoint.send({ _tag: "Woken" }, 585_000)
    assert.strictEqual(close?._tag, "HandleClose")
    assert.deepStrictEqual(endpoint.send({ _tag: "CloseRequested", reply: 5, connection: answer }), [])
    const call = close?._tag === "HandleClose" ? close.call : -1
    assert.deepStrictEqual(endpoint.send({ _tag: "CloseFinished", call }), [
      { _tag: "Reply", reply: 5, result: { _tag: "Closed" } }
    ])
    assert.deepStrictEqual(endpoint.ids(), [])
    assert.isUndefined(endpoint.wake())
  })

  it("answers a close of nothing, and refuses other mechanisms", () => {
    assert.deepStrictEqual(host().send({ _tag: "CloseRequested", reply: 1, connection: asked }), [
      { _tag: "Reply", reply: 1, result: { _tag: "Closed" } }
    ])
    const mechanism = { cls: "LOCAL", type: "MEMIF", parameters: {} }
    const [reply] = host().send(request(1, { ...asked, mechanism }))
    assert.isTrue(reply?._tag === "Reply" && reply.result._tag === "Failed" && reply.result.reason === "Invalid")
  })
})

describe("nsm-registration", () => {
  const service: Model.NetworkService = { name: "s", payload: "", matches: [] }
  const endpoint: Model.Endpoint = { name: "e", networkServices: ["s"], labels: {}, url: "unix:///e" }
  const registration = { services: [service], endpoint, minBackoffMs: 200, maxBackoffMs: 5_000, seed: 1 }

  it("defines, registers, watches, refreshes at two thirds, and starts over when the registry is lost", () => {
    const { step, wake } = Registration.machine
    let [state, commands] = Registration.machine.init(registration, 0)
    const send = (event: Registration.Event | { readonly _tag: "Woken" }, now: number) => {
      const result = step(state, event, now)
      state = result[0]
      commands = result[1]
      return commands.map(({ _tag }) => _tag).join(" ")
    }
    const call = () => commands[0]?.call ?? -1
    assert.deepStrictEqual(commands, [{ _tag: "DefineService", call: 0, service }])
    assert.strictEqual(send({ _tag: "DefineSucceeded", call: call() }, 0), "RegisterEndpoint")
    assert.strictEqual(send({ _tag: "RegisterSucceeded", call: call(), expiresAt: 60_000 }, 0), "WatchEndpoint")
    const watch = call()
    assert.strictEqual(wake(state), 40_000)
    assert.strictEqual(send({ _tag: "Woken" }, 40_000), "RegisterEndpoint")
    assert.strictEqual(send({ _tag: "RegisterSucceeded", call: call(), expiresAt: 100_000 }, 40_000), "")
    assert.strictEqual(wake(state), 80_000)
    assert.strictEqual(send({ _tag: "WatchLost", call: watch }, 50_000), "Cancel")
    const retryAt = wake(state) ?? assert.fail("a deadline")
    assert.isBelow(retryAt, 50_201)
    assert.strictEqual(send({ _tag: "Woken" }, retryAt), "DefineService")
  })
})

describe("Naming", () => {
  it("takes the smallest free number, and at most 15 characters", () => {
    assert.strictEqual(Naming.byCounter(new Set(["nsm-0", "nsm-2"])), "nsm-1")
    assert.strictEqual(Naming.byService("lb-fe.trench", "abcdefgh"), "lb-fe.tren-abcd")
    assert.strictEqual(Naming.byService("a/b:c", "abcdefghijklmn"), "a_b_c-abcdefghi")
  })
})
