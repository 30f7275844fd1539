/** Settings of the embedded NSM manager. Names and defaults are those of upstream's nsmgr where it has them. */
import * as Settings from "../runtime/Settings.ts"

export const settings = Settings.table({
  name: Settings.entry(
    "NSM_NAME",
    Settings.NonEmptyText,
    "nsmgr",
    "Name of the manager; it owns what it makes by this name, so two managers on one machine need two names."
  ),
  listenOn: Settings.entry(
    "NSM_LISTEN_ON",
    Settings.List,
    ["unix:///var/lib/networkservicemesh/nsm.io.sock"],
    "Addresses to serve on, separated by commas."
  ),
  maxTokenLifetimeMs: Settings.entry(
    "NSM_MAX_TOKEN_LIFETIME",
    Settings.DurationMs,
    600_000,
    "The longest that a connection lives without a refresh."
  ),
  requestTimeoutMs: Settings.entry(
    "NSM_REQUEST_TIMEOUT",
    Settings.DurationMs,
    15_000,
    "Limit of one call to an endpoint."
  ),
  endpointLifetimeMs: Settings.entry(
    "NSM_ENDPOINT_LIFETIME",
    Settings.DurationMs,
    60_000,
    "The longest that an endpoint stays registered without a refresh."
  ),
  statePath: Settings.entry(
    "NSM_STATE_PATH",
    Settings.Text,
    "/var/lib/networkservicemesh/connections.json",
    "File that keeps the connections over restarts; empty keeps them in memory only."
  ),
  nodeName: Settings.entry("NODE_NAME", Settings.Text, "", "Label nodeName for those who come without."),
  podName: Settings.entry("POD_NAME", Settings.Text, "", "Label podName for those who come without."),
  clusterName: Settings.entry("CLUSTER_NAME", Settings.Text, "", "Label clusterName for those who come without."),
  logLevel: Settings.entry("NSM_LOG_LEVEL", Settings.Text, "INFO", "TRACE, DEBUG or anything else for INFO.")
})
export type Config = Settings.Values<typeof settings>
