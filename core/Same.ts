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
    return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => equals(item, b[i]))
  }
  return isRecord(a) && isRecord(b) && isSameRecord(a, b)
}

const isSameRecord = (a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): boolean => {
  const keys = Object.keys(a)
  if (keys.length !== Object.keys(b).length) return false
  for (const key of keys) {
    if (!equals(a[key], b[key]) || !Object.hasOwn(b, key)) return false
  }
  return true
}

const isRecord = (value: object): value is Readonly<Record<string, unknown>> => !Array.isArray(value)
