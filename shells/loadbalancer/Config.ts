/** Settings of the stateless load balancer. Source: Meridio `cmd/stateless-lb/config.go`. */
import { Schema } from "effect"
import { type LoadBalancer, Objects } from "../../core/loadbalancer/index.ts"
import { Kernel } from "../../core/net/index.ts"
import * as Env from "../runtime/Settings.ts"

export const settings = Env.table({
  name: Env.entry("NSM_NAME", Env.NonEmptyText, "load-balancer", "Name of the pod."),
  serviceName: Env.entry("NSM_SERVICE_NAME", Env.NonEmptyText, "load-balancer", "Network service served to proxies."),
  connectTo: Env.entry(
    "NSM_CONNECT_TO",
    Env.Url,
    "unix:///var/lib/networkservicemesh/nsm.io.sock",
    "Address of the NSM manager."
  ),
  dialTimeoutMs: Env.entry("NSM_DIAL_TIMEOUT", Env.DurationMs, 5_000, "Limit of connecting to NSM."),
  requestTimeoutMs: Env.entry("NSM_REQUEST_TIMEOUT", Env.DurationMs, 15_000, "Limit of one call to NSM."),
  maxTokenLifetimeMs: Env.entry(
    "NSM_MAX_TOKEN_LIFETIME",
    Env.DurationMs,
    24 * 3_600_000,
    "How long NSM may keep a connection without a refresh."
  ),
  nspService: Env.entry("NSM_NSP_SERVICE", Env.NonEmptyText, "nsp-service:7778", "Address of the NSP."),
  conduit: Env.entry("NSM_CONDUIT_NAME", Env.NonEmptyText, "load-balancer", "Name of the conduit."),
  trench: Env.entry("NSM_TRENCH_NAME", Env.NonEmptyText, "default", "Name of the trench."),
  logLevel: Env.entry("NSM_LOG_LEVEL", Env.Text, "DEBUG", "TRACE, DEBUG, or anything else for INFO."),
  nfqueue: Env.entry("NSM_NFQUEUE", Env.Text, "0:3", "Without effect: packets stay in the kernel."),
  nfqueueFanout: Env.entry("NSM_NFQUEUE_FANOUT", Env.Bool, false, "Without effect, as above."),
  offsetStart: Env.entry(
    ["NSM_IDENTIFIER_OFFSET_START", "IDENTIFIER_OFFSET_START"],
    Env.Int,
    5_000,
    "First packet mark and routing table for targets."
  ),
  offsetEnd: Env.entry(
    "SLUICE_IDENTIFIER_OFFSET_END",
    Env.Int,
    4_294_967_294,
    "Last packet mark and routing table; load balancers in one network namespace need ranges and VIPs of their own."
  ),
  externalInterface: Env.entry(
    "SLUICE_EXTERNAL_INTERFACE",
    Env.List,
    ["auto"],
    "Where the fast path begins: interfaces, none, or auto for those of the frontend's default routes."
  ),
  keepaliveMs: Env.entry(
    ["NSM_GRPC_KEEPALIVE_TIME", "GRPC_KEEPALIVE_TIME"],
    Env.DurationMs,
    30_000,
    "Silence after which the connection to the NSP is probed."
  ),
  probeTimeoutMs: Env.entry(
    ["NSM_GRPC_PROBE_RPC_TIMEOUT", "GRPC_PROBE_RPC_TIMEOUT"],
    Env.DurationMs,
    1_000,
    "Limit of one probe of the own endpoint."
  ),
  maxBackoffMs: Env.entry(
    ["NSM_GRPC_MAX_BACKOFF", "GRPC_MAX_BACKOFF"],
    Env.DurationMs,
    5_000,
    "Longest pause between attempts to connect to the NSP."
  ),
  metricsEnabled: Env.entry(["NSM_METRICS_ENABLED", "METRICS_ENABLED"], Env.Bool, false, "Serve metrics."),
  metricsPort: Env.entry(["NSM_METRICS_PORT", "METRICS_PORT"], Env.Int, 2223, "Port of the metrics."),
  socket: Env.entry(
    ["NSM_SOCKET", "SOCKET"],
    Env.Url,
    "unix:///var/lib/meridio/lb.sock",
    "Where the frontend of the pod asks whether streams can be served."
  )
})
export type Settings = Env.Values<typeof settings>

/** What is wrong with settings that are right one by one. */
export const validate = (
  { externalInterface, metricsPort, offsetEnd, offsetStart }: Settings
): ReadonlyArray<string> => [
  // Tables up to 255 are reserved by the kernel, and marks have 32 bits.
  ...(offsetStart > 255 && offsetStart < 4_000_000_000
    ? []
    : [`NSM_IDENTIFIER_OFFSET_START=${offsetStart} is not usable: write a number from 256 to 3999999999`]),
  ...(offsetEnd > offsetStart && offsetEnd < 4_294_967_295
    ? []
    : [
      `SLUICE_IDENTIFIER_OFFSET_END=${offsetEnd} is not usable: write a number from ${offsetStart + 1} to 4294967294`
    ]),
  ...(metricsPort > 0 && metricsPort < 65_536
    ? []
    : [`NSM_METRICS_PORT=${metricsPort} is not usable: write a number from 1 to 65535`]),
  ...externalInterface.filter((name) => !isLinkName(name)).map((name) =>
    `SLUICE_EXTERNAL_INTERFACE has "${name}": write names of interfaces separated by commas, none, or auto`
  )
]

const isLinkName: (text: string) => boolean = Schema.is(Kernel.LinkName)

/** Settings of the machine. */
export const ofMachine = (settings: Settings, hostname: string): LoadBalancer.Settings => ({
  conduit: { trench: settings.trench, conduit: settings.conduit },
  hostname,
  offsetStart: settings.offsetStart,
  offsetEnd: settings.offsetEnd,
  table: `sluice-lb-${Objects.namePart(settings.conduit)}.${Objects.namePart(settings.trench)}`,
  ...externals(settings.externalInterface),
  linkPrefix: linkPrefix(settings)
})

/** The rule by which NSM names the interfaces of an endpoint. */
export const linkPrefix = ({ serviceName }: Settings): string => `${serviceName.slice(0, 10)}-`

const externals = (names: ReadonlyArray<string>): Pick<LoadBalancer.Settings, "externals"> => {
  const [name] = names
  if (names.length === 0 || (names.length === 1 && name === "none")) return { externals: [] }
  return names.length === 1 && name === "auto" ? {} : { externals: names }
}
