/** What differs between two values, by path: states of machines, as they are or as JSON. */

import { HashMap, HashSet } from "effect"

/** A place and what was and is there; undefined: nothing. */
export interface Difference {
  readonly path: string
  readonly before: unknown
  readonly after: unknown
}

/**
 * The differences in the order of the values. Parts that are the same object are not looked into, so two states of a
 * machine cost what has changed. Maps and sets of any kind are compared by key, lists by position once the beginning and
 * the end that they have in common are set aside.
 */
export const between = (before: unknown, after: unknown): ReadonlyArray<Difference> => {
  const found: Array<Difference> = []
  compare("", before, after, found)
  return found
}

const compare = (path: string, before: unknown, after: unknown, found: Array<Difference>): void => {
  if (Object.is(before, after)) return
  const [old, now] = [partsOf(before), partsOf(after)]
  if (old?.kind === "list" && now?.kind === "list") compareLists(path, old.items, now.items, found)
  else if (old?.kind !== "parts" || now?.kind !== "parts") {
    if (!isSame(before, after)) found.push({ path, before: plain(before), after: plain(after) })
  } else {
    for (const [name, value] of old.parts) compare(join(path, name), value, now.parts.get(name), found)
    for (const [name, value] of now.parts) if (!old.parts.has(name)) compare(join(path, name), undefined, value, found)
  }
}

const compareLists = (
  path: string,
  before: ReadonlyArray<unknown>,
  after: ReadonlyArray<unknown>,
  found: Array<Difference>
): void => {
  const shorter = Math.min(before.length, after.length)
  let from = 0
  let back = 0
  if (before.length !== after.length) {
    while (from < shorter && isSame(before[from], after[from])) from++
    while (back < shorter - from && isSame(before[before.length - 1 - back], after[after.length - 1 - back])) back++
  }
  const [old, now] = [before.slice(from, before.length - back), after.slice(from, after.length - back)]
  for (let n = 0; n < Math.max(old.length, now.length); n++) compare(`${path}[${from + n}]`, old[n], now[n], found)
}

const isSame = (a: unknown, b: unknown): boolean => {
  if (Object.is(a, b)) return true
  const [old, now] = [partsOf(a), partsOf(b)]
  if (old === undefined || now === undefined) return old === now && String(a) === String(b) && typeof a === typeof b
  if (old.kind === "list") {
    return now.kind === "list" && old.items.length === now.items.length
      && old.items.every((item, n) => isSame(item, now.items[n]))
  }
  return now.kind === "parts" && old.parts.size === now.parts.size
    && [...old.parts].every(([name, value]) => now.parts.has(name) && isSame(value, now.parts.get(name)))
}

type Parts =
  | { readonly kind: "list"; readonly items: ReadonlyArray<unknown> }
  | { readonly kind: "parts"; readonly parts: ReadonlyMap<string, unknown> }

/** What a value is made of; undefined: it is one piece. */
const partsOf = (value: unknown): Parts | undefined => {
  if (typeof value !== "object" || value === null) return undefined
  if (Array.isArray(value)) return { kind: "list", items: value }
  if (value instanceof Map || HashMap.isHashMap(value)) {
    return { kind: "parts", parts: new Map(Array.from(value, ([key, part]) => [keyOf(key), part])) }
  }
  if (value instanceof Set || HashSet.isHashSet(value)) {
    return { kind: "parts", parts: new Map(Array.from(value, (item) => [keyOf(item), item])) }
  }
  // What hides its parts, as Redacted does, speaks for itself.
  if ("toJSON" in value) return undefined
  return { kind: "parts", parts: new Map(Object.entries(value)) }
}

const keyOf = (key: unknown): string => typeof key === "string" ? key : JSON.stringify(plain(key)) ?? String(key)

/** The value as JSON has it, maps as objects. */
export const plain = (value: unknown): unknown => {
  if (typeof value === "bigint") return String(value)
  const parts = partsOf(value)
  if (parts === undefined) {
    return typeof value === "object" && value !== null ? JSON.parse(JSON.stringify(value) ?? "null") : value
  }
  return parts.kind === "list"
    ? parts.items.map(plain)
    : Object.fromEntries([...parts.parts].map(([name, part]) => [name, plain(part)]))
}

const join = (path: string, name: string): string =>
  /^[A-Za-z_][\w-]*$/.test(name) ? path === "" ? name : `${path}.${name}` : `${path}[${JSON.stringify(name)}]`
