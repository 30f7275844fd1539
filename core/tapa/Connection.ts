/**
 * What the TAPA asks of Network Service Mesh for a conduit, and what it reads off the answer: its connection to the
 * proxy, the addresses it announces, and the VIPs with the policies that send their replies back through the proxy.
 * Source: Meridio `pkg/conduit/networkservice.go`, `pkg/ambassador/tap/conduit`.
 */
import { Array, Order } from "effect"
import type * as Config from "../config/Model.ts"
import * as Memo from "../Memo.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Nsm from "../nsm/Model.ts"
import type * as Model from "./Model.ts"

/** A request: the connection as wanted, and the interface name to ask for, if any. */
export interface Request {
  readonly connection: Nsm.Connection
  readonly interfaceName?: string
}

/** The network service that the proxies of a conduit offer. */
export const service = ({ conduit, trench }: Config.ConduitKey, { namespace }: Model.Settings): string =>
  `proxy.${conduit}.${trench}.${namespace}`

/** The id of the connection: the same after a restart, and the key of the addresses in the IPAM. */
export const id = (at: Config.ConduitKey, settings: Model.Settings): string =>
  `${settings.name}-${service(at, settings)}-0`

/** The first request of a target that has no connection. */
export const initial = (at: Config.ConduitKey, settings: Model.Settings): Request => ({
  connection: {
    ...Nsm.connection(id(at, settings), service(at, settings)),
    labels: { nodeName: settings.node },
    payload: "ETHERNET"
  }
})

/**
 * Takes over a connection that survived a restart; one that is down is asked for anew. No endpoint is named, though the
 * manager keeps the one it has: who names it is bound to it, also when another proxy has taken its place.
 */
export const recovered = (found: Nsm.Connection, at: Config.ConduitKey, settings: Model.Settings): Request => {
  const connection = {
    ...found,
    endpointName: "",
    id: id(at, settings),
    path: { ...found.path, index: 0 },
    labels: { ...found.labels, nodeName: settings.node }
  }
  const name = Nsm.interfaceName(found)
  const preference = name === undefined ? {} : { interfaceName: name }
  if (found.state === "Down") return { connection: reselect(connection), ...preference }
  const { mechanism } = found
  if (mechanism === undefined) return { connection, ...preference }
  const { name: _, ...parameters } = mechanism.parameters
  return { connection: { ...connection, mechanism: { ...mechanism, parameters } }, ...preference }
}

/** Whether a connection that the manager reports can be taken over. */
export const isRecoverable = (found: Nsm.Connection): boolean => found.mechanism?.type === "KERNEL"

/** The same connection at whatever endpoint and interface there are now. */
export const reselect = (connection: Nsm.Connection): Nsm.Connection => {
  const { mechanism: _, ...rest } = connection
  return { ...rest, endpointName: "", state: "ReselectRequested" }
}

/** The connection with these policies: the VIPs become addresses beside the local ones. */
export const withPolicies = (
  connection: Nsm.Connection,
  localIps: ReadonlyArray<Cidr.Cidr>,
  policies: ReadonlyArray<Nsm.Policy>
): Nsm.Connection => ({
  ...connection,
  context: {
    ...Nsm.emptyContext,
    ip: { ...connection.context.ip, srcAddrs: [...localIps, ...vipsOf(policies)], policies }
  }
})

/** The VIPs that policies stand for. */
export const vipsOf = (policies: ReadonlyArray<Nsm.Policy>): ReadonlyArray<Cidr.Cidr> =>
  policies.flatMap(({ from }) => from ?? [])

/**
 * The policies for the wanted VIPs, sorted: packets from a VIP leave through the gateways of its family. A VIP inside
 * of a gateway's subnet is left out, as it could not be told from a local address.
 */
export const policies = (vips: ReadonlyArray<Cidr.Cidr>, { context }: Nsm.Connection): ReadonlyArray<Nsm.Policy> =>
  policiesVia({ vips, gateways: context.ip.extraPrefixes })

// Every refresh asks again.
const policiesVia = Memo.last(({ vips }: {
  readonly vips: ReadonlyArray<Cidr.Cidr>
  readonly gateways: ReadonlyArray<Cidr.Cidr>
}) => vips, ({ gateways, vips }): ReadonlyArray<Nsm.Policy> => {
  const usable = vips.filter((vip) => !gateways.some((gateway) => isInside(vip, gateway)))
  return Array.dedupe(Array.sort(usable, byCidr)).map((vip) => ({
    from: vip,
    routes: gateways.filter((gateway) => Cidr.family(gateway) === Cidr.family(vip)).map((gateway) => ({
      prefix: Cidr.defaultRoute(Cidr.family(vip)),
      nextHop: Cidr.ip(gateway)
    }))
  }))
})

/** The policies of a connection in the form of `policies`, to be compared with it. */
export const policiesOf = ({ context }: Nsm.Connection): ReadonlyArray<Nsm.Policy> =>
  context.ip.policies
    .flatMap(({ from, routes }) => from === undefined ? [] : [{ from, routes }])
    .toSorted((a, b) => Cidr.compare(a.from, b.from))

/**
 * The addresses to announce at the NSP: those of the interface that are neither VIPs, as far as is known which are on it,
 * nor outside of the gateways' subnets. Without gateways every address but the VIPs counts (Meridio announces all of
 * them, later none).
 */
export const localIps = (
  { context }: Nsm.Connection,
  applied: ReadonlyArray<Nsm.Policy> | null
): ReadonlyArray<Cidr.Cidr> => localIn({ ip: context.ip, applied: applied ?? [] })

const localIn = Memo.last(({ ip }: {
  readonly ip: Nsm.IpContext
  readonly applied: ReadonlyArray<Nsm.Policy>
}) => ip, ({ applied, ip: { extraPrefixes, policies, srcAddrs } }): ReadonlyArray<Cidr.Cidr> => {
  const vips = new Set([...vipsOf(applied), ...vipsOf(policies)])
  return srcAddrs.filter((ip) =>
    !vips.has(ip) && (extraPrefixes.length === 0 || extraPrefixes.some((gateway) => isInside(ip, gateway)))
  )
})

const isInside = (cidr: Cidr.Cidr, gateway: Cidr.Cidr): boolean => Cidr.contains(gateway, cidr)

const byCidr: Order.Order<Cidr.Cidr> = Order.make((a, b) => {
  const order = Cidr.compare(a, b)
  return order < 0 ? -1 : order > 0 ? 1 : 0
})
