/** Makes the page of a trace out of its modules, style sheet and document: one file that needs nothing else. */
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { build } from "rolldown"

const folder = fileURLToPath(new URL("../shells/simulate/page/", import.meta.url))

/** The page with a place for the trace. */
export const page = async (): Promise<string> => {
  const { output } = await build({
    input: `${folder}Start.ts`,
    platform: "browser",
    write: false,
    output: { format: "iife", minify: true }
  })
  const read = (name: string): string => readFileSync(`${folder}${name}`, "utf8")
  return read("trace.html")
    .replace("/*STYLE*/", () => read("trace.css"))
    .replace("/*SCRIPT*/", () => output[0].code.replaceAll("</script", "<\\/script"))
}
