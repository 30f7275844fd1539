/** Performs the commands of the proxy: calls to the IPAM, to NSM and to the kernel, and answers to targets. */
import { Cause, Effect, Exit, Fiber, FiberHandle, Option, Schema, Stream } from "effect"
import type { Scope } from "effect"
import { Kernel } from "../../core/net/index.ts"
import * as Nsm from "../../core/nsm/Model.ts"
import type { Proxy, Targets } from "../../core/proxy/index.ts"
import * as Health from "../grpc/Health.ts"
import { Netlink } from "../netlink/Netlink.ts"
import * as Outcome from "../runtime/Outcome.ts"
import type * as Replies from "../runtime/Replies.ts"
import type { Key, Perform } from "../runtime/Runner.ts"
import { NsmClient } from "../sdk/Client.ts"
import type * as Endpoint from "../sdk/Endpoint.ts"
import { NsmError } from "../sdk/Error.ts"
import type { Ipam } from "./Ipam.ts"

/** What the interpreter is given besides the services. */
export interface World {
  readonly ipam: Ipam
  readonly replies: Replies.Replies<Targets.Answer>
  /** Serves the endpoint for targets until the scope ends. */
  readonly serve: (handler: Endpoint.Handler) => Effect.Effect<unknown, NsmError, Scope.Scope>
  /** The MTU of the connections, in bytes. */
  readonly mtu: number
}

type Event = Proxy.Event
type Command = Proxy.Command

/** How long the endpoint may take to unregister. Source: Meridio `cmd/proxy/main.go`. */
const stopMs = 3_000
/** How long closing the connection with one load balancer may take. Source: as above. */
const closeMs = 15_000

/** Watches run until their connection ends; a newer one replaces the older one. */
export const keyOf = (command: Command): Key | undefined => {
  if (command._tag === "WatchConnection") return `watch ${command.id}`
  return "call" in command ? command.call : undefined
}

export const make = (
  world: World
): Effect.Effect<Perform<Event, Command, never>, never, Health.Health | Netlink | NsmClient | Scope.Scope> =>
  Effect.gen(function*() {
    const health = yield* Health.Health
    const netlink = yield* Netlink
    const nsm = yield* NsmClient
    const serving = yield* FiberHandle.make<void, NsmError>()

    return (command, send) => {
      switch (command._tag) {
        case "AllocateAddresses": {
          const { call, children } = command
          return Outcome.tell("allocate addresses", world.ipam.allocate(children), {
            onSuccess: (allocations) => send({ _tag: "AllocateSucceeded", call, allocations }),
            onFailure: (reason) => send({ _tag: "AllocateFailed", call, reason })
          })
        }
        case "ReleaseAddresses": {
          const { call, children } = command
          return Outcome.tell("release addresses", world.ipam.release(children), {
            onSuccess: () => send({ _tag: "ReleaseSucceeded", call }),
            onFailure: (reason) => send({ _tag: "ReleaseFailed", call, reason })
          })
        }
        case "QueryConnection": {
          const { call, id } = command
          return Outcome.tell("query the connection", nsm.query(id), {
            onSuccess: (found) => send({ _tag: "QuerySucceeded", call, ...adopted(found) }),
            onFailure: (reason) => send({ _tag: "QueryFailed", call, reason })
          })
        }
        case "RequestConnection": {
          const { call, connection, link } = command
          const preference = link === undefined ? {} : { interfaceName: link }
          return Outcome.tell("connect with the load balancer", nsm.request(connection, preference), {
            onSuccess: (connection) => send({ _tag: "RequestSucceeded", call, connection: withoutTokens(connection) }),
            onFailure: (reason) => send({ _tag: "RequestFailed", call, reason })
          })
        }
        case "WatchConnection": {
          const { id } = command
          return Stream.runForEach(
            nsm.changes(id),
            (connection) =>
              Effect.sync(() => send({ _tag: "ConnectionChanged", id, connection: withoutTokens(connection) }))
          )
        }
        case "CloseConnection": {
          const { call, id } = command
          return Outcome.tell("close the connection", within(closeMs, nsm.close(id)), {
            onSuccess: () => send({ _tag: "CloseSucceeded", call }),
            onFailure: (reason) => send({ _tag: "CloseFailed", call, reason })
          })
        }
        case "Reply":
          return world.replies.answer(command.reply, command.answer)
        case "ObserveKernel": {
          const { call } = command
          return Outcome.tell("read the kernel", netlink.snapshot, {
            onSuccess: (snapshot) => send({ _tag: "ObserveSucceeded", call, snapshot }),
            onFailure: (reason) => send({ _tag: "ObserveFailed", call, reason })
          })
        }
        case "ApplyOperations": {
          const { call, operations } = command
          return Effect.andThen(
            Effect.logDebug("Changing the kernel", { operations }),
            Outcome.tell("change the kernel", netlink.apply(operations), {
              onSuccess: () => send({ _tag: "ApplySucceeded", call }),
              onFailure: (reason) => send({ _tag: "ApplyFailed", call, reason })
            })
          )
        }
        case "ServeTargets": {
          const { call } = command
          const life = Effect.scoped(Effect.andThen(world.serve(handler(world, send)), Effect.never))
          return Effect.flatMap(FiberHandle.run(serving, life), Fiber.await).pipe(
            Effect.flatMap((exit) => isStopped(exit) ? Effect.void : exit),
            (ended) =>
              Outcome.tell("serve targets", ended, {
                onSuccess: () => undefined,
                onFailure: (reason) => send({ _tag: "ServeFailed", call, reason })
              })
          )
        }
        case "StopServing": {
          const { call } = command
          return Outcome.tell("unregister the endpoint", within(stopMs, FiberHandle.clear(serving)), {
            onSuccess: () => send({ _tag: "StopSucceeded", call }),
            onFailure: () => send({ _tag: "StopSucceeded", call })
          })
        }
        case "SetHealth":
          return health.set(command.service, command.serving)
        case "ReportFault":
          return Effect.logError(`The bridge cannot be made: ${command.fault}`)
        case "Cancel":
          // The runner interrupts the command with this call.
          return Effect.void
      }
    }
  })

