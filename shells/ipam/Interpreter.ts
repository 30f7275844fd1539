/** Carries out the commands of the IPAM. */
import { Effect } from "effect"
import type { Ipam, Model } from "../../core/ipam/index.ts"
import type { Replies } from "../runtime/Replies.ts"
import type { Perform } from "../runtime/Runner.ts"
import type { Sqlite } from "../storage/Sqlite.ts"
import * as Store from "./Store.ts"

export const make = (replies: Replies<Model.Answer>): Perform<Ipam.Event, Ipam.Command, Sqlite> => (command, send) => {
  switch (command._tag) {
    case "Persist":
      return Effect.matchEffect(Store.persist(command.changes), {
        onSuccess: () => Effect.sync(() => send({ _tag: "PersistSucceeded", call: command.call })),
        onFailure: ({ message }) =>
          Effect.andThen(
            Effect.logError("Leases cannot be stored; requests are refused until they can", { reason: message }),
            Effect.sync(() => send({ _tag: "PersistFailed", call: command.call, reason: message }))
          )
      })
    case "Reply":
      return replies.answer(command.reply, command.answer)
  }
}
