import { assert, describe, it } from "@effect/vitest"
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
import type * as Target from "../config/Target.ts"
import * as Stream from "./Stream.ts"

/** Drives a stream: answers go to the call it waits for, and what it did last is at hand. */
const drive = (situation: Stream.Situation = available()) => {
  let now = 1_000
  let [state, commands] = Stream.init({ at, settings, opened: 0, nextCall: 5, seed: 1, situation }, now)
  const send = (event: Stream.Event | { readonly _tag: "Woken" }) => {
    const [next, more] = Stream.step(state, event, now)
    state = next
    commands = more
  }
  const call = () => "call" in state.phase ? state.phase.call : -1
  const driver = {
    get state() {
      return state
    },
    get phase() {
      return state.phase._tag
    },
    get did() {
      return commands.map((command) =>
        command._tag === "RegisterTarget"
          ? `Register ${command.target.status} ${command.target.identifier}`
          : command._tag
      )
    },
    get commands() {
      return commands
    },
    send,
    situation: (situation: Stream.Situation) => send({ _tag: "SituationChanged", situation }),
    listed: (...targets: ReadonlyArray<Target.Target>) => send({ _tag: "ListSucceeded", at, call: call(), targets }),
    registered: () => send({ _tag: "RegisterSucceeded", at, call: call() }),
    unregistered: () => send({ _tag: "UnregisterSucceeded", at, call: call() }),
    failed: (what: "List" | "Register" | "Unregister") =>
      send({ _tag: `${what}Failed`, at, call: call(), reason: "Unavailable" }),
    /** Moves to the deadline. */
    wake: () => {
      now = Math.max(now, Stream.wake(state) ?? now)
      send({ _tag: "Woken" })
    },
    now: () => now,
    identifier: () => state.identifier ?? 0,
    open: () => {
      driver.listed()
      driver.registered()
      driver.listed(entry(driver.identifier(), ips, "disabled"))
      driver.registered()
      assert.strictEqual(state.phase._tag, "Open")
      return driver
    }
  }
  return driver
}

const verifying = (maxTargets = 2) => {
  const stream = drive(available(maxTargets))
  stream.listed()
  stream.registered()
  return stream
}

