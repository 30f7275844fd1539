/**
 * How soon a change is in force: a gateway that falls silent (BFD every 100 ms, three times) and comes back, and a target
 * that leaves or returns among 100. The baseline is what cannot be avoided: the detection time of BFD, a connection by
 * BIRD at once, a call of `nft` that changes nothing.
 */
import { Effect, Logger, Stream, SubscriptionRef } from "effect"
import { execFileSync, spawn } from "node:child_process"
import * as Control from "../shells/bird/Control.ts"
import { gatewayConfig } from "../shells/frontend/Outside.ts"
import * as FrontendWorld from "../shells/frontend/World.ts"
import * as Health from "../shells/grpc/Health.ts"
import * as BalancerWorld from "../shells/loadbalancer/World.ts"
import * as Netlink from "../shells/netlink/Netlink.ts"
import * as Nftables from "../shells/nftables/Nftables.ts"
import * as Bench from "./Bench.ts"

const row = (metric: string, values: ReadonlyArray<number>, baseline: number): Bench.Row => {
  const value = Bench.median(values)
  return { bench: "failover", metric, unit: "ms", value, baseline, ratio: value / baseline }
}

const rounds = 5

const elapsed = <E, R>(until: Effect.Effect<unknown, E, R>): Effect.Effect<number, E, R> =>
  Effect.suspend(() => {
    const begin = performance.now()
    return Effect.map(until, () => performance.now() - begin)
  })

/** Looks every other millisecond. */
const when = <E, R>(look: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(look, (holds) => holds ? Effect.void : Effect.andThen(Effect.sleep(2), when(look)))

const often = (text: string): string => text.replaceAll("300 ms", "100 ms").replaceAll("multiplier 5", "multiplier 3")

// Nobody is told: no link goes down.
const cut = `table netdev cut {
  chain in { type filter hook ingress device ext priority -500; policy drop; }
  chain out { type filter hook egress device ext priority -500; policy drop; }
}`

const gateways = Effect.gen(function*() {
  const lab = yield* FrontendWorld.world(often(gatewayConfig("")), { env: { NFE_DELAY_CONNECTIVITY: "1s" } })
  const bfdSpec = { MinTx: 100, MinRx: 100, Multiplier: 3 }
  const { attractor } = FrontendWorld
  yield* SubscriptionRef.set(lab.attractors, [{
    ...attractor,
    gateways: attractor.gateways.map((gateway) => ({ ...gateway, bfdSpec }))
  }])
  yield* SubscriptionRef.set(lab.forwarding, true)
  const running = yield* FrontendWorld.startFrontend(lab)
  const netlink = yield* Netlink.make(lab.frontend)
  const egress = Effect.map(
    netlink.snapshot,
    ({ routes }) => routes.filter(({ table }) => table === lab.settings.tableId).length
  )
  const announced = FrontendWorld.announces(lab, "20.0.0.1/32", "2000::1/128")
  const bothUp = Effect.map(
    Control.askOk(lab.gatewaySocket, "show bfd sessions", 5_000),
    (text) => (text.match(/ Up /g) ?? []).length === 2
  )
  const lost: Array<number> = []
  const withdrawn: Array<number> = []
  const back: Array<number> = []
  for (let round = 0; round < rounds; round++) {
    yield* when(Effect.map(
      Effect.all([announced, bothUp, egress]),
      ([vips, bfd, count]) => vips && bfd && count === 2 && running.current().connectivity.connected
    ))
    execFileSync("nsenter", [`--net=${lab.outside}`, "nft", "-f", "-"], { input: cut })
    const [egressGone, vipsGone] = yield* Effect.all([
      elapsed(when(Effect.map(egress, (count) => count === 0))),
      elapsed(when(FrontendWorld.announcesNothing(lab)))
    ], { concurrency: "unbounded" })
    lost.push(egressGone)
    withdrawn.push(vipsGone)
    yield* when(Effect.sync(() => !running.current().connectivity.connected))
    execFileSync("nsenter", [`--net=${lab.outside}`, "nft", "delete", "table", "netdev", "cut"])
    back.push(yield* elapsed(when(Effect.map(egress, (count) => count === 2))))
  }
  return [
    row("gateway falls silent: egress of both families dropped", lost, 300),
    row("gateway falls silent: its routes to the VIPs gone", withdrawn, 300),
    row("gateway is back: egress of both families", back, 1_000)
  ]
}).pipe(Effect.provide(Health.layer))

// When the rules in the kernel change. `nft` itself ends some 10 ms later, when the kernel has cleaned up.
const generations = (namespace: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => spawn("nsenter", [`--net=${namespace}`, "stdbuf", "-oL", "nft", "monitor"])),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    ),
    ({ stdout }) =>
      Effect.callback<void>((resume) => {
        const look = (data: Buffer) => {
          if (!data.includes("new generation")) return
          stdout.off("data", look)
          resume(Effect.void)
        }
        stdout.on("data", look)
      })
  )

const targets = Effect.gen(function*() {
  const { balancer, nsp } = yield* BalancerWorld.make(0)
  const stream = { ...BalancerWorld.stream, maxTargets: 100 }
  const all = Array.from({ length: 100 }, (_, n) => ({ ...BalancerWorld.target(n + 1), stream }))
  yield* SubscriptionRef.set(nsp.streams, [stream])
  yield* SubscriptionRef.set(nsp.flows, [{ ...BalancerWorld.flow, stream }])
  yield* SubscriptionRef.set(nsp.targets, all)
  const running = yield* BalancerWorld.start(balancer, nsp)
  const inForce = (count: number) =>
    Stream.runDrain(
      Stream.takeUntil(running.changes, ({ applying, rules }) =>
        applying === undefined && rules?.streams[0]?.identifiers.length === count)
    )
  const idle = Stream.runDrain(
    Stream.takeUntil(running.changes, ({ applying, kernel }) => applying === undefined && kernel._tag === "Idle")
  )
  yield* inForce(100)
  const changed = yield* generations(balancer)
  yield* Effect.sleep(500)
  const nftables = yield* Nftables.make(balancer)
  const nothing: Array<number> = []
  const leaving: Array<number> = []
  const returning: Array<number> = []
  for (let round = 0; round < rounds; round++) {
    nothing.push(yield* elapsed(nftables.apply("")))
    for (const [times, count] of [[leaving, 99], [returning, 100]] as const) {
      yield* idle
      yield* Effect.sleep(300)
      times.push(
        yield* elapsed(Effect.all([
          changed,
          SubscriptionRef.set(nsp.targets, all.slice(0, count))
        ], { concurrency: "unbounded" }))
      )
      yield* inForce(count)
    }
  }
  const baseline = Bench.median(nothing)
  return [
    row("target of 100 leaves: registry to kernel", leaving, baseline),
    row("target of 100 returns: registry to kernel", returning, baseline)
  ]
})

export const bench: Bench.Bench = {
  name: "failover",
  summary: "from a lost gateway or a changed target to what the kernel does",
  rows: Effect.scoped(Effect.gen(function*() {
    return [...yield* targets, ...yield* gateways]
  })).pipe(Effect.provide(Logger.layer([])), Effect.orDie)
}
