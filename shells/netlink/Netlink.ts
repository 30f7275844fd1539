/**
 * One network namespace of the Linux kernel as a service: read it, change it, hear that it changed (rtnetlink, RFC 3549).
 *
 * It decides nothing: what to change comes as `Kernel.Operation`s from a plan.
 */
import { Context, type Effect, type Stream } from "effect"
import type { Kernel } from "../../core/net/index.ts"
import type { NetlinkError } from "./NetlinkError.ts"

/** One end of a veth pair in its final place. */
export interface VethEnd {
  /** The path of the namespace the end is made in. */
  readonly namespace: string
  readonly name: string
  readonly alias?: string
  readonly mac?: string
  readonly mtu?: number
}

export class Netlink extends Context.Service<Netlink, {
  /** The state of the namespace; each kind of object is read at once, the kinds one after the other. */
  readonly snapshot: Effect.Effect<Kernel.Snapshot, NetlinkError>
  /**
   * Applies the operations in order and stops at the first one that fails. Adding what is there and deleting what is
   * absent succeed. An operation that has started is not interrupted.
   */
  readonly apply: (operations: ReadonlyArray<Kernel.Operation>) => Effect.Effect<void, NetlinkError>
  /**
   * Emits once when it has begun to listen, then whenever links, addresses, rules or routes may have changed, by
   * whomever; many changes may be one element. So reading after each element misses nothing, lost messages included.
   */
  readonly changes: Stream.Stream<void, NetlinkError>
  /** Makes a veth pair with each end at once in its namespace under its final name, down and without addresses. */
  readonly createVeth: (one: VethEnd, other: VethEnd) => Effect.Effect<void, NetlinkError>
}>()("sluice/shells/netlink/Netlink") {}
