/** The ambassador at work: its machine, with the manager of NSM and the NSPs of trenches at the other end. */
import { Effect, Layer, Stream } from "effect"
import type { Scope } from "effect"
import { randomInt } from "node:crypto"
import { Ambassador as Core } from "../../core/tapa/index.ts"
import type { TapDefinition } from "../../proto/gen/api/ambassador/v1/tap.ts"
import type * as Grpc from "../grpc/Server.ts"
import * as Memory from "../runtime/Memory.ts"
import * as Replies from "../runtime/Replies.ts"
import * as Runner from "../runtime/Runner.ts"
import { NsmClient } from "../sdk/Client.ts"
import type { NsmError } from "../sdk/Error.ts"
import * as Config from "./Config.ts"
import * as Interpreter from "./Interpreter.ts"
import * as Server from "./Server.ts"

/** What an application can ask for, and the end of it. */
export interface Ambassador {
  readonly handlers: Grpc.Handlers<TapDefinition, never>
  /** Closes streams and connections; completes when nothing is left to do. */
  readonly drain: Effect.Effect<void>
}

/** Starts it for the life of the scope. */
export const start = (settings: Config.Settings): Effect.Effect<Ambassador, never, NsmClient | Scope.Scope> =>
  Effect.gen(function*() {
    const replies = Replies.make<Core.Answer>()
    const machine = yield* Runner.start(Core.machine, {
      input: { settings: Config.ofMachine(settings), seed: randomInt(0xffff_ffff) },
      perform: yield* Interpreter.make(settings, replies)
    })
    yield* Effect.forkScoped(Memory.giveBackWhenQuiet(machine.changes))
    return {
      handlers: Server.handlers(machine, replies),
      drain: Effect.suspend(() => {
        machine.send({ _tag: "ShutdownRequested" })
        return Effect.asVoid(Stream.runHead(Stream.filter(machine.changes, Core.isStopped)))
      })
    }
  })

/** As `start`, with the manager that the settings name. */
export const startWithNsm = (settings: Config.Settings): Effect.Effect<Ambassador, NsmError, Scope.Scope> =>
  Effect.flatMap(
    Layer.build(NsmClient.layer({
      name: settings.name,
      manager: settings.nsmSocket,
      naming: "Counter",
      dialTimeoutMs: settings.dialTimeoutMs,
      requestTimeoutMs: settings.timeoutMs,
      maxTokenLifetimeMs: settings.maxTokenLifetimeMs
    })),
    (nsm) => Effect.provideContext(start(settings), nsm)
  )
