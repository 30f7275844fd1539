/**
 * What follows a standing connection at its manager: the monitor of its endpoint and the watch on its links.
 *
 * A watch lasts as long as what it watches: a refresh that changes neither endpoint nor namespace keeps both.
 */
import type * as CircuitState from "./CircuitState.ts"

type Standing = CircuitState.Standing
type Command = CircuitState.Command

/** Watches what is not watched yet; `call` is the first unused one. Without `before` both watches are new. */
export const watch = (
  record: CircuitState.Record,
  before: Standing | undefined,
  call: number
): readonly [Standing, ReadonlyArray<Command>] => {
  const { cross, target } = record
  const isSameEndpoint = before?.target.name === target.name && before.target.url === target.url
  const isSameLink = before?.cross.client.netns === cross.client.netns && before.cross.alias === cross.alias
  const endpoint = isSameEndpoint ? before.endpointWatch : undefined
  const link = isSameLink ? before.linkWatch : undefined
  const [endpointWatch, next] = endpoint === undefined ? [call, call + 1] : [endpoint, call]
  return [
    { ...record, endpointWatch, linkWatch: link ?? next },
    [
      ...cancels(before, [endpoint, link]),
      ...(endpoint === undefined
        ? [{ _tag: "WatchEndpoint" as const, call: endpointWatch, target, connection: record.answer }]
        : []),
      ...(link === undefined ? [{ _tag: "WatchLink" as const, call: next, cross }] : [])
    ]
  ]
}

/** Ends the watches, except those kept. */
export const cancels = (
  standing: Standing | undefined,
  kept: ReadonlyArray<number | undefined> = []
): ReadonlyArray<Command> =>
  [standing?.endpointWatch, standing?.linkWatch].flatMap((call) =>
    call === undefined || kept.includes(call) ? [] : [{ _tag: "Cancel" as const, call }]
  )

/** The watches of a connection, to be carried on. */
export const of = (standing: Standing | undefined): Pick<Standing, "endpointWatch" | "linkWatch"> => ({
  ...(standing?.endpointWatch === undefined ? {} : { endpointWatch: standing.endpointWatch }),
  ...(standing?.linkWatch === undefined ? {} : { linkWatch: standing.linkWatch })
})
