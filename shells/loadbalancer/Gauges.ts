/** What the load balancer tells Prometheus: hits of flows and targets, and the counters of the links to the proxies. */
import { Effect } from "effect"
import { FastChains, Flows, type LoadBalancer, type Model } from "../../core/loadbalancer/index.ts"
import * as Interfaces from "../metrics/Interfaces.ts"
import type * as Metrics from "../metrics/Metrics.ts"
import type { Netlink } from "../netlink/Netlink.ts"
import type { NetlinkError } from "../netlink/NetlinkError.ts"
import { type Count, type Counts, Nftables, type NftablesError } from "../nftables/Nftables.ts"
import * as Config from "./Config.ts"

/** Reads all of it from the kernel. */
export const collect = (
  settings: Config.Settings,
  current: () => LoadBalancer.State
): Effect.Effect<ReadonlyArray<Metrics.Sample>, NetlinkError | NftablesError, Netlink | Nftables> =>
  Effect.gen(function*() {
    const labels = { trench: settings.trench, conduit: settings.conduit }
    const prefix = Config.linkPrefix(settings)
    const links = yield* Interfaces.collect((link) => link.startsWith(prefix), labels)
    const { planned, rules } = current()
    if (rules === undefined) return links
    const ips = new Map(planned.map(({ ips, mark }) => [mark, JSON.stringify(ips)]))
    return [
      ...yield* flowHits(rules, labels),
      ...yield* targetHits(rules, labels, (mark) => ips.get(mark) ?? "[]"),
      ...links
    ]
  })

type Read = Effect.Effect<ReadonlyArray<Metrics.Sample>, NftablesError, Nftables>

// What the fast path takes is not seen by the general one, so both count.
const flowHits = ({ flows, streams, table }: Model.Ruleset, labels: Metrics.Sample["labels"]): Read =>
  Effect.gen(function*() {
    const nftables = yield* Nftables
    const counts = [yield* nftables.counters("inet", table), yield* nftables.counters("netdev", table)]
    return flows.flatMap(({ name, stream: { stream } }): ReadonlyArray<Metrics.Sample> => {
      const own = streams.find((each) => each.name === stream)
      return own === undefined ? [] : [{
        name: "meridio.conduit.stream.flow.matches",
        kind: "Counter",
        description: "Packets that matched the flow.",
        labels: { ...labels, stream, flow: name },
        value: sum(counts, Flows.counterOf(own, name)).packets
      }]
    })
  })

const targetHits = (
  { fastPath, streams, table }: Model.Ruleset,
  labels: Metrics.Sample["labels"],
  ipsOf: (mark: number) => string
): Read =>
  Effect.gen(function*() {
    const nftables = yield* Nftables
    const samples: Array<Metrics.Sample> = []
    for (const stream of streams) {
      const fast = fastPath === undefined ? [] : yield* Effect.forEach(
        ["4", "6"] as const,
        (n) => nftables.elementCounters("netdev", table, "map", FastChains.hopsOf(n, stream))
      )
      const counts = [yield* nftables.elementCounters("inet", table, "set", Flows.hitsOf(stream)), ...fast]
      for (const mark of stream.identifiers.map((identifier) => stream.offset + identifier)) {
        const total = sum(counts, String(mark))
        for (const unit of ["packets", "bytes"] as const) {
          samples.push({
            name: `meridio.conduit.stream.target.hit.${unit}`,
            kind: "Counter",
            description: `${unit === "packets" ? "Packets" : "Bytes"} sent to the target.`,
            labels: { ...labels, stream: stream.name, identifier: String(mark), target_ips: ipsOf(mark) },
            value: total[unit]
          })
        }
      }
    }
    return samples
  })

const sum = (all: ReadonlyArray<Counts>, key: string): Count =>
  all.map((counts) => counts.get(key)).reduce<Count>(
    (total, one) => ({ packets: total.packets + (one?.packets ?? 0), bytes: total.bytes + (one?.bytes ?? 0) }),
    { packets: 0, bytes: 0 }
  )
