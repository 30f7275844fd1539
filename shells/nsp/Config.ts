/**
 * Settings of the NSP. Source: Meridio `cmd/nsp/config.go`; NSP_CONFIG_PATH and NSP_TRENCH are ours, names with NSM_ are
 * those of its documentation.
 */
import * as Settings from "../runtime/Settings.ts"

export const settings = Settings.table({
  namespace: Settings.entry(
    ["NSP_NAMESPACE", "NSM_NAMESPACE"],
    Settings.Text,
    "default",
    "Namespace of the trench and its ConfigMap."
  ),
  port: Settings.entry(["NSP_PORT", "NSM_PORT"], Settings.Int, 7778, "TCP port to listen on."),
  configPath: Settings.entry(
    "NSP_CONFIG_PATH",
    Settings.Text,
    "",
    "File or folder of YAML manifests; followed. Empty: the ConfigMap is."
  ),
  configMapName: Settings.entry(
    ["NSP_CONFIG_MAP_NAME", "NSM_CONFIG_MAP_NAME"],
    Settings.Text,
    "meridio-configuration",
    "ConfigMap of the trench in the namespace, from Kubernetes; followed."
  ),
  trench: Settings.entry("NSP_TRENCH", Settings.Text, "", "Trench to serve; may be empty when there is only one."),
  datasource: Settings.entry(
    ["NSP_DATASOURCE", "NSM_DATASOURCE"],
    Settings.Text,
    "/run/nsp/data/registry.db",
    "File of the target registry."
  ),
  logLevel: Settings.entry(
    ["NSP_LOG_LEVEL", "NSM_LOG_LEVEL"],
    Settings.Text,
    "DEBUG",
    "TRACE, DEBUG or anything else for INFO."
  ),
  entryTimeoutMs: Settings.entry(
    ["NSP_ENTRY_TIMEOUT", "NSM_ENTRY_TIMEOUT"],
    Settings.DurationMs,
    60_000,
    "Life of a target without refresh."
  ),
  probeTimeoutMs: Settings.entry(
    ["NSP_GRPC_PROBE_RPC_TIMEOUT", "GRPC_PROBE_RPC_TIMEOUT", "NSM_GRPC_PROBE_RPC_TIMEOUT"],
    Settings.DurationMs,
    1000,
    "Limit of one health probe of its own server."
  )
})
export type Config = Settings.Values<typeof settings>

/** What is wrong with settings that are right one by one. */
export const validate = (
  { configMapName, configPath, entryTimeoutMs, namespace, port }: Config
): ReadonlyArray<string> => [
  ...(configPath !== "" || configMapName !== "" && namespace !== ""
    ? []
    : ["NSP_CONFIG_PATH must name manifests, or NSP_CONFIG_MAP_NAME and NSP_NAMESPACE a ConfigMap"]),
  ...(entryTimeoutMs >= 1 ? [] : [`NSP_ENTRY_TIMEOUT must be at least 1ms, for example 60s`]),
  ...(port >= 0 && port <= 65_535 ? [] : [`NSP_PORT=${port} is not a port; write a number from 1 to 65535`])
]
