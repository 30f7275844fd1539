/** Elements. */

export type Child = Node | string | undefined

export const h = <K extends keyof HTMLElementTagNameMap>(
  name: K,
  className: string,
  ...children: ReadonlyArray<Child>
): HTMLElementTagNameMap[K] => {
  const element = document.createElement(name)
  if (className !== "") element.className = className
  element.append(...children.filter((child) => child !== undefined))
  return element
}

export const button = (className: string, label: string, run: () => void): HTMLButtonElement => {
  const element = h("button", className, label)
  element.type = "button"
  element.addEventListener("click", run)
  return element
}

/** An element of the page by its id and kind. */
export const element = <A extends Element>(id: string, kind: abstract new() => A): A => {
  const found = document.getElementById(id)
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`)
  return found
}

/** JSON for people: indented, with colours, without the quotes of names. */
export const json = (value: unknown, indent = ""): DocumentFragment => {
  const out = document.createDocumentFragment()
  if (typeof value === "string") out.append(h("span", "j-string", JSON.stringify(value)))
  else if (typeof value === "number") out.append(h("span", "j-number", String(value)))
  else if (value === null || value === undefined || typeof value === "boolean") {
    out.append(h("span", "j-word", value === undefined ? "absent" : String(value)))
  } else {
    const isList = Array.isArray(value)
    const items: ReadonlyArray<readonly [string, unknown]> = isList
      ? value.map((item, n) => [String(n), item])
      : Object.entries(value)
    const [open, close] = isList ? ["[", "]"] : ["{", "}"]
    const isShort = items.every(([, item]) => typeof item !== "object" || item === null)
      && JSON.stringify(value).length < 52
    out.append(open)
    for (const [n, [name, item]] of items.entries()) {
      out.append(isShort ? (n > 0 || !isList ? " " : "") : `\n${indent}  `)
      if (!isList) out.append(h("span", "j-name", name), ": ")
      out.append(json(item, `${indent}  `), n + 1 < items.length ? "," : "")
    }
    out.append(isShort ? (isList || items.length === 0 ? close : ` ${close}`) : `\n${indent}${close}`)
  }
  return out
}
