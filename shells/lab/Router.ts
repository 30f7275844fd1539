/**
 * The gateway router of a trench in the lab: a real router daemon that peers with every frontend, as an operator of the
 * external network would set it up.
 */
import { Effect, Schema } from "effect"
import type { Scope } from "effect"
import * as Cidr from "../../core/net/Cidr.ts"
import * as Ip from "../../core/net/Ip.ts"
import * as Host from "./Host.ts"
import * as Pods from "./Pods.ts"
import type { Layout } from "./Topology.ts"

/** A session of the gateway with one frontend. */
export interface Session {
  readonly gateway: string
  readonly frontend: string
  readonly protocol: "bgp" | "static"
  readonly up: boolean
  /** Absent where BFD is not configured. */
  readonly bfdUp?: boolean
}

export interface Router {
  readonly daemon: "bird" | "frr"
  readonly sessions: Effect.Effect<ReadonlyArray<Session>, Host.HostError>
}

/** A peering that the manifests ask for. Numbers are the gateway's own; absent ones are the frontend's defaults. */
export interface Peer {
  readonly gateway: string
  readonly frontend: string
  readonly bridge: string
  readonly protocol: "bgp" | "static"
  readonly local: Ip.Ip
  readonly remote: Ip.Ip
  readonly localPort: number
  readonly remotePort: number
  readonly localAsn: number
  readonly remoteAsn: number
  readonly holdTimeS: number
  readonly bfd?: { readonly minTxMs: number; readonly minRxMs: number; readonly multiplier: number }
  /** What a static gateway sends to the frontend; a BGP gateway learns it. */
  readonly vips: ReadonlyArray<Cidr.Cidr>
}

/** The defaults of the frontend (NFE_*), seen from the gateway. */
const defaults = { localAsn: 4_248_829_953, remoteAsn: 8103, port: 10_179, holdTimeS: 3, bfdMs: 300, bfdMultiplier: 5 }

/** Every peering of a trench: each gateway of an attractor with each of its frontends. */
export const peers = (layout: Layout): ReadonlyArray<Peer> =>
  layout.frontends.flatMap(({ addresses, attractor, external, name }) =>
    attractor.gateways.flatMap((gateway) => {
      const family = Ip.family(gateway.address)
      const remote = addresses.find((address) => Cidr.family(address) === family)
      if (remote === undefined) return []
      const bgp = gateway._tag === "Bgp" ? gateway : undefined
      return [{
        gateway: gateway.name,
        frontend: name,
        bridge: external.bridge,
        protocol: bgp === undefined ? "static" as const : "bgp" as const,
        local: gateway.address,
        remote: Cidr.ip(remote),
        localPort: bgp?.remotePort ?? defaults.port,
        remotePort: bgp?.localPort ?? defaults.port,
        localAsn: bgp?.remoteAsn ?? defaults.localAsn,
        remoteAsn: bgp?.localAsn ?? defaults.remoteAsn,
        holdTimeS: bgp?.holdTimeS ?? defaults.holdTimeS,
        vips: attractor.vips.map(({ address }) => address).filter((address) => Cidr.family(address) === family),
        ...(gateway.bfd === undefined ? {} : {
          bfd: {
            minTxMs: gateway.bfd.minTxMs ?? defaults.bfdMs,
            minRxMs: gateway.bfd.minRxMs ?? defaults.bfdMs,
            multiplier: gateway.bfd.multiplier ?? defaults.bfdMultiplier
          }
        })
      }]
    })
  )

const Route = Schema.Struct({ dst: Schema.String, nexthops: Schema.optionalKey(Schema.Array(Schema.Unknown)) })
const Routes = Schema.fromJsonString(Schema.Array(Route))

/** The VIP routes in the gateway's own kernel table, as prefixes. */
export const learned = (pod: Pods.Pod): Effect.Effect<ReadonlyArray<Cidr.Cidr>, Host.HostError> =>
  Effect.map(routes(pod), (found) => found.map(({ prefix }) => prefix))

/** The VIP routes with the number of frontends that they are spread over. */
export const routes = (
  pod: Pods.Pod
): Effect.Effect<ReadonlyArray<{ readonly prefix: Cidr.Cidr; readonly hops: number }>, Host.HostError> =>
  Effect.forEach(
    ["-4", "-6"],
    (family) =>
      Host.run(["ip", "-n", pod.namespace, "-j", family, "route", "show"]).pipe(
        Effect.flatMap((json) => Effect.orDie(Schema.decodeEffect(Routes)(json === "" ? "[]" : json)))
      )
  ).pipe(
    Effect.map((tables) =>
      tables.flat().flatMap(({ dst, nexthops }) =>
        hostOrPrefix(dst).map((prefix) => ({ prefix, hops: nexthops?.length ?? 1 }))
      )
    )
  )

const hostOrPrefix = (text: string): ReadonlyArray<Cidr.Cidr> => {
  const cidr = Cidr.parse(text.includes("/") ? text : `${text}/${text.includes(":") ? 128 : 32}`)
  return cidr._tag === "Success" ? [cidr.success] : []
}

export type Start = (
  layout: Layout,
  pod: Pods.Pod,
  folder: string
) => Effect.Effect<Router, Host.HostError, Scope.Scope>
