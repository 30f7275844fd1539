import { assert, describe, it } from "@effect/vitest"
import {
  answered,
  asks,
  contextOf,
  established,
  failed,
  play,
  requestOf,
  segment,
  settings,
  tags,
  wanted
} from "../../property-tests/nsm/ClientScenario.ts"
import * as ClientState from "./ClientState.ts"
import type * as Model from "./Model.ts"
const record = (index: number, ids: ReadonlyArray<string>, state: Model.State = "Up"): Model.Connection => ({
  ...wanted,
  state,
  path: { index, segments: ids.map(segment) }
})

describe("nsm-client, when a connection is lost", () => {
  it("H1: asks with its own signed segment and its kernel mechanism, answers, and monitors", () => {
    const { commands, request } = established()
    assert.deepInclude(request, {
      preferences: [{ cls: "LOCAL", type: "KERNEL", parameters: { inodeURL: "inode://4/1", name: "nsm-0" } }],
      timeoutMs: 15_000
    })
    assert.isTrue(request?._tag === "Request" && request.connection.path.segments[0]?.expiresAt === 600_000)
    assert.deepStrictEqual(tags(commands), ["Monitor", "Reply"])
  })

  it("R5 H5 H11: retries a failed refresh with back-off, then heals at another endpoint under the same name", () => {
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

  it("H6: heals although the user asks again and again, once the monitor has said that the connection is down", () => {
    const { client, monitor } = established()
    const asked = Array.from({ length: 4 }, (_, attempt) => {
      const now = 1_000 * (attempt + 1)
      const context = contextOf({ extra: { [attempt]: "" } })
      const request = requestOf(client.send(now, { ...asks(9), connection: { ...wanted, context } }))
      if (attempt === 0) client.send(now, { _tag: "MonitorChanged", call: monitor, change: "Down" })
      client.send(now, failed(request))
      return request.connection.state
    })
    assert.deepStrictEqual(asked, ["Up", "Up", "Up", "ReselectRequested"])
  })

  it("H10: is not bound to an endpoint that it found by healing, when the user repeats it", () => {
    const { client, commands } = established()
    const first = commands[0]?._tag === "Monitor" ? commands[0].call : -1
    client.send(20, { _tag: "MonitorChanged", call: first, change: "Down" })
    const [heal] = client.send(client.wake() ?? 0, { _tag: "Woken" })
    const [second] = client.send(2_000, answered(heal, { endpointName: "other" }))
    const seen = client.view() ?? assert.fail("a connection")
    assert.strictEqual(seen.endpointName, "other")
    const connection = { ...seen, context: { ...seen.context, extra: { more: "" } } }
    const [update] = client.send(3_000, { _tag: "RequestRequested", reply: 2, connection, interfaceName: "nsm-0" })
    client.send(3_010, answered(update, { endpointName: "other" }))
    const call = second?._tag === "Monitor" ? second.call : -1
    client.send(3_020, { _tag: "MonitorChanged", call, change: "Down" })
    const [again] = client.send(client.wake() ?? 0, { _tag: "Woken" })
    assert.isTrue(again?._tag === "Request" && again.connection.endpointName === "")
  })

  it("H6 H10: waits before it heals, and keeps a pinned endpoint", () => {
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

  it("H3: asks for the same again when the manager went away", () => {
    const { client, monitor } = established()
    client.send(20, { _tag: "MonitorChanged", call: monitor, change: "Lost" })
    const deadline = client.wake() ?? assert.fail("a deadline")
    assert.isBelow(deadline, 1_000)
    const [refresh] = client.send(deadline, { _tag: "Woken" })
    assert.isTrue(refresh?._tag === "Request" && refresh.connection.state === "Up")
  })

  it("H4 H7: a connection that is down and closed is not healed", () => {
    const { client, monitor } = established()
    client.send(20, { _tag: "MonitorChanged", call: monitor, change: "Down" })
    assert.strictEqual(client.view()?.state, "Down")
    const deadline = client.wake() ?? assert.fail("a deadline")
    assert.deepStrictEqual(tags(client.send(30, { _tag: "CloseRequested", reply: 2 })), ["Close"])
    assert.deepStrictEqual(client.send(deadline, { _tag: "Woken" }), [])
  })

  it("H6: heals that fail come with growing, jittered pauses up to the limit, for ever", () => {
    const pauses = [7, 8].map((seed) => {
      const { client, monitor } = established({ ...settings, seed })
      client.send(20, { _tag: "MonitorChanged", call: monitor, change: "Down" })
      return Array.from({ length: 20 }, () => {
        const at = client.wake() ?? assert.fail("a deadline")
        client.send(at, failed(requestOf(client.send(at, { _tag: "Woken" }))))
        return (client.wake() ?? assert.fail("a deadline")) - at
      })
    })
    for (const [n, pause] of pauses.flatMap((each) => [...each.entries()])) {
      const ceiling = Math.min(settings.maxBackoffMs, settings.minBackoffMs * 2 ** (n + 1))
      assert.isTrue(pause >= ceiling / 2 && pause <= ceiling, `pause ${n} is ${pause} of ${ceiling}`)
    }
    assert.notDeepEqual(pauses[0], pauses[1], "clients do not heal in step")
  })

  it("H8: a request while it heals is one attempt with it, and a later one waits for that", () => {
    const { client, monitor } = established()
    client.send(20, { _tag: "MonitorChanged", call: monitor, change: "Down" })
    const heal = requestOf(client.send(30, asks(2)))
    assert.strictEqual(heal.connection.state, "ReselectRequested")
    assert.deepStrictEqual(client.send(40, asks(3)), [])
    assert.deepStrictEqual(tags(client.send(50, answered(heal))), ["Monitor", "Reply", "Request"])
  })

  it("H9: a monitor that broke during a refresh begins again with its success, and tells nothing twice", () => {
    for (const change of ["Down", "Lost"] as const) {
      const { client, monitor } = established()
      const refresh = requestOf(client.send(client.wake() ?? 0, { _tag: "Woken" }))
      client.send(60_000, { _tag: "MonitorChanged", call: monitor, change })
      assert.deepStrictEqual(tags(client.send(60_010, answered(refresh))), ["Monitor"])
      assert.deepStrictEqual(client.send(60_020, { _tag: "MonitorChanged", call: monitor, change: "Down" }), [])
    }
  })

  it("H12: refreshes when the other side wishes it", () => {
    const { client, monitor } = established()
    const refresh = requestOf(client.send(20, { _tag: "MonitorChanged", call: monitor, change: "RefreshRequested" }))
    assert.deepInclude(refresh.connection, { state: "Up", endpointName: "nse" })
    assert.deepStrictEqual(tags(client.send(30, answered(refresh))), [], "the monitor goes on")
  })

  it("H2 H4: hears of its own record at the manager only, of which a deletion is a loss", () => {
    const own = record(0, ["t1-0", "m"])
    const told = (type: Model.ConnectionEvent["type"], ...records: ReadonlyArray<Model.Connection>) =>
      ClientState.changeIn({ type, connections: Object.fromEntries(records.entries()) }, own)
    assert.isUndefined(told("Initial"))
    assert.isUndefined(told("Update", record(1, ["t1-0", "m"])))
    const others = [record(2, ["t1-0", "m", "n"], "Down"), record(1, ["other", "m"], "Down")]
    assert.isUndefined(told("Update", ...others))
    assert.isUndefined(told("Update", record(1, ["t1-0", "left behind"], "Down")))
    assert.strictEqual(told("Update", ...others, record(1, ["t1-0", "m"], "Down")), "Down")
    assert.strictEqual(told("Initial", record(1, ["t1-0", "m"], "Down")), "Down")
    assert.strictEqual(told("Delete", record(1, ["t1-0", "m"])), "Down")
    assert.strictEqual(told("Update", record(1, ["t1-0", "m"], "RefreshRequested")), "RefreshRequested")
  })

  it("H9: the monitor of a record that the manager has under another id now begins again", () => {
    const { client } = established()
    const refresh = requestOf(client.send(client.wake() ?? 0, { _tag: "Woken" }))
    const segments = refresh.connection.path.segments.map((segment, i) => i === 1 ? { ...segment, id: "new" } : segment)
    const commands = client.send(60_000, answered(refresh, { path: { index: 0, segments } }))
    assert.deepStrictEqual(tags(commands), ["Cancel", "Monitor"])
  })
})
