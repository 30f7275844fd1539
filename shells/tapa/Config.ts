/** Settings of the TAPA. Source: Meridio `cmd/tapa/config.go`; misspelt names of old documents are understood as well. */
import type { Model } from "../../core/tapa/index.ts"
import * as Env from "../runtime/Settings.ts"

export const settings = Env.table({
  name: Env.entry("MERIDIO_NAME", Env.NonEmptyText, "nsc", "Name of this target; unique among all pods."),
  node: Env.entry("MERIDIO_NODE", Env.Text, "", "Name of the node, to find the proxy on it."),
  namespace: Env.entry("MERIDIO_NAMESPACE", Env.NonEmptyText, "default", "Namespace of the trench."),
  socket: Env.entry("MERIDIO_SOCKET", Env.NonEmptyText, "/ambassador.sock", "Socket served to applications."),
  nsmSocket: Env.entry(
    ["MERIDIO_NSM_SOCKET", "NSM_SOCKET"],
    Env.Url,
    "unix:///var/lib/networkservicemesh/nsm.io.sock",
    "Address of the NSM manager."
  ),
  nspServiceName: Env.entry(
    ["MERIDIO_NSP_SERVICE_NAME", "NSP_SERVICE_NAME"],
    Env.Text,
    "nsp-service",
    "Service of the NSP, without trench and namespace."
  ),
  nspServicePort: Env.entry(
    ["MERIDIO_NSP_SERVICE_PORT", "NSP_SERVICE_PORT"],
    Env.Int,
    7778,
    "Port of the NSP."
  ),
  nspAddress: Env.entry(
    "SLUICE_NSP_ADDRESS",
    Env.Text,
    "",
    "Address of the NSP instead of its service; {trench} stands for the trench."
  ),
  timeoutMs: Env.entry("MERIDIO_TIMEOUT", Env.DurationMs, 15_000, "Limit of one step, such as a connect."),
  dialTimeoutMs: Env.entry("MERIDIO_DIAL_TIMEOUT", Env.DurationMs, 5_000, "Limit of connecting to NSM."),
  maxTokenLifetimeMs: Env.entry(
    "MERIDIO_MAX_TOKEN_LIFETIME",
    Env.DurationMs,
    24 * 3_600_000,
    "How long NSM may keep the connection without a refresh."
  ),
  logLevel: Env.entry("MERIDIO_LOG_LEVEL", Env.Text, "DEBUG", "TRACE, DEBUG, or anything else for INFO."),
  entryTimeoutMs: Env.entry(
    ["MERIDIO_NSP_ENTRY_TIMEOUT", "NSP_ENTRY_TIMEOUT", "MERIDIO_NSP_ETRY_TIMEOUT"],
    Env.DurationMs,
    30_000,
    "Period of refreshes at the NSP; at most half of its NSP_ENTRY_TIMEOUT."
  ),
  maxBackoffMs: Env.entry(
    ["MERIDIO_GRPC_MAX_BACKOFF", "GRPC_MAX_BACKOFF", "MERIDO_GRPC_MAX_BACKOFF"],
    Env.DurationMs,
    5_000,
    "Longest pause between attempts to reach the NSP."
  ),
  probeTimeoutMs: Env.entry(
    ["MERIDIO_GRPC_PROBE_RPC_TIMEOUT", "GRPC_PROBE_RPC_TIMEOUT"],
    Env.DurationMs,
    1_000,
    "Limit of a call that probes the own socket."
  )
})
export type Settings = Env.Values<typeof settings>

/** What is wrong with settings that are right one by one. */
export const validate = (settings: Settings): ReadonlyArray<string> => {
  const positive = {
    MERIDIO_TIMEOUT: settings.timeoutMs,
    MERIDIO_DIAL_TIMEOUT: settings.dialTimeoutMs,
    MERIDIO_NSP_ENTRY_TIMEOUT: settings.entryTimeoutMs,
    MERIDIO_MAX_TOKEN_LIFETIME: settings.maxTokenLifetimeMs,
    MERIDIO_GRPC_MAX_BACKOFF: settings.maxBackoffMs,
    MERIDIO_GRPC_PROBE_RPC_TIMEOUT: settings.probeTimeoutMs
  }
  return [
    ...Object.entries(positive).filter(([, ms]) => ms < 1).map(([name, ms]) =>
      `${name} is ${ms} ms, which leaves no time; set 1ms or more`
    ),
    ...(settings.nspServicePort >= 1 && settings.nspServicePort <= 65_535 ? [] : [
      `MERIDIO_NSP_SERVICE_PORT is ${settings.nspServicePort}; set a port from 1 to 65535`
    ])
  ]
}

/** What the machine has to know; durations in whole milliseconds. */
export const ofMachine = (settings: Settings): Model.Settings => ({
  name: settings.name,
  node: settings.node,
  namespace: settings.namespace,
  timeoutMs: Math.ceil(settings.timeoutMs),
  tokenLifetimeMs: Math.ceil(settings.maxTokenLifetimeMs),
  entryTimeoutMs: Math.ceil(settings.entryTimeoutMs)
})

/** Where the NSP of a trench listens. */
export const nspTarget = (settings: Settings, trench: string): string =>
  settings.nspAddress === ""
    ? `${settings.nspServiceName}-${trench}.${settings.namespace}:${settings.nspServicePort}`
    : settings.nspAddress.replaceAll("{trench}", trench)
