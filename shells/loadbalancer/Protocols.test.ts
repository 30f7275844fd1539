import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream, SubscriptionRef } from "effect"
import * as World from "./World.ts"

type Running = Effect.Success<ReturnType<typeof World.start>>
type Nsp = Effect.Success<ReturnType<typeof World.make>>["nsp"]

const ways = [
  { way: "on the general way", env: { SLUICE_EXTERNAL_INTERFACE: "none" } },
  { way: "on the fast path", env: { SLUICE_EXTERNAL_INTERFACE: "ext" } }
]

const inForce = (running: Running, holds: (rules: NonNullable<ReturnType<Running["current"]>["rules"]>) => boolean) =>
  Stream.runDrain(
    Stream.takeUntil(
      running.changes,
      ({ applying, rules }) => applying === undefined && rules !== undefined && holds(rules)
    )
  )

const targets = (nsp: Nsp, running: Running, count: number) =>
  Effect.andThen(
    SubscriptionRef.set(nsp.targets, Array.from({ length: count }, (_, n) => World.target(n + 1))),
    inForce(running, ({ streams }) => streams[0]?.identifiers.length === count)
  )

describe("The load balancer", () => {
  it.live.each(ways)(
    "balances SCTP and translates its ports with a right checksum, $way",
    ({ env }) =>
      Effect.gen(function*() {
        const { balancer, nsp, sendSctp } = yield* World.make(1)
        yield* SubscriptionRef.set(nsp.flows, [{ ...World.flow, protocols: ["sctp"] }])
        const running = yield* World.start(balancer, nsp, env)
        yield* targets(nsp, running, 1)
        for (const host of Object.values(World.vips)) assert.strictEqual(yield* sendSctp(host, 80), "80 right")
        yield* SubscriptionRef.set(nsp.nats, [{
          port: 80,
          targetPort: 4_000,
          vips: [...nsp.wireVips],
          protocol: "sctp"
        }])
        yield* inForce(running, ({ portNats }) => portNats.length === 1)
        for (const host of Object.values(World.vips)) assert.strictEqual(yield* sendSctp(host, 80), "4000 right")
      }),
    60_000
  )

  it.live.each(ways)(
    "looks at the bytes that a flow asks for, and at the next flow if they differ, $way",
    ({ env }) =>
      Effect.gen(function*() {
        const { ask, balancer, nsp } = yield* World.make(1)
        const running = yield* World.start(balancer, nsp, env)
        // The length of UDP: header and payload.
        const matching = {
          ...World.flow,
          name: "flow-b",
          priority: 9,
          protocols: ["udp"],
          byteMatches: ["udp[4:2] = 28"]
        }
        yield* SubscriptionRef.set(nsp.flows, [matching])
        yield* targets(nsp, running, 1)
        yield* inForce(running, ({ flows }) => flows[0]?.byteMatches.length === 1)
        const answered = (host: string, payload: number) =>
          ask({ protocol: "udp", host, firstPort: 20_000, count: 3, payload }).pipe(
            Effect.map((answers) => Object.values(answers).every((name) => name === "1"))
          )
        for (const host of Object.values(World.vips)) {
          assert.isTrue(yield* answered(host, 20))
          assert.isFalse(yield* answered(host, 21))
        }
        yield* SubscriptionRef.set(nsp.flows, [matching, World.flow])
        yield* inForce(running, ({ flows }) => flows.length === 2)
        for (const host of Object.values(World.vips)) assert.isTrue(yield* answered(host, 21))
        const matches = (yield* running.metrics).flatMap(({ labels, name, value }) =>
          name.endsWith("flow.matches") ? [[labels["flow"], value > 0]] : []
        )
        assert.sameDeepMembers(matches, [["flow-a", true], ["flow-b", true]])
      }),
    60_000
  )

  it.live("shares a namespace with one that has marks and VIPs of its own", () =>
    Effect.gen(function*() {
      const { ask, balancer, nsp } = yield* World.make(2)
      const other = yield* World.fakeNsp
      const conduit = { name: "conduit-b", trench: { name: "trench-a" }, destinationPortNats: [] }
      const stream = { name: "stream-b", conduit, maxTargets: 10 }
      const [vip4, vip6] = [nsp.wireVips.slice(0, 1), nsp.wireVips.slice(1)]
      yield* SubscriptionRef.set(nsp.vips, vip4)
      yield* SubscriptionRef.set(nsp.flows, [{ ...World.flow, vips: vip4 }])
      yield* SubscriptionRef.set(other.vips, vip6)
      yield* SubscriptionRef.set(other.streams, [stream])
      yield* SubscriptionRef.set(other.flows, [{ ...World.flow, name: "flow-b", stream, vips: vip6 }])
      yield* SubscriptionRef.set(other.targets, [{ ...World.target(2), stream }])
      const running = yield* World.start(balancer, nsp, { SLUICE_IDENTIFIER_OFFSET_END: "5999" })
      yield* targets(nsp, running, 1)
      const served = (host: string) =>
        ask({ protocol: "tcp", host, firstPort: 20_000, count: 20 }).pipe(
          Effect.map((answers) => [...new Set(Object.values(answers))])
        )
      yield* Effect.scoped(Effect.gen(function*() {
        const env = { NSM_CONDUIT_NAME: "conduit-b", NSM_IDENTIFIER_OFFSET_START: "6000" }
        yield* inForce(yield* World.start(balancer, other, env), ({ streams }) => streams[0]?.identifiers.length === 1)
        assert.deepStrictEqual(yield* served(World.vips.v4), ["1"])
        assert.deepStrictEqual(yield* served(World.vips.v6), ["2"])
      }))
      assert.deepStrictEqual(yield* served(World.vips.v4), ["1"])
    }), 60_000)

  it.live("serves its metrics over HTTP", () =>
    Effect.gen(function*() {
      const { ask, balancer, nsp } = yield* World.make(1)
      const port = 20_000 + process.pid % 10_000
      const env = { NSM_METRICS_ENABLED: "true", NSM_METRICS_PORT: String(port) }
      const running = yield* World.start(balancer, nsp, env)
      yield* targets(nsp, running, 1)
      yield* ask({ protocol: "udp", host: World.vips.v4, firstPort: 20_000, count: 7 })
      const text = yield* Effect.promise(() =>
        fetch(`http://127.0.0.1:${port}/metrics`).then((answer) => answer.text())
      )
      assert.match(text, /^meridio_conduit_stream_flow_matches_total\{[^}]*flow="flow-a"[^}]*\} 7$/m)
      assert.match(text, /^meridio_conduit_stream_target_hit_packets_total\{[^}]*identifier="5001"[^}]*\} 7$/m)
      assert.match(text, /^meridio_interface_tx_packets_total\{[^}]*interface_name="load-balan-1"/m)
    }), 60_000)
})
