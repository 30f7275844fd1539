/**
 * The API beside the application (`ambassador.v1.Tap`): wishes become events of the machine, a watch is a view of its
 * state. Source: Meridio `api/ambassador/v1/tap.proto`.
 */
import { Effect, Equal, Stream } from "effect"
import { Ambassador, type Model } from "../../core/tapa/index.ts"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as GrpcError from "../grpc/Error.ts"
import type * as Server from "../grpc/Server.ts"
import type * as Replies from "../runtime/Replies.ts"
import type { Running } from "../runtime/Runner.ts"

/** The handlers of the service. */
export const handlers = (
  machine: Running<Ambassador.State, Ambassador.Event>,
  replies: Replies.Replies<Ambassador.Answer>
): Server.Handlers<Tap.TapDefinition, never> => ({
  open: (stream) =>
    Effect.flatMap(
      replies.ask((reply) => machine.send({ _tag: "OpenRequested", reply, stream: requestOf(stream) })),
      respond
    ),
  close: (stream) =>
    Effect.flatMap(
      replies.ask((reply) => machine.send({ _tag: "CloseRequested", reply, stream: requestOf(stream) })),
      respond
    ),
  // The list at once, even if it is empty, then after each change; a slow reader sees only the newest.
  watch: (stream) => {
    const filter = filterOf(stream)
    return machine.changes.pipe(
      Stream.map((state) => Ambassador.statuses(state, filter)),
      Stream.changesWith((a, b) => Equal.equals(a, b)),
      Stream.map((statuses) => ({ streamStatus: statuses.map(toStreamStatus) }))
    )
  }
})

const respond = (answer: Ambassador.Answer): Effect.Effect<object, GrpcError.GrpcError> => {
  switch (answer._tag) {
    case "Ok":
      return Effect.succeed({})
    case "Invalid":
      return Effect.fail(GrpcError.error("InvalidArgument", answer.message))
    case "Conflict":
      return Effect.fail(GrpcError.error("FailedPrecondition", answer.message))
    case "Unavailable":
      return Effect.fail(GrpcError.error("Unavailable", answer.message))
  }
}

const requestOf = ({ conduit, name }: Tap.Stream): Model.Request => ({
  stream: name,
  ...(conduit === undefined ? {} : { conduit: conduit.name }),
  ...(conduit?.trench === undefined ? {} : { trench: conduit.trench.name })
})

const filterOf = ({ conduit, name }: Tap.Stream): Model.Filter => ({
  stream: name,
  conduit: conduit?.name ?? "",
  trench: conduit?.trench?.name ?? ""
})

const statuses = {
  Open: Tap.StreamStatus_Status.OPEN,
  Pending: Tap.StreamStatus_Status.PENDING,
  Unavailable: Tap.StreamStatus_Status.UNAVAILABLE,
  Undefined: Tap.StreamStatus_Status.UNDEFINED
} as const

const toStreamStatus = ({ at, status }: Model.StreamStatus): Tap.StreamStatus => ({
  status: statuses[status],
  stream: { name: at.stream, conduit: { name: at.conduit, trench: { name: at.trench } } }
})
