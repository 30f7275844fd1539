/**
 * Builds a whole deployment on one machine: the manager of NSM, and for each trench its pods and programs. What the lab
 * makes on the machine (namespaces, processes, a temporary folder) ends with its scope.
 */
import { Effect, type Scope } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import type { Deployment } from "../../core/config/Deployment.ts"
import { eventually, type NotInTime } from "./Eventually.ts"
import * as Host from "./Host.ts"
import * as Identities from "./Identities.ts"
import * as Pods from "./Pods.ts"
import type { Program } from "./Program.ts"
import * as RouterBird from "./RouterBird.ts"
import * as RouterFrr from "./RouterFrr.ts"
import * as Target from "./Target.ts"
import * as Topology from "./Topology.ts"
import * as Trench from "./Trench.ts"

export interface Options extends Topology.Size {
  readonly deployments: ReadonlyArray<Deployment>
  /** The manifests as text, one file; the lab changes its own copy. */
  readonly manifests: string
  readonly gateway: "bird" | "frr"
  /** Each pod has a SPIFFE identity, and programs speak mutual TLS. */
  readonly nsmTls: boolean
  /** Leaves the folder with logs and recordings behind. */
  readonly keep: boolean
}

export interface Lab {
  readonly folder: string
  /** The manifest file that the NSPs watch. */
  readonly manifestFile: string
  readonly pods: Pods.Pods
  readonly nsm: Program
  readonly trenches: ReadonlyArray<Trench.Trench>
}

/** The prefix of everything that this process makes. */
export const prefix = `sl${process.pid}`

/** The folder of a lab; its name tells whose it is and whether it is to stay. */
export const folderOf = (keep: boolean): string =>
  path.join(os.tmpdir(), keep ? `sluice-lab-${process.pid}-kept` : `sluice-lab-${process.pid}`)

/** Removes what labs that were killed have left behind. */
const sweep: Effect.Effect<void> = Effect.andThen(
  Pods.sweep,
  Effect.sync(() => {
    for (const name of fs.readdirSync(os.tmpdir())) {
      const [, pid] = /^sluice-lab-(\d+)$/.exec(name) ?? []
      if (pid !== undefined && !fs.existsSync(`/proc/${pid}`)) {
        fs.rmSync(path.join(os.tmpdir(), name), { recursive: true, force: true })
      }
    }
  })
)

/** Starts everything; the targets have not opened a stream yet. */
export const start = (
  options: Options
): Effect.Effect<Lab, Host.HostError | Topology.LayoutError | NotInTime, Scope.Scope> =>
  Effect.gen(function*() {
    const layouts = yield* Effect.forEach(
      options.deployments,
      (deployment) => Effect.fromResult(Topology.layout(deployment, options))
    )
    yield* sweep
    const folder = yield* makeFolder(options.keep)
    const manifests = path.join(folder, "manifests")
    const manifestFile = path.join(manifests, "trenches.yaml")
    fs.mkdirSync(manifests)
    fs.writeFileSync(manifestFile, options.manifests)

    const pods = yield* Pods.make(prefix)
    const nsmSocket = path.join(folder, "nsm.sock")
    const agents = options.nsmTls ? yield* Identities.start(folder, pods.hub, layouts) : undefined
    const nsm = yield* Trench.launcher({ folder, agents }, [])(pods.hub, "nsmgr", "nsmgr", {
      NSM_NAME: "nsmgr",
      NSM_LISTEN_ON: `unix://${nsmSocket}`,
      NSM_STATE_PATH: path.join(folder, "nsm-state"),
      NSM_MAX_TOKEN_LIFETIME: `${Trench.lifetimes.tokenS}s`
    })
    const startRouter = options.gateway === "bird" ? RouterBird.start : RouterFrr.start
    const trenches = yield* Effect.forEach(
      layouts,
      (layout) => Trench.start({ pods, folder, agents, manifests, nsmSocket, startRouter }, layout)
    )
    return { folder, manifestFile, pods, nsm, trenches }
  })

const makeFolder = (keep: boolean): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const folder = folderOf(keep)
      fs.mkdirSync(path.join(folder, "logs"), { recursive: true, mode: 0o755 })
      return folder
    }),
    (folder) => Effect.sync(() => keep || fs.rmSync(folder, { recursive: true, force: true }))
  )

/** Lets every target open every stream that traffic can be sent to, and waits until all are open. */
export const openAll = (trench: Trench.Trench): Effect.Effect<void, Host.HostError | NotInTime> =>
  Effect.gen(function*() {
    const streams = trench.layout.configuration.streams
    yield* Effect.forEach(
      trench.targets,
      (target) => Effect.forEach(streams, target.open, { discard: true }),
      { concurrency: "unbounded", discard: true }
    )
    yield* eventually(notOpen(trench), 60_000)
  })

/** What is not open yet, in words. */
export const notOpen = (trench: Trench.Trench): Effect.Effect<string | undefined> =>
  Effect.map(
    Effect.forEach(trench.targets, ({ name, statuses }) => Effect.map(statuses, (all) => ({ name, all }))),
    (targets) => {
      const late = targets.flatMap(({ all, name }) =>
        trench.layout.configuration.streams.flatMap((stream) => {
          const status = all[Target.key(stream)] ?? "not asked for"
          return status === "open" ? [] : [`${stream.stream} of ${name} is ${status}`]
        })
      )
      return late.length === 0 ? undefined : late.join(", ")
    }
  )
