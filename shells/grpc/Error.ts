/** The one error of the gRPC world, on both sides of the wire, and its translation for machines. */
import { Schema } from "effect"

/** Status codes of gRPC, as numbers on the wire. OK (0) is not an error. */
export const Code = {
  Cancelled: 1,
  Unknown: 2,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  OutOfRange: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  DataLoss: 15,
  Unauthenticated: 16
} as const
export type Code = (typeof Code)[keyof typeof Code]

/**
 * A call failed. Handlers fail with it to choose a status; clients fail with what the server or the channel said.
 * `details` is text for people: programs decide by `code`.
 */
export class GrpcError extends Schema.TaggedError<GrpcError>()("GrpcError", {
  code: Schema.Int,
  details: Schema.String
}) {
  override get message(): string {
    return `${name(this.code)}: ${this.details}`
  }
}

/** The error with the code of that name: `fail("NotFound", "no such trench")`. */
export const error = (code: keyof typeof Code, details: string): GrpcError =>
  new GrpcError({ code: Code[code], details })

/** The upper-case name of a code, for example `NOT_FOUND`; `CODE_42` if nobody defined it. */
export const name = (code: number): string => {
  const found = Object.entries(Code).find(([, value]) => value === code)
  return found === undefined ? `CODE_${code}` : found[0].replaceAll(/(?<=.)[A-Z]/g, (c) => `_${c}`).toUpperCase()
}

/** Why an action failed, as small as a machine needs it. */
export const Reason = Schema.TaggedUnion({
  /** Nobody there, or shutting down: try again later. */
  Unavailable: { details: Schema.String },
  /** Not allowed: trying again does not help. */
  Denied: { details: Schema.String },
  NotFound: { details: Schema.String },
  /** No answer in time, or the call was cancelled. */
  Timeout: { details: Schema.String },
  /** The request does not fit the state of the server. */
  Conflict: { details: Schema.String },
  /** Everything else, among it each plain error of the Go originals, which is UNKNOWN. */
  Other: { details: Schema.String }
})
export type Reason = typeof Reason.Type

/** The reason for an outcome event such as `RegisterFailed { call, reason }`. */
export const reason = ({ code, details }: GrpcError): Reason => {
  switch (code) {
    case Code.Unavailable:
      return { _tag: "Unavailable", details }
    case Code.PermissionDenied:
    case Code.Unauthenticated:
      return { _tag: "Denied", details }
    case Code.NotFound:
      return { _tag: "NotFound", details }
    case Code.DeadlineExceeded:
    case Code.Cancelled:
      return { _tag: "Timeout", details }
    case Code.AlreadyExists:
    case Code.FailedPrecondition:
    case Code.Aborted:
      return { _tag: "Conflict", details }
    default:
      return { _tag: "Other", details }
  }
}

/** Anything that grpc-js throws or emits as the one error. */
export const fromUnknown = (cause: unknown): GrpcError => {
  if (cause instanceof GrpcError) return cause
  const found = ServiceError(cause)
  if (found !== undefined) return new GrpcError(found)
  return error("Unknown", cause instanceof globalThis.Error ? cause.message : String(cause))
}

const isServiceError = Schema.is(Schema.Struct({ code: Schema.Int, details: Schema.String }))

const ServiceError = (cause: unknown) =>
  isServiceError(cause) ? { code: cause.code, details: cause.details } : undefined