/** Asks the machine; a caller that leaves before it has the answer is reported, too. */
const handler = ({ mtu, replies }: World, send: (event: Event) => void): Endpoint.Handler => ({
  request: (connection) =>
    Effect.suspend(() => {
      let asked: number | undefined
      const { context, id } = connection
      const link = Option.getOrUndefined(decodeLink(Nsm.interfaceName(connection)))
      return replies.ask((reply) => {
        asked = reply
        const client = Nsm.clientId(connection)
        send({ _tag: "RequestReceived", reply, id, client, ...(link === undefined ? {} : { link }), ip: context.ip })
      }).pipe(
        Effect.flatMap((answer) =>
          answer._tag === "Accepted"
            ? Effect.succeed({ ...connection, context: { ...context, mtu, ip: answer.ip } })
            : Effect.fail(new NsmError({ reason: "Unavailable", message: answer.reason }))
        ),
        Effect.onInterrupt(() =>
          Effect.sync(() => asked !== undefined && send({ _tag: "RequestAbandoned", reply: asked }))
        )
      )
    }),
  close: ({ id }) => Effect.sync(() => send({ _tag: "CloseReceived", id }))
})

const isStopped = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)

const decodeLink = Schema.decodeUnknownOption(Kernel.LinkName)

const adopted = (found: Option.Option<Nsm.Connection>): { readonly connection?: Nsm.Connection } =>
  Option.isSome(found) ? { connection: withoutTokens(found.value) } : {}

/** Tokens are secrets, each hop makes its own anew, and what a machine hears is recorded. */
const withoutTokens = (connection: Nsm.Connection): Nsm.Connection => ({
  ...connection,
  path: { ...connection.path, segments: connection.path.segments.map((segment) => ({ ...segment, token: "" })) }
})

const within = <A, E>(ms: number, effect: Effect.Effect<A, E>): Effect.Effect<A, E | NsmError> =>
  Effect.timeoutOrElse(effect, {
    duration: ms,
    orElse: () => Effect.fail(new NsmError({ reason: "Timeout", message: `not done after ${ms} ms` }))
  })
