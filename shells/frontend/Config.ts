/**
 * Settings of the frontend. Source: Meridio `cmd/frontend/internal/env/config.go`. The three delays were documented under
 * names that had no effect; both spellings work here. `SLUICE_*` and the secrets folder are ours.
 */
import { Result, Schema } from "effect"
import * as path from "node:path"
import { Model } from "../../core/frontend/index.ts"
import { Ip } from "../../core/net/index.ts"
import * as Env from "../runtime/Settings.ts"

const named = (name: string): readonly [string, string] => [`NFE_${name}`, name]

export const settings = Env.table({
  vrrps: Env.entry(
    named("VRRPS"),
    Env.List,
    [],
    "VRRP addresses to send egress to; then nothing is learned from gateways."
  ),
  externalInterface: Env.entry("NFE_EXTERNAL_INTERFACE", Env.NonEmptyText, "ext-vlan", "Interface to the gateways."),
  birdConfigPath: Env.entry("NFE_BIRD_CONFIG_PATH", Env.NonEmptyText, "/etc/bird", "Folder of BIRD's configuration."),
  birdSocket: Env.entry(
    "NFE_BIRD_COMMUNICATION_SOCK",
    Env.NonEmptyText,
    "/var/run/bird/bird.ctl",
    "Control socket of BIRD."
  ),
  birdLogFileSize: Env.entry(
    "NFE_BIRD_LOG_FILE_SIZE",
    Env.Int,
    20_000,
    "Size at which /var/log/bird.log is rotated; 0 for no file."
  ),
  birdKernelScanTime: Env.entry(
    ["NFE_BIRD_KERNEL_SCAN_TIME", "NFE_BIRD_SCAN_TIME"],
    Env.Int,
    10,
    "Seconds between two scans of the kernel by BIRD."
  ),
  birdErrorWaitMinS: Env.entry(
    "SLUICE_BIRD_ERROR_WAIT_MIN",
    Env.Int,
    1,
    "Seconds before BIRD tries again after an error of a session."
  ),
  birdErrorWaitMaxS: Env.entry("SLUICE_BIRD_ERROR_WAIT_MAX", Env.Int, 30, "The same after many errors."),
  localAs: Env.entry(named("LOCAL_AS"), Env.Int, 8103, "AS number of the frontend."),
  remoteAs: Env.entry(named("REMOTE_AS"), Env.Int, 4_248_829_953, "AS number of gateways that do not name one."),
  localPort: Env.entry(named("BGP_LOCAL_PORT"), Env.Int, 10_179, "BGP port of the frontend."),
  remotePort: Env.entry(named("BGP_REMOTE_PORT"), Env.Int, 10_179, "BGP port of gateways that do not name one."),
  holdTimeS: Env.entry(named("BGP_HOLD_TIME"), Env.Int, 3, "BGP hold time in seconds."),
  tableId: Env.entry(named("TABLE_ID"), Env.Int, 4096, "Routing table of VIP egress; the next one is used too."),
  dropIfNoPeer: Env.entry(
    "NFE_DROP_IF_NO_PEER",
    Env.Bool,
    true,
    "Drop egress of VIPs while there is no gateway."
  ),
  ecmp: Env.entry(named("ECMP"), Env.Bool, false, "Spread egress over all gateways."),
  logBird: Env.entry("NFE_LOG_BIRD", Env.Bool, false, "Show the log of BIRD."),
  nspService: Env.entry("NFE_NSP_SERVICE", Env.NonEmptyText, "nsp-service-trench-a:7778", "Address of the NSP."),
  namespace: Env.entry("NFE_NAMESPACE", Env.Text, "default", "Namespace of the secrets."),
  trench: Env.entry("NFE_TRENCH_NAME", Env.NonEmptyText, "default", "Name of the trench."),
  attractor: Env.entry("NFE_ATTRACTOR_NAME", Env.NonEmptyText, "default", "Name of the attractor."),
  logLevel: Env.entry("NFE_LOG_LEVEL", Env.Text, "DEBUG", "TRACE, DEBUG, or anything else for INFO."),
  nspEntryTimeoutMs: Env.entry(
    named("NSP_ENTRY_TIMEOUT"),
    Env.DurationMs,
    30_000,
    "Period of refreshes at the NSP; at most half of its NSP_ENTRY_TIMEOUT."
  ),
  keepaliveMs: Env.entry(named("GRPC_KEEPALIVE_TIME"), Env.DurationMs, 30_000, "Period of pings to NSP and balancer."),
  maxBackoffMs: Env.entry(
    named("GRPC_MAX_BACKOFF"),
    Env.DurationMs,
    5000,
    "Longest pause between attempts to reach the NSP or the load balancer."
  ),
  delayConnectivityMs: Env.entry(
    ["NFE_DELAY_CONNECTIVITY", "NFE_DELAYCONNECTIVITY"],
    Env.DurationMs,
    Model.defaults.delayConnectivityMs,
    "Pause between two looks at the sessions."
  ),
  delayNoConnectivityMs: Env.entry(
    ["NFE_DELAY_NO_CONNECTIVITY", "NFE_DELAYNOCONNECTIVITY"],
    Env.DurationMs,
    Model.defaults.delayNoConnectivityMs,
    "The same after connectivity was lost."
  ),
  maxSessionErrors: Env.entry(
    ["NFE_MAX_SESSION_ERRORS", "NFE_MAXSESSIONERRORS"],
    Env.Int,
    Model.defaults.maxSessionErrors,
    "Failed looks in a row that change nothing."
  ),
  perFamily: Env.entry(
    "SLUICE_PER_FAMILY",
    Env.Bool,
    Model.defaults.perFamily,
    "Announce each family by itself; else one that is down takes both."
  ),
  metricsEnabled: Env.entry("NFE_METRICS_ENABLED", Env.Bool, false, "Serve metrics."),
  metricsPort: Env.entry("NFE_METRICS_PORT", Env.Int, 2224, "Port of the metrics."),
  lbSocket: Env.entry(
    named("LB_SOCKET"),
    Env.Url,
    "unix:///var/lib/meridio/lb.sock",
    "Socket of the load balancer of this pod."
  ),
  secretsPath: Env.entry(
    "NFE_SECRETS_PATH",
    Env.Text,
    "",
    "Folder with a folder for each Secret and a file for each of its keys; empty for the Secrets of Kubernetes."
  )
})
export type Settings = Env.Values<typeof settings>

