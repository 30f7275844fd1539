/**
 * Pure functions that remember: what is asked again with the same references is not computed again. Nobody can tell the
 * difference but by the clock; what is remembered goes with the value it hangs on.
 */

/** The function with its answer for each value; for what is large and asked about often. */
export const each = <A extends object, B>(f: (value: A) => B): (value: A) => B => {
  const known = new WeakMap<A, { readonly answer: B }>()
  return (value) => {
    const hit = known.get(value)
    if (hit !== undefined) return hit.answer
    const answer = f(value)
    known.set(value, { answer })
    return answer
  }
}

/** The function with its answers for texts; there are never more than `limit` of them. */
export const text = <A extends string, B>(f: (text: A) => B, limit = 65_536): (text: A) => B => {
  const known = new Map<A, { readonly answer: B }>()
  return (text) => {
    const hit = known.get(text)
    if (hit !== undefined) return hit.answer
    const answer = f(text)
    if (known.size >= limit) known.clear()
    known.set(text, { answer })
    return answer
  }
}

/**
 * The function of a record with its last answer for each `owner`: kept while every field is the same, or an array of the
 * same items, unless something else is said to be the same.
 */
export const last = <A extends object, B>(
  owner: (input: A) => object,
  f: (input: A) => B,
  isSame: (a: A, b: A) => boolean = hasSameFields
): (input: A) => B => {
  const known = new WeakMap<object, { readonly input: A; readonly answer: B }>()
  return (input) => {
    const key = owner(input)
    const hit = known.get(key)
    if (hit !== undefined && isSame(hit.input, input)) return hit.answer
    const answer = f(input)
    known.set(key, { input, answer })
    return answer
  }
}

// Allocates nothing: most questions are asked for the second time.
const hasSameFields = (a: object, b: object): boolean => {
  if (!isRecord(a) || !isRecord(b)) return false
  let more = 0
  for (const name in a) {
    const [one, other] = [a[name], b[name]]
    if (one !== other && !isSameItems(one, other) || other === undefined && !Object.hasOwn(b, name)) return false
    more++
  }
  for (const _ in b) more--
  return more === 0
}

const isRecord = (value: object): value is Readonly<Record<string, unknown>> => !Array.isArray(value)

const isSameItems = (a: unknown, b: unknown): boolean =>
  Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => item === b[i])
