/**
 * The scaffold of every program: flags, settings, log, health, signals, exit code.
 *
 *     flags ─▶ settings ─▶ log ─▶ health ─▶ main ─▶ (signal) ─▶ drain ─▶ scope closes ─▶ exit
 *
 * 1. Flags are answered before the environment is read. An unknown flag or a bad setting ends with code 2.
 * 2. SIGINT, SIGTERM, SIGHUP and SIGQUIT end the program with code 0.
 * 3. A failure is one log line and code 1, never a stack trace.
 * 4. A signal completes `shutdownRequested`. A program that waits for it drains by itself within `graceMs`; any other,
 *    a second signal, or the end of the grace interrupts it. Scopes close in each case, again within `graceMs`.
 * 5. SIGUSR1 restores the configured log level, SIGUSR2 sets TRACE.
 */
import { Cause, Context, Deferred, Effect, Exit, Layer, Logger, References, Result } from "effect"
import type { Scope } from "effect"
import * as Health from "../grpc/Health.ts"
import * as Identity from "../spiffe/Identity.ts"
import * as Flags from "./Flags.ts"
import * as Log from "./Log.ts"
import * as Settings from "./Settings.ts"
import * as Supervision from "./Supervision.ts"
import { version } from "./Version.ts"

/** A subcommand of `sluice`: what every program module exports as `command`. Its result is the exit code. */
export interface Command {
  readonly name: string
  /** One line for the list of subcommands. */
  readonly summary: string
  readonly run: (argv: ReadonlyArray<string>, world?: World) => Promise<number>
}

/** What a process has around it; tests give their own. */
export interface World {
  readonly env: Settings.Environment
  readonly out: (text: string) => void
  readonly err: (text: string) => void
}

