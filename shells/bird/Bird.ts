/**
 * One BIRD as a service: its process, its configuration file, its control socket.
 *
 * 1. The process lives as long as the scope that started it, and is gone when that has closed.
 * 2. The file never stands half-written, and only its owner can read it: it holds passwords.
 * 3. A configuration is checked before it takes the place of the old one.
 * 4. BIRD does not outlive this program, not even when that is killed: nobody would withdraw the VIPs any more. Should
 *    one be left behind all the same, it is ended before a new one starts.
 */
import { Context, Deferred, Effect, Layer, Result, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { BirdOutput } from "../../core/frontend/index.ts"
import * as Control from "./Control.ts"

export interface Options {
  /** Default: `bird`, searched in PATH and the system folders. Words before it run it elsewhere, such as `nsenter`. */
  readonly command?: readonly [string, ...ReadonlyArray<string>]
  readonly configFile: string
  readonly socket: string
  /** Each line of its standard error. */
  readonly onLine?: (line: string) => void
}

/** A BIRD at work. */
export interface Process {
  readonly version: string
  /** Ends when the process does; says how. */
  readonly exited: Effect.Effect<string>
}

/** What BIRD shows about the sessions of gateways. */
export interface Sessions {
  readonly protocols: ReadonlyArray<BirdOutput.Protocol>
  readonly sessions: ReadonlyArray<BirdOutput.Session>
}

export class Bird extends Context.Service<Bird, {
  /** Writes the file, runs BIRD and waits until it answers. Text is one byte per character. */
  readonly start: (text: string) => Effect.Effect<Process, Control.BirdError, Scope.Scope>
  /** Checks the text; if it is right, puts it in place and has it read. */
  readonly configure: (text: string) => Effect.Effect<BirdOutput.Verdict, Control.BirdError>
  /** Protocols named `NBR-*` and the BFD sessions of `NBR-BFD`. */
  readonly sessions: Effect.Effect<Sessions, Control.BirdError>
  /** Asks it to end and, after three seconds, makes it. The process is gone afterwards. */
  readonly stop: Effect.Effect<void>
}>()("sluice/shells/bird/Bird") {
  static layer(options: Options): Layer.Layer<Bird> {
    return Layer.sync(Bird, () => make(options))
  }
}

const replyMs = 5000
const startMs = 30_000
const stopMs = 3000

/** The service. */
export const make = (options: Options): Bird["Service"] => {
  const { configFile, socket } = options
  let child: Running | undefined
  const start = (text: string): Effect.Effect<Process, Control.BirdError, Scope.Scope> =>
    Effect.gen(function*() {
      yield* endLeftover(socket)
      yield* write(configFile, text)
      const running = yield* Effect.acquireRelease(launch(options), (running) => end(running, "SIGTERM"))
      child = running
      const version = yield* Effect.raceFirst(
        awaitReady(socket),
        Effect.flatMap(Deferred.await(running.exited), (how) => Effect.fail(new Control.BirdError({ detail: how })))
      )
      return { version, exited: Deferred.await(running.exited) }
    })
  const configure = (text: string): Effect.Effect<BirdOutput.Verdict, Control.BirdError> =>
    Effect.gen(function*() {
      const draft = `${configFile}.new`
      yield* write(draft, text)
      const checked = yield* tell(socket, `configure check "${draft}"`)
      if (checked._tag !== "Accepted") return checked
      yield* attempt(() => fs.renameSync(draft, configFile))
      return yield* tell(socket, `configure "${configFile}"`)
    })
  const sessions: Effect.Effect<Sessions, Control.BirdError> = Effect.gen(function*() {
    const protocols = yield* read(socket, "show protocols all \"NBR-*\"", BirdOutput.protocols)
    const sessions = yield* read(socket, "show bfd sessions 'NBR-BFD'", BirdOutput.sessions)
    return { protocols, sessions }
  })
  const stop: Effect.Effect<void> = Effect.suspend(() => {
    const running = child
    if (running === undefined) return Effect.void
    return Effect.ignore(Control.ask(socket, "down", replyMs)).pipe(
      Effect.andThen(Deferred.await(running.exited)),
      Effect.timeoutOrElse({ duration: stopMs, orElse: () => end(running, "SIGKILL") })
    )
  })
  return Bird.of({ start, configure, sessions, stop })
}

interface Running {
  readonly child: ChildProcess
  readonly exited: Deferred.Deferred<string>
}

const launch = (options: Options): Effect.Effect<Running, Control.BirdError> =>
  Effect.callback((resume) => {
    const [command, ...words] = options.command ?? ["bird"]
    const exited = Deferred.makeUnsafe<string>()
    const child = spawn(command, [...words, "-f", "-c", options.configFile, "-s", options.socket], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin` }
    })
    let rest = ""
    let last = ""
    child.stderr.setEncoding("latin1").on("data", (data) => {
      const lines = `${rest}${String(data)}`.split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) {
        last = line
        options.onLine?.(line)
      }
    })
    let guard: ChildProcess | undefined
    child.on("spawn", () => {
      guard = guardOf(child.pid ?? 0)
      resume(Effect.succeed({ child, exited }))
    })
    child.on("error", (error) => resume(Effect.fail(new Control.BirdError({ detail: error.message }))))
    // After "close" all of standard error was read, so that the reason is complete.
    child.on("close", (code, signal) => {
      guard?.kill("SIGKILL")
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`
      Deferred.doneUnsafe(exited, Effect.succeed(last === "" ? how : `${how}, last words: ${last}`))
    })
  })

