/** The settings of the IPAM. Names and defaults: Meridio `cmd/ipam/config.go`. */
import { Result } from "effect"
import type { Model } from "../../core/ipam/index.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import * as Settings from "../runtime/Settings.ts"

const Prefix = Settings.codecOf(
  Cidr.Cidr,
  (text) => Result.mapError(Cidr.parse(text), () => "a prefix such as 172.16.0.0/16 or fd00::/48"),
  String
)

export const settings = Settings.table({
  port: Settings.entry("IPAM_PORT", Settings.Int, 7777, "TCP port to serve on; 0 picks a free one."),
  dataSource: Settings.entry(
    ["IPAM_DATASOURCE", "IPAM_DATA_SOURCE"],
    Settings.NonEmptyText,
    "/run/ipam/data/registry.db",
    "File of the leases."
  ),
  trench: Settings.entry("IPAM_TRENCH_NAME", Settings.NonEmptyText, "default", "Name of the trench."),
  nspService: Settings.entry("IPAM_NSP_SERVICE", Settings.NonEmptyText, "nsp-service:7778", "Address of the NSP."),
  prefixV4: Settings.entry(
    ["IPAM_PREFIX_IPV4", "PREFIX_IPV4"],
    Prefix,
    Cidr.unsafe("169.255.0.0/16"),
    "IPv4 addresses of the trench."
  ),
  prefixV6: Settings.entry(
    ["IPAM_PREFIX_IPV6", "PREFIX_IPV6"],
    Prefix,
    Cidr.unsafe("fd00::/48"),
    "IPv6 addresses of the trench."
  ),
  conduitLengthV4: Settings.entry(
    ["IPAM_CONDUIT_PREFIX_LENGTH_IPV4", "CONDUIT_PREFIX_LENGTH_IPV4"],
    Settings.Int,
    20,
    "Length of the IPv4 prefix of a conduit."
  ),
  conduitLengthV6: Settings.entry(
    ["IPAM_CONDUIT_PREFIX_LENGTH_IPV6", "CONDUIT_PREFIX_LENGTH_IPV6"],
    Settings.Int,
    56,
    "Length of the IPv6 prefix of a conduit."
  ),
  nodeLengthV4: Settings.entry(
    ["IPAM_NODE_PREFIX_LENGTH_IPV4", "NODE_PREFIX_LENGTH_IPV4"],
    Settings.Int,
    24,
    "Length of the IPv4 prefix of a node."
  ),
  nodeLengthV6: Settings.entry(
    ["IPAM_NODE_PREFIX_LENGTH_IPV6", "NODE_PREFIX_LENGTH_IPV6"],
    Settings.Int,
    64,
    "Length of the IPv6 prefix of a node."
  ),
  ipFamily: Settings.entry(
    ["IPAM_IP_FAMILY", "IP_FAMILY"],
    Settings.Text,
    "dualstack",
    "ipv4, ipv6, or anything else for both."
  ),
  logLevel: Settings.entry("IPAM_LOG_LEVEL", Settings.Text, "DEBUG", "TRACE, DEBUG or anything else for INFO."),
  keepaliveMs: Settings.entry(
    ["IPAM_GRPC_KEEPALIVE_TIME", "GRPC_KEEPALIVE_TIME"],
    Settings.DurationMs,
    30_000,
    "Silence after which the connection to the NSP is probed."
  ),
  probeTimeoutMs: Settings.entry(
    ["IPAM_GRPC_PROBE_RPC_TIMEOUT", "GRPC_PROBE_RPC_TIMEOUT"],
    Settings.DurationMs,
    1_000,
    "Limit of one probe of the own port."
  ),
  maxBackoffMs: Settings.entry(
    ["IPAM_GRPC_MAX_BACKOFF", "GRPC_MAX_BACKOFF"],
    Settings.DurationMs,
    5_000,
    "Longest pause between attempts to connect to the NSP."
  ),
  sweep: Settings.entry(
    "IPAM_GARBAGE_COLLECTION_ENABLED",
    Settings.Bool,
    true,
    "Whether leases that nobody renews are taken back."
  ),
  sweepIntervalMs: Settings.entry(
    "IPAM_GARBAGE_COLLECTION_INTERVAL",
    Settings.DurationMs,
    7_200_000,
    "Time between two collections."
  ),
  leaseMs: Settings.entry(
    "IPAM_GARBAGE_COLLECTION_THRESHOLD",
    Settings.DurationMs,
    2_400_000,
    "How long a lease lives without being renewed; at least 15m. Above the interval in which clients renew: 5m for"
      + " proxies of Sluice, a fifth of the shortest token lifetime for those of Meridio."
  )
})
export type Values = Settings.Values<typeof settings>

/** The pools of the families in use. */
export const pools = (values: Values): ReadonlyArray<Model.Pool> => {
  const { conduitLengthV4, conduitLengthV6, nodeLengthV4, nodeLengthV6, prefixV4, prefixV6 } = values
  const v4: Model.Pool = {
    family: "v4",
    prefix: Cidr.network(prefixV4),
    conduitLength: conduitLengthV4,
    nodeLength: nodeLengthV4
  }
  const v6: Model.Pool = {
    family: "v6",
    prefix: Cidr.network(prefixV6),
    conduitLength: conduitLengthV6,
    nodeLength: nodeLengthV6
  }
  switch (values.ipFamily.toLowerCase()) {
    case "ipv4":
      return [v4]
    case "ipv6":
      return [v6]
    default:
      return [v4, v6]
  }
}

/** What is wrong with settings that are right one by one. */
export const validate = (values: Values): ReadonlyArray<string> =>
  pools(values).flatMap(({ conduitLength, family, nodeLength, prefix }) => {
    const suffix = family === "v4" ? "IPV4" : "IPV6"
    const length = Cidr.length(prefix)
    const isSound = Cidr.family(prefix) === family && length < conduitLength && conduitLength < nodeLength
      && nodeLength < Ip.bits(family) - 1
    return isSound ? [] : [
      `IPAM_PREFIX_${suffix}=${prefix}, IPAM_CONDUIT_PREFIX_LENGTH_${suffix}=${conduitLength} and `
      + `IPAM_NODE_PREFIX_LENGTH_${suffix}=${nodeLength} do not fit: write ${suffix} lengths that grow from prefix `
      + `to conduit to node and stay below ${Ip.bits(family) - 1}`
    ]
  }).concat(
    values.sweep && values.sweepIntervalMs < 1
      ? ["IPAM_GARBAGE_COLLECTION_INTERVAL must be at least 1ms; or set IPAM_GARBAGE_COLLECTION_ENABLED=false"]
      : []
  )

/**
 * The shortest lease that cannot take addresses from living clients: three times what proxies let pass between two
 * renewals (NSM_BRIDGE_IP_RENEW_INTERVAL), so that two may fail.
 */
const shortestLeaseMs = 900_000

/** What is not done as configured, and why. */
export const notices = ({ leaseMs, sweep }: Values): ReadonlyArray<string> =>
  sweep && leaseMs < shortestLeaseMs
    ? [
      `IPAM_GARBAGE_COLLECTION_THRESHOLD=${leaseMs}ms would take addresses from clients that renew every 5m: `
      + "15m is used; or set IPAM_GARBAGE_COLLECTION_ENABLED=false"
    ]
    : []

/** The settings of the machine. */
export const toMachine = (values: Values): Model.Settings => ({
  trench: values.trench,
  pools: pools(values),
  sweep: values.sweep,
  sweepIntervalMs: Math.round(values.sweepIntervalMs),
  leaseMs: Math.max(shortestLeaseMs, Math.round(values.leaseMs))
})
