/**
 * Renders the configuration file of BIRD 2 and 3. A pure function of its input, so that "has it changed" is a comparison.
 *
 * 1. Equal inputs give equal bytes; the order of VIPs, gateways and secrets has no meaning.
 * 2. Every protocol has a name, so that a change touches the protocols it concerns and no other.
 * 3. The router id is always written: BIRD does not start without one where there is only IPv6 (Meridio #297).
 * 4. Passwords are not in the text: a place is kept for each, which the shell fills when it writes the file.
 * 5. A gateway whose password is missing or unusable has no protocol, but is still a configured gateway.
 *
 * VIPs are announced by static protocols VIP4 and VIP6, present only while something is announced. Learned routes go to
 * table N by KERNEL4 and KERNEL6. The blackhole of table N+1 is not BIRD's work: it must outlive BIRD (see `Rules.ts`).
 * Source: Meridio cmd/frontend/internal/frontend/service.go writeConfig*.
 */
import { Result, Schema } from "effect"
import { Cidr, type Ip } from "../net/index.ts"
import { type Bfd, type BirdSettings, type Gateway, type Secret, type SecretRef } from "./Model.ts"

/** A password that the file needs, in a certain revision. */
export const Use = Schema.Struct({ source: Schema.String, key: Schema.String, revision: Schema.Natural })
export type Use = typeof Use.Type

/** A configuration to apply: equal values need no second application. */
export const Config = Schema.Struct({
  /** Without passwords. */
  text: Schema.String,
  announces: Schema.Array(Cidr.Cidr),
  passwords: Schema.Array(Use)
})
export type Config = typeof Config.Type

export interface Input {
  readonly settings: BirdSettings
  /** All VIPs of the attractor. */
  readonly vips: ReadonlyArray<Cidr.Cidr>
  /** The VIPs to announce now. */
  readonly announces: ReadonlyArray<Cidr.Cidr>
  readonly gateways: ReadonlyArray<Gateway>
  readonly secrets: ReadonlyArray<Secret>
}

/** Renders a configuration. */
export const render = (input: Input): Config => {
  const { settings } = input
  const gateways = input.gateways.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  const announces = input.announces.toSorted(Cidr.compare)
  const shown = gateways.map((gateway) => [gateway, passwordOf(gateway, input.secrets)] as const)
    .filter(([, password]) => password !== "Missing")
  const text = [
    "# Written by sluice frontend; changes by hand are lost.",
    ...logs(settings),
    `router id ${settings.routerId};`,
    "protocol device 'DEVICE' { }",
    ...filters,
    ...template("LINK4", "ipv4", settings),
    ...template("LINK6", "ipv6", settings),
    ...announcement("VIP4", "ipv4", announces.filter((vip) => Cidr.family(vip) === "v4")),
    ...announcement("VIP6", "ipv6", announces.filter((vip) => Cidr.family(vip) === "v6")),
    ...settings.vrrps.toSorted().flatMap((ip) => vrrp(ip, settings)),
    ...kernel("KERNEL4", "ipv4", settings),
    ...kernel("KERNEL6", "ipv6", settings),
    ...shown.flatMap(([gateway]) => neighbour(gateway, settings)),
    ...bfd(gateways, settings),
    ""
  ].join("\n")
  const uses = shown.flatMap(([, password]) => typeof password === "object" ? [password] : [])
  return { text, announces, passwords: uniqueUses(uses) }
}

/** The same configuration with nothing announced. */
export const silence = (config: Config): Config => ({
  ...config,
  text: config.text.replace(/^protocol static 'VIP[46]' \{\n(?: .*\n)*\}\n/gm, ""),
  announces: []
})

/** Gateways left without a protocol because of their password, with the reason. */
export const missingPasswords = (
  gateways: ReadonlyArray<Gateway>,
  secrets: ReadonlyArray<Secret>
): ReadonlyArray<{ readonly gateway: string; readonly reason: string }> =>
  gateways.flatMap((gateway) => {
    if (gateway.routing._tag !== "Bgp" || gateway.routing.password === undefined) return []
    const { key, source } = gateway.routing.password
    const found = find(gateway.routing.password, secrets)
    if (found === undefined) {
      return [{ gateway: gateway.name, reason: `there is no key ${key} in the secret ${source}` }]
    }
    return found.problem === undefined
      ? []
      : [{ gateway: gateway.name, reason: `the key ${key} of the secret ${source} ${found.problem}` }]
  })

/**
 * Why these bytes cannot be a password of BIRD, if they cannot. They stand between quotes in the file, and the kernel
 * takes at most 80 (TCP_MD5SIG_MAXKEYLEN). `password` holds one byte per character.
 */
