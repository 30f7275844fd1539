/** What the frontend tells Prometheus: the routes of each gateway and the counters of the external interface. */
import { Effect } from "effect"
import { type Frontend, Metrics as Core } from "../../core/frontend/index.ts"
import * as Interfaces from "../metrics/Interfaces.ts"
import type * as Metrics from "../metrics/Metrics.ts"
import type { Netlink } from "../netlink/Netlink.ts"
import type { NetlinkError } from "../netlink/NetlinkError.ts"
import type { Settings } from "./Config.ts"

/** Reads all of it; BIRD is not asked, its last answer counts. */
export const collect = (
  { attractor, externalInterface, trench }: Settings,
  current: () => Frontend.State
): Effect.Effect<ReadonlyArray<Metrics.Sample>, NetlinkError, Netlink> =>
  Effect.map(
    Interfaces.collect((link) => link === externalInterface, { trench, attractor }),
    (counters) => [...routes(current(), { trench, attractor }), ...counters]
  )

const routes = (state: Frontend.State, labels: Metrics.Sample["labels"]): ReadonlyArray<Metrics.Sample> =>
  (["imported", "exported", "preferred"] as const).flatMap((word) =>
    Core.gatewayRoutes(state).map(({ gateway, gatewayIp, protocol, ...routes }) => ({
      name: `meridio.attractor.gateway.${word}.routes`,
      kind: "Gauge",
      description: `Routes of the gateway that are ${word}.`,
      labels: { protocol, gateway, gateway_ip: gatewayIp, ...labels },
      value: routes[word]
    }))
  )
