/**
 * Decides where the fast path begins and ends, from what the kernel looks like.
 *
 * 1. It begins at the links where the answers of targets leave: those of the default routes in the tables that a rule
 *    gives to a VIP, which are the gateways of the frontend, unless the links are named by the settings.
 * 2. It never begins at the links to the proxies, nor at a link that is down.
 * 3. It ends at the links and addresses that the routes of the targets name, so it leads where the general way leads.
 * 4. There is none without a link to begin at and a target to end at.
 */
import { Schema } from "effect"
import * as Cidr from "../net/Cidr.ts"
import * as Kernel from "../net/Kernel.ts"
import type { FastPath } from "./Model.ts"
import * as Routes from "./Routes.ts"

export const Settings = Schema.Struct({
  /** The links where packets come from; none for no fast path; absent when they are to be found. */
  externals: Schema.optionalKey(Schema.Array(Kernel.LinkName)),
  /** What the names of the links to the proxies begin with. */
  linkPrefix: Schema.NonEmptyString
})
export type Settings = typeof Settings.Type

/** The fast path to the targets, whose routes are there. */
export const find = (
  { externals, linkPrefix }: Settings,
  vips: ReadonlyArray<Cidr.Cidr>,
  targets: ReadonlyArray<Routes.Target>,
  observed: Kernel.Snapshot
): FastPath | undefined => {
  const wanted = new Set(externals ?? detected(vips, observed))
  const from = observed.links.filter(({ name, up }) =>
    up && wanted.has(name) && !name.startsWith(linkPrefix) && isPlain(name)
  )
  const hops = targets.flatMap(({ ips, mark }) =>
    ips.flatMap((ip) => {
      const link = Routes.linkOf(ip, observed)
      return link === undefined || !isPlain(link) || wanted.has(link) ? [] : [{ mark, ip, link }]
    })
  )
  if (from.length === 0 || hops.length === 0) return undefined
  const ends = new Set(hops.map(({ link }) => link))
  const shortest = Math.min(...observed.links.filter(({ name }) => ends.has(name)).map(({ mtu }) => mtu))
  return {
    externals: from.map(({ name }) => name).toSorted(),
    hops,
    ...(from.some(({ mtu }) => mtu > shortest) ? { longest: shortest } : {})
  }
}

/** Whether the rule or route may tell where the fast path begins. */
export const isTelling = {
  rule: (rule: Kernel.Rule): boolean =>
    rule.from !== undefined && rule.iif === undefined && rule.traffic === undefined && !rule.foreign,
  route: (route: Kernel.Route): boolean =>
    route.type === "unicast" && route.destination === Cidr.defaultRoute(route.family)
}

/** The links by which the VIPs of the rules leave. */
export const detected = (vips: ReadonlyArray<Cidr.Cidr>, { routes, rules }: Kernel.Snapshot): ReadonlyArray<string> => {
  const tables = new Set(
    rules.filter(isTelling.rule).filter(({ from }) => vips.some((vip) => from === Cidr.network(vip)))
      .map(({ table }) => table)
  )
  return routes.filter(isTelling.route).filter(({ table }) => tables.has(table))
    .flatMap(({ hops }) => hops.flatMap(({ link }) => link ?? []))
}

/** Names that need no care in the text of nftables. */
export const isPlain = (link: string): boolean => /^[A-Za-z0-9_.-]+$/.test(link) && /^[A-Za-z]/.test(link)
