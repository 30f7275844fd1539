/** What interpreters make of the end of an action. */
import { Effect } from "effect"

/** Hands the outcome on, as an event; a failure is logged: `Could not <action>`. */
export const tell = <A>(
  action: string,
  effect: Effect.Effect<A, { readonly message: string }>,
  on: { readonly onSuccess: (value: A) => void; readonly onFailure: (reason: string) => void }
): Effect.Effect<void> =>
  Effect.matchEffect(effect, {
    onSuccess: (value) => Effect.sync(() => on.onSuccess(value)),
    onFailure: ({ message }) =>
      Effect.andThen(
        Effect.logWarning(`Could not ${action}`, { error: message }),
        Effect.sync(() => on.onFailure(message))
      )
  })