const logPath = "/var/log/bird.log"

const isInterfaceName: (text: string) => boolean = Schema.is(Model.InterfaceName)
const decodeBird = Schema.decodeUnknownResult(Schema.toType(Model.BirdSettings), { errors: "all" })

/** What BIRD has to know, or what is wrong with it. */
export const ofBird = (settings: Settings, routerId: Ip.Ip): Result.Result<Model.BirdSettings, string> =>
  Result.mapError(
    decodeBird({
      routerId,
      externalInterface: settings.externalInterface,
      vrrps: settings.vrrps.map(vrrp),
      localAs: settings.localAs,
      remoteAs: settings.remoteAs,
      localPort: settings.localPort,
      remotePort: settings.remotePort,
      holdTimeS: settings.holdTimeS,
      errorWaitS: { minimum: settings.birdErrorWaitMinS, maximum: settings.birdErrorWaitMaxS },
      connectDelayS: 1,
      connectRetryS: 5,
      table: settings.tableId,
      ecmp: settings.ecmp,
      kernelScanS: settings.birdKernelScanTime,
      logAll: settings.logBird,
      ...(settings.birdLogFileSize > 0 ? { logFile: { path: logPath, bytes: settings.birdLogFileSize } } : {})
    }),
    (error) => error.message
  )

/** The address of a VRRP entry: what stands before the `/`. */
const vrrp = (text: string): string => Result.getOrElse(Ip.parse(text.split("/")[0] ?? ""), () => text)

/** What is wrong with settings that are right one by one. */
export const validate = (settings: Settings): ReadonlyArray<string> => {
  const ranges: ReadonlyArray<readonly [name: string, value: number, minimum: number, maximum: number]> = [
    ["NFE_LOCAL_AS", settings.localAs, 1, 4_294_967_295],
    ["NFE_REMOTE_AS", settings.remoteAs, 1, 4_294_967_295],
    ["NFE_BGP_LOCAL_PORT", settings.localPort, 1, 65_535],
    ["NFE_BGP_REMOTE_PORT", settings.remotePort, 1, 65_535],
    ["NFE_TABLE_ID", settings.tableId, 1, 4_294_967_293],
    ["NFE_BIRD_KERNEL_SCAN_TIME", settings.birdKernelScanTime, 1, 65_535],
    ["NFE_METRICS_PORT", settings.metricsPort, 1, 65_535],
    ["NFE_MAX_SESSION_ERRORS", settings.maxSessionErrors, 0, 1_000_000],
    ["NFE_NSP_ENTRY_TIMEOUT (ms)", settings.nspEntryTimeoutMs, 1, Number.MAX_SAFE_INTEGER],
    ["NFE_DELAY_CONNECTIVITY (ms)", settings.delayConnectivityMs, 1, Number.MAX_SAFE_INTEGER],
    ["NFE_DELAY_NO_CONNECTIVITY (ms)", settings.delayNoConnectivityMs, 1, Number.MAX_SAFE_INTEGER]
  ]
  const problems = [
    ...ranges.filter(([, value, minimum, maximum]) => value < minimum || value > maximum)
      .map(([name, value, minimum, maximum]) => `${name} is ${value}; write ${minimum} to ${maximum}`),
    ...(settings.holdTimeS === 0 || (settings.holdTimeS >= 3 && settings.holdTimeS <= 65_535) ? [] : [
      `NFE_BGP_HOLD_TIME is ${settings.holdTimeS}; write 3 to 65535, or 0 for none`
    ]),
    ...(isInterfaceName(settings.externalInterface) ? [] : [
      `NFE_EXTERNAL_INTERFACE is "${settings.externalInterface}"; write 1 to 15 letters, digits or _.- as BIRD takes them`
    ]),
    ...settings.vrrps.filter((text) => Result.isFailure(Ip.parse(vrrp(text))))
      .map((text) => `NFE_VRRPS has "${text}"; write addresses such as 10.0.0.1/24, separated by commas`)
  ]
  if (problems.length > 0) return problems
  const bird = ofBird(settings, Ip.unsafe("240.0.0.1"))
  return Result.isFailure(bird) ? [bird.failure] : []
}

/** What the machine has to know; durations in whole milliseconds. */
export const ofMachine = (settings: Settings, bird: Model.BirdSettings): Model.Settings => ({
  ...Model.defaults,
  bird,
  dropIfNoPeer: settings.dropIfNoPeer && settings.vrrps.length === 0,
  delayConnectivityMs: Math.ceil(settings.delayConnectivityMs),
  delayNoConnectivityMs: Math.ceil(settings.delayNoConnectivityMs),
  maxSessionErrors: settings.maxSessionErrors,
  perFamily: settings.perFamily,
  nspEntryTimeoutMs: Math.ceil(settings.nspEntryTimeoutMs)
})

/** The file that BIRD reads. */
export const birdConfigFile = (settings: Settings): string => path.join(settings.birdConfigPath, "bird-fe-meridio.conf")
