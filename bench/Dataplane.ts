/**
 * What the load balancer costs a packet, beside plain routing and the equal-cost routes of the kernel, on the whole way
 * from a client's system call to the socket of a target (`DataplaneChain.ts`): 100 targets, 10 streams, 100 flows.
 *
 * Each datagram is sent by a system call of its own, as in the measurement that the aims come from. Sending, four links,
 * the gateway, the bridge of the proxy and the target are part of what a packet costs then, with and without load
 * balancer. Where 64 datagrams share a system call ("in bursts"), a larger part is the load balancer's own.
 *
 * What the rules cost beside forwarding: three hash lookups (flow, slot, target), a hash of the packet and two counters,
 * about 0.3 us of 2.8 us for the whole way here. The least that gives a target on the fast path, without flows, streams
 * and counters, has 0.94 times the rate of plain routing on the same machine. On the general way the kernel also goes
 * through one routing rule per target, half of them on average (0.2 us with 100 targets), and on the way back all.
 *
 * User-space balancers are not measured: nfqueue needs a program of its own beside the kernel's xtables here.
 */
import { Effect } from "effect"
import * as Bench from "./Bench.ts"
import * as Chain from "./DataplaneChain.ts"

const spread = { targets: 100, streams: 10, flows: 100 }

const shapes: ReadonlyArray<Chain.Shape> = [
  { way: "plain", targets: 1, streams: 0, flows: 0 },
  { way: "fast", ...spread },
  { way: "general", ...spread },
  { way: "ecmp", ...spread, streams: 0, flows: 0 },
  ...[10, 1_000].flatMap((flows) => (["fast", "general"] as const).map((way) => ({ ...spread, way, flows })))
]

const title = ({ flows, way }: Chain.Shape): string => flows === 0 ? way : `${way}, ${flows} flows`

type Measure = (chain: Chain.Chain) => Effect.Effect<number>

const variants = (chains: ReadonlyArray<Chain.Chain>, measure: Measure): ReadonlyArray<Bench.Variant<never>> =>
  chains.map((chain) => ({ name: title(chain.shape), run: measure(chain) }))

/** Thousands of packets per second that arrive. */
const rate = (work: "send" | "burst", host: string): Measure => ({ ask, received }) =>
  Effect.gen(function*() {
    const count = 64 * 1_000
    const before = yield* received
    const secondsEach = Number(yield* ask({ work, host, count }))
    return Math.min(1, ((yield* received) - before) / count) / secondsEach / 1e3
  })

const throughput = (host: string): Measure => ({ ask }) => Effect.map(ask({ work: "stream", host, count: 512 }), Number)

const trip = (host: string, which: 0 | 1): Measure => ({ ask }) =>
  Effect.map(ask({ work: "trip", host, count: 3_000 }), (both) => Array.isArray(both) ? Number(both[which]) : 0)

const rows = (metric: string, unit: string, chains: ReadonlyArray<Chain.Chain>, measure: Measure) =>
  Bench.rows("dataplane", metric, unit, variants(chains, measure))

export const bench: Bench.Bench = {
  name: "dataplane",
  summary: "packets, bytes and round trips through the load balancer, against plain routing",
  rows: Effect.scoped(Effect.gen(function*() {
    const chains = yield* Effect.forEach(shapes, Chain.make)
    const usual = chains.filter(({ shape }) => shape.flows === 0 || shape.flows === spread.flows)
    const byFlows = (way: Chain.Way) =>
      chains.filter(({ shape }) => shape.way === way).toSorted((a, b) => a.shape.flows - b.shape.flows)
    const { v4, v6 } = Chain.vips
    return [
      ...yield* rows("UDP v4", "kpps", usual, rate("send", v4)),
      ...yield* rows("UDP v6", "kpps", usual, rate("send", v6)),
      ...yield* rows("UDP v4 in bursts", "kpps", usual, rate("burst", v4)),
      ...yield* rows("TCP v4", "Gbit/s", usual, throughput(v4)),
      ...yield* rows("TCP v6", "Gbit/s", usual, throughput(v6)),
      ...yield* rows("round trip v4 p50", "us", usual, trip(v4, 0)),
      ...yield* rows("round trip v6 p50", "us", usual, trip(v6, 0)),
      ...yield* rows("round trip v4 p99", "us", usual, trip(v4, 1)),
      ...yield* rows("UDP v4 by flows:", "kpps", byFlows("fast"), rate("send", v4)),
      ...yield* rows("UDP v4 by flows:", "kpps", byFlows("general"), rate("send", v4))
    ]
  })).pipe(Effect.orDie)
}
