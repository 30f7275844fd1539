/** In which tables the kernel looks a packet up, by its rules. */
import * as Memo from "../../core/Memo.ts"
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
export const tables = (rules: ReadonlyArray<Kernel.Rule>, packet: Packet): ReadonlyArray<number> => [
  ...walk(rules, packet)
]

/** The same, one after the other: who has found a route asks no further. */
export const walk = function*(rules: ReadonlyArray<Kernel.Rule>, packet: Packet): Generator<number> {
  const { all, first } = inOrder[Ip.family(packet.source)](rules)
  for (let at = 0; at < all.length;) {
    const rule = all[at++]
    if (rule === undefined || !matches(rule, packet)) continue
    if (rule.goto === undefined) yield rule.table
    else at = Math.max(at, first.get(rule.goto) ?? at)
  }
}

/** The rules of a family by priority, and where each priority begins; they stay while many packets pass. */
const ordered = (own: Ip.Family) =>
  Memo.each((rules: ReadonlyArray<Kernel.Rule>) => {
    const all = rules.filter(({ family }) => family === own).toSorted((a, b) => a.priority - b.priority)
    const first = new Map<number, number>()
    for (const [at, { priority }] of all.entries()) if (!first.has(priority)) first.set(priority, at)
    return { all, first }
  })
const inOrder = { v4: ordered("v4"), v6: ordered("v6") }

const matches = (rule: Kernel.Rule, { iif, mark = 0, source }: Packet): boolean => {
  if (rule.foreign || rule.traffic !== undefined) return false
  const isMeant = (rule.mark === undefined || ((rule.mark ^ mark) & (rule.mask ?? -1)) === 0)
    && (rule.iif === undefined || rule.iif === iif)
    && (rule.from === undefined || Cidr.contains(rule.from, Cidr.host(source)))
  return isMeant !== (rule.inverted === true)
}
