/** What the load balancer hears: the lists of the NSP and changes of the kernel, for as long as it runs. */
import { Effect, Stream } from "effect"
import type { Model } from "../../core/config/index.ts"
import type { LoadBalancer } from "../../core/loadbalancer/index.ts"
import { ConfigurationManagerDefinition } from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import { TargetRegistryDefinition } from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import type * as Client from "../grpc/Client.ts"
import { Netlink } from "../netlink/Netlink.ts"
import * as TargetWire from "../nsp/TargetWire.ts"
import * as Wire from "../nsp/Wire.ts"

type Send = (event: LoadBalancer.Event) => void

/** Pause before a watch that has ended is opened again. Source: Meridio `cmd/stateless-lb/main.go`. */
const reopenMs = 500

/** Follows everything; never ends. */
export const follow = (
  nsp: Client.Client,
  conduit: Model.ConduitKey,
  send: Send
): Effect.Effect<void, never, Netlink> => {
  const configuration = ConfigurationManagerDefinition
  const trench = Wire.toTrench(conduit.trench)
  const anyStream = { ...conduit, stream: "" }
  const watches = [
    again(
      "VIPs",
      nsp.stream(configuration, "watchVip", { name: "", address: "", trench }),
      ({ vips }) => taken(Wire.vips(vips), (vips) => send({ _tag: "VipsChanged", vips }))
    ),
    again(
      "the conduit",
      nsp.stream(configuration, "watchConduit", Wire.toConduitKey(conduit)),
      ({ conduits }) =>
        taken(
          Wire.conduits(conduits),
          ([own]) => send({ _tag: "PortNatsChanged", portNats: own?.portNats ?? [] })
        )
    ),
    again(
      "streams",
      nsp.stream(configuration, "watchStream", Wire.toStreamKey(anyStream)),
      ({ streams }) => taken(Wire.streams(streams), (streams) => send({ _tag: "StreamsChanged", streams }))
    ),
    again(
      "flows",
      nsp.stream(configuration, "watchFlow", Wire.toFlowsOf(conduit)),
      ({ flows }) => taken(Wire.flows(flows), (flows) => send({ _tag: "FlowsChanged", flows }))
    ),
    again(
      "targets",
      nsp.stream(
        TargetRegistryDefinition,
        "watch",
        TargetWire.toFilter({ kind: "default", status: "enabled", stream: anyStream })
      ),
      ({ targets }) => taken(TargetWire.targets(targets), (targets) => send({ _tag: "TargetsChanged", targets }))
    ),
    again(
      "frontends",
      nsp.stream(TargetRegistryDefinition, "watch", TargetWire.toFilter({ kind: "frontend", status: "any" })),
      ({ targets }) =>
        taken(TargetWire.targets(targets), (targets) => {
          send({ _tag: "FrontendsChanged", frontends: targets.flatMap(({ context }) => context["identifier"] ?? []) })
        })
    ),
    Effect.flatMap(
      Netlink,
      ({ changes }) => again("the kernel", changes, () => Effect.sync(() => send({ _tag: "KernelChanged" })))
    )
  ]
  return Effect.all(watches, { concurrency: "unbounded", discard: true })
}

const taken = <A>(decoded: Wire.Decoded<A>, use: (values: ReadonlyArray<A>) => void): Effect.Effect<void> => {
  use(decoded.values)
  return Effect.forEach(
    decoded.rejected,
    (sentence) => Effect.logWarning(`Ignoring what the NSP sent: ${sentence}`),
    { discard: true }
  )
}

/** A watch for ever: what ends or breaks is opened again, and what was heard stays until then. */
const again = <A, E extends { readonly message: string }>(
  what: string,
  watch: Stream.Stream<A, E>,
  use: (message: A) => Effect.Effect<void>
): Effect.Effect<never> =>
  Stream.runForEach(watch, use).pipe(
    Effect.catch((error) => Effect.logWarning(`The watch of ${what} broke`, { error: error.message })),
    Effect.andThen(Effect.sleep(reopenMs)),
    Effect.forever
  )