export const passwordProblem = (password: string): string | undefined => {
  if (password.length === 0) return "is empty"
  if (password.length > 80) return `has ${password.length} bytes; at most 80 are possible`
  if (/[\r\n]/.test(password)) return "holds a line break; make the secret without one (echo -n)"
  return password.includes("\"") || password.includes("\0") ? "holds a quote or a NUL byte" : undefined
}

/** Fills in the passwords; the failure names the one that is missing. */
export const fill = (
  text: string,
  passwordOf: (ref: SecretRef) => string | undefined
): Result.Result<string, string> => {
  const missing: Array<string> = []
  const filled = text.replace(/"<([a-z0-9.-]+)\/([-._a-zA-Z0-9]+)>"/g, (place, source: string, key: string) => {
    const password = passwordOf({ source, key })
    if (password !== undefined && passwordProblem(password) === undefined) return `"${password}"`
    missing.push(`${source}/${key}`)
    return place
  })
  return missing.length === 0 ? Result.succeed(filled) : Result.fail(missing.join(", "))
}

/** The protocol, filter or template that an error message of BIRD (`file:line:column text`) points at. */
export const culprit = (text: string, message: string): string | undefined => {
  const line = Number(/:(\d+):\d+ /.exec(message)?.[1] ?? 0)
  return text.split("\n").slice(0, line).toReversed()
    .map((line) => /^(?:protocol|template) \w+ '?([^' ]+)'?/.exec(line)?.[1])
    .find((name) => name !== undefined)
}

/** The password that a gateway uses, if it has one that can be used. */
export const passwordUse = (gateway: Gateway, secrets: ReadonlyArray<Secret>): Use | undefined => {
  const use = passwordOf(gateway, secrets)
  return typeof use === "object" ? use : undefined
}

/** The part of a configuration that is about one gateway. */
export const protocolText = (gateway: Gateway, settings: BirdSettings): string =>
  `${neighbour(gateway, settings).join("\n")}\n`

/** The name of the protocol of a gateway. */
export const protocolOf = (gateway: string): string => `NBR-${gateway}`

/** The name of the one BFD protocol. */
export const bfdProtocol = "NBR-BFD"

type Channel = "ipv4" | "ipv6"

const logs = (settings: BirdSettings): ReadonlyArray<string> => [
  ...(settings.logFile === undefined ? [] : [
    `log "${settings.logFile.path}" ${settings.logFile.bytes} "${settings.logFile.path}.backup" ` +
    "{ debug, trace, info, remote, warning, error, auth, fatal, bug };"
  ]),
  `log stderr ${settings.logAll ? "all" : "{ error, fatal, bug, warning }"};`
]

const filters: ReadonlyArray<string> = [
  "filter default_rt {",
  "  if net = 0.0.0.0/0 || net = ::/0 then accept;",
  "  reject;",
  "}",
  "filter cluster_breakout {",
  "  if net = 0.0.0.0/0 || net = ::/0 then accept;",
  "  if source = RTS_BGP then accept;",
  "  reject;",
  "}",
  "filter cluster_access {",
  "  if net = 0.0.0.0/0 || net = ::/0 then reject;",
  "  if source = RTS_STATIC && dest != RTD_BLACKHOLE then accept;",
  "  reject;",
  "}"
]

// One channel per template: a session that offers both families fails with peers that want one (Meridio #370).
const template = (name: string, channel: Channel, settings: BirdSettings): ReadonlyArray<string> => [
  `template bgp ${name} {`,
  "  debug { events, states, interfaces };",
  "  direct;",
  `  hold time ${settings.holdTimeS};`,
  `  connect delay time ${settings.connectDelayS};`,
  `  connect retry time ${settings.connectRetryS};`,
  `  error wait time ${settings.errorWaitS.minimum}, ${settings.errorWaitS.maximum};`,
  "  bfd off;",
  "  graceful restart off;",
  "  setkey off;",
  `  ${channel} { import none; export none; next hop self; };`,
  "}"
]

// Preferred to what BGP learns (100), so that a VIP heard from a gateway never replaces the own one.
const announcement = (name: string, channel: Channel, vips: ReadonlyArray<Cidr.Cidr>): ReadonlyArray<string> =>
  vips.length === 0 ? [] : [
    `protocol static '${name}' {`,
    `  ${channel} { preference 110; };`,
    ...vips.map((vip) => `  route ${vip} via "lo";`),
    "}"
  ]

const vrrp = (ip: Ip.Ip, settings: BirdSettings): ReadonlyArray<string> => [
  `protocol static 'VRRP-${ip}' {`,
  `  ${channelOf(ip)};`,
  `  route ${defaultOf(ip)} via ${ip}%'${settings.externalInterface}' onlink;`,
  "}"
]

