/** One target with its stream, and what its NSP may say of both. */
import type * as Target from "../../core/config/Target.ts"
import * as Cidr from "../../core/net/Cidr.ts"
import type { Stream } from "../../core/tapa/index.ts"

export const at = { trench: "t", conduit: "c", stream: "s" }
export const settings = {
  name: "target",
  node: "n",
  namespace: "ns",
  timeoutMs: 15_000,
  tokenLifetimeMs: 600_000,
  entryTimeoutMs: 30_000
}
export const ips = [Cidr.unsafe("172.16.0.2/24"), Cidr.unsafe("fd00::2/64")]
export const elsewhere = [Cidr.unsafe("172.16.0.9/24")]
export const available = (maxTargets = 2, addresses: ReadonlyArray<Cidr.Cidr> = ips): Stream.Situation => ({
  _tag: "Available",
  maxTargets,
  ips: addresses
})
export const undefinedStream: Stream.Situation = { _tag: "Undefined" }

export const entry = (
  identifier: number,
  addresses: ReadonlyArray<string>,
  status: Target.Status = "enabled"
): Target.Target => ({
  kind: "default",
  stream: at,
  ips: addresses,
  context: { identifier: String(identifier) },
  status
})
export const other = (identifier: number): Target.Target => entry(identifier, [`172.16.0.${100 + identifier}/24`])
