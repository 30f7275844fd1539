/**
 * The gauges of the gateways, read off the last look at BIRD, so that a scrape asks BIRD nothing.
 * Source: Meridio cmd/frontend/internal/frontend/metrics.go (three runs of birdc per scrape there).
 */
import { protocolOf } from "./BirdConfig.ts"
import type { State } from "./Frontend.ts"

/** One gateway: labels and values of `meridio.attractor.gateway.{imported,exported,preferred}.routes`. */
export interface GatewayRoutes {
  /** `BGP` or `Static`, with `+BFD` where it is used. */
  readonly protocol: string
  readonly gateway: string
  readonly gatewayIp: string
  readonly imported: number
  readonly exported: number
  readonly preferred: number
}

/** In the order of the gateways; zeros for a gateway that BIRD shows no routes of. */
export const gatewayRoutes = ({ attractor, monitor }: State): ReadonlyArray<GatewayRoutes> =>
  (attractor?.gateways ?? []).map(({ address, bfd, name, routing }) => {
    const row = monitor.protocols.find((row) => row.name === protocolOf(name))
    const routes = row?.routes ?? { imported: 0, exported: 0, preferred: 0 }
    const kind = routing._tag === "Bgp" ? "BGP" : "Static"
    return { protocol: bfd === undefined ? kind : `${kind}+BFD`, gateway: name, gatewayIp: address, ...routes }
  })
