/** Settings, offers and worlds of a frontend for examples and properties. */
import { Arbitrary, Schema } from "effect"
import { BirdConfig, type Frontend, Model, type Monitor } from "../../core/frontend/index.ts"
import { Ip } from "../../core/net/index.ts"

export const bird: Model.BirdSettings = {
  routerId: Ip.unsafe("169.254.100.1"),
  externalInterface: "ext-vlan",
  vrrps: [],
  localAs: 8103,
  remoteAs: 4_248_829_953,
  localPort: 10_179,
  remotePort: 10_179,
  holdTimeS: 3,
  errorWaitS: { minimum: 1, maximum: 30 },
  connectDelayS: 1,
  connectRetryS: 5,
  table: 4096,
  ecmp: true,
  kernelScanS: 10,
  logAll: false
}

export const settings: Model.Settings = { ...Model.defaults, bird, dropIfNoPeer: true }

const gateway: Model.OfferedGateway = {
  name: "",
  address: "",
  protocol: "bgp",
  remoteAs: 0,
  localAs: 0,
  remotePort: 0,
  localPort: 0,
  holdTimeS: 0,
  bfd: false,
  minTxMs: 0,
  minRxMs: 0,
  multiplier: 0,
  keySource: "",
  keyName: ""
}

const bfd = { bfd: true, minTxMs: 300, minRxMs: 300, multiplier: 5 }

/** Gateways of every kind, good and bad. */
export const gateways: ReadonlyArray<Model.OfferedGateway> = [
  { ...gateway, name: "gateway-v4-a", address: "169.254.100.150", holdTimeS: 24, ...bfd },
  { ...gateway, name: "gateway-v6-a", address: "100:100::150", holdTimeS: 24, ...bfd },
  { ...gateway, name: "gateway-v4-b", address: "169.254.100.151", localAs: 64_512, remoteAs: 64_513, localPort: 179 },
  { ...gateway, name: "guarded", address: "169.254.100.152", keySource: "bgp-keys", keyName: "gw.key" },
  { ...gateway, name: "static-v4", address: "169.254.100.153", protocol: "static", ...bfd },
  { ...gateway, name: "static-v6", address: "fe80::1", protocol: "static" },
  { ...gateway, name: "static-slow", address: "169.254.100.154", protocol: "static", bfd: true, multiplier: 9 },
  { ...gateway, name: "BFD", address: "169.254.100.155" },
  { ...gateway, name: "in jection' {", address: "169.254.100.156" },
  { ...gateway, name: "ospf", address: "169.254.100.157", protocol: "ospf" },
  { ...gateway, name: "nowhere", address: "nowhere" },
  { ...gateway, name: "hasty", address: "169.254.100.158", holdTimeS: 2 }
]

export const vips = ["20.0.0.1/32", "40.0.0.0/24", "2000::1/128", "fd00:1::/64", "20.0.0.1", "0.0.0.0/0", "10.0.0.1/8"]

const someOf = <A>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<ReadonlyArray<A>> =>
  Arbitrary.map(
    Arbitrary.array(Arbitrary.schema(Schema.Natural), { maxLength: 6 }),
    (indexes) => indexes.flatMap((index) => values[index % values.length] ?? [])
  )

export const offers: Arbitrary.Arbitrary<Model.OfferedAttractor> = Arbitrary.all({
  vips: someOf(vips),
  gateways: someOf(gateways)
})

export const secrets: ReadonlyArray<Model.Secret> = [
  { source: "bgp-keys", keys: [{ key: "gw.key", revision: 0 }] },
  { source: "bgp-keys", keys: [{ key: "gw.key", revision: 1 }, { key: "other", revision: 0 }] },
  { source: "bgp-keys", keys: [{ key: "gw.key", revision: 2, problem: "is empty" }] },
  { source: "bgp-keys", keys: [] }
]

