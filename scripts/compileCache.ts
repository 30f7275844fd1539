/**
 * Fills the compile cache of a built command, as what Node has compiled once it reads faster than the source.
 *
 * Node takes the cache only for the user, the version and the architecture that filled it: an image fills it as the
 * user that it runs as.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** Runs each program as far as its help, and the sidecar, of which there is one per pod, until it serves. */
export const fill = async (command: string, programs: Iterable<string>): Promise<void> => {
  await serveOnce(command)
  for (const program of programs) {
    const child = spawn(process.execPath, [command, program, "--help"], { stdio: ["ignore", "ignore", "inherit"] })
    const [code] = await once(child, "exit")
    if (code !== 0) throw new Error(`sluice ${program} does not start`)
  }
}

const serveOnce = async (command: string): Promise<void> => {
  const folder = await mkdtemp(join(tmpdir(), "sluice-build-"))
  const tapa = spawn(process.execPath, [command, "tapa"], {
    env: {
      ...process.env,
      MERIDIO_SOCKET: join(folder, "ambassador.sock"),
      MERIDIO_NSM_SOCKET: `unix://${folder}/nsm.sock`,
      SLUICE_HEALTH_SOCKET: join(folder, "health.sock")
    },
    stdio: ["ignore", "pipe", "inherit"]
  })
  let log = ""
  tapa.stdout.on("data", (chunk: Buffer) => {
    if ((log += chunk.toString()).includes("Probe Liveness is SERVING")) tapa.kill("SIGTERM")
  })
  const [code] = await once(tapa, "exit")
  await rm(folder, { recursive: true })
  if (code !== 0) throw new Error(`the TAPA did not serve:\n${log}`)
}
