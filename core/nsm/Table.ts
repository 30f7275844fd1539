/**
 * Records whose keys come from outside: a client may call its connection `toString` or `__proto__`, and must find
 * nothing there that it did not put there.
 */

/** Values by name. */
export interface Table<A> {
  readonly [key: string]: A
}

export const get = <A>(table: Table<A>, key: string): A | undefined =>
  Object.hasOwn(table, key) ? table[key] : undefined

export const has = (table: Table<unknown>, key: string): boolean => Object.hasOwn(table, key)

/** With the value in place of the one of the same name. */
export const set = <A>(table: Table<A>, key: string, value: A): Table<A> => ({ ...table, [key]: value })

export const remove = <A>(table: Table<A>, key: string): Table<A> =>
  Object.fromEntries(Object.entries(table).filter(([other]) => other !== key))
