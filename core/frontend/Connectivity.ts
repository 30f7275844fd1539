/**
 * Decides from the rows of BIRD which gateways are up and whether the outside is reachable.
 *
 * Connected means: at least one family has gateways, and each family that has gateways has one that is up. So two
 * families are withdrawn together, unless each counts by itself (`perFamily`): then one that is up suffices. VIPs play
 * no role. A gateway without a row is not up.
 * Source: Meridio pkg connectivity.go and bird/proto.go.
 */
import { Schema } from "effect"
import { Ip } from "../net/index.ts"
import { protocolOf } from "./BirdConfig.ts"
import type { Protocol, Session } from "./BirdOutput.ts"
import type { Gateway } from "./Model.ts"

/** How a gateway fares. */
export const GatewayStatus = Schema.Struct({
  gateway: Schema.String,
  up: Schema.Boolean,
  /** What BIRD says about it, or why it counts as down. */
  detail: Schema.String
})
export type GatewayStatus = typeof GatewayStatus.Type

const FamilyStatus = Schema.Literals(["NotConfigured", "Up", "Down"])

export const Connectivity = Schema.Struct({
  connected: Schema.Boolean,
  v4: FamilyStatus,
  v6: FamilyStatus,
  /** In the order of the gateways. */
  gateways: Schema.Array(GatewayStatus)
})
export type Connectivity = typeof Connectivity.Type

/** Nothing is known, or nothing is there. */
export const none: Connectivity = { connected: false, v4: "NotConfigured", v6: "NotConfigured", gateways: [] }

/** Judges the gateways by what BIRD shows. */
export const judge = (
  gateways: ReadonlyArray<Gateway>,
  protocols: ReadonlyArray<Protocol>,
  sessions: ReadonlyArray<Session>,
  perFamily: boolean
): Connectivity => {
  const statuses = gateways.map((gateway) => statusOf(gateway, protocols, sessions))
  const familyStatus = (family: Ip.Family): typeof FamilyStatus.Type => {
    const own = statuses.filter((_, i) => gateways[i] !== undefined && Ip.family(gateways[i].address) === family)
    if (own.length === 0) return "NotConfigured"
    return own.some(({ up }) => up) ? "Up" : "Down"
  }
  const v4 = familyStatus("v4")
  const v6 = familyStatus("v6")
  const connected = perFamily
    ? v4 === "Up" || v6 === "Up"
    : v4 !== "Down" && v6 !== "Down" && gateways.length > 0
  return { connected, v4, v6, gateways: statuses }
}

const statusOf = (
  gateway: Gateway,
  protocols: ReadonlyArray<Protocol>,
  sessions: ReadonlyArray<Session>
): GatewayStatus => {
  const status = (up: boolean, detail: string) => ({ gateway: gateway.name, up, detail })
  const kind = gateway.routing._tag === "Bgp" ? "BGP" : "Static"
  const row = protocols.find((row) => row.name === protocolOf(gateway.name) && row.kind === kind)
  if (row === undefined) return status(false, "not configured in BIRD")
  if (row.state !== "up") return status(false, `${row.state} ${row.info}`.trim())
  // BIRD ends a BGP session by itself when its BFD session goes down.
  if (gateway.routing._tag === "Bgp") return status(/\bEstablished\b/.test(row.info), row.info)
  if (gateway.bfd === undefined) return status(true, "up")
  const session = sessions.find(({ address }) => address === gateway.address)
  return status(session?.state === "Up", session === undefined ? "no BFD session" : `BFD ${session.state}`)
}
