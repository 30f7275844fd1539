/** In which tables the kernel looks a packet up, by its rules. */
import * as Cidr from "../../core/net/Cidr.ts"
import * as Ip from "../../core/net/Ip.ts"
import type * as Kernel from "../../core/net/Kernel.ts"

/** What rules look at, but for protocols and ports; rules about these and foreign ones count as not matching. */
export interface Packet {
  readonly source: Ip.Ip
  /** 0 or undefined when it has none. */
  readonly mark: number | undefined
  /** Where it came in; undefined if this machine made it. */
  readonly iif: string | undefined
}

/** The tables in the order of the kernel, as far as it has to go. */
export const tables = (rules: ReadonlyArray<Kernel.Rule>, packet: Packet): ReadonlyArray<number> => {
  const all = rules.filter(({ family }) => family === Ip.family(packet.source))
    .toSorted((a, b) => a.priority - b.priority)
  const found: Array<number> = []
  for (let at = 0; at < all.length;) {
    const rule = all[at++]
    if (rule === undefined || !matches(rule, packet)) continue
    if (rule.goto === undefined) found.push(rule.table)
    else {
      const next = all.findIndex(({ priority }) => priority === rule.goto)
      if (next >= at) at = next
    }
  }
  return found
}

const matches = (rule: Kernel.Rule, { iif, mark = 0, source }: Packet): boolean => {
  if (rule.foreign || rule.traffic !== undefined) return false
  const isMeant = (rule.mark === undefined || ((rule.mark ^ mark) & (rule.mask ?? -1)) === 0)
    && (rule.iif === undefined || rule.iif === iif)
    && (rule.from === undefined || Cidr.contains(rule.from, Cidr.host(source)))
  return isMeant !== (rule.inverted === true)
}
