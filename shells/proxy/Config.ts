/** Settings of the proxy. Source: Meridio `cmd/proxy/internal/config/config.go`. */
import { Ip } from "../../core/net/index.ts"
import { Model } from "../../core/proxy/index.ts"
import * as Env from "../runtime/Settings.ts"

export const settings = Env.table({
  name: Env.entry("NSM_NAME", Env.NonEmptyText, "proxy", "Name of the pod."),
  serviceName: Env.entry("NSM_SERVICE_NAME", Env.NonEmptyText, "proxy", "Network service served to targets."),
  connectTo: Env.entry(
    "NSM_CONNECT_TO",
    Env.Url,
    "unix:///var/lib/networkservicemesh/nsm.io.sock",
    "Address of the NSM manager."
  ),
  dialTimeoutMs: Env.entry("NSM_DIAL_TIMEOUT", Env.DurationMs, 5_000, "Limit of connecting to NSM."),
  requestTimeoutMs: Env.entry("NSM_REQUEST_TIMEOUT", Env.DurationMs, 15_000, "Limit of one call to NSM or the IPAM."),
  maxTokenLifetimeMs: Env.entry(
    "NSM_MAX_TOKEN_LIFETIME",
    Env.DurationMs,
    24 * 3_600_000,
    "How long NSM may keep a connection without a refresh."
  ),
  ipamService: Env.entry("NSM_IPAM_SERVICE", Env.NonEmptyText, "ipam-service:7777", "Address of the IPAM."),
  host: Env.entry("NSM_HOST", Env.Text, "", "Name of the node; its proxies share one subnet."),
  networkService: Env.entry(
    "NSM_NETWORK_SERVICE_NAME",
    Env.NonEmptyText,
    "load-balancer",
    "Network service of the load balancers."
  ),
  namespace: Env.entry("NSM_NAMESPACE", Env.NonEmptyText, "default", "Namespace of the trench."),
  trench: Env.entry("NSM_TRENCH", Env.NonEmptyText, "default", "Name of the trench."),
  conduit: Env.entry("NSM_CONDUIT", Env.NonEmptyText, "load-balancer", "Name of the conduit."),
  nspServiceName: Env.entry(
    "NSM_NSP_SERVICE_NAME",
    Env.Text,
    "nsp-service",
    "Service of the NSP, without trench and namespace."
  ),
  nspServicePort: Env.entry("NSM_NSP_SERVICE_PORT", Env.Int, 7778, "Port of the NSP."),
  nspAddress: Env.entry(
    "SLUICE_NSP_ADDRESS",
    Env.Text,
    "",
    "Address of the NSP instead of its service; {trench} stands for the trench."
  ),
  ipFamily: Env.entry(
    ["NSM_IP_FAMILY", "IP_FAMILY"],
    Env.Text,
    "dualstack",
    "ipv4, ipv6, or anything else for both."
  ),
  logLevel: Env.entry("NSM_LOG_LEVEL", Env.Text, "DEBUG", "TRACE, DEBUG, or anything else for INFO."),
  mtu: Env.entry("NSM_MTU", Env.Int, 1500, "MTU of the connections, in bytes."),
  keepaliveMs: Env.entry(
    ["NSM_GRPC_KEEPALIVE_TIME", "GRPC_KEEPALIVE_TIME"],
    Env.DurationMs,
    30_000,
    "Silence after which a connection to the IPAM or the NSP is probed."
  ),
  probeTimeoutMs: Env.entry(
    ["NSM_GRPC_PROBE_RPC_TIMEOUT", "GRPC_PROBE_RPC_TIMEOUT"],
    Env.DurationMs,
    1_000,
    "Limit of a call that probes the own endpoint."
  ),
  maxBackoffMs: Env.entry(
    ["NSM_GRPC_MAX_BACKOFF", "GRPC_MAX_BACKOFF"],
    Env.DurationMs,
    5_000,
    "Longest pause between attempts to reach the IPAM or the NSP."
  ),
  releaseDelayMs: Env.entry(
    ["NSM_IP_RELEASE_DELAY", "IP_RELEASE_DELAY"],
    Env.DurationMs,
    20_000,
    "How long the addresses of a closed connection stay reserved; longer than NSM_REQUEST_TIMEOUT."
  ),
  renewMs: Env.entry(
    ["NSM_BRIDGE_IP_RENEW_INTERVAL", "BRIDGE_IP_RENEW_INTERVAL"],
    Env.DurationMs,
    300_000,
    "How often the addresses in use are allocated again, which keeps them."
  )
})
export type Settings = Env.Values<typeof settings>

