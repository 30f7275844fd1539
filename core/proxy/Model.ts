/**
 * The words of the proxy: the node's bridge between the load balancers of one conduit and the targets on the node.
 *
 * Every connection has a pair of addresses from the IPAM: `src` is the side of a target or of a load balancer, `dst` is
 * the proxy's own end. Source: Meridio `cmd/proxy`, `pkg/proxy`.
 */
import { Schema } from "effect"
import { Millis } from "../Machine.ts"
import { Cidr, Ip, Kernel } from "../net/index.ts"

/** What the proxy is told when it starts. Durations in milliseconds; Meridio's variables in brackets. */
export const Settings = Schema.Struct({
  /** The pod (NSM_NAME). */
  name: Schema.NonEmptyString,
  /** The service of the load balancers (NSM_NETWORK_SERVICE_NAME). */
  networkService: Schema.NonEmptyString,
  families: Schema.Array(Ip.Family),
  /** The bridge and the hardware address it is made with; a bridge that exists keeps its own. */
  bridge: Kernel.LinkName,
  mac: Kernel.Mac,
  /** The routing table of VIP traffic, and the priority of the rules that lead there. */
  table: Schema.Natural,
  priority: Schema.Natural,
  /** The MTU of every connection, in bytes (NSM_MTU). */
  mtu: Schema.Natural,
  /** Pause after a request for a connection failed. */
  requestRetryMs: Millis,
  /** Pause after the IPAM failed to allocate. */
  allocateRetryMs: Millis,
  /** How long addresses stay reserved after the connection has closed (NSM_IP_RELEASE_DELAY). */
  releaseDelayMs: Millis,
  /** Pause after the IPAM failed to release. */
  releaseRetryMs: Millis,
  /** How often every address that is in use is allocated again, which keeps it (NSM_BRIDGE_IP_RENEW_INTERVAL). */
  renewMs: Millis,
  /** Pause before operations that did not help are tried again. */
  applyRetryMs: Millis,
  /** How often the kernel is read without a reason. */
  resyncMs: Millis,
  /** An endpoint that is still listed this long after its expiry is gone. */
  expiryGraceMs: Millis,
  /**
   * The longest that the manager keeps a connection which nobody refreshes (NSM_MAX_TOKEN_LIFETIME): so long after the
   * start a port on the bridge may be one whose connection has not been heard of again.
   */
  tokenLifetimeMs: Millis,
  /** How long a shutdown may take. */
  drainMs: Millis
})
export type Settings = typeof Settings.Type

/** The settings that have no variable, with the values of Meridio where it has them. */
export const defaults = {
  bridge: "bridge0",
  table: 1,
  priority: 32_000,
  requestRetryMs: 10_000,
  allocateRetryMs: 1_000,
  releaseRetryMs: 2_000,
  applyRetryMs: 1_000,
  resyncMs: 30_000,
  drainMs: 26_000
} as const

/** The name of an address at the IPAM, unique in (trench, conduit, node, family). */
export const Child = Schema.Struct({ name: Schema.String, family: Ip.Family })
export type Child = typeof Child.Type

/** An address that the IPAM has given; its prefix length is that of the node's subnet. */
export const Allocation = Schema.Struct({ ...Child.fields, address: Cidr.Cidr })
export type Allocation = typeof Allocation.Type

/** The addresses of one connection, at most one of each family in each list. */
export const Pair = Schema.Struct({ src: Schema.Array(Cidr.Cidr), dst: Schema.Array(Cidr.Cidr) })
export type Pair = typeof Pair.Type

/** The names of a connection's addresses. Source: Meridio `pkg/proxy/proxy.go`. */
export const pairChildren = (id: string, families: ReadonlyArray<Ip.Family>): ReadonlyArray<Child> =>
  families.flatMap((family) => [{ name: `${id}-src`, family }, { name: `${id}-dst`, family }])

/** The names of the bridge's addresses. The IPAM never expires this name. */
export const bridgeChildren = (families: ReadonlyArray<Ip.Family>): ReadonlyArray<Child> =>
  families.map((family) => ({ name: "bridge", family }))

/** The addresses of the connection among allocations that were made for it. */
export const toPair = (id: string, allocations: ReadonlyArray<Allocation>): Pair => ({
  src: allocations.filter(({ name }) => name === `${id}-src`).map(({ address }) => address),
  dst: allocations.filter(({ name }) => name === `${id}-dst`).map(({ address }) => address)
})

/** An interface that connects the bridge with a load balancer or a target. It may not exist in the kernel yet. */
export const Port = Schema.Struct({
  link: Kernel.LinkName,
  role: Schema.Literals(["LoadBalancer", "Target"]),
  /** The addresses at the other end: those of load balancers are the next hops. */
  remotes: Schema.Array(Cidr.Cidr),
  /** A closing port leaves the bridge. */
  phase: Schema.Literals(["Live", "Closing"])
})
export type Port = typeof Port.Type

/**
 * A hardware address that stays the same when the pod is replaced, so that targets need not learn a new one. The IPAM
 * gives one bridge address per (trench, conduit, node); so is this. Locally administered, unicast (FNV-1a, 40 bits).
 */
export const stableMac = (trench: string, conduit: string, node: string): typeof Kernel.Mac.Type => {
  let hash = 0xcbf29ce484222325n
  for (const char of JSON.stringify([trench, conduit, node])) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(char.codePointAt(0) ?? 0)) * 0x100000001b3n)
  }
  const folded = BigInt.asUintN(40, hash ^ (hash >> 40n)).toString(16).padStart(10, "0")
  return ["02", ...folded.match(/../g) ?? []].join(":")
}
