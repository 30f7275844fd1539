/** What the processes of a simulated trench offer each other; the messages are the values of the core. */
import type * as Config from "../../core/config/Model.ts"
import type * as Target from "../../core/config/Target.ts"
import type * as IpamModel from "../../core/ipam/Model.ts"
import type * as CircuitState from "../../core/nsm/CircuitState.ts"
import type * as Nsm from "../../core/nsm/Model.ts"
import type * as NsmRegistry from "../../core/nsm/Registry.ts"
import type { Registry } from "../../core/nsp/index.ts"

/** Ends what was begun; called when the other side has left. */
export type Leave = () => void

/** What an endpoint or a manager answers. */
export type Answer = CircuitState.Result

export interface Nsp {
  readonly register: (target: Target.Target, done: () => void) => void
  readonly unregister: (target: Target.Target, done: () => void) => void
  readonly watchTargets: (filter: Registry.Filter, emit: (targets: ReadonlyArray<Target.Target>) => void) => Leave
  /** A watch of the configuration: the view is repeated when it differs. */
  readonly watch: <A>(view: (configuration: Config.Configuration) => A, emit: (value: A) => void) => Leave
}

export interface Ipam {
  readonly allocate: (child: IpamModel.Child, done: (answer: IpamModel.Answer) => void) => Leave
  readonly release: (child: IpamModel.Child, done: (answer: IpamModel.Answer) => void) => Leave
}

/** NetworkService and MonitorConnection, as managers and endpoints serve them. */
export interface NetworkService {
  readonly request: (
    connection: Nsm.Connection,
    preferences: ReadonlyArray<Nsm.Mechanism>,
    done: (answer: Answer) => void
  ) => Leave
  readonly close: (connection: Nsm.Connection, done: (answer: Answer) => void) => void
  readonly monitor: (selector: Nsm.Selector, emit: (event: Nsm.ConnectionEvent) => void) => Leave
}

/** The registry of the manager. */
export interface Registrar {
  readonly registerService: (service: Nsm.NetworkService, done: (answer: NsmRegistry.Answer) => void) => void
  readonly registerEndpoint: (endpoint: Nsm.Endpoint, done: (answer: NsmRegistry.Answer) => void) => void
  readonly unregisterEndpoint: (name: string, done: (answer: NsmRegistry.Answer) => void) => void
  readonly list: (template: Nsm.Endpoint, done: (endpoints: ReadonlyArray<Nsm.Endpoint>) => void) => void
  readonly watch: (template: Nsm.Endpoint, emit: (change: NsmRegistry.Change<Nsm.Endpoint>) => void) => Leave
}

/** Whether the load balancer of the pod forwards. */
export interface Availability {
  readonly watch: (emit: (forwarding: boolean) => void) => Leave
}

/** What one process offers. */
export interface Api {
  readonly nsp?: Nsp
  readonly ipam?: Ipam
  readonly network?: NetworkService
  readonly registrar?: Registrar
  readonly availability?: Availability
}

/** The same, telling which call of which service is used: `nsp.register`. */
export const named = (api: Api, subject: { name: string }): Api => ({
  ...api.nsp === undefined ? {} : { nsp: telling("nsp", api.nsp, subject) },
  ...api.ipam === undefined ? {} : { ipam: telling("ipam", api.ipam, subject) },
  ...api.network === undefined ? {} : { network: telling("network", api.network, subject) },
  ...api.registrar === undefined ? {} : { registrar: telling("registrar", api.registrar, subject) },
  ...api.availability === undefined ? {} : { availability: telling("availability", api.availability, subject) }
})

const telling = <A extends object>(service: string, calls: A, subject: { name: string }): A =>
  new Proxy(calls, {
    get: (target, name) => {
      subject.name = `${service}.${String(name)}`
      return Reflect.get(target, name)
    }
  })
