/**
 * The entries of the target registry: application targets of a stream and, as a signal inside one pod, frontends with
 * external connectivity. Source: `nsp.v1.Target`; Meridio `pkg/ambassador/tap/stream`, `cmd/frontend`.
 */
import { Schema } from "effect"
import { StreamKey } from "./Model.ts"

/** Whether load balancers may use the target. An application target is `disabled` until its identifier is agreed. */
export const Status = Schema.Literals(["enabled", "disabled"])
export type Status = typeof Status.Type

/** `default` is an application target, `frontend` says that a frontend is connected to a gateway. */
export const Kind = Schema.Literals(["default", "frontend"])
export type Kind = typeof Kind.Type

/** One registered target. */
export const Target = Schema.Struct({
  kind: Kind,
  /** Absent for frontends. */
  stream: Schema.optionalKey(StreamKey),
  /** `address/length` texts of an application target; the host name of a frontend. Their order carries no meaning. */
  ips: Schema.Array(Schema.String),
  /** Carries `identifier`: a number from 1 to `maxTargets`, or the host name of a frontend. */
  context: Schema.Record(Schema.String, Schema.String),
  status: Status
})
export type Target = typeof Target.Type

/** The identifier of an application target; undefined when it has none or it is not a positive decimal number. */
export const identifier = (target: Target): number | undefined => {
  const text = target.context["identifier"]
  return text !== undefined && /^[1-9]\d{0,9}$/.test(text) ? Number(text) : undefined
}

/** Whether two targets have the same addresses, in whatever order. */
export const sameIps = (a: ReadonlyArray<string>, b: ReadonlyArray<string>): boolean => {
  // As a rule they come in the same order.
  if (a.length === b.length && a.every((ip, i) => ip === b[i])) return true
  const left = new Set(a)
  const right = new Set(b)
  return left.size === right.size && a.every((ip) => right.has(ip))
}
