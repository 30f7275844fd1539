/** Runs the machine's own programs for the lab: to the end with their output, or as long as a scope. */
import { Effect, Schema, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"

/** A program of the machine said no. */
export class HostError extends Schema.TaggedError<HostError>()("HostError", {
  command: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.command}: ${this.detail}`
  }
}

/** Runs a program to its end and gives what it printed; `input` goes to its standard input. */
export const run = (command: ReadonlyArray<string>, input = ""): Effect.Effect<string, HostError> =>
  Effect.callback<string, HostError>((resume) => {
    const [program = "", ...args] = command
    const fail = (detail: string) => resume(new HostError({ command: command.slice(0, 6).join(" "), detail }))
    const child = spawn(program, args, { env: { ...process.env, LC_ALL: "C" } })
    let output = ""
    let errors = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => output += text)
    child.stderr.setEncoding("utf8").on("data", (text: string) => errors += text)
    child.on("error", (error) => fail(error.message))
    child.on("close", (code) => {
      if (code === 0) resume(Effect.succeed(output))
      else fail((errors + output).trim() || `exit code ${code}`)
    })
    child.stdin.on("error", () => undefined)
    child.stdin.end(input)
    return Effect.sync(() => {
      child.kill("SIGKILL")
    })
  })

/** Runs `ip` commands as one batch, in a namespace or on the machine itself. */
export const ip = (
  commands: ReadonlyArray<ReadonlyArray<string>>,
  namespace?: string
): Effect.Effect<void, HostError> =>
  Effect.asVoid(run(
    ["ip", ...(namespace === undefined ? [] : ["-n", namespace]), "-batch", "-"],
    commands.map((words) => words.join(" ")).join("\n") + "\n"
  ))

/** A program that runs until it ends by itself or the scope does. */
export interface Process {
  readonly child: ChildProcess
  readonly pid: number
  /** Succeeds with a description once the process has ended. */
  readonly ended: Effect.Effect<string>
}

export interface Launch {
  readonly command: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  /** The network namespace by path. */
  readonly namespace?: string
  /** With a host name the program gets its own UTS and mount namespaces and this file as /etc/hosts. */
  readonly host?: { readonly name: string; readonly hosts: string }
  /** Where the output goes; without it the caller reads `child.stdout`. */
  readonly logFile?: string
  /** How long the program may take to end by itself after SIGTERM. */
  readonly graceMs?: number
}

/** Starts a program; when the scope ends it is asked to end, then killed. */
export const start = (launch: Launch): Effect.Effect<Process, HostError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Process, HostError>((resume) => {
      const [program = "", ...args] = wrap(launch)
      const log = launch.logFile === undefined ? undefined : fs.openSync(launch.logFile, "a")
      const child = spawn(program, args, {
        env: { ...process.env, ...launch.env },
        // Ctrl-C goes to the whole group of a terminal; the lab ends its programs itself, in order.
        detached: true,
        stdio: ["pipe", log ?? "pipe", log ?? "pipe"]
      })
      if (log !== undefined) fs.closeSync(log)
      child.stdin?.on("error", () => undefined)
      const ended = Effect.callback<string>((done) => {
        const say = () =>
          done(Effect.succeed(child.signalCode === null ? `exit code ${child.exitCode}` : child.signalCode))
        if (child.exitCode !== null || child.signalCode !== null) say()
        else child.once("exit", say)
      })
      child.once("error", (error) => resume(new HostError({ command: program, detail: error.message })))
      child.once("spawn", () => resume(Effect.succeed({ child, pid: child.pid ?? 0, ended })))
    }),
    ({ ended, pid }) =>
      Effect.gen(function*() {
        kill(pid, "SIGTERM")
        yield* Effect.timeoutOrElse(ended, {
          duration: launch.graceMs ?? 5_000,
          orElse: () => Effect.andThen(Effect.sync(() => kill(pid, "SIGKILL")), ended)
        })
      })
  )

/** The path of a script of the lab: TypeScript in the sources, a bundle beside our chunk when built. */
export const script = (name: string): string => {
  const source = fileURLToPath(new URL(`${name}.ts`, import.meta.url))
  return fs.existsSync(source) ? source : fileURLToPath(new URL(`${name}.mjs`, import.meta.url))
}

/** Sends a signal; a process that is gone already is fine. */
export const kill = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal)
  } catch {
    // It ended between the look and the signal.
  }
}

// nsenter, unshare and sh replace themselves by the next program, so the pid stays that of the program itself.
const wrap = ({ command, host, namespace }: Launch): ReadonlyArray<string> => [
  ...(namespace === undefined ? [] : ["nsenter", `--net=${namespace}`]),
  ...(host === undefined ? [] : [
    "unshare",
    "--mount",
    // The manager has to see the namespaces of pods that come later by their names: a pod without a process is no
    // dead pod, just as the sandbox of a real one outlives its containers.
    "--propagation=slave",
    "--uts",
    "sh",
    "-ec",
    "hostname \"$0\"; mount --bind \"$1\" /etc/hosts; shift; exec \"$@\"",
    host.name,
    host.hosts
  ]),
  ...command
]
