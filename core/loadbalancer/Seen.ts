/** What a reading of the kernel says about the way of packets. */
import { Schema } from "effect"
import type * as Cidr from "../net/Cidr.ts"
import type * as Kernel from "../net/Kernel.ts"
import * as FastPath from "./FastPath.ts"
import * as Guard from "./Guard.ts"
import * as Model from "./Model.ts"
import * as Routes from "./Routes.ts"

export const Seen = Schema.Struct({
  /** The marks of the wanted targets that it routes to. */
  ready: Schema.Array(Schema.Natural),
  /** The fast path to those. */
  fastPath: Schema.optionalKey(Model.FastPath),
  guard: Schema.optionalKey(Model.Guard)
})
export type Seen = typeof Seen.Type

export const look = (
  settings: FastPath.Settings,
  vips: ReadonlyArray<Cidr.Cidr>,
  targets: ReadonlyArray<Routes.Target>,
  observed: Kernel.Snapshot
): Seen => {
  const reached = targets.filter((target) => Routes.isReady(target, observed))
  const fastPath = FastPath.find(settings, vips, reached, observed)
  const guard = Guard.find(settings, vips, observed)
  return {
    ready: reached.map(({ mark }) => mark),
    ...(fastPath === undefined ? {} : { fastPath }),
    ...(guard === undefined ? {} : { guard })
  }
}

export const withoutFastPath = (all: Seen): Seen => {
  const { fastPath: _, ...seen } = all
  return seen
}
