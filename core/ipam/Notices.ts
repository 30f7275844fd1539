/** What an operator should know about the stored leases before they are served. */
import * as Cidr from "../net/Cidr.ts"
import type { Input } from "./Ipam.ts"
import * as Leases from "./Leases.ts"

/** What is kept or dropped, why, and what to do about it; nothing if all is as configured. */
export const notices = ({ entries, settings }: Input): ReadonlyArray<string> =>
  settings.pools.flatMap((pool) => {
    const { family, prefix } = pool
    const stored = Leases.storedPrefix(family, entries)
    const { leases, rejected } = Leases.load(pool, entries, 0)
    const differs = stored === undefined || stored === prefix ? [] : [
      `addresses of family ${family} are leased in ${stored}, which stays in use; the configured prefix ${prefix} counts `
      + "once every conduit was removed and the IPAM restarted, or with another IPAM_DATASOURCE"
    ]
    const tooLong = Cidr.length(leases.pool.prefix) < pool.conduitLength ? [] : [
      `${leases.pool.prefix} cannot be cut into conduits of /${pool.conduitLength}: no new conduit gets a prefix`
    ]
    const dropped = rejected.map(({ network, path }) =>
      `the stored lease ${path.join("/")} of ${network} is dropped: it has no parent, or does not fit or overlaps there`
    )
    return [...differs, ...tooLong, ...dropped]
  })
