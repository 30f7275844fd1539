/**
 * The addresses of the trenches of one world. Each has external networks and an IPAM of its own, so a second trench may
 * have the addresses of the first one, or others.
 */
import type { Model } from "../../core/ipam/index.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import * as Seed from "../../core/Seed.ts"

/** What the trenches of a world have in common. */
export interface Likeness {
  /** The pools of the IPAM, which are the same for all trenches unless they are configured. */
  readonly pools: boolean
  readonly vips: boolean
  readonly gateways: boolean
}

/** Drawn from a generator of its own, so that the world's draws do not depend on it. */
export const likeness = (seed: Seed.Seed): Likeness => {
  const [bits] = Seed.between((seed ^ 0x2c1b_3c6d) >>> 0, 0, 7)
  return { pools: (bits & 1) > 0, vips: (bits & 2) > 0, gateways: (bits & 4) > 0 }
}

export type Addresses = ReturnType<typeof make>

/** Those of trench n, which counts from 0. */
export const make = (n: number, like: Likeness) => {
  const own = (isLike: boolean): number => isLike ? 0 : n
  const [pools, vips, outside] = [own(like.pools), own(like.vips), 100 + own(like.gateways)]
  return {
    pools: [
      {
        family: "v4",
        prefix: Cidr.unsafe(pools === 0 ? "172.16.0.0/12" : `${99 + pools}.64.0.0/12`),
        conduitLength: 14,
        nodeLength: 20
      },
      { family: "v6", prefix: Cidr.unsafe(`fd0${pools}::/48`), conduitLength: 56, nodeLength: 64 }
    ] satisfies ReadonlyArray<Model.Pool>,
    /** VIP m of each family. */
    vip: (m: number): ReadonlyArray<Cidr.Cidr> =>
      [`20.${vips}.0.${m}/32`, `2000${vips === 0 ? "" : `:${vips}`}::${m.toString(16)}/128`].map(Cidr.unsafe),
    /** The networks between frontends and gateways. */
    external: [`169.254.${outside}.0/24`, `100:${outside}::/64`].map(Cidr.unsafe),
    /** The addresses of gateway m in them. */
    gateway: (m: number): ReadonlyArray<Ip.Ip> =>
      [`169.254.${outside}.${150 + m}`, `100:${outside}::${(150 + m).toString(16)}`].map(Ip.unsafe)
  }
}

/** Whether an address can be one that an IPAM leases. */
export const isLeased = (cidr: Cidr.Cidr): boolean => /^(172\.|1\d\d\.64\.|fd0)/.test(cidr)
