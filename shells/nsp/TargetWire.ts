/** Targets on the wire (`nsp.v1.Target`) and back. Source: Meridio `api/nsp/v1/targetregistry.proto`. */
import { Result, Schema } from "effect"
import { Target } from "../../core/config/index.ts"
import { Registry } from "../../core/nsp/index.ts"
import * as Message from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as Wire from "./Wire.ts"

const statuses = { [Message.Target_Status.ENABLED]: "enabled", [Message.Target_Status.DISABLED]: "disabled" } as const
const kinds = { [Message.Target_Type.DEFAULT]: "default", [Message.Target_Type.FRONTEND]: "frontend" } as const

const decodeTarget = Schema.decodeUnknownResult(Target.Target, { errors: "all", reportInput: true })
const decodeFilter = Schema.decodeUnknownResult(Registry.Filter, { errors: "all", reportInput: true })

const names = ({ stream }: Message.Target) => ({
  trench: stream?.conduit?.trench?.name ?? "",
  conduit: stream?.conduit?.name ?? "",
  stream: stream?.name ?? ""
})

const statusOf = (status: number): unknown =>
  Object.entries(statuses).find(([n]) => Number(n) === status)?.[1] ?? status
const kindOf = (type: number): unknown => Object.entries(kinds).find(([n]) => Number(n) === type)?.[1] ?? type

const oneLine = ({ message }: Schema.SchemaError): string => message.replaceAll(/\s*\n\s*/g, ", ")

/** A target to be registered; a stream without any name counts as none, one with some of its names is refused. */
export const target = (message: Message.Target): Result.Result<Target.Target, string> => {
  const key = names(message)
  const hasStream = key.trench !== "" || key.conduit !== "" || key.stream !== ""
  return Result.mapError(
    decodeTarget({
      kind: kindOf(message.type),
      ...(hasStream ? { stream: key } : {}),
      ips: message.ips,
      context: message.context,
      status: statusOf(message.status)
    }),
    (error) => `the target cannot be used: ${oneLine(error)}`
  )
}

/** A target to be unregistered: its status means nothing. */
export const leaver = (message: Message.Target): Result.Result<Target.Target, string> =>
  target({ ...message, status: Message.Target_Status.DISABLED })

/** All targets of a response; what does not fit is left out with a sentence. */
export const targets = (messages: ReadonlyArray<Message.Target>): Wire.Decoded<Target.Target> => {
  const results = messages.map(target)
  return {
    values: results.flatMap((result) => (Result.isSuccess(result) ? [result.success] : [])),
    rejected: results.flatMap((result) => (Result.isFailure(result) ? [result.failure] : []))
  }
}

/** The filter of a watch: an absent stream is any stream, an empty name any name. */
export const filter = (message: Message.Target): Result.Result<Registry.Filter, string> =>
  Result.mapError(
    decodeFilter({
      kind: kindOf(message.type),
      status: message.status === Message.Target_Status.ANY ? "any" : statusOf(message.status),
      ...(message.stream === undefined ? {} : { stream: names(message) })
    }),
    (error) => `the filter cannot be used: ${oneLine(error)}`
  )

/** A target as its owner registers it. */
export const toTarget = ({ context, ips, kind, status, stream }: Target.Target): Message.Target => ({
  ips,
  context,
  status: status === "enabled" ? Message.Target_Status.ENABLED : Message.Target_Status.DISABLED,
  type: kind === "frontend" ? Message.Target_Type.FRONTEND : Message.Target_Type.DEFAULT,
  stream: stream === undefined ? undefined : Wire.toStreamKey(stream)
})

/** A filter as watchers send it. */
export const toFilter = ({ kind, status, stream }: Registry.Filter): Message.Target => ({
  ips: [],
  context: {},
  status: status === "any"
    ? Message.Target_Status.ANY
    : status === "enabled"
    ? Message.Target_Status.ENABLED
    : Message.Target_Status.DISABLED,
  type: kind === "frontend" ? Message.Target_Type.FRONTEND : Message.Target_Type.DEFAULT,
  stream: stream === undefined ? undefined : Wire.toStreamKey(stream)
})
