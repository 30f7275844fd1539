/**
 * Reads YAML files the way kubectl does: several documents in one file, and one thing that YAML forbids but Go's parser
 * lets through, which is in most manifests of network attachments: a quoted text over several lines, of which some are
 * indented no deeper than its key.
 */
import { type DocumentOptions, parseAllDocuments, type ParseOptions, type SchemaOptions } from "yaml"

/** A document, or what is wrong with it, with file and line. */
export type Document = { readonly value: unknown } | { readonly problem: string }

/** All documents of a text; the name of the file is for messages. */
export const parse = (file: string, text: string): ReadonlyArray<Document> => {
  const documents = read(file, text)
  if (documents.every((document) => "value" in document)) return documents
  const indented = indentQuoted(text)
  return indented === text ? documents : read(file, indented)
}

/**
 * The only document of a text, in which each scalar is its source text (`5000`, `0x10`, `true`) and only null is null;
 * an empty text is null.
 */
export const sources = (file: string, text: string): Document => {
  const [document = { value: null }, ...rest] = read(file, text, { schema: "failsafe", customTags: ["null"] })
  return rest.length === 0 ? document : { problem: `${file}: holds ${rest.length + 1} documents; write one` }
}

const read = (
  file: string,
  text: string,
  options: ParseOptions & DocumentOptions & SchemaOptions = {}
): ReadonlyArray<Document> =>
  [...parseAllDocuments(text, options)].map((document) => {
    const [error] = document.errors
    if (error !== undefined) return { problem: `${file}: ${error.message.split("\n", 1)[0] ?? error.code}` }
    try {
      return { value: document.toJS({ maxAliasCount: 100 }) }
    } catch (cause) {
      return { problem: `${file}: ${cause instanceof Error ? cause.message : String(cause)}` }
    }
  })

const opening = /^(?<indent> *)(?:- +)*[\w./"-]+: +(?<rest>['"].*)$/

/** Indents the lines of quoted texts deeper than their key. Blanks at the begin of such lines mean nothing. */
const indentQuoted = (text: string): string => {
  let quote = ""
  let indent = ""
  return text.split("\n").map((line) => {
    if (quote !== "") {
      if (isClosed(line, quote)) quote = ""
      return /^\s*$/.test(line) ? line : `${indent}${line}`
    }
    const { indent: found = "", rest = "" } = opening.exec(line)?.groups ?? {}
    if (rest !== "" && !isClosed(rest.slice(1), rest.slice(0, 1))) {
      quote = rest.slice(0, 1)
      indent = `${found}  `
    }
    return line
  }).join("\n")
}

/** Whether a quoted text ends in this line; doubled or escaped quotes do not end it. */
const isClosed = (line: string, quote: string): boolean =>
  (quote === "'" ? line.replaceAll("''", "") : line.replaceAll(/\\./g, "")).includes(quote)