/** A shell that sees the end of this program as the end of its input, and kills the process. */
const guardOf = (pid: number): ChildProcess => {
  const guard = spawn("sh", ["-c", "read -r _; kill -KILL \"$0\"", String(pid)], {
    stdio: ["pipe", "ignore", "ignore"]
  })
  // Without a shell there is no guard; the next start ends what was left.
  guard.on("error", () => undefined).unref()
  return guard
}

const end = ({ child, exited }: Running, signal: NodeJS.Signals): Effect.Effect<void> =>
  Effect.suspend(() => {
    child.kill(signal)
    return Effect.asVoid(Deferred.await(exited))
  }).pipe(
    Effect.timeoutOrElse({
      duration: stopMs,
      orElse: () =>
        Effect.suspend(() => {
          child.kill("SIGKILL")
          return Effect.asVoid(Deferred.await(exited))
        })
    })
  )

/** As often as Meridio asks: at once, then with pauses that grow to a tenth of a second. */
const awaitReady = (socket: string): Effect.Effect<string, Control.BirdError> => {
  const again = (pauseMs: number): Effect.Effect<string, Control.BirdError> =>
    Effect.sleep(pauseMs).pipe(
      Effect.andThen(Control.askOk(socket, "show status", replyMs)),
      Effect.map((text) => /BIRD (\S+)/.exec(text)?.[1] ?? "of unknown version"),
      Effect.catch(() => again(Math.min(101, pauseMs + 10)))
    )
  return Effect.timeoutOrElse(again(1), {
    duration: startMs,
    orElse: () => Effect.fail(new Control.BirdError({ detail: `no answer at ${socket} within ${startMs / 1000} s` }))
  })
}

const endLeftover = (socket: string): Effect.Effect<void> => {
  const untilGone: Effect.Effect<void> = Effect.suspend(() =>
    Effect.matchEffect(Control.ask(socket, "show status", replyMs), {
      onFailure: () => Effect.void,
      onSuccess: () => Effect.andThen(Effect.sleep(50), untilGone)
    })
  )
  return Effect.matchEffect(Control.ask(socket, "down", replyMs), {
    onFailure: () => Effect.void,
    onSuccess: () => Effect.timeoutOrElse(untilGone, { duration: stopMs, orElse: () => Effect.void })
  })
}

const tell = (socket: string, command: string): Effect.Effect<BirdOutput.Verdict, Control.BirdError> =>
  Effect.map(Control.ask(socket, command, replyMs), ({ code, text }) => BirdOutput.verdict(code, text))

const read = <A>(
  socket: string,
  command: string,
  parse: (text: string) => Result.Result<A, string>
): Effect.Effect<A, Control.BirdError> =>
  Effect.flatMap(Control.askOk(socket, command, replyMs), (text) => {
    const parsed = parse(text)
    return Result.isSuccess(parsed)
      ? Effect.succeed(parsed.success)
      : Effect.fail(new Control.BirdError({ detail: `${command}: ${parsed.failure}` }))
  })

/** Whole or not at all. */
const write = (file: string, text: string): Effect.Effect<void, Control.BirdError> =>
  attempt(() => {
    fs.mkdirSync(path.dirname(file), { recursive: true })
    const draft = `${file}.tmp`
    fs.rmSync(draft, { force: true })
    fs.writeFileSync(draft, Buffer.from(text, "latin1"), { mode: 0o600 })
    fs.renameSync(draft, file)
  })

const attempt = (action: () => void): Effect.Effect<void, Control.BirdError> =>
  Effect.try({
    try: action,
    catch: (thrown) => new Control.BirdError({ detail: thrown instanceof Error ? thrown.message : String(thrown) })
  })
