import { assert } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import { transcript } from "../../property-tests/laws/Transcript.ts"
import {
  at,
  available,
  elsewhere,
  entry,
  ips,
  other,
  settings,
  undefinedStream
} from "../../property-tests/tapa/Fixtures.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Nsm from "../nsm/Model.ts"
import * as Ambassador from "./Ambassador.ts"
import * as Stream from "./Stream.ts"

const Few = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4 }))
const anyTarget = Arbitrary.map(
  Arbitrary.schema(Schema.Struct({ identifier: Few, host: Few, enabled: Schema.Boolean })),
  ({ enabled, host, identifier }) =>
    entry(identifier, host === 0 ? ips : [`172.16.0.${host}/24`], enabled ? "enabled" : "disabled")
)
const anySituation: Arbitrary.Arbitrary<Stream.Situation> = Arbitrary.map(
  Arbitrary.schema(Schema.Struct({ kind: Few, maxTargets: Few })),
  ({ kind, maxTargets }) =>
    kind === 0
      ? { _tag: "Blocked" }
      : kind === 1
      ? undefinedStream
      : available(maxTargets, [ips, elsewhere, []][kind - 2] ?? ips)
)
const anyEvent: Arbitrary.Arbitrary<Stream.Event> = Arbitrary.map(
  Arbitrary.all({
    kind: Arbitrary.schema(Few),
    call: Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 5, maximum: 25 }))),
    targets: Arbitrary.array(anyTarget, { maxLength: 4 }),
    situation: anySituation
  }),
  ({ call, kind, situation, targets }) => {
    if (kind < 2) return { _tag: "SituationChanged", situation }
    if (kind === 2) return { _tag: "ListSucceeded", at, call, targets }
    return kind === 3 ? { _tag: "RegisterSucceeded", at, call } : { _tag: "RegisterFailed", at, call, reason: "Failed" }
  }
)

machineLaws(Stream.machine, {
  inputs: Arbitrary.map(anySituation, (situation) => ({ at, settings, opened: 0, nextCall: 5, seed: 7, situation })),
  events: anyEvent,
  outcomes: (command): ReadonlyArray<Stream.Event> => {
    switch (command._tag) {
      case "ListTargets":
        return [
          { _tag: "ListSucceeded", at, call: command.call, targets: [] },
          { _tag: "ListSucceeded", at, call: command.call, targets: [other(1), entry(2, ips)] },
          { _tag: "ListFailed", at, call: command.call, reason: "Timeout" }
        ]
      case "RegisterTarget":
        return [
          { _tag: "RegisterSucceeded", at, call: command.call },
          { _tag: "RegisterFailed", at, call: command.call, reason: "Unavailable" }
        ]
      case "UnregisterTarget":
        return [
          { _tag: "UnregisterSucceeded", at, call: command.call },
          { _tag: "UnregisterFailed", at, call: command.call, reason: "Unavailable" }
        ]
      case "Cancel":
        return []
    }
  },
  close: { event: { _tag: "CloseRequested" }, isClosed: Stream.isClosed },
  invariant: ({ phase, situation, verified }, commands) => {
    for (const command of commands) {
      if (command._tag !== "RegisterTarget") continue
      const { identifier, status } = command.target
      assert.isTrue(situation._tag === "Available" && identifier >= 1 && identifier <= situation.maxTargets)
      assert.strictEqual(status === "enabled", verified, "enabled only what was verified")
    }
    if (phase._tag === "Open") assert.isTrue(verified)
  }
})

// Two trenches, two conduits, two streams each: wishes collide often.
const one = (...values: ReadonlyArray<string>) => Arbitrary.schema(Schema.Literals(values))
const anyKey = Arbitrary.all({ trench: one("t", "u"), conduit: one("c", "d"), stream: one("s", "r") })
const connection = (
  state: Nsm.State,
  addresses: ReadonlyArray<Cidr.Cidr>,
  vips: ReadonlyArray<string>
): Nsm.Connection => ({
  ...Nsm.connection("target-proxy.c.t.ns-0", "proxy.c.t.ns"),
  mechanism: { cls: "LOCAL", type: "KERNEL", parameters: { name: "nsm-0" } },
  path: { index: 0, segments: [{ name: "target", id: "x", token: "", expiresAt: 1_700_000_060_000, metrics: {} }] },
  state,
  context: {
    ...Nsm.emptyContext,
    ip: {
      ...Nsm.emptyIp,
      srcAddrs: addresses,
      extraPrefixes: [Cidr.unsafe("172.16.0.1/24")],
      policies: vips.map((vip) => ({ from: Cidr.unsafe(vip), routes: [] }))
    }
  }
})