describe("Stream", () => {
  it("S1 a blocked stream lists targets when its conduit is up and it is configured", () => {
    const stream = drive({ _tag: "Blocked" })
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.did], ["Blocked", "Unavailable", []])
    stream.situation(available())
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.did], ["Listing", "Pending", ["ListTargets"]])
    assert.strictEqual(Stream.wake(stream.state), stream.now() + 15_000)
  })

  it("S2 a stream outside of the configuration is undefined", () => {
    const stream = drive({ _tag: "Blocked" })
    stream.situation(undefinedStream)
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.did], ["Undefined", "Undefined", []])
  })

  it("S3 an undefined stream begins when the configuration contains it", () => {
    const stream = drive(undefinedStream)
    stream.situation(available())
    assert.deepStrictEqual([stream.phase, stream.did], ["Listing", ["ListTargets"]])
  })

  it("S4 the same configuration again starts no second loop, and keeps the order of the addresses", () => {
    const stream = drive()
    const before = stream.state
    stream.situation(available(2, ips.toReversed()))
    assert.strictEqual(stream.state, before)
    stream.situation(available(3, ips.toReversed()))
    assert.deepStrictEqual([stream.phase, stream.did], ["Listing", []])
    stream.listed()
    assert.deepStrictEqual(stream.state.registered, ips)
  })

  it("S5 a stream that leaves the configuration is unregistered", () => {
    const stream = drive().open()
    stream.situation(undefinedStream)
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.did], ["Unregistering", "Undefined", [
      "UnregisterTarget"
    ]])
    assert.strictEqual(Stream.wake(stream.state), stream.now() + 15_000)
  })

  it("S5 what was pending is interrupted first", () => {
    const stream = drive()
    stream.listed()
    stream.situation(undefinedStream)
    assert.deepStrictEqual(stream.did, ["Cancel", "UnregisterTarget"])
  })

  it("S6 without an identifier nothing is unregistered", () => {
    const stream = drive()
    stream.situation(undefinedStream)
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.did], ["Undefined", "Undefined", ["Cancel"]])
  })

  it("S7 without addresses the attempt fails", () => {
    const stream = drive(available(2, []))
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.did], ["Waiting", "Unavailable", []])
    assert.strictEqual(Stream.wake(stream.state), stream.now() + 1_000)
  })

  it("S8 a full stream waits unevenly", () => {
    const stream = drive()
    stream.listed(other(1), other(1))
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.did], ["Waiting", "Unavailable", []])
    const pause = (Stream.wake(stream.state) ?? 0) - stream.now()
    assert.isTrue(pause >= 1_000 && pause <= 1_500, String(pause))
  })

  it("S9 the only free identifier is registered disabled", () => {
    const stream = drive(available(3))
    stream.listed(other(3), other(1), entry(2, ips))
    assert.deepStrictEqual([stream.phase, stream.did], ["Registering", ["Register disabled 2"]])
  })

  it("S10 a registered identifier is looked at again", () => {
    const stream = drive()
    stream.listed()
    stream.registered()
    assert.deepStrictEqual([stream.phase, stream.did], ["Verifying", ["ListTargets"]])
  })

  it("S11 a stream that filled up meanwhile is given back", () => {
    const stream = verifying()
    stream.listed(other(1), other(2))
    assert.deepStrictEqual([stream.phase, stream.did], ["Retreating", ["UnregisterTarget"]])
  })

  it("S12 and S14 a clash gives the identifier back and tries a free one", () => {
    for (const answer of ["ok", "error"]) {
      const stream = verifying()
      const first = stream.identifier()
      stream.listed(other(first), entry(first, ips, "disabled"))
      assert.deepStrictEqual([stream.phase, stream.did], ["Retreating", ["UnregisterTarget"]])
      if (answer === "ok") stream.unregistered()
      else stream.failed("Unregister")
      assert.deepStrictEqual([stream.phase, stream.did], ["Registering", [`Register disabled ${3 - first}`]])
    }
  })

  it("S13 a free identifier is registered enabled", () => {
    const stream = verifying()
    const identifier = stream.identifier()
    stream.listed(other(3 - identifier), entry(identifier, ips, "disabled"))
    assert.deepStrictEqual([stream.phase, stream.did], ["Enabling", [`Register enabled ${identifier}`]])
    assert.isTrue(stream.state.verified)
  })

  it("S15 after giving back in a full stream it waits and keeps its preference", () => {
    const stream = verifying()
    const identifier = stream.identifier()
    stream.listed(other(1), other(2))
    stream.unregistered()
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.state.registered], [
      "Waiting",
      "Unavailable",
      null
    ])
    stream.wake()
    stream.listed(other(3 - identifier))
    assert.deepStrictEqual(stream.did, [`Register disabled ${identifier}`])
  })

  it("S16 the stream is open and refreshed after the entry timeout", () => {
    const stream = drive().open()
    assert.deepStrictEqual([stream.state.status, stream.did], ["Open", []])
    assert.strictEqual(Stream.wake(stream.state), stream.now() + 30_000)
  })

  it("S17 a refresh registers enabled", () => {
    const stream = drive().open()
    stream.wake()
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.did], [
      "Refreshing",
      "Open",
      [`Register enabled ${stream.identifier()}`]
    ])
  })

  it("S18 an identifier beyond a lowered limit is given back and another is agreed on", () => {
    const stream = drive(available(2))
    stream.listed(other(1))
    stream.registered()
    stream.listed(other(1), entry(2, ips, "disabled"))
    stream.registered()
    stream.situation(available(1))
    assert.deepStrictEqual([stream.phase, stream.did], ["Open", []])
    stream.wake()
    assert.deepStrictEqual([stream.phase, stream.did], ["Unregistering", ["UnregisterTarget"]])
    stream.unregistered()
    assert.deepStrictEqual([stream.phase, stream.identifier(), stream.did], ["Listing", 0, ["ListTargets"]])
  })

  it("S19 and S20 a refresh is confirmed by the list", () => {
    const stream = drive().open()
    stream.wake()
    stream.registered()
    assert.deepStrictEqual([stream.phase, stream.did], ["Confirming", ["ListTargets"]])
    stream.listed(entry(stream.identifier(), ips.toReversed()))
    assert.deepStrictEqual([stream.phase, stream.state.status], ["Open", "Open"])
    assert.strictEqual(Stream.wake(stream.state), stream.now() + 30_000)
  })

  it("S21 an entry that the NSP forgot is agreed on anew, with the same identifier if it is free", () => {
    for (const mine of [[], ["disabled" as const]]) {
      const stream = drive().open()
      const identifier = stream.identifier()
      stream.wake()
      stream.registered()
      stream.listed(...mine.map((status) => entry(identifier, ips, status)))
      assert.deepStrictEqual([stream.phase, stream.state.verified, stream.did], ["Listing", false, ["ListTargets"]])
      stream.listed()
      assert.deepStrictEqual(stream.did, [`Register disabled ${identifier}`])
    }
  })

  it("S22 a failure in any step of an attempt waits a second", () => {
    const steps: ReadonlyArray<readonly [(stream: ReturnType<typeof drive>) => void, "List" | "Register"]> = [
      [() => undefined, "List"],
      [(stream) => stream.listed(), "Register"],
      [(stream) => (stream.listed(), stream.registered()), "List"],
      [(stream) => (stream.listed(), stream.registered(), stream.listed()), "Register"],
      [(stream) => (stream.open(), stream.wake()), "Register"],
      [(stream) => (stream.open(), stream.wake(), stream.registered()), "List"]
    ]
    for (const [go, what] of steps) {
      const failing = drive()
      go(failing)
      failing.failed(what)
      assert.deepStrictEqual([failing.phase, failing.state.status, failing.did], ["Waiting", "Unavailable", []])
      assert.strictEqual(Stream.wake(failing.state), failing.now() + 1_000)
      const late = drive()
      go(late)
      late.wake()
      assert.deepStrictEqual([late.phase, late.state.status, late.did], ["Waiting", "Unavailable", ["Cancel"]])
    }
  })

  it("S23 after a verified registration the retry is a refresh", () => {
    const stream = verifying()
    stream.listed()
    stream.failed("Register")
    stream.wake()
    assert.deepStrictEqual([stream.phase, stream.did], ["Refreshing", [`Register enabled ${stream.identifier()}`]])
  })

  it("S24 else the retry begins with a list and stays unavailable", () => {
    const stream = drive()
    stream.failed("List")
    stream.wake()
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.did], ["Listing", "Unavailable", ["ListTargets"]])
  })

  it("S25 once unregistered an undefined stream has no identifier, and begins if it was configured meanwhile", () => {
    const gone = drive().open()
    gone.situation(undefinedStream)
    gone.failed("Unregister")
    assert.deepStrictEqual([gone.phase, gone.state.status, gone.state.identifier], ["Undefined", "Undefined", null])
    const back = drive().open()
    back.situation(undefinedStream)
    back.situation(available())
    assert.deepStrictEqual([back.phase, back.state.status, back.did], ["Unregistering", "Pending", []])
    back.unregistered()
    assert.deepStrictEqual([back.phase, back.did], ["Listing", ["ListTargets"]])
  })

  it("S26 new addresses unregister the old ones, then register", () => {
    const stream = drive().open()
    stream.situation(available(2, elsewhere))
    const [command] = stream.commands
    assert.deepStrictEqual(command?._tag === "UnregisterTarget" ? command.target.ips : [], ips)
    assert.deepStrictEqual([stream.phase, stream.state.status], ["Unregistering", "Pending"])
    assert.strictEqual(Stream.wake(stream.state), stream.now() + 60_000)
    stream.unregistered()
    stream.listed()
    assert.deepStrictEqual(stream.state.registered, elsewhere)
  })

  it("S27 and S28 a close unregisters whatever was going on and then ends, answered or not", () => {
    for (const answer of ["ok", "error", "late"]) {
      const stream = drive()
      stream.listed()
      const stale = "call" in stream.state.phase ? stream.state.phase.call : -1
      stream.send({ _tag: "CloseRequested" })
      assert.deepStrictEqual([stream.phase, stream.did, Stream.isClosing(stream.state)], [
        "Unregistering",
        ["Cancel", "UnregisterTarget"],
        true
      ])
      const before = stream.state
      stream.send({ _tag: "RegisterSucceeded", at, call: stale })
      assert.strictEqual(stream.state, before)
      if (answer === "ok") stream.unregistered()
      else if (answer === "error") stream.failed("Unregister")
      else stream.wake()
      assert.isTrue(Stream.isClosed(stream.state))
      assert.strictEqual(Stream.wake(stream.state), undefined)
    }
  })

  it("S28 without an identifier a close ends at once", () => {
    const stream = drive()
    stream.send({ _tag: "CloseRequested" })
    assert.deepStrictEqual([stream.phase, stream.did], ["Closed", ["Cancel"]])
  })

  it("S29 a conduit that is lost unregisters the stream, which is unavailable at once", () => {
    const stream = drive().open()
    stream.situation({ _tag: "Blocked" })
    assert.deepStrictEqual([stream.phase, stream.state.status, stream.did], ["Unregistering", "Unavailable", [
      "UnregisterTarget"
    ]])
    stream.unregistered()
    assert.deepStrictEqual([stream.phase, stream.state.status], ["Blocked", "Unavailable"])
  })
})
