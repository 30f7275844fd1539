/** The `sluice` command: the first word picks a subcommand, which is loaded then and there. */
import { runMain } from "../runtime/RunMain.ts"
import { commands } from "./Commands.ts"

const list = (): string => {
  const width = Math.max(...Object.keys(commands).map((name) => name.length))
  const lines = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`)
  return `Usage: sluice COMMAND [ARGUMENT...]\n\nCommands (each has --help):\n${lines.join("\n")}`
}

/** Runs the command line of this process. */
export const run = async ([name, ...argv]: ReadonlyArray<string>): Promise<void> => {
  const subcommand = Object.hasOwn(commands, name ?? "") ? commands[name ?? ""] : undefined

  if (subcommand !== undefined) {
    const { command } = await subcommand.load()
    runMain(command, argv)
  } else if (name === undefined || ["help", "--help", "-help", "-h"].includes(name)) {
    process.stdout.write(`${list()}\n`)
  } else if (["--version", "-version"].includes(name)) {
    const { version } = await import("../runtime/Version.ts")
    process.stdout.write(`${version}\n`)
  } else {
    process.stderr.write(`sluice: there is no command "${name}"\n\n${list()}\n`)
    process.exitCode = 2
  }
}
