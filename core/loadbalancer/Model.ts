/** The words of the stateless load balancer. */
import { Schema } from "effect"
import { Flow, PortNat } from "../config/Model.ts"
import { Cidr } from "../net/Cidr.ts"

/** A stream and the targets that take its packets. */
export const Stream = Schema.Struct({
  name: Schema.String,
  /** The shape of the slot table, see `Maglev.Shape`. */
  maxTargets: Schema.Natural,
  slots: Schema.Natural,
  /** The mark of a target is `offset` plus its identifier. */
  offset: Schema.Natural,
  identifiers: Schema.Array(Schema.Natural)
})
export type Stream = typeof Stream.Type

/** Everything the rules depend on. */
export const Ruleset = Schema.Struct({
  /** Every VIP of the trench. */
  vips: Schema.Array(Cidr),
  /** Flows of other streams than those below are left out. */
  flows: Schema.Array(Flow),
  streams: Schema.Array(Stream),
  portNats: Schema.Array(PortNat)
})
export type Ruleset = typeof Ruleset.Type
