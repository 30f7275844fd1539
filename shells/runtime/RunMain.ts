/** A command as the process. Apart from `Process.ts`, so that it costs nothing to load before the command is known. */
import type { Command } from "./Process.ts"

/** Runs it, sets the exit code when it ends and leaves nothing behind that keeps the process alive. */
export const runMain = (command: Command, argv: ReadonlyArray<string>): void => {
  // A reader of our log that goes away must not end us.
  process.stdout.on("error", () => undefined)
  void command.run(argv).then(
    (code) => process.exit(code),
    (cause: unknown) => {
      process.stderr.write(`${command.name}: ${cause instanceof Error ? cause.message : String(cause)}\n`)
      process.exit(1)
    }
  )
}