const outcomesOf = (command: Ambassador.Command): ReadonlyArray<Ambassador.Event> => {
  if (command._tag === "Reply" || command._tag === "ConnectNsp" || command._tag === "DisconnectNsp") return []
  if (command._tag === "Cancel") return []
  const { call } = command
  const reason = "Unavailable"
  switch (command._tag) {
    case "QueryConnection":
      return [
        { _tag: "QuerySucceeded", at: command.at, call, connection: null },
        { _tag: "QuerySucceeded", at: command.at, call, connection: connection("Up", ips, ["20.0.0.9/32"]) },
        { _tag: "QuerySucceeded", at: command.at, call, connection: connection("Down", ips, []) },
        { _tag: "QueryFailed", at: command.at, call, reason }
      ]
    case "RequestConnection":
      return [
        {
          _tag: "RequestSucceeded",
          at: command.at,
          call,
          connection: { ...connection("Up", ips, []), id: command.connection.id }
        },
        { _tag: "RequestSucceeded", at: command.at, call, connection: connection("Up", elsewhere, []) },
        { _tag: "RequestFailed", at: command.at, call, reason }
      ]
    case "CloseConnection":
      return [{ _tag: "CloseSucceeded", at: command.at, call }, { _tag: "CloseFailed", at: command.at, call, reason }]
    case "WatchConnection":
      return [
        { _tag: "ConnectionChanged", at: command.at, call, connection: connection("Down", ips, []) },
        { _tag: "ConnectionChanged", at: command.at, call, connection: connection("Up", elsewhere, []) },
        { _tag: "ConnectionLost", at: command.at, call, reason }
      ]
    case "WatchStreams": {
      const streams = [{ ...command.at, stream: "s", maxTargets: 2 }, { ...command.at, stream: "r", maxTargets: 1 }]
      return [
        { _tag: "StreamsChanged", at: command.at, call, streams },
        { _tag: "StreamsChanged", at: command.at, call, streams: [] },
        { _tag: "StreamsLost", at: command.at, call, reason }
      ]
    }
    case "WatchVips":
      return [
        { _tag: "VipsChanged", at: command.at, call, vips: [Cidr.unsafe("20.0.0.1/32"), Cidr.unsafe("2000::1/128")] },
        { _tag: "VipsChanged", at: command.at, call, vips: [] },
        { _tag: "VipsLost", at: command.at, call, reason }
      ]
    case "ListTargets":
      return [
        { _tag: "ListSucceeded", at: command.at, call, targets: [] },
        { _tag: "ListSucceeded", at: command.at, call, targets: [other(1), entry(2, ips)] },
        { _tag: "ListFailed", at: command.at, call, reason }
      ]
    case "RegisterTarget":
      return [{ _tag: "RegisterSucceeded", at: command.at, call }, {
        _tag: "RegisterFailed",
        at: command.at,
        call,
        reason
      }]
    case "UnregisterTarget":
      return [
        { _tag: "UnregisterSucceeded", at: command.at, call },
        { _tag: "UnregisterFailed", at: command.at, call, reason }
      ]
  }
}

const anyWish: Arbitrary.Arbitrary<Ambassador.Event> = Arbitrary.map(
  Arbitrary.all({ key: anyKey, open: Arbitrary.schema(Few), reply: Arbitrary.schema(Schema.Natural) }),
  ({ key, open, reply }) =>
    open < 3 ? { _tag: "OpenRequested", reply, stream: key } : { _tag: "CloseRequested", reply, stream: key }
)

machineLaws(Ambassador.machine, {
  inputs: Arbitrary.map(Arbitrary.schema(Schema.Natural), (n) => ({ settings, seed: n % 0xffff_ffff })),
  events: anyWish,
  outcomes: outcomesOf,
  close: { event: { _tag: "ShutdownRequested" }, isClosed: Ambassador.isStopped },
  maxMoves: 120,
  invariant: (state, commands, event) => {
    const present = state.conduits.filter(({ attachment }) =>
      !["Closed", "Lingering"].includes(attachment.phase._tag)
      && !(attachment.phase._tag === "Closing" && attachment.phase.repeated)
    )
    assert.isTrue(present.every(({ at }) => at.trench === state.trench), "one trench at most")
    const keys = state.conduits.map(({ at }) => `${at.trench}/${at.conduit}`)
    assert.strictEqual(new Set(keys).size, keys.length, "one attachment for each conduit")
    const streams = state.conduits.flatMap(({ streams }) =>
      streams.map(({ at }) => `${at.trench}/${at.conduit}/${at.stream}`)
    )
    assert.strictEqual(new Set(streams).size, streams.length, "one registration for each stream")
    const everything = Ambassador.statuses(state, { trench: "", conduit: "", stream: "" })
    for (const wanted of everything) {
      assert.deepStrictEqual(
        Ambassador.statuses(state, wanted.at).map(({ at }) => at),
        [wanted.at],
        "a filter with all names finds exactly that stream"
      )
    }
    if (event._tag === "CloseRequested") {
      assert.isTrue(
        commands.some((command) =>
          command._tag === "Reply" && command.answer._tag === "Ok" && command.reply === event.reply
        )
      )
      assert.isFalse(
        everything.some(({ at }) =>
          at.trench === event.stream.trench && at.conduit === event.stream.conduit && at.stream === event.stream.stream
        )
      )
    }
  }
})

transcript(
  Stream.machine,
  new URL("./stories/clash.txt", import.meta.url),
  ({ identifier, phase, status }) => `${phase._tag} status=${status} identifier=${identifier ?? "none"}`
)

transcript(
  Stream.machine,
  new URL("./stories/forgetful-nsp.txt", import.meta.url),
  ({ identifier, phase, status }) => `${phase._tag} status=${status} identifier=${identifier ?? "none"}`
)

transcript(
  Ambassador.machine,
  new URL("./stories/switch-of-trenches.txt", import.meta.url),
  (state) => {
    const streams = Ambassador.statuses(state, { trench: "", conduit: "", stream: "" })
    const conduits = state.conduits.map(({ at, attachment }) => `${at.conduit}.${at.trench}:${attachment.phase._tag}`)
    return [
      `trench=${state.trench ?? "none"}`,
      ...conduits,
      ...streams.map(({ at, status }) => `${at.stream}.${at.conduit}.${at.trench}:${status}`),
      `waiting=${state.queue.length}`
    ].join(" ")
  }
)
