/** One connection of the client at work: its machine, with the manager at the other end of a channel. */
import { Clock, Effect, Option, Result, type Scope, Stream } from "effect"
import * as Core from "../../core/nsm/Client.ts"
import * as ClientState from "../../core/nsm/ClientState.ts"
import type * as Model from "../../core/nsm/Model.ts"
import * as Token from "../../core/nsm/Token.ts"
import type * as Grpc from "../grpc/Client.ts"
import * as Replies from "../runtime/Replies.ts"
import * as Runner from "../runtime/Runner.ts"
import type * as Svid from "../spiffe/Svid.ts"
import * as Tokens from "../spiffe/Tokens.ts"
import type * as Channel from "./Channel.ts"
import { NsmError } from "./Error.ts"
import * as Peer from "./Peer.ts"

export interface Session {
  readonly running: Runner.Running<ClientState.State, ClientState.Event>
  readonly scope: Scope.Closeable
  /** Callers that wait for something in this session. */
  users: number
  readonly request: (connection: Model.Connection, interfaceName: string) => Effect.Effect<Model.Connection, NsmError>
  readonly close: Effect.Effect<void, NsmError>
  /** The connection while it stands; ends when it does. */
  readonly views: Stream.Stream<Model.Connection>
}

/** With `peer`, what it answers is judged. */
export const make = (
  channel: Grpc.Client,
  peer: Channel.Channel["peer"],
  settings: ClientState.Settings,
  scope: Scope.Closeable
): Effect.Effect<Session, never, Scope.Scope> =>
  Effect.gen(function*() {
    const replies = Replies.make<ClientState.Result>()
    const running = yield* Runner.start(Core.machine, {
      input: settings,
      perform: perform(channel, peer, settings, replies)
    })
    return {
      running,
      scope,
      users: 0,
      request: (connection, interfaceName) =>
        Effect.flatMap(
          replies.ask((reply) => running.send({ _tag: "RequestRequested", reply, connection, interfaceName })),
          (result) => result._tag === "Succeeded" ? Effect.succeed(result.connection) : Effect.fail(failureOf(result))
        ),
      close: Effect.flatMap(
        replies.ask((reply) => running.send({ _tag: "CloseRequested", reply })),
        (result) => result._tag === "Failed" ? Effect.fail(failureOf(result)) : Effect.void
      ),
      views: running.changes.pipe(
        Stream.map(Core.view),
        Stream.changes,
        Stream.dropWhile((view) => view === undefined),
        Stream.takeWhile((view) => view !== undefined)
      )
    }
  })

const perform = (
  channel: Grpc.Client,
  peer: Channel.Channel["peer"],
  { name }: ClientState.Settings,
  replies: Replies.Replies<ClientState.Result>
) =>
(command: ClientState.Command, send: (event: ClientState.Event) => void): Effect.Effect<void> => {
  switch (command._tag) {
    case "Request": {
      const { call, connection, preferences, timeoutMs } = command
      return Peer.request(channel, connection, preferences, timeoutMs).pipe(
        Effect.tap((answer) => peer === undefined ? Effect.void : judge(channel, peer, answer, timeoutMs)),
        Effect.match({
          onSuccess: (answer) => send({ _tag: "RequestSucceeded", call, connection: answer }),
          onFailure: ({ message, reason }) => send({ _tag: "RequestFailed", call, reason, message })
        })
      )
    }
    case "Close":
      return Peer.close(channel, command.connection, command.timeoutMs).pipe(Effect.match({
        onSuccess: () => send({ _tag: "CloseFinished", call: command.call }),
        onFailure: ({ message, reason }) =>
          send({ _tag: "CloseFinished", call: command.call, failure: { reason, message } })
      }))
    case "Monitor": {
      const { call, connection } = command
      return Peer.monitor(channel, { segments: [{ name, id: connection.id, token: "" }], networkServices: [] }).pipe(
        Stream.map((event) => ClientState.changeIn(event, connection)),
        Stream.filter((change) => change !== undefined),
        Stream.runForEach((change) => Effect.sync(() => send({ _tag: "MonitorChanged", call, change }))),
        Effect.ignore,
        Effect.andThen(Effect.sync(() => send({ _tag: "MonitorChanged", call, change: "Lost" })))
      )
    }
    case "Reply":
      return replies.answer(command.reply, command.result)
    case "Cancel":
      return Effect.void
  }
}

/** Refuses an answer that does not prove its way, and ends the connection. */
const judge = (
  channel: Grpc.Client,
  peer: Effect.Effect<Option.Option<Svid.Peer>>,
  answer: Model.Connection,
  timeoutMs: number
): Effect.Effect<void, NsmError> =>
  Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    const isSigned = Option.match(yield* peer, {
      onNone: () => () => false,
      onSome: ({ certificate }) => Tokens.signedBy(certificate)
    })
    const tokens = answer.path.segments.map(({ token }) => token)
    const verdict = Token.client(tokens, answer.path.index, now, isSigned)
    if (Result.isSuccess(verdict)) return
    yield* Effect.ignore(Peer.close(channel, answer, timeoutMs))
    return yield* new NsmError({
      reason: "Denied",
      message: `the path of the answer proves nothing: ${verdict.failure}`
    })
  })

const failureOf = (result: Exclude<ClientState.Result, { _tag: "Succeeded" }>): NsmError =>
  result._tag === "Failed"
    ? new NsmError({ reason: result.reason, message: result.message })
    : new NsmError({ reason: "Conflict", message: "the connection was closed" })
