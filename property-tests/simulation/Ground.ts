/** What every program of a simulated trench stands on, and the machines that it runs: the real ones, or mutants. */
import { Frontend } from "../../core/frontend/index.ts"
import { Ipam } from "../../core/ipam/index.ts"
import { LoadBalancer } from "../../core/loadbalancer/index.ts"
import type { Kernel } from "../../core/net/index.ts"
import { Client, Host, Manager, Registration } from "../../core/nsm/index.ts"
import { Registry } from "../../core/nsp/index.ts"
import { Proxy } from "../../core/proxy/index.ts"
import { Ambassador } from "../../core/tapa/index.ts"
import type * as Actor from "./Actor.ts"
import type * as Kernels from "./Kernels.ts"
import type * as Network from "./Network.ts"
import type * as World from "./World.ts"

/** The machines of all programs. */
export const machines = {
  nsp: Registry.machine,
  ipam: Ipam.machine,
  tapa: Ambassador.machine,
  proxy: Proxy.machine,
  frontend: Frontend.machine,
  loadBalancer: LoadBalancer.machine,
  manager: Manager.machine,
  client: Client.machine,
  host: Host.machine,
  registration: Registration.machine
}
export type Machines = typeof machines

/** How soon dead things are noticed. Unit: milliseconds. */
export const lifetimes = {
  targetMs: 30_000,
  refreshMs: 10_000,
  tokenMs: 60_000,
  endpointMs: 60_000,
  /** Proxies renew addresses so often; a lease outlives three misses, as the settings of the programs want it. */
  renewMs: 30_000,
  leaseMs: 100_000
} as const
/** The limit of one call to NSM or the IPAM, as in the programs. */
export const requestMs = 15_000
/** Pause before a watch that has ended is opened again, as in the programs. */
export const reopenMs = 500

export interface Ground {
  readonly world: World.World
  readonly network: Network.Network
  readonly kernels: Kernels.Kernels
  readonly machines: Machines
  readonly observe: Actor.Observe
}

/** Names of the processes of which there is one, however many trenches there are. */
export const names = { manager: "nsmgr" } as const

/** Changes a kernel; where the machine fails, it stops half-way. Says whether everything was done. */
export const applyAll = (
  { kernels }: Ground,
  life: World.Life,
  netns: string,
  operations: ReadonlyArray<Kernel.Operation>
): boolean => {
  const isBroken = life.isBroken()
  kernels.applyAll(netns, isBroken ? operations.slice(0, life.draw(0, operations.length - 1)) : operations)
  return !isBroken
}

/** A stream to another process for ever: what ends is opened again after a pause. */
export const follow = <A>(
  { network }: Ground,
  life: World.Life,
  to: string,
  open: Parameters<typeof network.watch<A>>[2],
  message: (value: A) => void,
  lost: () => void = () => undefined
): void => {
  const again = (): void =>
    void network.watch<A>(life, to, open, {
      message,
      end: () => {
        lost()
        life.later(reopenMs, again)
      }
    }, true)
  again()
}
