/** Carries out what the target registry commands. */
import { Effect } from "effect"
import type { Registry } from "../../core/nsp/index.ts"
import type * as Replies from "../runtime/Replies.ts"
import type * as Store from "./Store.ts"
import type * as Watchers from "./Watchers.ts"

export interface World {
  readonly store: Store.Store
  readonly watchers: Watchers.Watchers
  readonly replies: Replies.Replies<void>
}

export const interpret = ({ replies, store, watchers }: World) => (command: Registry.Command): Effect.Effect<void> => {
  switch (command._tag) {
    case "SaveTarget":
      return Effect.sync(() => {
        store.save(command.target)
        watchers.wake(command.target)
      })
    case "RemoveTarget":
      return Effect.sync(() => {
        store.remove(command.target)
        watchers.wake(command.target)
      })
    case "Reply":
      return Effect.andThen(store.flushed, replies.answer(command.reply, undefined))
  }
}
