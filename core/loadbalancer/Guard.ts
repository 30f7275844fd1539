/**
 * Decides by which links answers of targets must not leave: those of the pod's own network. Without rules of the frontend
 * for a VIP (it does not know it yet, or is not there), the main table would lead them there.
 *
 * A link by which packets from outside come is none of them, even if the main table has its default route there.
 */
import type * as Cidr from "../net/Cidr.ts"
import type * as Kernel from "../net/Kernel.ts"
import * as FastPath from "./FastPath.ts"
import type { Guard } from "./Model.ts"

const mainTable = 254

/** The guard of a pod, unless it has no network of its own. */
export const find = (
  settings: FastPath.Settings,
  vips: ReadonlyArray<Cidr.Cidr>,
  observed: Kernel.Snapshot
): Guard | undefined => {
  const outside = new Set([...settings.externals ?? [], ...FastPath.detected(vips, observed)])
  const inside = observed.routes
    .filter((route) => route.table === mainTable && FastPath.isTelling.route(route))
    .flatMap(({ hops }) => hops.flatMap(({ link }) => link ?? []))
    .filter((link) => !outside.has(link) && !link.startsWith(settings.linkPrefix) && FastPath.isPlain(link))
  return inside.length === 0
    ? undefined
    : { linkPrefix: settings.linkPrefix, inside: [...new Set(inside)].toSorted() }
}
