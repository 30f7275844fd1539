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
 * same items.
 */
export const last = <A extends object, B>(owner: (input: A) => object, f: (input: A) => B): (input: A) => B => {
  const known = new WeakMap<object, { readonly input: A; readonly answer: B }>()
  return (input) => {
    const key = owner(input)
    const hit = known.get(key)
    if (hit !== undefined && isSame(Object.entries(hit.input), Object.entries(input))) return hit.answer
    const answer = f(input)
    known.set(key, { input, answer })
    return answer
  }
}

type Fields = ReadonlyArray<readonly [name: string, value: unknown]>

const isSame = (a: Fields, b: Fields): boolean =>
  a.length === b.length && a.every(([name, value], i) => {
    const [other, field] = b[i] ?? []
    return name === other && (value === field || isSameItems(value, field))
  })

const isSameItems = (a: unknown, b: unknown): boolean =>
  Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => item === b[i])
