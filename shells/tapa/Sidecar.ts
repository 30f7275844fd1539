/** `sluice tapa` as a process of its own, for tests. */
import { Effect, Schedule } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { chmodSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Client from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"

const main = join(import.meta.dirname, "../cli/Main.ts")

/** A folder that every user may use; gone with the scope. */
export const folder = Effect.acquireRelease(
  Effect.sync(() => {
    const path = mkdtempSync(join(tmpdir(), "tapa-"))
    chmodSync(path, 0o777)
    return path
  }),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** Begins a command line that runs as the user of the original's image and without capabilities. */
export const unprivileged: ReadonlyArray<string> = [
  "setpriv",
  "--reuid=10005",
  "--regid=10005",
  "--clear-groups",
  "--bounding-set=-all",
  "--inh-caps=-all",
  "--no-new-privs",
  "--"
]

export interface Options {
  readonly args?: ReadonlyArray<string>
  /** What the command line begins with, for example `setpriv ...`. */
  readonly through?: ReadonlyArray<string>
  readonly folder?: string
}

/** Starts it without NSP and NSM, unless the environment says where they are. */
export const start = (env: { readonly [name: string]: string } = {}, options: Options = {}) =>
  Effect.gen(function*() {
    const files = options.folder ?? (yield* folder)
    const [file = "", ...args] = [...options.through ?? [], process.execPath, main, "tapa", ...options.args ?? []]
    const environment = {
      PATH: process.env["PATH"],
      SLUICE_HEALTH_SOCKET: `unix://${files}/health.sock`,
      MERIDIO_SOCKET: `${files}/ambassador.sock`,
      MERIDIO_NSM_SOCKET: `unix://${files}/nsm.sock`,
      SLUICE_NSP_ADDRESS: `unix://${files}/nsp-{trench}.sock`,
      ...env
    }
    const child = spawn(file, args, { env: environment, stdio: ["ignore", "pipe", "pipe"] })
    yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
    const text = { out: "", err: "" }
    child.stdout.on("data", (chunk: Buffer) => (text.out += chunk.toString()))
    child.stderr.on("data", (chunk: Buffer) => (text.err += chunk.toString()))
    const closed = once(child, "close")
    const target = `unix://${environment.MERIDIO_SOCKET}`
    return {
      folder: files,
      target,
      health: environment.SLUICE_HEALTH_SOCKET,
      pid: child.pid ?? 0,
      client: yield* Client.make({ target, waitForReady: true, maxBackoffMs: 50 }),
      /** What it printed so far. */
      text,
      /** The log so far. */
      log: (): ReadonlyArray<{ readonly [key: string]: unknown }> =>
        text.out.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line)),
      kill: (signal: NodeJS.Signals) => Effect.sync(() => void child.kill(signal)),
      /** Its exit code, or the signal that killed it. */
      ended: Effect.promise(async () => {
        await closed
        return child.exitCode ?? child.signalCode
      }),
      ready: Effect.orElseSucceed(
        Health.check({ address: environment.SLUICE_HEALTH_SOCKET, service: "Liveness" }),
        () => false
      ).pipe(
        Effect.filterOrFail((serving) => serving, () => "not serving yet"),
        Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 400 }),
        Effect.asVoid
      )
    }
  })