/** The process as it is. */
export const realWorld: World = {
  env: process.env,
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`)
}

/** A long-running program with settings from the environment. */
export interface Program<T extends Settings.Table, E> {
  readonly name: string
  readonly summary: string
  /** In each log line, for example `Meridio-tapa`. */
  readonly serviceId: string
  readonly settings: T
  /** The variable's value that holds the log level. Default: `DEBUG`. */
  readonly logLevel?: (settings: Settings.Values<T>) => string
  /** What is wrong with settings that are right one by one. Each sentence names the variable and the remedy. */
  readonly validate?: (settings: Settings.Values<T>) => ReadonlyArray<string>
  /** How long the program may drain after a signal. Default: 20 s, below the 30 s of Kubernetes. */
  readonly graceMs?: number | ((settings: Settings.Values<T>) => number)
  /** Builds everything in its scope and ends when the work is done or `shutdownRequested` is. */
  readonly main: (settings: Settings.Values<T>) => Effect.Effect<void, E, Scope.Scope | Health.Health>
}

/** Tells a program that it is asked to end. */
const Shutdown = Context.Reference<Effect.Effect<void>>("sluice/runtime/Shutdown", { defaultValue: () => Effect.never })

/** Completes when a signal asks the program to end. From the first wait on, ending is the program's own business. */
export const shutdownRequested: Effect.Effect<void> = Effect.flatten(Shutdown)

/** The subcommand that runs a program. */
export const program = <const T extends Settings.Table, E>(program: Program<T, E>): Command => ({
  name: program.name,
  summary: program.summary,
  run: async (argv, world = realWorld) => {
    const request = Flags.parse(argv)
    if (Result.isFailure(request)) {
      world.err(`${request.failure}\n${Flags.usage(program.name)}`)
      return 2
    }
    switch (request.success) {
      case "usage":
        world.err(Flags.usage(program.name))
        return 0
      case "version":
        world.out(version)
        return 0
      case "debug":
        world.out(await (await import("./Debug.ts")).report(Settings.present(program.settings, world.env)))
        return 0
      case "help":
        world.out(help(program))
        return 0
      case "run":
        return runProgram(program, world)
    }
  }
})

const help = <T extends Settings.Table, E>({ name, summary, settings }: Program<T, E>): string =>
  `\n${name} --\n  ${summary}\n\nSettings (environment variable, default, meaning):\n${Settings.describe(settings)}\n${
    Settings.describe(common)
  }`

/** What every program reads besides its own settings. */
const common = Settings.table({
  spiffe: Settings.entry(
    Identity.endpointVariable,
    Settings.Text,
    "",
    "Agent that gives this process its identity, for mutual TLS; empty for plain text."
  )
})

const runProgram = async <T extends Settings.Table, E>(program: Program<T, E>, world: World): Promise<number> => {
  const settings = Settings.decode(program.settings, world.env)
  const problems = Result.isFailure(settings)
    ? settings.failure.map(({ message }) => message)
    : program.validate?.(settings.success) ?? []
  if (Result.isFailure(settings) || problems.length > 0) {
    world.err(`${program.name}: ${problems.length === 1 ? "a setting is" : "settings are"} not usable:`)
    for (const problem of problems) world.err(`  ${problem}`)
    return 2
  }
  const configured = Log.levelOf(program.logLevel?.(settings.success) ?? "DEBUG")
  const control: Log.Switch = { level: configured }
  const { graceMs = 20_000 } = program
  const main = Effect.gen(function*() {
    yield* Effect.logInfo("Configuration read", Settings.encode(program.settings, settings.success))
    yield* Effect.scoped(program.main(settings.success))
  }).pipe(
    Effect.provide(Identity.layer(world.env[Identity.endpointVariable] ?? "")),
    Effect.provide(Health.serve(Health.addressFrom(world.env))),
    Supervision.supervise
  )
  return supervised(main, {
    control,
    configured,
    graceMs: typeof graceMs === "number" ? graceMs : graceMs(settings.success),
    logger: Log.make(program.serviceId, control, world.out)
  })
}

interface Running {
  readonly control: Log.Switch
  readonly configured: Log.Level
  readonly graceMs: number
  readonly logger: Logger.Logger<unknown, void>
}

const endSignals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const

const supervised = <E>(main: Effect.Effect<void, E>, options: Running): Promise<number> => {
  const environment = Layer.merge(
    Logger.layer([options.logger]),
    Layer.succeed(References.MinimumLogLevel, "All")
  )
  const log = (effect: Effect.Effect<void>) => Effect.runFork(Effect.provide(effect, environment))
  const requested = Deferred.makeUnsafe<void>()
  let isAwaited = false
  const awaited = Effect.suspend(() => {
    isAwaited = true
    return Deferred.await(requested)
  })
  const ended = Promise.withResolvers<number>()
  const fiber = Effect.runFork(
    main.pipe(Effect.provideService(Shutdown, awaited), Effect.tapCause(reportFailure), Effect.provide(environment))
  )
  let signals = 0
  let timer: NodeJS.Timeout | undefined
  const within = (then: () => void) => {
    clearTimeout(timer)
    timer = setTimeout(then, options.graceMs)
  }
  const interrupt = () => {
    fiber.interruptUnsafe()
    within(() => {
      log(Effect.logFatal(`Resources not released within ${options.graceMs} ms, leaving them`))
      ended.resolve(1)
    })
  }
  const end = (signal: string) => {
    signals += 1
    log(Effect.logInfo(`Received ${signal}, shutting down`))
    Deferred.doneUnsafe(requested, Exit.void)
    if (signals > 1 || !isAwaited) return interrupt()
    within(() => {
      log(Effect.logError(`Not drained within ${options.graceMs} ms, interrupting`))
      interrupt()
    })
  }
  const setLevel = (level: Log.Level) => {
    if (options.control.level === level) return
    log(Effect.logInfo(`Changing log level to '${level}' from '${options.control.level}'`))
    options.control.level = level
  }
  const restore = () => setLevel(options.configured)
  const trace = () => setLevel("TRACE")
  for (const signal of endSignals) process.on(signal, end)
  process.on("SIGUSR1", restore).on("SIGUSR2", trace)
  fiber.addObserver((exit) => {
    const isWanted = Exit.isSuccess(exit) || (signals > 0 && Cause.hasInterruptsOnly(exit.cause))
    ended.resolve(isWanted ? 0 : 1)
  })
  return ended.promise.finally(() => {
    clearTimeout(timer)
    for (const signal of endSignals) process.off(signal, end)
    process.off("SIGUSR1", restore).off("SIGUSR2", trace)
  })
}

const reportFailure = (cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logFatal(`Program ended: ${Log.explain(cause)}`, cause)
