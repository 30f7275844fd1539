/** JSON as people and TypeScript read it: names without quotes where they need none, short values on one line. */

/** Lines no longer than the width, where that can be. */
export const print = (value: unknown, indent = "", width = 100): string => {
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "undefined"
  const isList = Array.isArray(value)
  const items: ReadonlyArray<readonly [string, unknown]> = isList
    ? value.map((item) => ["", item])
    : Object.entries(value).filter(([, item]) => item !== undefined)
  const [open, close] = isList ? ["[", "]"] : ["{", "}"]
  if (items.length === 0) return `${open}${close}`
  const one = items.map(([name, item]) => named(name, print(item, "", Infinity))).join(", ")
  const line = isList ? `[${one}]` : `{ ${one} }`
  if (indent.length + line.length <= width) return line
  const inner = `${indent}  `
  const parts = items.map(([name, item]) => `${inner}${named(name, print(item, inner, width))}`)
  return `${open}\n${parts.join(",\n")}\n${indent}${close}`
}

const named = (name: string, text: string): string =>
  name === ""
    ? text
    : `${/^[A-Za-z_$][\w$]*$/.test(name) && name !== "__proto__" ? name : JSON.stringify(name)}: ${text}`
