/** The objects of an nftables table as text in the language of nftables. */
import type { Elements } from "./Elements.ts"

/** One object of a table; the elements of a set or map are part of its text, or come and go by themselves. */
export interface Object {
  readonly kind: "counter" | "set" | "map" | "chain"
  readonly name: string
  readonly text: string
  /** Whether the text holds elements. */
  readonly isFilled: boolean
  /** What can only be changed by making the object anew: the hook of a base chain, the declaration of a set or map. */
  readonly fixed?: string
  /** Those that come and go by themselves. */
  readonly elements?: Elements
}

/** The tables of the load balancer by family. */
export type Tables = { readonly [F in "inet" | "netdev"]: ReadonlyArray<Object> }

export const chain = (name: string, rules: ReadonlyArray<string>): Object => ({
  kind: "chain",
  name,
  text: `  chain ${name} {\n${rules.map((rule) => `    ${rule}\n`).join("")}  }`,
  isFilled: false
})

export const baseChain = (name: string, hook: string, rules: ReadonlyArray<string>): Object => ({
  ...chain(name, [`type ${hook}; policy accept`, ...rules]),
  fixed: hook
})

export const counter = (name: string): Object => ({
  kind: "counter",
  name,
  text: `  counter ${name} {\n  }`,
  isFilled: false
})

const filled =
  (kind: "set" | "map") => (name: string, declaration: string, elements: ReadonlyArray<string> = []): Object => ({
    kind,
    name,
    text: elements.length === 0
      ? `  ${kind} ${name} { ${declaration}; }`
      : `  ${kind} ${name} {\n    ${declaration}\n    elements = {\n      ${elements.join(",\n      ")}\n    }\n  }`,
    isFilled: elements.length > 0,
    fixed: declaration
  })

/**
 * The declaration of a size with room for the elements, which makes the kernel choose a plain hash table: a lookup costs a
 * third of that in one that can grow.
 */
export const roomFor = (count: number): string => `size ${2 ** Math.max(4, Math.ceil(Math.log2(count)))}`

/** With elements that are part of the structure. */
export const set = filled("set")
export const map = filled("map")

/** With elements that come and go by themselves. */
export const liveSet = (name: string, declaration: string, keys: ReadonlyArray<number>): Object => ({
  ...set(name, declaration),
  elements: new Map(keys.map((key) => [key, undefined]))
})
export const liveMap = (name: string, declaration: string, elements: Elements): Object => ({
  ...map(name, declaration),
  elements
})

/** A part of an object's name for any text; different texts give different parts. */
export const namePart = (text: string): string => {
  const part = text.replaceAll(/[^A-Za-z0-9.-]/gu, (character) => `_${character.codePointAt(0)?.toString(16)}_`)
  return part.length <= longestPart ? part : `${part.slice(0, longestPart)}_${hash(part, 1)}${hash(part, 2)}`
}

// Names of nftables have at most 255 bytes.
const longestPart = 120

// FNV-1a.
const hash = (text: string, seed: number): string => {
  let h = 0x811c9dc5 ^ seed
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return (h >>> 0).toString(16)
}
