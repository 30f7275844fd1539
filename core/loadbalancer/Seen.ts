/** What a reading of the kernel says about the way of packets. */
import { Schema } from "effect"
import type { Vip } from "../config/Model.ts"
import * as Memo from "../Memo.ts"
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

/** What a reading is looked at for. */
export interface Sight {
  readonly settings: FastPath.Settings
  readonly vips: ReadonlyArray<Vip>
  readonly targets: ReadonlyArray<Routes.Target>
  readonly observed: Kernel.Snapshot
}

/** Looks at a reading; one that says the same as the last one gives the same value. */
export const look: (sight: Sight) => Seen = Memo.last(({ settings }) => settings, (sight) => {
  const { observed, settings, targets } = sight
  const vips = sight.vips.map(({ address }) => address)
  const reached = targets.filter((target) => Routes.isReady(target, observed))
  const fastPath = FastPath.find(settings, vips, reached, observed)
  const guard = Guard.find(settings, vips, observed)
  return {
    ready: reached.map(({ mark }) => mark),
    ...(fastPath === undefined ? {} : { fastPath }),
    ...(guard === undefined ? {} : { guard })
  }
})

export const withoutFastPath = (all: Seen): Seen => {
  const { fastPath: _, ...seen } = all
  return seen
}
