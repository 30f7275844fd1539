/**
 * Equality of plain data: numbers, texts, arrays and records of such, as states, events and commands are made of.
 *
 * It says what `Equal.equals` says, without hashing: most values that are compared differ early or are the same
 * reference, and a hash would read all of both.
 */

/** Whether both are the same data; a key that is absent is not a key that is undefined. */
export const equals = (a: unknown, b: unknown): boolean => {
  if (Object.is(a, b)) return true
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return a === 0 && b === 0
  if (Array.isArray(a) || Array.isArray(b)) {
    return Array.isArray(a) && Array.isArray(b) && isSameList(a, b)
  }
  return isRecord(a) && isRecord(b) && isSameRecord(a, b)
}

const isSameList = (a: ReadonlyArray<unknown>, b: ReadonlyArray<unknown>): boolean => {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (!equals(a[i], b[i])) return false
  return true
}

// Counts the keys instead of listing them: the lists were a tenth of all that the simulation allocates.
const isSameRecord = (a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): boolean => {
  let more = 0
  for (const key in a) {
    if (!equals(a[key], b[key]) || (b[key] === undefined && !Object.hasOwn(b, key))) return false
    more++
  }
  for (const _ in b) more--
  return more === 0
}

const isRecord = (value: object): value is Readonly<Record<string, unknown>> => !Array.isArray(value)
