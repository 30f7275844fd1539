/** Which rows of which machine a simulation went through: pairs of a machine and an event it was given. */
import { Frontend } from "../../core/frontend/index.ts"
import { Ipam } from "../../core/ipam/index.ts"
import { LoadBalancer } from "../../core/loadbalancer/index.ts"
import { Client, Host, Manager, Registration } from "../../core/nsm/index.ts"
import { Registry } from "../../core/nsp/index.ts"
import { Proxy } from "../../core/proxy/index.ts"
import { Ambassador } from "../../core/tapa/index.ts"
import { machines } from "./Ground.ts"

/** How often each row was reached. */
export type Coverage = Map<string, number>

const events: { readonly [machine: string]: ReadonlyArray<string> } = {
  [machines.nsp.name]: Object.keys(Registry.Event.cases),
  [machines.ipam.name]: Object.keys(Ipam.Event.cases),
  [machines.tapa.name]: Object.keys(Ambassador.Event.cases),
  [machines.frontend.name]: Object.keys(Frontend.Event.cases),
  [machines.loadBalancer.name]: Object.keys(LoadBalancer.Event.cases),
  [machines.manager.name]: Object.keys(Manager.Event.cases),
  [machines.client.name]: Object.keys(Client.Event.cases),
  [machines.host.name]: Object.keys(Host.Event.cases),
  [machines.registration.name]: Object.keys(Registration.Event.cases),
  [machines.proxy.name]: Proxy.Event.members.map(({ fields }) => fields._tag.schema.literal)
}

/** Every row there is. */
export const rows: ReadonlyArray<string> = Object.entries(events).flatMap(([machine, tags]) =>
  [...tags, "Woken"].map((tag) => `${machine} ${tag}`)
)

/** The rows that no life reaches, and why. */
export const beyond: { readonly [row: string]: string } = {
  [`${machines.frontend.name} SecretObserved`]: "no gateway of a simulated world has a password",
  [`${machines.frontend.name} SecretGone`]: "no gateway of a simulated world has a password",
  [`${machines.manager.name} UnregisterServiceRequested`]: "the programs share definitions and leave them",
  [`${machines.proxy.name} RequestAbandoned`]: "the endpoint waits for its handler, however long the caller does",
  [`${machines.tapa.name} ConnectionLost`]: "the client of the same process heals a connection until it is closed"
}

/** The rows that were never reached. */
export const missing = (coverage: Coverage): ReadonlyArray<string> => rows.filter((row) => !coverage.has(row))
