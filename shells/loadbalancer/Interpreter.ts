/** Performs the commands of the load balancer: nftables, the kernel's routes, and the endpoint for proxies. */
import { Effect, FiberHandle, type Scope } from "effect"
import { type LoadBalancer, Routes, Ruleset } from "../../core/loadbalancer/index.ts"
import { Netlink } from "../netlink/Netlink.ts"
import { Nftables, type NftablesError } from "../nftables/Nftables.ts"
import * as Outcome from "../runtime/Outcome.ts"
import type { Perform } from "../runtime/Runner.ts"
import type { NsmError } from "../sdk/Error.ts"

/** What the interpreter is given besides the services. */
export interface World {
  /** Serves and registers the endpoint until the scope ends. */
  readonly serve: Effect.Effect<unknown, NsmError, Scope.Scope>
}

type Event = LoadBalancer.Event
type Command = LoadBalancer.Command

/** How long the endpoint may take to unregister. Source: Meridio `cmd/stateless-lb/egress.go`. */
const stopMs = 15_000

export const make = (
  { serve }: World
): Effect.Effect<Perform<Event, Command, never>, never, Netlink | Nftables | Scope.Scope> =>
  Effect.gen(function*() {
    const netlink = yield* Netlink
    const nftables = yield* Nftables
    const serving = yield* FiberHandle.make()

    return (command, send) => {
      const { call } = command
      switch (command._tag) {
        case "ReadKernel":
          return Outcome.tell("read the kernel", netlink.snapshot, {
            onSuccess: (snapshot) => send({ _tag: "ReadSucceeded", call, snapshot: Routes.relevant(snapshot) }),
            onFailure: (reason) => send({ _tag: "ReadFailed", call, reason })
          })
        case "ApplyOperations":
          return Effect.andThen(
            Effect.logDebug("Changing the kernel", { operations: command.operations }),
            Outcome.tell("change the kernel", netlink.apply(command.operations), {
              onSuccess: () => send({ _tag: "OperationsSucceeded", call }),
              onFailure: (reason) => send({ _tag: "OperationsFailed", call, reason })
            })
          )
        case "ApplyRules": {
          const { after } = command
          const targets = Object.fromEntries(after.streams.map(({ identifiers, name }) => [name, identifiers.length]))
          return Effect.andThen(
            Effect.logInfo("Changing the rules", { targets, flows: after.flows.length, vips: after.vips.length }),
            Outcome.tell("change the rules", changeRules(nftables, command), {
              onSuccess: () => send({ _tag: "RulesSucceeded", call }),
              onFailure: (reason) => send({ _tag: "RulesFailed", call, reason })
            })
          )
        }
        case "ServeEndpoint": {
          const life = Effect.scoped(Effect.andThen(
            Effect.tap(serve, () => Effect.sync(() => send({ _tag: "EndpointServed", call }))),
            Effect.never
          ))
          return Effect.asVoid(FiberHandle.run(
            serving,
            Outcome.tell("serve the endpoint", life, {
              onSuccess: () => undefined,
              onFailure: (reason) => send({ _tag: "EndpointFailed", call, reason })
            })
          ))
        }
        case "StopEndpoint":
          return FiberHandle.clear(serving).pipe(
            Effect.timeoutOption(stopMs),
            Effect.andThen(Effect.sync(() => send({ _tag: "EndpointStopped", call })))
          )
      }
    }
  })

const changeRules = (
  nftables: Nftables["Service"],
  { after, before }: Extract<Command, { readonly _tag: "ApplyRules" }>
): Effect.Effect<void, NftablesError> =>
  Effect.suspend(() => {
    const change = Ruleset.change(before, after)
    return change._tag === "Elements" ? nftables.update(change.elements) : nftables.apply(change.script)
  })
