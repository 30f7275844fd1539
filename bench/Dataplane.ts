/**
 * What the load balancer costs a packet, beside plain routing and the equal-cost routes of the kernel, on the whole way
 * from a client's system call to the socket of a target (`DataplaneChain.ts`): 100 targets, 10 streams, 100 flows.
 *
 * Each datagram is sent by a system call of its own, as in the measurement that the aims come from. Sending, four links,
 * the gateway, the bridge of the proxy and the target are part of what a packet costs then, with and without load
 * balancer. Where 64 datagrams share a system call ("in bursts"), a larger part is the load balancer's own.
 *
 * The fast path has 0.91 times the rate of plain routing and cannot have as much (Linux 6.18). Plain routing spends 0.25 us
 * of 2.8 us for the whole way on what the fast path saves: two walks through rules and tables. The fast path spends 0.15 us
 * on handing over alone, as `fwd` looks up link and neighbour and writes the header anew for each packet, where routing
 * has all three at hand, and 0.4 us on rules, of which lookups have 0.14 and counters 0.07. Rates by what the
 * rules do, one after the other (IPv4):
 *
 *     1.05  all to one address: the least that a rule at the ingress can do
 *     1.01  to one of 100, by a hash of the packet and its slot
 *     0.985 only what is plain, told by fragments, options, hop limit and station
 *     0.96  by flow
 *     0.945 by the mark of the target
 *     0.93  counted for the target
 *     0.92  counted for the flow
 *     0.91  with 10 streams and 100 flows instead of one
 *
 * Each step is a lookup, or memory that differs from packet to packet; the kernel's own equal-cost routes to 100 targets
 * have 0.96 (IPv6: 0.75). Fewer or cheaper expressions for the same steps make no difference that can be measured.
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

const throughput = (host: string): Measure => ({ ask }) => Effect.map(ask({ work: "stream", host, count: 160 }), Number)

const trip = (host: string, which: 0 | 1): Measure => ({ ask }) =>
  Effect.map(ask({ work: "trip", host, count: 3_000 }), (both) => Array.isArray(both) ? Number(both[which]) : 0)

// Many short runs: one TCP connection may be a third faster than the next, by where the scheduler puts its ends.
const rounds = { streams: 25, others: 9 }

const rows = (
  metric: string,
  unit: string,
  chains: ReadonlyArray<Chain.Chain>,
  measure: Measure,
  count = rounds.others
) => Bench.rows("dataplane", metric, unit, variants(chains, measure), count)

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
      ...yield* rows("TCP v4", "Gbit/s", usual, throughput(v4), rounds.streams),
      ...yield* rows("TCP v6", "Gbit/s", usual, throughput(v6), rounds.streams),
      ...yield* rows("round trip v4 p50", "us", usual, trip(v4, 0)),
      ...yield* rows("round trip v6 p50", "us", usual, trip(v6, 0)),
      ...yield* rows("round trip v4 p99", "us", usual, trip(v4, 1)),
      ...yield* rows("UDP v4 by flows:", "kpps", byFlows("fast"), rate("send", v4)),
      ...yield* rows("UDP v4 by flows:", "kpps", byFlows("general"), rate("send", v4))
    ]
  })).pipe(Effect.orDie)
}
