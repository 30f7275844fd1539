/** A command as the process. Apart from `Process.ts`, so that it costs nothing to load before the command is known. */
import type { Command } from "./Process.ts"

/** Runs it, sets the exit code when it ends and leaves nothing behind that keeps the process alive. */
export const runMain = (command: Command, argv: ReadonlyArray<string>): void => {
  // A reader of what we print that goes away must not end us.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined)
  void command.run(argv).then(exit, (cause: unknown) => {
    process.stderr.write(`${command.name}: ${cause instanceof Error ? cause.message : String(cause)}\n`)
    exit(1)
  })
}

/** Ends the process once all is printed: a pipe takes 64 kB, the rest waits for its reader. */
const exit = (code: number): void =>
  void process.stdout.write("", () => void process.stderr.write("", () => process.exit(code)))
