/** What the frontend hears: the attractor from the NSP and the load balancer of its pod, for as long as it runs. */
import { Effect, type Scope, Stream } from "effect"
import type { Frontend, Model } from "../../core/frontend/index.ts"
import { StreamAvailabilityServiceDefinition } from "../../proto/gen/api/loadbalancer/v1/stream.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import type * as Message from "../../proto/gen/api/nsp/v1/model.ts"
import type * as Client from "../grpc/Client.ts"

type Send = (event: Frontend.Event) => void

/** Between the end of a stream and its next beginning, as in the original. */
const againMs = 500

/** Follows the attractor; a broken stream means nothing, the next one begins with a snapshot. */
export const attractor = (
  nsp: Client.Client,
  names: { readonly trench: string; readonly attractor: string },
  send: Send
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.suspend(() =>
    nsp.stream(ConfigurationManagerDefinition, "watchAttractor", {
      name: names.attractor,
      trench: { name: names.trench },
      vips: [],
      gateways: []
    })
      .pipe(Stream.runForEach(({ attractors }) =>
        Effect.sync(() => send({ _tag: "AttractorObserved", attractors: attractors.map(offer) }))
      ))
  ).pipe(
    Effect.catch((error) => Effect.logWarning("The NSP ended the watch of the attractor", error)),
    Effect.andThen(Effect.sleep(againMs)),
    Effect.forever,
    Effect.forkScoped,
    Effect.asVoid
  )

/** Follows the load balancer; it forwards when it names this host. */
export const loadBalancer = (
  balancer: Client.Client,
  hostname: string,
  send: Send
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.suspend(() =>
    balancer.stream(StreamAvailabilityServiceDefinition, "watch", {}).pipe(
      Stream.runForEach(({ targets }) =>
        Effect.sync(() => {
          const forwarding = targets.some(({ context }) => context["identifier"] === hostname)
          send({ _tag: "LoadBalancerObserved", forwarding })
        })
      )
    )
  ).pipe(
    Effect.catch((error) => Effect.logDebug("The load balancer ended the watch", error)),
    Effect.andThen(Effect.sync(() => send({ _tag: "LoadBalancerLost" }))),
    Effect.andThen(Effect.sleep(againMs)),
    Effect.forever,
    Effect.forkScoped,
    Effect.asVoid
  )

/** An attractor as it came; the core decides what of it can be served. */
export const offer = ({ gateways, vips }: Message.Attractor): Model.OfferedAttractor => ({
  vips: vips.map(({ address }) => address),
  gateways: gateways.map((gateway) => ({
    name: gateway.name,
    address: gateway.address,
    protocol: gateway.protocol,
    remoteAs: gateway.remoteASN,
    localAs: gateway.localASN,
    remotePort: gateway.remotePort,
    localPort: gateway.localPort,
    holdTimeS: gateway.holdTime,
    bfd: gateway.bfd,
    minTxMs: gateway.bfdSpec?.MinTx ?? 0,
    minRxMs: gateway.bfdSpec?.MinRx ?? 0,
    multiplier: gateway.bfdSpec?.Multiplier ?? 0,
    keySource: gateway.bgpAuth?.keySource ?? "",
    keyName: gateway.bgpAuth?.keyName ?? ""
  }))
})