/** Rows as BIRD shows them for gateways that are all up. */
export const allUp = (names: ReadonlyArray<string>): Omit<Monitor.State, "doing" | "errors"> => ({
  protocols: names.map((name) => ({
    name: BirdConfig.protocolOf(name),
    kind: name.startsWith("static") ? "Static" : "BGP",
    state: "up",
    info: name.startsWith("static") ? "" : "Established"
  })),
  sessions: gateways.flatMap(({ address, bfd }) =>
    bfd ? [{ address: Ip.unsafe(address), link: "ext-vlan", state: "Up" }] : []
  )
})

/** How the world may answer a command: the good answer first, and most often. */
export const outcomes = (command: Frontend.Command): ReadonlyArray<Frontend.Event> => {
  const [good, ...others] = answers(command)
  return good === undefined ? [] : [good, ...others, good, good, good, good, good]
}

const answers = (command: Frontend.Command): ReadonlyArray<Frontend.Event> => {
  const call = "call" in command ? command.call : 0
  switch (command._tag) {
    case "RegisterTarget":
      return [{ _tag: "RegisterSucceeded", call }, { _tag: "RegisterFailed", call, reason: "Unavailable" }]
    case "UnregisterTarget":
      return [{ _tag: "UnregisterSucceeded", call }, { _tag: "UnregisterFailed", call, reason: "Unavailable" }]
    case "StartBird":
      return [
        { _tag: "StartBirdSucceeded", call, version: "2.0.12" },
        { _tag: "StartBirdSucceeded", call, version: "3.1.4" },
        { _tag: "StartBirdFailed", call, reason: "syntax error" }
      ]
    case "ConfigureBird":
      return [
        { _tag: "ConfigureSucceeded", call },
        { _tag: "ConfigureFailed", call, reason: "Timeout" },
        { _tag: "ConfigureRefused", call, message: "/etc/bird/bird-fe-meridio.conf:41:3 syntax error" }
      ]
    case "StopBird":
      return [{ _tag: "StopBirdSucceeded", call }]
    case "QueryBird":
      return [
        { _tag: "QueryBirdSucceeded", call, ...allUp(gateways.map(({ name }) => name)) },
        { _tag: "QueryBirdSucceeded", call, ...allUp(["gateway-v4-a", "gateway-v4-b"]) },
        { _tag: "QueryBirdSucceeded", call, ...allUp([]) },
        { _tag: "QueryBirdFailed", call, reason: "Timeout" }
      ]
    case "ConvergeRules":
      return [{ _tag: "ConvergeRulesSucceeded", call }, { _tag: "ConvergeRulesFailed", call, reason: "EPERM" }]
    case "Cancel":
    case "Report":
    case "SetEgress":
    case "WatchSecrets":
      return []
  }
}

/** What happens from outside, in the proportions in which it matters. */
export const events: Arbitrary.Arbitrary<Frontend.Event> = Arbitrary.map(
  Arbitrary.all({ kind: Arbitrary.schema(Schema.Natural), offer: offers, good: offers }),
  ({ good, kind, offer }): Frontend.Event => {
    switch (kind % 24) {
      case 0:
        return { _tag: "AttractorObserved", attractors: [offer] }
      case 1:
        return {
          _tag: "AttractorObserved",
          attractors: [{ vips: [vips[0] ?? "", ...good.vips], gateways: gateways.slice(0, 1) }]
        }
      case 2:
        return { _tag: "AttractorObserved", attractors: offer.vips.length < 3 ? [] : [offer, good] }
      case 3:
      case 4:
        return { _tag: "SecretObserved", secret: secrets[kind % secrets.length] ?? { source: "", keys: [] } }
      case 5:
        return { _tag: "SecretGone", source: "bgp-keys" }
      case 6:
        return { _tag: "LoadBalancerObserved", forwarding: false }
      case 7:
        return { _tag: "LoadBalancerLost" }
      case 8:
        return { _tag: "BirdExited", call: kind % 40, reason: "exit code 1" }
      case 9:
      case 10:
      case 11:
      case 12:
        return { _tag: "AttractorObserved", attractors: [{ vips: good.vips, gateways: gateways.slice(0, 2) }] }
      default:
        return { _tag: "LoadBalancerObserved", forwarding: true }
    }
  }
)
