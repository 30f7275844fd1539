/** The words of address management: who asks, what is kept, what is refused. */
import { Schema } from "effect"
import { Cidr } from "../net/Cidr.ts"
import { Family, Ip } from "../net/Ip.ts"

/** How the addresses of one family are cut: pool ⊃ conduits ⊃ nodes ⊃ single addresses. */
export const Pool = Schema.Struct({
  family: Family,
  /** The addresses of the trench. */
  prefix: Cidr,
  /** Length in bits of the prefix of a conduit. */
  conduitLength: Schema.Natural,
  /** Length in bits of the prefix of a node. */
  nodeLength: Schema.Natural
})
export type Pool = typeof Pool.Type

export const Settings = Schema.Struct({
  trench: Schema.String,
  /** At most one per family; a family without a pool is not served. */
  pools: Schema.Array(Pool),
  /** Whether leases that nobody renews are taken back. */
  sweep: Schema.Boolean,
  sweepIntervalMs: Schema.Natural,
  /** How long a lease lives without being renewed. */
  leaseMs: Schema.Natural
})
export type Settings = typeof Settings.Type

/** Who asks for an address; what the wire left out is absent. */
export const Child = Schema.Struct({
  trench: Schema.optionalKey(Schema.String),
  conduit: Schema.optionalKey(Schema.String),
  family: Family,
  node: Schema.String,
  name: Schema.String,
  /**
   * When the process that asks began. Unit: milliseconds since the Unix epoch. A release may arrive long after it was
   * sent, when the next process of the node already holds the address.
   */
  startedAt: Schema.optionalKey(Schema.Finite)
})
export type Child = typeof Child.Type

/**
 * The name of a lease by level: `[]` the trench, `[conduit]`, `[conduit, node]`, `[conduit, node, child]`. A tuple, as
 * joined names would be ambiguous (the original joins with `-`).
 */
export const Path = Schema.Array(Schema.String).check(Schema.isMaxLength(3))
export type Path = typeof Path.Type

/** One lease, as it is stored. */
export const Entry = Schema.Struct({
  family: Family,
  path: Path,
  network: Cidr,
  /** When it was renewed. Unit: milliseconds since the Unix epoch. */
  touchedAt: Schema.Finite
})
export type Entry = typeof Entry.Type

/** One change of the store. Both kinds may be repeated. */
export const Change = Schema.TaggedUnion({
  SaveEntry: { entry: Entry },
  /** Deletes the entry and everything below it. */
  DeleteEntry: { family: Family, path: Path }
})
export type Change = typeof Change.Type

/** The name of the child that holds the address of a node's bridge: it never expires by itself (Meridio's proxy). */
export const bridge = "bridge"

/**
 * The metadata key of a request under which a process tells when it began, as decimal text. Clients of Meridio send none:
 * then every release counts.
 */
export const startedAtKey = "sluice-started-at"

/** Why there is no address. */
export const Refusal = Schema.TaggedUnion({
  FamilyNotServed: { family: Family },
  ConduitMissing: {},
  TrenchMismatch: { asked: Schema.String, served: Schema.String },
  /** No block of the length is free in the prefix. */
  Exhausted: { level: Schema.Literals(["conduit", "node", "address"]), prefix: Cidr, length: Schema.Natural },
  TooManyWaiting: { limit: Schema.Natural },
  /** More requests than that wait for the store. */
  Overloaded: { limit: Schema.Natural },
  StoreFailed: { reason: Schema.String },
  Closing: {}
})
export type Refusal = typeof Refusal.Type

/** The answer to a request. */
export const Answer = Schema.TaggedUnion({
  /** `length` is that of the node's prefix (ipam.v1 Prefix). */
  Allocated: { address: Ip, length: Schema.Natural },
  Released: {},
  Refused: { refusal: Refusal }
})
export type Answer = typeof Answer.Type

/** A refusal in words: what, where, and what to do. */
export const explain = (refusal: Refusal): string => {
  switch (refusal._tag) {
    case "FamilyNotServed":
      return `IP family ${refusal.family} is not served: the trench has no pool for it (IPAM_IP_FAMILY)`
    case "ConduitMissing":
      return "the request names no conduit: set subnet.conduit.name"
    case "TrenchMismatch":
      return refusal.asked === ""
        ? `the request names no trench: set subnet.conduit.trench.name to ${refusal.served}`
        : `trench ${refusal.asked} is not served: this is the IPAM of trench ${refusal.served}`
    case "Exhausted":
      return `no ${refusal.level} of length /${refusal.length} is free in ${refusal.prefix}: `
        + (refusal.level === "address" ? "release connections or shorten the node prefix" : "enlarge the prefix")
    case "TooManyWaiting":
      return `${refusal.limit} requests already wait for a conduit: check that the conduit is configured`
    case "Overloaded":
      return `${refusal.limit} requests already wait to be stored: ask again later`
    case "StoreFailed":
      return `leases cannot be stored: ${refusal.reason}`
    case "Closing":
      return "the IPAM is stopping: ask again"
  }
}
