/**
 * Subcommands that do something and end: probes, plans, replays, the lab. Unlike programs they speak to people: plain
 * text on stdout, mistakes on stderr.
 */
import { Cause, Effect, Exit, Logger } from "effect"
import type { Scope } from "effect"
import { parseArgs } from "node:util"
import type { ParseArgsOptionsConfig } from "node:util"
import * as Log from "./Log.ts"
import * as Process from "./Process.ts"

/** What the command line said. */
export interface Arguments {
  /** By option name; an option that was not given is absent unless it has a default. */
  readonly options: { readonly [name: string]: string | boolean | ReadonlyArray<string | boolean> | undefined }
  readonly words: ReadonlyArray<string>
}

/** A subcommand that ends by itself. */
export interface Tool<E> {
  readonly name: string
  readonly summary: string
  /** What `--help` prints after the summary: how to call it and what the options mean. */
  readonly usage: string
  /** As `node:util` parseArgs wants them; `--help` comes by itself. */
  readonly options: ParseArgsOptionsConfig
  /** The exit code after a signal, for a tool that is meant to be ended by one. Default: 128 plus its number. */
  readonly onSignal?: (arguments_: Arguments) => number | undefined
  /** The result is the exit code. A failure is printed by its message, with code 1. */
  readonly main: (arguments_: Arguments, world: Process.World) => Effect.Effect<number, E, Scope.Scope>
}

/** The subcommand that runs a tool. A signal interrupts it and closes its scope. */
export const tool = <E>(tool: Tool<E>): Process.Command => ({
  name: tool.name,
  summary: tool.summary,
  run: async (argv, world = Process.realWorld) => {
    const parsed = parse(tool, argv)
    if (typeof parsed === "string") {
      world.err(`sluice ${tool.name}: ${parsed}\n\n${tool.usage}`)
      return 2
    }
    if (parsed.options["help"] === true) {
      world.out(`${tool.summary}\n\n${tool.usage}`)
      return 0
    }
    return runTool(tool, parsed, world)
  }
})

const parse = <E>({ options }: Tool<E>, argv: ReadonlyArray<string>): Arguments | string => {
  try {
    const parsed = parseArgs({
      args: [...argv],
      options: { ...options, help: { type: "boolean", short: "h" } },
      allowPositionals: true
    })
    return { options: parsed.values, words: parsed.positionals }
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause)
  }
}

const runTool = <E>(tool: Tool<E>, parsed: Arguments, world: Process.World): Promise<number> => {
  const fiber = Effect.runFork(
    Effect.scoped(Effect.suspend(() => tool.main(parsed, world))).pipe(
      Effect.provide(Logger.layer([Logger.make(({ message }) => world.err(text(message)))]))
    )
  )
  let code = 1
  const interrupt = (_signal: string, number: number) => {
    code = tool.onSignal?.(parsed) ?? 128 + number
    fiber.interruptUnsafe()
  }
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt).on("SIGHUP", interrupt)
  const ended = Promise.withResolvers<number>()
  fiber.addObserver((exit) => {
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt).off("SIGHUP", interrupt)
    if (Exit.isSuccess(exit)) return ended.resolve(exit.value)
    if (!Cause.hasInterruptsOnly(exit.cause)) world.err(`sluice ${tool.name}: ${Log.explain(exit.cause)}`)
    ended.resolve(code)
  })
  return ended.promise
}

const text = (message: unknown): string =>
  (Array.isArray(message) ? message : [message]).map((part) => typeof part === "string" ? part : JSON.stringify(part))
    .join(" ")
