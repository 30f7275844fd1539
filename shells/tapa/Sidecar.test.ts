import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule, Stream } from "effect"
import { existsSync, lstatSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as Health from "../grpc/Health.ts"
import { streamOf } from "./Rig.ts"
import * as Sidecar from "./Sidecar.ts"

const until = (what: string, holds: () => boolean) =>
  Effect.suspend(() => holds() ? Effect.void : Effect.fail("not yet")).pipe(
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 400 }),
    Effect.mapError(() => new Error(`timed out: ${what}`))
  )

const run = (args: ReadonlyArray<string>, env: { readonly [name: string]: string } = {}) =>
  Effect.scoped(Effect.gen(function*() {
    const child = yield* Sidecar.start(env, { args })
    const code = yield* child.ended
    return { code, ...child.text }
  }))

const statuses = (child: Effect.Success<ReturnType<typeof Sidecar.start>>) =>
  child.client.stream(Tap.TapDefinition, "watch", Tap.Stream.fromPartial({})).pipe(
    Stream.runHead,
    Effect.flatMap(Effect.fromOption),
    Effect.map(({ streamStatus }) => streamStatus)
  )

describe("sluice tapa in place of the original sidecar", () => {
  it.live("answers --version, --debug and --help before it reads the environment", () =>
    Effect.gen(function*() {
      const bad = { MERIDIO_TIMEOUT: "soon" }
      for (const dashes of ["-", "--"]) {
        const version = yield* run([`${dashes}version`], bad)
        assert.match(version.out, /^\S+\n$/)
        const debug = yield* run([`${dashes}debug`], bad)
        const report: object = JSON.parse(debug.out)
        assert.containsAllKeys(report, ["version", "network-interfaces", "environment-variables"])
        assert.strictEqual(debug.out.trim().split("\n").length, 1)
        const help = yield* run([`${dashes}help`], bad)
        assert.match(help.out, /^\ntapa --\n {2}\S/)
        assert.include(help.out, "MERIDIO_NSP_ENTRY_TIMEOUT")
        assert.deepStrictEqual([version, debug, help].map(({ code, err }) => [code, err]), [[0, ""], [0, ""], [0, ""]])
      }
      const unknown = yield* run(["--nonsense"])
      assert.deepStrictEqual([unknown.code, unknown.out], [2, ""])
    }), 60_000)

  it.live("refuses a bad variable with code 2, and names it with its value", () =>
    Effect.gen(function*() {
      const { code, err } = yield* run([], { MERIDIO_TIMEOUT: "15", MERIDIO_DIAL_TIMEOUT: "0s" })
      assert.strictEqual(code, 2)
      assert.include(err, "MERIDIO_TIMEOUT=\"15\"")
      const { err: second } = yield* run([], { MERIDIO_DIAL_TIMEOUT: "0s" })
      assert.include(second, "MERIDIO_DIAL_TIMEOUT")
    }), 30_000)

  it.live(
    "serves every user at its socket, reports health by the names old and new, and logs as the original",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const child = yield* Sidecar.start()
        yield* child.ready
        const socket = `${child.folder}/ambassador.sock`
        assert.strictEqual(statSync(socket).mode & 0o777, 0o777)
        for (const service of ["", "Startup", "Readiness", "Liveness", "Ambassador", "AmbassadorSvc"]) {
          assert.isTrue(yield* Health.check({ address: child.health, service }), service)
        }
        assert.isTrue(yield* Health.check({ address: child.target, service: "" }), "on the socket of the ambassador")
        const lines = child.log()
        const read = lines.find(({ message }) => message === "Configuration read")
        assert.deepStrictEqual(Object.keys(read ?? {}), [
          "severity",
          "timestamp",
          "service_id",
          "message",
          "version",
          "extra_data"
        ])
        assert.isTrue(lines.every(({ service_id }) => service_id === "Meridio-tapa"))
        yield* child.kill("SIGTERM")
        assert.strictEqual(yield* child.ended, 0)
        assert.isFalse(existsSync(socket))
      })),
    30_000
  )

  it.live(
    "#2.1 replaces the socket of a dead process, and never removes a folder or a file in its place",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const folder = yield* Sidecar.folder
        const first = yield* Sidecar.start({}, { folder })
        yield* first.ready
        yield* first.kill("SIGKILL")
        assert.strictEqual(yield* first.ended, "SIGKILL")
        assert.isTrue(lstatSync(`${folder}/ambassador.sock`).isSocket())
        const second = yield* Sidecar.start({}, { folder })
        yield* second.ready
        assert.deepStrictEqual(yield* statuses(second), [])

        const occupied = yield* Sidecar.folder
        mkdirSync(`${occupied}/ambassador.sock`)
        writeFileSync(`${occupied}/ambassador.sock/precious`, "yes")
        const third = yield* Sidecar.start({}, { folder: occupied })
        assert.strictEqual(yield* third.ended, 1)
        assert.include(third.text.out, "is not a socket")
        assert.strictEqual(readFileSync(`${occupied}/ambassador.sock/precious`, "utf8"), "yes")
      })),
    30_000
  )

  it.live(
    "#2.1 a log level by signal never ends it, also when it starts with TRACE; every other signal does, with code 0",
    () =>
      Effect.gen(function*() {
        for (const end of ["SIGINT", "SIGHUP", "SIGTERM", "SIGQUIT"] as const) {
          yield* Effect.scoped(Effect.gen(function*() {
            const child = yield* Sidecar.start({ MERIDIO_LOG_LEVEL: end === "SIGINT" ? "TRACE" : "INFO" })
            yield* child.ready
            yield* child.client.call(Tap.TapDefinition, "open", streamOf("s"))
            yield* child.kill("SIGUSR2")
            yield* child.kill("SIGUSR1")
            assert.strictEqual((yield* statuses(child)).length, 1)
            yield* child.kill(end)
            assert.strictEqual(yield* child.ended, 0)
          }))
        }
      }),
    60_000
  )

  it.live(
    "queries an absent manager again and again, each time no longer than MERIDIO_DIAL_TIMEOUT",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const child = yield* Sidecar.start({ MERIDIO_DIAL_TIMEOUT: "120ms" })
        yield* child.ready
        yield* child.client.call(Tap.TapDefinition, "open", streamOf("s"))
        const failures = () => child.log().filter(({ message }) => message === "Could not query the connection")
        yield* until("three queries", () => failures().length >= 3)
        for (const { extra_data } of failures()) {
          assert.include(JSON.stringify(extra_data), "nsm.sock within 120 ms")
        }
        assert.deepStrictEqual((yield* statuses(child)).map(({ status }) => status), [
          Tap.StreamStatus_Status.UNAVAILABLE
        ])
      })),
    30_000
  )

  it.live.skipIf(process.getuid?.() !== 0)(
    "runs as user 10005 without any capability",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const child = yield* Sidecar.start({}, { through: Sidecar.unprivileged })
        yield* child.ready
        const status = readFileSync(`/proc/${child.pid}/status`, "utf8")
        for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
          assert.match(status, new RegExp(`${set}:\\s0+\\n`))
        }
        assert.match(status, /Uid:\s10005\s/)
        yield* child.client.call(Tap.TapDefinition, "open", streamOf("s"))
        assert.strictEqual((yield* statuses(child)).length, 1)
        yield* child.kill("SIGTERM")
        assert.strictEqual(yield* child.ended, 0)
      })),
    30_000
  )
})
