/** NSM as it is, for tests of the TAPA: our manager as a process, and an endpoint that answers as the proxy does. */
import { Effect, Schedule, Stream } from "effect"
import { spawn } from "node:child_process"
import { join } from "node:path"
import { Cidr, type Kernel } from "../../core/net/index.ts"
import * as Health from "../grpc/Health.ts"
import * as Endpoint from "../sdk/Endpoint.ts"

/** In the names of everything that a test makes. */
export const tag = `sl-tapa-${process.pid}`

export const until = <E>(what: string, condition: Effect.Effect<boolean, E>) =>
  Effect.orElseSucceed(condition, () => false).pipe(
    Effect.filterOrFail((holds) => holds, () => "not yet"),
    Effect.retry(Schedule.spaced("50 millis")),
    Effect.timeoutOrElse({ duration: "20 seconds", orElse: () => Effect.die(new Error(`timed out: ${what}`)) })
  )

export const startManager = (folder: string, url: string) =>
  Effect.gen(function*() {
    const child = spawn(process.execPath, [join(import.meta.dirname, "../cli/Main.ts"), "nsmgr"], {
      stdio: "ignore",
      env: {
        ...process.env,
        NSM_NAME: tag,
        NSM_LISTEN_ON: url,
        NSM_STATE_PATH: `${folder}/state.json`,
        SLUICE_HEALTH_SOCKET: `${folder}/nsmgr-health.sock`
      }
    })
    const end = (signal: NodeJS.Signals) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill(signal)
      })
    yield* Effect.addFinalizer(() => end("SIGTERM"))
    yield* until("the manager serves", Health.check({ address: url, service: "networkservice.NetworkService" }))
    return { kill: end("SIGKILL") }
  })

/** Answers as Meridio's proxy does. */
export const startProxy = (folder: string, manager: string, namespace: string) =>
  Effect.gen(function*() {
    const addresses = ["172.16.0.2/24", "fd00::2/64"].map(Cidr.unsafe)
    const running = yield* Endpoint.serve({
      name: `${tag}-proxy`,
      services: [{ name: "proxy.c.t.red", payload: "ETHERNET", matches: [] }],
      labels: {},
      socket: `${folder}/proxy.sock`,
      manager,
      namespace,
      requestTimeoutMs: 5_000,
      maxTokenLifetimeMs: 600_000
    }, {
      request: (connection) => {
        const { ip } = connection.context
        const srcAddrs = [...addresses, ...ip.srcAddrs.filter((address) => !addresses.includes(address))]
        const dstAddrs = ["172.16.0.3/24", "fd00::3/64"].map(Cidr.unsafe)
        const extraPrefixes = ["172.16.0.1/24", "fd00::1/64"].map(Cidr.unsafe)
        return Effect.succeed({
          ...connection,
          context: { ...connection.context, ip: { ...ip, srcAddrs, dstAddrs, extraPrefixes } }
        })
      },
      close: () => Effect.void
    })
    yield* Stream.runDrain(Stream.takeUntil(running.registered, (registered) => registered))
  })

/** The addresses of the interface that the TAPA was given. */
export const addresses = ({ addresses }: Kernel.Snapshot) =>
  addresses.filter(({ link }) => link === "nsm-0").map(({ cidr }) => cidr).toSorted(Cidr.compare)
