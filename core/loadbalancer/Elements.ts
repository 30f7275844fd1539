/** Elements of sets and maps that come and go by themselves, and what differs between two states of them. */
import * as Memo from "../Memo.ts"
import type * as Ip from "../net/Ip.ts"

/** What a key leads to in a map: a mark, an address, or the name of a link in quotes. */
export type Value = number | Ip.Ip | Link
type Link = `"${string}"`

/** The values of slots or marks; in an array those of 0, 1, ...; undefined in a set. */
export type Elements = ReadonlyMap<number, Value | undefined> | ReadonlyArray<number>

/** What becomes of the elements of a set or map. */
export interface Change<V = Value> {
  readonly family: "inet" | "netdev"
  readonly table: string
  readonly name: string
  readonly removed: ReadonlyArray<number>
  /** Keys that are removed as well get another value. */
  readonly added: ReadonlyArray<readonly [key: number, value: V | undefined]>
}

/** What differs. */
export type Difference = Pick<Change, "removed" | "added">

interface States {
  readonly before: Elements
  readonly after: Elements
}

// Both tables have the slots.
const differenceOf = Memo.last(({ after }: States) => after, ({ after, before }): Difference => {
  const removed: Array<number> = []
  const added: Array<readonly [number, Value | undefined]> = []
  before.forEach((value: Value | undefined, key: number) => {
    if (!has(after, key) || valueOf(after, key) !== value) removed.push(key)
  })
  after.forEach((value: Value | undefined, key: number) => {
    if (!has(before, key) || valueOf(before, key) !== value) added.push([key, value])
  })
  return { removed, added }
})

export const difference = (before: Elements | undefined, after: Elements): Difference =>
  differenceOf({ before: before ?? none, after })

const none: Elements = []

const isArray = (elements: Elements): elements is ReadonlyArray<number> => Array.isArray(elements)

const has = (elements: Elements, key: number): boolean => isArray(elements) ? key < elements.length : elements.has(key)

const valueOf = (elements: Elements, key: number): Value | undefined =>
  isArray(elements) ? elements[key] : elements.get(key)

/** In the language of nftables. */
export const text = ({ added, family, name, removed, table }: Change): ReadonlyArray<string> => {
  const elements = `element ${family} ${table} ${name}`
  const texts = added.map(([key, value]) => value === undefined ? key : `${key} : ${value}`)
  return [
    ...removed.length === 0 ? [] : [`delete ${elements} { ${removed.join(", ")} }`],
    ...texts.length === 0 ? [] : [`add ${elements} { ${texts.join(", ")} }`]
  ]
}

/** Whether the values need no look at the links of the kernel. */
export const isPlain = (change: Change): change is Change<number | Ip.Ip> =>
  change.added.every(([, value]) => typeof value !== "string" || !value.startsWith("\""))
