/** The flags of every program, as Go's flag package reads them: `-x` equals `--x`, the first other word ends them. */
import { Result } from "effect"
import { GoSyntax } from "../../core/config/index.ts"

/** What the flags ask for. */
export type Request = "run" | "version" | "debug" | "help" | "usage"

const names = ["version", "debug", "help"] as const

/** The usage that `-h` and mistakes print on stderr. */
export const usage = (program: string): string =>
  [
    `Usage of ${program}:`,
    "  -debug",
    "        print the debug information as one line of JSON and exit",
    "  -help",
    "        describe the program and its settings and exit",
    "  -version",
    "        print the version and exit"
  ].join("\n")

/** Reads the flags; of several the order is version, debug, help. The failure is the sentence for stderr. */
export const parse = (argv: ReadonlyArray<string>): Result.Result<Request, string> => {
  const asked = new Set<string>()
  for (const word of argv) {
    if (!word.startsWith("-") || word === "-" || word === "--") break
    const [name = "", value] = word.replace(/^--?/, "").split(/=(.*)/s)
    if (name === "h" && !asked.has("h")) return Result.succeed("usage")
    if (!names.some((known) => known === name)) return Result.fail(`flag provided but not defined: -${name}`)
    const isOn = GoSyntax.boolean(value ?? "true")
    if (Result.isFailure(isOn)) return Result.fail(`invalid boolean value "${value ?? ""}" for -${name}`)
    if (isOn.success) asked.add(name)
    else asked.delete(name)
  }
  return Result.succeed(names.find((name) => asked.has(name)) ?? "run")
}
