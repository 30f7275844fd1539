/** Identities for the pods of a lab: `sluice spiffe-dev`, with one socket for each pod. */
import { Effect, type Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { eventually, type NotInTime } from "./Eventually.ts"
import * as Host from "./Host.ts"
import * as Pods from "./Pods.ts"
import * as Program from "./Program.ts"
import type { Layout } from "./Topology.ts"

export interface Agents {
  /** The socket where a pod gets its identity, whatever runs in it. */
  readonly socket: (pod: string) => string
}

/** Short, so that identities change while a lab is checked: the next one comes after 10 s. */
const ttl = "30s"

/** Starts the agent for the pods of the layouts, as they will be named, and that of the manager. */
export const start = (
  folder: string,
  hub: Pods.Pod,
  layouts: ReadonlyArray<Layout>
): Effect.Effect<Agents, Host.HostError | NotInTime, Scope.Scope> =>
  Effect.gen(function*() {
    const agents = path.join(folder, "agents")
    fs.mkdirSync(agents)
    const socket = (pod: string) => path.join(agents, pod)
    const identities = [
      { namespace: "nsm-system", pod: hub.name },
      ...layouts.flatMap(({ frontends, namespace, proxies, targets, trench }) =>
        [{ name: `${trench}-control` }, ...frontends, ...proxies, ...targets].map(({ name }) => ({
          namespace,
          pod: name
        }))
      )
    ]
    const [, sluice = "sluice"] = process.argv
    yield* Program.keep("spiffe-dev", {
      command: [
        process.execPath,
        sluice,
        "spiffe-dev",
        "--ttl",
        ttl,
        ...identities.flatMap(({ namespace, pod }) => [
          "--identity",
          `spiffe://k8s.nsm/ns/${namespace}/pod/${pod}=${socket(pod)}`
        ])
      ],
      namespace: Pods.path(hub),
      logFile: path.join(folder, "logs", "spiffe-dev.log")
    })
    const missing = Effect.sync(() => identities.find(({ pod }) => !fs.existsSync(socket(pod))))
    yield* eventually(
      Effect.map(missing, (late) => late === undefined ? undefined : `${late.pod} has no identity yet`),
      20_000
    )
    return { socket }
  })
