/**
 * How soon a change is in force: a gateway that falls silent (BFD every 100 ms, three times) and comes back, and a target
 * that leaves or returns among 100. The baseline is what cannot be avoided: the detection time of BFD, a connection by
 * BIRD at once; for targets the aim of 20 ms.
 */
import { Effect, Logger, Stream, SubscriptionRef } from "effect"
import { execFileSync } from "node:child_process"
import type { LoadBalancer } from "../core/loadbalancer/index.ts"
import * as Control from "../shells/bird/Control.ts"
import { gatewayConfig } from "../shells/frontend/Outside.ts"
import * as FrontendWorld from "../shells/frontend/World.ts"
import * as Health from "../shells/grpc/Health.ts"
import * as BalancerWorld from "../shells/loadbalancer/World.ts"
import * as Netlink from "../shells/netlink/Netlink.ts"
import * as Bench from "./Bench.ts"

const row = (metric: string, values: ReadonlyArray<number>, baseline: number): Bench.Row => {
  const value = Bench.median(values)
  return { bench: "failover", metric, unit: "ms", value, baseline, ratio: value / baseline }
}

const rounds = 5
const targetAim = 20

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

// The kernel acknowledges a change of the rules when it is in force.
const targets = (shape: { readonly streams: number; readonly flows: number }) =>
  Effect.gen(function*() {
    const { balancer, nsp } = yield* BalancerWorld.make(0)
    const number = 100
    const streams = Array.from(
      { length: shape.streams },
      (_, n) => ({ ...BalancerWorld.stream, name: `stream-${n}`, maxTargets: number })
    )
    const all = Array.from({ length: number }, (_, n) => {
      const target = BalancerWorld.target(n + 1)
      const identifier = String(Math.floor(n / shape.streams) + 1)
      return { ...target, context: { identifier }, stream: streams[n % shape.streams] }
    })
    yield* SubscriptionRef.set(nsp.streams, streams)
    yield* SubscriptionRef.set(
      nsp.flows,
      Array.from({ length: shape.flows }, (_, n) => ({
        ...BalancerWorld.flow,
        name: `flow-${n}`,
        destinationPortRanges: [`${1_000 + 10 * n}-${1_009 + 10 * n}`],
        stream: streams[n % shape.streams]
      }))
    )
    yield* SubscriptionRef.set(nsp.targets, all)
    const running = yield* BalancerWorld.start(balancer, nsp)
    const until = (holds: (state: LoadBalancer.State) => boolean) =>
      Stream.runDrain(Stream.takeUntil(running.changes, (state) => state.applying === undefined && holds(state)))
    const inForce = (count: number) =>
      until(({ rules }) => rules?.streams.reduce((sum, { identifiers }) => sum + identifiers.length, 0) === count)
    yield* inForce(number)
    const leaving: Array<number> = []
    const returning: Array<number> = []
    for (let round = 0; round < rounds; round++) {
      for (const [times, count] of [[leaving, number - 1], [returning, number]] as const) {
        yield* until(({ kernel }) => kernel._tag === "Idle")
        yield* Effect.sleep(300)
        times.push(
          yield* elapsed(Effect.andThen(SubscriptionRef.set(nsp.targets, all.slice(0, count)), inForce(count)))
        )
      }
    }
    const of = `of ${number}, streams: ${shape.streams}, flows: ${shape.flows}`
    return [
      row(`target leaves ${of}: registry to kernel`, leaving, targetAim),
      row(`target returns ${of}: registry to kernel`, returning, targetAim)
    ]
  }).pipe(Effect.scoped)

export const bench: Bench.Bench = {
  name: "failover",
  summary: "from a lost gateway or a changed target to what the kernel does",
  rows: Effect.scoped(Effect.gen(function*() {
    return [
      ...yield* targets({ streams: 1, flows: 1 }),
      ...yield* targets({ streams: 10, flows: 100 }),
      ...yield* gateways
    ]
  })).pipe(Effect.provide(Logger.layer([])), Effect.orDie)
}