// The filter is the same whether the family has VIPs or not (Meridio: `none` without): only rules of VIPs lead into the
// table, and BIRD 3 (3.1 to 3.3) crashes when the export of a kernel protocol that is not up yet becomes another one.
const kernel = (name: string, channel: Channel, settings: BirdSettings): ReadonlyArray<string> => [
  `protocol kernel '${name}' {`,
  `  ${channel} { import none; export filter cluster_breakout; };`,
  `  scan time ${settings.kernelScanS};`,
  `  kernel table ${settings.table};`,
  ...(settings.ecmp ? ["  merge paths on;"] : []),
  "}"
]

const neighbour = (gateway: Gateway, settings: BirdSettings): ReadonlyArray<string> => {
  const vrrp = settings.vrrps.length > 0
  if (gateway.routing._tag === "Static") {
    const next = `${gateway.address}%'${settings.externalInterface}'`
    return [
      `protocol static '${protocolOf(gateway.name)}' {`,
      `  ${channelOf(gateway.address)} { import ${vrrp ? "none" : "filter default_rt"}; };`,
      `  route ${defaultOf(gateway.address)} via ${next}${gateway.bfd === undefined ? "" : " bfd"};`,
      "}"
    ]
  }
  const { holdTimeS, localAs, localPort, password, remoteAs, remotePort } = gateway.routing
  return [
    `protocol bgp '${protocolOf(gateway.name)}' from ${gateway.address.includes(":") ? "LINK6" : "LINK4"} {`,
    `  interface "${settings.externalInterface}";`,
    ...(password === undefined ? [] : [`  password "<${password.source}/${password.key}>";`]),
    `  local port ${localPort ?? settings.localPort} as ${localAs ?? settings.localAs};`,
    `  neighbor ${gateway.address} port ${remotePort ?? settings.remotePort} as ${remoteAs ?? settings.remoteAs};`,
    ...(gateway.bfd === undefined ? [] : [`  bfd { ${bfdOptions(gateway.bfd)}};`]),
    ...(holdTimeS === undefined ? [] : [`  hold time ${holdTimeS};`]),
    `  ${channelOf(gateway.address)} {`,
    `    import ${vrrp ? "none" : "filter cluster_breakout"};`,
    "    export filter cluster_access;",
    "  };",
    "}"
  ]
}

/** Whether static gateways ask for different BFD values, of which BIRD has one set for all of them. */
export const hasDifferentBfd = (gateways: ReadonlyArray<Gateway>): boolean =>
  new Set(staticBfd(gateways).map(bfdOptions)).size > 1

const staticBfd = (gateways: ReadonlyArray<Gateway>): ReadonlyArray<Bfd> =>
  gateways.flatMap(({ bfd, routing }) => routing._tag === "Static" && bfd !== undefined ? [bfd] : [])

/** The shortest intervals and the largest multiplier win (Meridio takes those of the last gateway). */
const bfd = (gateways: ReadonlyArray<Gateway>, settings: BirdSettings): ReadonlyArray<string> => {
  const specs = staticBfd(gateways)
  const options = bfdOptions({
    ...extreme("minTxMs", specs, Math.min),
    ...extreme("minRxMs", specs, Math.min),
    ...extreme("multiplier", specs, Math.max)
  })
  return [
    `protocol bfd '${bfdProtocol}' {`,
    "  accept direct;",
    `  interface "${settings.externalInterface}" { ${options}};`,
    "}"
  ]
}

const extreme = (key: keyof Bfd, specs: ReadonlyArray<Bfd>, choose: (...values: Array<number>) => number): Bfd => {
  const values = specs.flatMap((spec) => spec[key] ?? [])
  return values.length === 0 ? {} : { [key]: choose(...values) }
}

const bfdOptions = (spec: Bfd): string =>
  (spec.minRxMs === undefined ? "" : `min rx interval ${spec.minRxMs} ms; `) +
  (spec.minTxMs === undefined ? "" : `min tx interval ${spec.minTxMs} ms; `) +
  (spec.multiplier === undefined ? "" : `multiplier ${spec.multiplier}; `)

const channelOf = (ip: Ip.Ip): Channel => (ip.includes(":") ? "ipv6" : "ipv4")
const defaultOf = (ip: Ip.Ip): string => (ip.includes(":") ? "::/0" : "0.0.0.0/0")

const find = (ref: SecretRef, secrets: ReadonlyArray<Secret>) =>
  secrets.find(({ source }) => source === ref.source)?.keys.find(({ key }) => key === ref.key)

const passwordOf = (gateway: Gateway, secrets: ReadonlyArray<Secret>): Use | "None" | "Missing" => {
  if (gateway.routing._tag !== "Bgp" || gateway.routing.password === undefined) return "None"
  const { key, source } = gateway.routing.password
  const found = find({ source, key }, secrets)
  return found === undefined || found.problem !== undefined ? "Missing" : { source, key, revision: found.revision }
}

const uniqueUses = (uses: ReadonlyArray<Use>): ReadonlyArray<Use> =>
  [...new Map(uses.map((use) => [`${use.source}/${use.key}`, use] as const)).entries()]
    .toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, use]) => use)
