/** Performs the commands of the frontend: BIRD, the kernel's rules, the registry of the NSP, health, secrets, the log. */
import { Effect, Result } from "effect"
import { BirdConfig, type BirdOutput, type Frontend, Rules } from "../../core/frontend/index.ts"
import {
  type Target,
  Target_Status,
  Target_Type,
  TargetRegistryDefinition
} from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import { Bird } from "../bird/Bird.ts"
import { BirdError } from "../bird/Control.ts"
import type * as Client from "../grpc/Client.ts"
import type * as Health from "../grpc/Health.ts"
import { Netlink } from "../netlink/Netlink.ts"
import type { Perform } from "../runtime/Runner.ts"
import type { Secrets } from "./Secrets.ts"

export interface World {
  readonly nsp: Client.Client
  readonly secrets: Secrets
  readonly health: Health.Health["Service"]
  /** The name under which the load balancer of the same pod finds this frontend. */
  readonly hostname: string
}

type Event = Frontend.Event

/** The deadline of a call to the registry, as in the original. */
const registryMs = 30_000

export const make = (
  { health, hostname, nsp, secrets }: World
): Perform<Event, Frontend.Command, Bird | Netlink> => {
  const self: Target = {
    ips: [hostname],
    context: { identifier: hostname },
    status: Target_Status.ENABLED,
    type: Target_Type.FRONTEND
  }
  const fill = (config: BirdConfig.Config): Effect.Effect<string, BirdError> => {
    const filled = BirdConfig.fill(config.text, secrets.passwordOf)
    return Result.isSuccess(filled)
      ? Effect.succeed(filled.success)
      : Effect.fail(new BirdError({ detail: `the password ${filled.failure} is not there any more` }))
  }

  return (command, send) => {
    switch (command._tag) {
      case "StartBird": {
        const { call } = command
        return Effect.scoped(Effect.gen(function*() {
          const bird = yield* (yield* Bird).start(yield* fill(command.config))
          send({ _tag: "StartBirdSucceeded", call, version: bird.version })
          send({ _tag: "BirdExited", call, reason: yield* bird.exited })
        })).pipe(
          Effect.catch(({ detail }) => Effect.sync(() => send({ _tag: "StartBirdFailed", call, reason: detail })))
        )
      }
      case "ConfigureBird":
        return Effect.gen(function*() {
          return yield* (yield* Bird).configure(yield* fill(command.config))
        }).pipe(Effect.match({
          onSuccess: (verdict) => send(judged(command.call, verdict)),
          onFailure: ({ detail }) => send({ _tag: "ConfigureFailed", call: command.call, reason: detail })
        }))
      case "StopBird":
        return Effect.gen(function*() {
          yield* (yield* Bird).stop
          send({ _tag: "StopBirdSucceeded", call: command.call })
        })
      case "QueryBird":
        return Effect.flatMap(Bird, ({ sessions }) => sessions).pipe(Effect.match({
          onSuccess: (rows) => send({ _tag: "QueryBirdSucceeded", call: command.call, ...rows }),
          onFailure: ({ detail }) => send({ _tag: "QueryBirdFailed", call: command.call, reason: detail })
        }))
      case "ConvergeRules":
        return Effect.gen(function*() {
          const netlink = yield* Netlink
          yield* netlink.apply(Rules.plan(command.desired, yield* netlink.snapshot))
        }).pipe(
          Effect.tapError((error) => Effect.logError("The rules of the VIPs cannot be set", error)),
          Effect.match({
            onSuccess: () => send({ _tag: "ConvergeRulesSucceeded", call: command.call }),
            onFailure: ({ message }) => send({ _tag: "ConvergeRulesFailed", call: command.call, reason: message })
          })
        )
      case "RegisterTarget":
        return nsp.call(TargetRegistryDefinition, "register", self, { timeoutMs: registryMs }).pipe(
          Effect.tapError((error) => Effect.logWarning("The NSP did not register the frontend", error)),
          Effect.match({
            onSuccess: () => send({ _tag: "RegisterSucceeded", call: command.call }),
            onFailure: ({ message }) => send({ _tag: "RegisterFailed", call: command.call, reason: message })
          })
        )
      case "UnregisterTarget":
        return nsp.call(TargetRegistryDefinition, "unregister", self, { timeoutMs: registryMs }).pipe(
          Effect.tapError((error) => Effect.logWarning("The NSP did not unregister the frontend", error)),
          Effect.match({
            onSuccess: () => send({ _tag: "UnregisterSucceeded", call: command.call }),
            onFailure: ({ message }) => send({ _tag: "UnregisterFailed", call: command.call, reason: message })
          })
        )
      case "SetEgress":
        return health.set("Egress", command.serving)
      case "WatchSecrets":
        return secrets.watch(
          command.sources,
          (source, secret) =>
            send(secret === undefined ? { _tag: "SecretGone", source } : { _tag: "SecretObserved", secret })
        )
      case "Report":
        return log(command)
      case "Cancel":
        // The runner interrupts the command with this call.
        return Effect.void
    }
  }
}

/** The key under which a command runs: a later watch of the secrets replaces the earlier. */
export const keyOf = (command: Frontend.Command): string | number | undefined => {
  if (command._tag === "WatchSecrets") return "secrets"
  return "call" in command && command._tag !== "Cancel" ? command.call : undefined
}

const judged = (call: number, verdict: BirdOutput.Verdict): Event => {
  switch (verdict._tag) {
    case "Accepted":
      return { _tag: "ConfigureSucceeded", call }
    case "Refused":
      return { _tag: "ConfigureRefused", call, message: verdict.message }
    case "Ignored":
      return { _tag: "ConfigureFailed", call, reason: "it is shutting down" }
  }
}

const log = ({ level, message }: { readonly level: "Info" | "Warning" | "Error"; readonly message: string }) => {
  switch (level) {
    case "Info":
      return Effect.logInfo(message)
    case "Warning":
      return Effect.logWarning(message)
    case "Error":
      return Effect.logError(message)
  }
}
