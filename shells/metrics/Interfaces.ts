/** The counters of network interfaces, `meridio.interface.*`. Source: Meridio pkg/metrics, docs/observability. */
import { Effect } from "effect"
import { Netlink } from "../netlink/Netlink.ts"
import type { NetlinkError } from "../netlink/NetlinkError.ts"
import type { Statistics } from "../netlink/Statistics.ts"
import type * as Metrics from "./Metrics.ts"

const counters = [
  ["rx_bytes", "rxBytes", "Bytes received."],
  ["tx_bytes", "txBytes", "Bytes sent."],
  ["rx_packets", "rxPackets", "Packets received."],
  ["tx_packets", "txPackets", "Packets sent."],
  ["rx_errors", "rxErrors", "Packets received with errors."],
  ["tx_errors", "txErrors", "Packets that could not be sent."],
  ["rx_dropped", "rxDropped", "Packets received and dropped."],
  ["tx_dropped", "txDropped", "Packets to be sent and dropped."]
] as const satisfies ReadonlyArray<readonly [name: string, key: keyof Statistics, description: string]>

/** Reads the counters of those of the links that are up. Each gets `labels` besides its name, MAC and addresses. */
export const collect = (
  isWanted: (link: string) => boolean,
  labels: Metrics.Sample["labels"]
): Effect.Effect<ReadonlyArray<Metrics.Sample>, NetlinkError, Netlink> =>
  Effect.gen(function*() {
    const netlink = yield* Netlink
    const { addresses, links } = yield* netlink.snapshot
    const statistics = yield* netlink.statistics
    return links.filter(({ name, up }) => up && isWanted(name)).flatMap(({ mac, name }) => {
      const own = statistics.find(({ link }) => link === name)
      if (own === undefined) return []
      const ips = JSON.stringify(addresses.filter(({ link }) => link === name).map(({ cidr }) => cidr))
      return counters.map(([counter, key, description]): Metrics.Sample => ({
        name: `meridio.interface.${counter}`,
        kind: "Counter",
        description,
        labels: { interface_name: name, mac_address: mac, ips, ...labels },
        value: own[key]
      }))
    })
  })
