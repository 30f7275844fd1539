/**
 * The nftables rules of the load balancer, and the script that turns one set of them into another.
 *
 *     packet for a VIP ─▶ flows (layers of boxes) ─▶ stream: slot = jhash(key) mod size ─▶ mark of the target ─▶ routing
 *     the same at the ingress of the external links (fast path)                      ─▶ mark ─▶ link and address
 *
 * 1. A script is one transaction: every packet sees the rules before or after it, never a mix, never none.
 * 2. A change of targets changes only the slots that change owners.
 * 3. Packets for a VIP that belong to no flow, or to a stream without targets, are dropped.
 * 4. The text depends on the set of streams, flows and VIPs, not on their order.
 * 5. What stays keeps its counters.
 *
 * What was measured and why each expression is as it is: Linux 6.18, nftables 1.0.6.
 */
import * as Memo from "../Memo.ts"
import * as Chains from "./Chains.ts"
import type { Ruleset } from "./Model.ts"
import type { Object } from "./Objects.ts"

/** Neither VIPs nor anything else. */
export const empty = (table: string): Ruleset => ({ table, vips: [], flows: [], streams: [], portNats: [] })

/** The script that replaces whatever is in the tables, or, given the rules in the kernel, changes what differs. */
export const script = (before: Ruleset | undefined, after: Ruleset): string => {
  const present = before === undefined ? undefined : tablesOf(before)
  const wanted = tablesOf(after)
  return [
    ...change(`inet ${after.table}`, present?.inet, wanted.inet),
    ...change(`netdev ${after.table}`, present?.netdev, wanted.netdev),
    ""
  ].join("\n")
}

// What was wanted once is what is there the next time.
const tablesOf = Memo.each(Chains.tables)

export { marks } from "./Chains.ts"

const change = (
  table: string,
  present: ReadonlyArray<Object> | undefined,
  wanted: ReadonlyArray<Object>
): ReadonlyArray<string> => {
  if (present !== undefined && present.length > 0 && wanted.length > 0) {
    const [before, known] = [byId(present), new Set(present)]
    return [
      ...restructure(table, present, wanted),
      ...wanted.filter((object) => !known.has(object)).flatMap((object) => {
        const other = before.get(id(object))
        return elementChanges(table, isRemade(other, object) ? undefined : other, object)
      })
    ]
  }
  if (present?.length === 0 && wanted.length === 0) return []
  return [
    `table ${table} {}`,
    `delete table ${table}`,
    ...wanted.length === 0 ? [] : [declare(table, wanted)],
    ...wanted.flatMap((object) => elementChanges(table, undefined, object))
  ]
}

const declare = (table: string, objects: ReadonlyArray<Object>): string =>
  `table ${table} {\n${objects.map(({ text }) => text).join("\n")}\n}`

// Rules go first, then what they and the elements of maps refer to.
const restructure = (
  table: string,
  present: ReadonlyArray<Object>,
  wanted: ReadonlyArray<Object>
): ReadonlyArray<string> => {
  const [before, after] = [byId(present), byId(wanted)]
  // Most objects are the very ones of before.
  const [was, is] = [new Set(present), new Set(wanted)]
  const isAnew = (object: Object): boolean => !was.has(object) && isRemade(before.get(id(object)), object)
  const isOther = (object: Object): boolean => !was.has(object) && before.get(id(object))?.text !== object.text
  const isLost = (object: Object): boolean => !is.has(object) && after.get(id(object))?.text !== object.text
  const anew = new Set(wanted.filter(isAnew).map(({ name }) => `@${name}`))
  const refersToAnew = ({ kind, text }: Object): boolean =>
    anew.size > 0 && kind === "chain" && (text.match(/@[\w.-]+/g) ?? []).some((name) => anew.has(name))
  const changed = present.filter((object) => isLost(object) || refersToAnew(object))
  const gone = changed.filter((object) => {
    const next = after.get(id(object))
    return next === undefined || isAnew(next)
  })
  const made = wanted.filter((object) => isOther(object) || refersToAnew(object))
  return [
    ...changed.filter(({ kind }) => kind === "chain").map(({ name }) => `flush chain ${table} ${name}`),
    ...changed.filter(({ isFilled }) => isFilled).map(({ kind, name }) => `flush ${kind} ${table} ${name}`),
    ...gone.map(({ kind, name }) => `delete ${kind} ${table} ${name}`),
    ...made.length === 0 ? [] : [declare(table, made)]
  ]
}

const isRemade = (before: Object | undefined, after: Object): boolean =>
  before !== undefined && before.fixed !== after.fixed

const id = ({ kind, name }: Object): string => `${kind} ${name}`

const byId = Memo.each((objects: ReadonlyArray<Object>) => new Map(objects.map((object) => [id(object), object])))

const elementChanges = (table: string, before: Object | undefined, after: Object): ReadonlyArray<string> => {
  const { added, removed } = after.values === undefined
    ? difference({ before: before?.elements ?? none, after: after.elements ?? none })
    : valueDifference({ before: before?.values ?? [], after: after.values })
  const elements = `element ${table} ${after.name}`
  return [
    ...removed.length === 0 ? [] : [`delete ${elements} { ${removed.join(", ")} }`],
    ...added.length === 0 ? [] : [`add ${elements} { ${added.join(", ")} }`]
  ]
}

type Elements = ReadonlyMap<string, string>

const none: Elements = new Map()

interface Difference {
  readonly removed: ReadonlyArray<string | number>
  readonly added: ReadonlyArray<string>
}

const difference = ({ after, before }: { readonly before: Elements; readonly after: Elements }): Difference => {
  const [removed, added]: [Array<string>, Array<string>] = [[], []]
  for (const [key, value] of before) if (after.get(key) !== value) removed.push(key)
  for (const [key, value] of after) {
    if (before.get(key) !== value) added.push(value === "" ? key : `${key} : ${value}`)
  }
  return { added, removed }
}

interface Values {
  readonly before: ReadonlyArray<number>
  readonly after: ReadonlyArray<number>
}

// Both tables have the slots.
const valueDifference = Memo.last(({ after }: Values) => after, ({ after, before }): Difference => {
  const [removed, added]: [Array<number>, Array<string>] = [[], []]
  for (let key = 0; key < Math.max(before.length, after.length); key++) {
    const [one, other] = [before[key], after[key]]
    if (one === other) continue
    if (one !== undefined) removed.push(key)
    if (other !== undefined) added.push(`${key} : ${other}`)
  }
  return { added, removed }
})
