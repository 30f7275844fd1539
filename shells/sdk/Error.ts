/** What can go wrong between a client, a manager and an endpoint of Network Service Mesh. */
import { Schema } from "effect"

/**
 * - `Unavailable`: nobody answers at the address; try again later.
 * - `Timeout`: the answer did not come in time; the outcome is unknown.
 * - `NotFound`: the service, an endpoint for it, or the namespace does not exist.
 * - `Denied`: the peer may not do this.
 * - `Conflict`: a name or an object is taken by another owner.
 * - `Invalid`: the request can never succeed as it is.
 * - `Failed`: the other side broke; its message says how.
 */
export const Reason = Schema.Literals(["Unavailable", "Timeout", "NotFound", "Denied", "Conflict", "Invalid", "Failed"])
export type Reason = typeof Reason.Type

/** The failure of an NSM call. The message is for people. */
export class NsmError extends Schema.TaggedError<NsmError>()("NsmError", {
  reason: Reason,
  message: Schema.String
}) {}
