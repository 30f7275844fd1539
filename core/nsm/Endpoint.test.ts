import { assert, describe, it } from "@effect/vitest"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import * as Host from "./Host.ts"
import * as Model from "./Model.ts"
import * as Monitor from "./Monitor.ts"
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
    ids: () => Object.keys(Host.connections(state)),
    states: () => Object.values(Host.connections(state)).map((connection) => connection.state)
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
  it("E6 E7 E10 P8: gives its namespace and a name, cuts the path behind it, and answers in the caller's view", () => {
    const { answer, endpoint, handle } = standing()
    assert.deepStrictEqual(handle.connection.mechanism, Model.kernelMechanism("inode://4/2", "conduit.tr-abcd"))
    assert.strictEqual(handle.connection.id, "e1")
    assert.deepStrictEqual([answer.id, answer.path.index], ["m1", 1])
    assert.deepStrictEqual(answer.path.segments.map(({ id }) => id), ["c", "m1", "e1"])
    assert.strictEqual(answer.path.segments[2]?.expiresAt, 600_000)
    assert.deepStrictEqual(endpoint.ids(), ["e1"])
  })

  it("E8 B11: keeps id and name on a refresh, whether the mechanism is repeated or not", () => {
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

  it("E1 E3: closes once, when asked or a request timeout before the token of the manager expires", () => {
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

  it("B8 E6: answers a close of nothing, and refuses other mechanisms", () => {
    assert.deepStrictEqual(host().send({ _tag: "CloseRequested", reply: 1, connection: asked }), [
      { _tag: "Reply", reply: 1, result: { _tag: "Closed" } }
    ])
    const mechanism = { cls: "LOCAL", type: "MEMIF", parameters: {} }
    const [reply] = host().send(request(1, { ...asked, mechanism }))
    assert.isTrue(reply?._tag === "Reply" && reply.result._tag === "Failed" && reply.result.reason === "Invalid")
  })
})

/** The handler's answer to what it is asked first. */
const handled = (commands: ReadonlyArray<Host.Command>, change: Partial<Model.Connection> = {}): Host.Event => {
  const handle = commands.find(({ _tag }) => _tag === "HandleRequest")
  if (handle?._tag !== "HandleRequest") return assert.fail("the handler is asked")
  return { _tag: "HandleSucceeded", call: handle.call, connection: { ...handle.connection, ...change } }
}

describe("nsm-endpoint, row by row", () => {
  it("B2: serves the requests and closes of a connection one after another, those of others beside", () => {
    const { answer, endpoint } = standing()
    const first = endpoint.send(request(2, answer))
    assert.deepStrictEqual(endpoint.send({ _tag: "CloseRequested", reply: 3, connection: answer }), [])
    const other = { ...asked, id: "m2", path: { index: 1, segments: [segment("client", "d"), segment("mgr", "m2")] } }
    assert.deepStrictEqual(tagsOf(endpoint.send(request(4, other))), ["HandleRequest"])
    assert.deepStrictEqual(tagsOf(endpoint.send(handled(first))), ["Reply", "HandleClose"])
  })

  it("B12 E9: who selects anew ends the old connection first", () => {
    const { answer, endpoint } = standing()
    const [close, ...none] = endpoint.send(request(2, { ...answer, state: "ReselectRequested" }))
    assert.deepStrictEqual([close?._tag, none.length], ["HandleClose", 0])
    const call = close?._tag === "HandleClose" ? close.call : -1
    const commands = endpoint.send({ _tag: "CloseFinished", call })
    assert.deepStrictEqual(tagsOf(commands), ["HandleRequest"])
    assert.deepStrictEqual(tagsOf(endpoint.send(handled(commands))), ["Reply"])
    assert.deepStrictEqual(endpoint.ids(), ["e1"])
  })

  it("B13: answers Up, whatever the caller and the handler say", () => {
    const { answer, endpoint } = standing()
    const commands = endpoint.send(request(2, { ...answer, state: "Down" }))
    const [reply] = endpoint.send(handled(commands, { state: "Down" }))
    assert.isTrue(
      reply?._tag === "Reply" && reply.result._tag === "Succeeded" && reply.result.connection.state === "Up"
    )
  })

  it("E2: without an expiry in the path its own lifetime counts, so that nobody stays for ever", () => {
    const endpoint = host()
    endpoint.send(handled(endpoint.send(request(1, {
      ...asked,
      path: {
        ...asked.path,
        segments: asked.path.segments.map(({ id, name }) => ({ id, name, token: "", metrics: {} }))
      }
    }))))
    assert.strictEqual(endpoint.wake(), settings.maxTokenLifetimeMs - settings.requestTimeoutMs)
  })

  it("E3: a refresh that succeeds moves the end", () => {
    const { answer, endpoint } = standing()
    const before = endpoint.wake() ?? assert.fail("a deadline")
    const segments = answer.path.segments.map((segment) => ({ ...segment, expiresAt: 700_000 }))
    const commands = endpoint.send(request(2, { ...answer, path: { ...answer.path, segments } }), 200_000)
    endpoint.send(handled(commands), 200_000)
    assert.deepStrictEqual(endpoint.send({ _tag: "Woken" }, before), [])
    assert.isAbove(endpoint.wake() ?? 0, before)
  })

  it("E5 B7: a later request that fails leaves the connection standing, Down for its monitors until the next success", () => {
    const { answer, endpoint } = standing()
    const [handle] = endpoint.send(request(2, answer))
    const call = handle?._tag === "HandleRequest" ? handle.call : -1
    const [reply] = endpoint.send({ _tag: "HandleFailed", call, reason: "Failed", message: "no address" })
    assert.isTrue(reply?._tag === "Reply" && reply.result._tag === "Failed")
    assert.deepStrictEqual(endpoint.states(), ["Down"])
    assert.isDefined(endpoint.wake())
    endpoint.send(handled(endpoint.send(request(3, answer))))
    assert.deepStrictEqual(endpoint.states(), ["Up"])
  })

  it("B6: of a first request that fails nothing stays", () => {
    const endpoint = host()
    const [handle] = endpoint.send(request(1))
    const call = handle?._tag === "HandleRequest" ? handle.call : -1
    endpoint.send({ _tag: "HandleFailed", call, reason: "Failed", message: "no address" })
    assert.deepStrictEqual(endpoint.ids(), [])
    assert.isUndefined(endpoint.wake())
  })

  it("E4 E5 E11: a monitor hears all that it asked for at once, then changes and ends, and nothing empty", () => {
    const mine = { segments: [{ name: "", id: "m1", token: "" }], networkServices: [] }
    const one = { ...asked, id: "e1" }
    assert.deepStrictEqual(Monitor.initial(mine, {}), { type: "Initial", connections: {} })
    assert.deepStrictEqual(Monitor.initial(mine, { e1: one }), { type: "Initial", connections: { e1: one } })
    const changed = { ...one, labels: { a: "b" } }
    assert.deepStrictEqual(Monitor.changes(mine, { e1: one }, { e1: changed }), [
      { type: "Update", connections: { e1: changed } }
    ])
    assert.deepStrictEqual(Monitor.changes(mine, { e1: one }, {}), [
      { type: "Delete", connections: { e1: { ...one, state: "Down" } } }
    ])
    const other = { ...asked, id: "e2", path: { index: 1, segments: [segment("client", "d"), segment("mgr", "m2")] } }
    assert.deepStrictEqual(Monitor.changes(mine, { e1: one }, { e1: one, e2: other }), [])
  })
})

const tagsOf = (commands: ReadonlyArray<{ readonly _tag: string }>) => commands.map(({ _tag }) => _tag)

describe("nsm-registration", () => {
  const service: Model.NetworkService = { name: "s", payload: "", matches: [] }
  const endpoint: Model.Endpoint = { name: "e", networkServices: ["s"], labels: {}, url: "unix:///e" }
  const registration = { services: [service], endpoint, minBackoffMs: 200, maxBackoffMs: 5_000, seed: 1 }

  it("G3 G5 G10: defines, registers, watches, refreshes at two thirds, and starts over when the registry is lost", () => {
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

  const play = () => {
    let [state, last] = Registration.machine.init(registration, 0)
    const send = (event: Registration.Event | { readonly _tag: "Woken" }, now = 0) => {
      const [next, commands] = Registration.machine.step(state, event, now)
      state = next
      if (commands.length > 0) last = commands
      return tagsOf(commands).join(" ")
    }
    const call = () => last.at(-1)?.call ?? -1
    return {
      send,
      call,
      wake: () => Registration.machine.wake(state),
      register: () => {
        send({ _tag: "DefineSucceeded", call: call() })
        send({ _tag: "RegisterSucceeded", call: call(), expiresAt: 60_000 })
        return call()
      },
      state: () => state
    }
  }

  it("G4: an answer without expiry counts for a minute", () => {
    const one = play()
    one.send({ _tag: "DefineSucceeded", call: one.call() })
    one.send({ _tag: "RegisterSucceeded", call: one.call() })
    assert.strictEqual(one.wake(), 40_000)
  })

  it("G1: one call is in flight at a time, and the answer to another one is none", () => {
    const one = play()
    assert.strictEqual(one.send({ _tag: "RegisterSucceeded", call: one.call(), expiresAt: 1 }), "")
    assert.strictEqual(one.send({ _tag: "DefineSucceeded", call: 99 }), "")
    assert.strictEqual(one.send({ _tag: "DefineSucceeded", call: one.call() }), "RegisterEndpoint")
  })

  it("G2: registers again under the original name and without the granted expiry", () => {
    const one = play()
    one.register()
    one.send({ _tag: "Woken" }, 40_000)
    assert.isUndefined(one.state().settings.endpoint.expiresAt)
    assert.strictEqual(one.state().settings.endpoint.name, "e")
  })

  it("G8: failures are repeated for ever, with growing pauses up to the limit", () => {
    const one = play()
    let now = 0
    const pauses = Array.from({ length: 12 }, () => {
      one.send({ _tag: "CallFailed", call: one.call(), reason: "Unavailable", message: "nobody" }, now)
      const pause = (one.wake() ?? assert.fail("a deadline")) - now
      now += pause
      assert.strictEqual(one.send({ _tag: "Woken" }, now), "DefineService")
      return pause
    })
    for (const [n, pause] of pauses.entries()) {
      const ceiling = Math.min(registration.maxBackoffMs, registration.minBackoffMs * 2 ** n)
      assert.isTrue(pause >= ceiling / 2 && pause <= ceiling, `pause ${n} is ${pause} of ${ceiling}`)
    }
  })

  it("G6: a watch that ends while it registers again is renewed by the registration", () => {
    const one = play()
    const watch = one.register()
    one.send({ _tag: "Woken" }, 40_000)
    const register = one.call()
    assert.strictEqual(one.send({ _tag: "WatchLost", call: watch }, 40_001), "Cancel")
    assert.strictEqual(
      one.send({ _tag: "RegisterSucceeded", call: register, expiresAt: 100_000 }, 40_002),
      "WatchEndpoint"
    )
  })

  it("G3 G7: an end cancels the refresh, takes the registration out once, and is over even if that fails", () => {
    const one = play()
    one.register()
    assert.strictEqual(one.send({ _tag: "CloseRequested" }, 10), "Cancel UnregisterEndpoint")
    assert.isUndefined(one.wake())
    assert.strictEqual(one.send({ _tag: "CloseRequested" }, 11), "")
    one.send({ _tag: "UnregisterFinished", call: one.call() }, 12)
    assert.isTrue(Registration.isClosed(one.state()))
  })
})

describe("Naming", () => {
  it("takes the smallest free number, and at most 15 characters", () => {
    assert.strictEqual(Naming.byCounter(new Set(["nsm-0", "nsm-2"])), "nsm-1")
    assert.strictEqual(Naming.byService("lb-fe.trench", "abcdefgh"), "lb-fe.tren-abcd")
    assert.strictEqual(Naming.byService("a/b:c", "abcdefghijklmn"), "a_b_c-abcdefghi")
  })
})