/** The families that the setting names. */
export const families = ({ ipFamily }: Settings): ReadonlyArray<Ip.Family> => {
  switch (ipFamily.toLowerCase()) {
    case "ipv4":
      return ["v4"]
    case "ipv6":
      return ["v6"]
    default:
      return Ip.families
  }
}

/** What is wrong with settings that are right one by one. */
export const validate = (settings: Settings): ReadonlyArray<string> => {
  const minimumMtu = families(settings).includes("v6") ? 1280 : 576
  const positive = {
    NSM_DIAL_TIMEOUT: settings.dialTimeoutMs,
    NSM_REQUEST_TIMEOUT: settings.requestTimeoutMs,
    NSM_MAX_TOKEN_LIFETIME: settings.maxTokenLifetimeMs,
    NSM_GRPC_KEEPALIVE_TIME: settings.keepaliveMs,
    NSM_GRPC_PROBE_RPC_TIMEOUT: settings.probeTimeoutMs,
    NSM_GRPC_MAX_BACKOFF: settings.maxBackoffMs,
    NSM_BRIDGE_IP_RENEW_INTERVAL: settings.renewMs
  }
  return [
    ...(settings.connectTo === "" ? ["NSM_CONNECT_TO is empty; set the address of the NSM manager"] : []),
    ...(settings.mtu >= minimumMtu && settings.mtu <= 65_535 ? [] : [
      `NSM_MTU is ${settings.mtu}, but NSM_IP_FAMILY ${settings.ipFamily} needs ${minimumMtu} to 65535`
    ]),
    ...Object.entries(positive).filter(([, ms]) => ms < 1).map(([name, ms]) =>
      `${name} is ${ms} ms, which leaves no time; set 1ms or more`
    ),
    ...(settings.releaseDelayMs >= 0 ? [] : [
      `NSM_IP_RELEASE_DELAY is ${settings.releaseDelayMs} ms; set 0s or more`
    ]),
    ...(settings.nspServicePort >= 1 && settings.nspServicePort <= 65_535 ? [] : [
      `NSM_NSP_SERVICE_PORT is ${settings.nspServicePort}; set a port from 1 to 65535`
    ])
  ]
}

/** What the machine has to know; durations in whole milliseconds. */
export const ofMachine = (settings: Settings): Model.Settings => ({
  ...Model.defaults,
  name: settings.name,
  networkService: settings.networkService,
  families: families(settings),
  mac: Model.stableMac(settings.trench, settings.conduit, settings.host),
  mtu: settings.mtu,
  releaseDelayMs: Math.ceil(settings.releaseDelayMs),
  renewMs: Math.ceil(settings.renewMs),
  expiryGraceMs: Math.ceil(settings.maxTokenLifetimeMs / 2),
  tokenLifetimeMs: Math.ceil(settings.maxTokenLifetimeMs)
})

/** Where the NSP listens. Source: Meridio `pkg/nsp/service.go`. */
export const nspTarget = ({ namespace, nspAddress, nspServiceName, nspServicePort, trench }: Settings): string =>
  nspAddress === ""
    ? `${nspServiceName}-${trench}.${namespace}:${nspServicePort}`
    : nspAddress.replaceAll("{trench}", trench)
