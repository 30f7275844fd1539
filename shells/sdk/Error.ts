/** What can go wrong between a client, a manager and an endpoint of Network Service Mesh. */
import { Schema } from "effect"
import * as Model from "../../core/nsm/Model.ts"

/** The failure of an NSM call; the reasons are explained at `Model.Reason`, the message is for people. */
export class NsmError extends Schema.TaggedError<NsmError>()("NsmError", {
  reason: Model.Reason,
  message: Schema.String
}) {}
