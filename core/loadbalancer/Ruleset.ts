/**
 * The nftables rules of the load balancer, and what turns one set of them into another.
 *
 *     packet for a VIP ─▶ flows (layers of boxes) ─▶ stream: slot = jhash(key) mod size ─▶ mark of the target ─▶ routing
 *     the same at the ingress of the external links (fast path)                      ─▶ mark ─▶ link and address
 *
 * 1. A change is one transaction: every packet sees the rules before or after it, never a mix, never none.
 * 2. A change of targets changes only the slots that change owners.
 * 3. Packets for a VIP that belong to no flow, or to a stream without targets, are dropped.
 * 4. The text depends on the set of streams, flows and VIPs, not on their order.
 * 5. What stays keeps its counters.
 *
 * What was measured and why each expression is as it is: Linux 6.18, nftables 1.0.6.
 */
import * as Memo from "../Memo.ts"
import type * as Ip from "../net/Ip.ts"
import * as Chains from "./Chains.ts"
import * as Elements from "./Elements.ts"
import type { Ruleset } from "./Model.ts"
import type { Object } from "./Objects.ts"

/** Neither VIPs nor anything else. */
export const empty = (table: string): Ruleset => ({ table, vips: [], flows: [], streams: [], portNats: [] })

/** The script that replaces whatever is in the tables, or, given the rules in the kernel, changes what differs. */
export const script = (before: Ruleset | undefined, after: Ruleset): string => textOf(stepsBetween(before, after))

/** How rules become others: by a script, or when just elements come and go by these, which are found quicker. */
export type Change =
  | { readonly _tag: "Script"; readonly script: string }
  | { readonly _tag: "Elements"; readonly elements: ReadonlyArray<Elements.Change<number | Ip.Ip>> }

export const change = (before: Ruleset | undefined, after: Ruleset): Change => {
  const steps = stepsBetween(before, after)
  const elements = steps.flatMap((each) => each.elements)
  const count = elements.reduce((sum, { added, removed }) => sum + added.length + removed.length, 0)
  return steps.every(({ structure }) => structure.length === 0) && count <= manyElements &&
      elements.every(Elements.isPlain)
    ? { _tag: "Elements", elements }
    : { _tag: "Script", script: textOf(steps) }
}

/** More would hold up the program that adds them by itself. */
const manyElements = 20_000

/** What changes in a table: its objects, then the elements of these. */
interface Steps {
  readonly structure: ReadonlyArray<string>
  readonly elements: ReadonlyArray<Elements.Change>
}

const textOf = (steps: ReadonlyArray<Steps>): string =>
  [...steps.flatMap(({ elements, structure }) => [...structure, ...elements.flatMap(Elements.text)]), ""].join("\n")

const stepsBetween = (before: Ruleset | undefined, after: Ruleset): ReadonlyArray<Steps> => {
  const present = before === undefined ? undefined : tablesOf(before)
  const wanted = tablesOf(after)
  return [
    stepsOf("inet", after.table, present?.inet, wanted.inet),
    stepsOf("netdev", after.table, present?.netdev, wanted.netdev)
  ]
}

// What was wanted once is what is there the next time.
const tablesOf = Memo.each(Chains.tables)

export { marks } from "./Chains.ts"

const stepsOf = (
  family: "inet" | "netdev",
  name: string,
  present: ReadonlyArray<Object> | undefined,
  wanted: ReadonlyArray<Object>
): Steps => {
  const table = `${family} ${name}`
  const elementsOf = (before: Object | undefined, { elements, name: object }: Object): Steps["elements"] => {
    if (elements === undefined) return []
    const { added, removed } = Elements.difference(before?.elements, elements)
    return added.length + removed.length === 0 ? [] : [{ family, table: name, name: object, added, removed }]
  }
  if (present !== undefined && present.length > 0 && wanted.length > 0) {
    const [before, known] = [byId(present), new Set(present)]
    return {
      structure: restructure(table, present, wanted),
      elements: wanted.filter((object) => !known.has(object)).flatMap((object) => {
        const other = before.get(id(object))
        return elementsOf(isRemade(other, object) ? undefined : other, object)
      })
    }
  }
  if (present?.length === 0 && wanted.length === 0) return { structure: [], elements: [] }
  return {
    structure: [`table ${table} {}`, `delete table ${table}`, ...wanted.length === 0 ? [] : [declare(table, wanted)]],
    elements: wanted.flatMap((object) => elementsOf(undefined, object))
  }
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
