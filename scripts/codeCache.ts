/**
 * Runs a built command and keeps the code that V8 has made of its files by then, as `FILE.code`. V8 takes it only of its
 * own version, for the same processor and with the same flags.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

const recording = ["--import", import.meta.resolve("./recordCode.ts")]

/** Runs each program as far as its help, and the sidecar, of which there is one per pod, until it has answered calls. */
export const fill = async (command: string, programs: Iterable<string>): Promise<void> => {
  await serveOnce(command)
  for (const program of programs) await call(command, [program, "--help"])
}

const serveOnce = async (command: string): Promise<void> => {
  const folder = await mkdtemp(join(tmpdir(), "sluice-build-"))
  const socket = join(folder, "ambassador.sock")
  const tapa = spawn(process.execPath, [...recording, command, "tapa"], {
    env: {
      ...process.env,
      MERIDIO_SOCKET: socket,
      MERIDIO_NSM_SOCKET: `unix://${folder}/nsm.sock`,
      SLUICE_HEALTH_SOCKET: join(folder, "health.sock")
    },
    stdio: ["ignore", "pipe", "inherit"]
  })
  const ended = once(tapa, "exit")
  let log = ""
  for await (const chunk of tapa.stdout) {
    if ((log += String(chunk)).includes("Probe Liveness is SERVING")) break
  }
  // Only what has run is kept: let it answer a probe and an application as well.
  await call(command, ["health", "--address", `unix://${socket}`, "--service", "AmbassadorSvc"])
  await call(command, ["target", "watch", "--once", "--socket", socket])
  tapa.kill("SIGTERM")
  const [code] = await ended
  await rm(folder, { recursive: true })
  if (code !== 0) throw new Error(`the TAPA did not serve:\n${log}`)
}

const call = async (command: string, args: ReadonlyArray<string>): Promise<void> => {
  const child = spawn(process.execPath, [...recording, command, ...args], { stdio: ["ignore", "ignore", "inherit"] })
  const [code] = await once(child, "exit")
  if (code !== 0) throw new Error(`sluice ${args.join(" ")} failed`)
}
