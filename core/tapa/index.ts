/** The ambassador of a target: streams, conduits and the one trench, as pure machines. */
export * as Ambassador from "./Ambassador.ts"
export * as Attachment from "./Attachment.ts"
export * as Conduit from "./Conduit.ts"
export * as Connection from "./Connection.ts"
export * as Model from "./Model.ts"
export * as Stream from "./Stream.ts"
