/**
 * How a connection walks along its path: each hop appends or finds its segment, and gives the caller its view back.
 *
 * 1. A hop that sees the same path again takes the same id.
 * 2. Segments before the hop are never changed, except that the caller's token is noted in the caller's segment.
 * 3. `enter` then `giveBack` restores the caller's id and index.
 *
 * Source: sdk, `pkg/networkservice/common/updatepath`; the rule numbers are those of its table of cases.
 */
import { Result } from "effect"
import type { Millis } from "../Machine.ts"
import type * as Model from "./Model.ts"

/** Who is entering: its name, and an id to take if it has none yet. */
export interface Hop {
  readonly name: string
  readonly freshId: string
}

/** The connection as this hop sees it; the failure tells a malformed path. */
export const enter = (hop: Hop, connection: Model.Connection): Result.Result<Model.Connection, string> => {
  const { path } = connection
  const own = path.segments[path.index]
  if (path.segments.length === 0) { // 1
    return Result.succeed(at(connection, 0, [segment(hop.name, connection.id === "" ? hop.freshId : connection.id)]))
  }
  if (own === undefined) { // 4
    return Result.fail(`path index ${path.index} is outside the ${path.segments.length} segments of the path`)
  }
  if (own.name === hop.name) return Result.succeed(at(connection, path.index, path.segments)) // 2
  if (own.id !== connection.id) { // 3
    return Result.fail(`connection id "${connection.id}" is not the id "${own.id}" of path segment ${path.index}`)
  }
  const next = path.segments[path.index + 1]
  if (next?.name === hop.name) return Result.succeed(at(connection, path.index + 1, path.segments)) // 7
  return Result.succeed(at( // 5, 6
    connection,
    path.index + 1,
    path.segments.toSpliced(path.index + 1, 1, {
      ...(next ?? segment(hop.name, hop.freshId)),
      name: hop.name,
      id: hop.freshId
    })
  ))
}

/** The answer as the caller sees it: the caller's id and index. */
export const giveBack = (caller: Model.Connection, answer: Model.Connection): Model.Connection => ({
  ...answer,
  id: caller.id,
  path: { ...answer.path, index: caller.path.index }
})

/** The connection as the next hop sees it, which gets this name and id and keeps what its segment says otherwise. */
export const onward = (
  next: Pick<Model.PathSegment, "name" | "id">,
  connection: Model.Connection
): Model.Connection => {
  const index = connection.path.index + 1
  const before = connection.path.segments[index]
  const own = before?.name === next.name ? { ...before, id: next.id } : segment(next.name, next.id)
  return at(connection, index, connection.path.segments.toSpliced(index, 1, own))
}

/** The connection as the hop before sees it. */
export const toCaller = (connection: Model.Connection): Model.Connection =>
  at(connection, Math.max(0, connection.path.index - 1), connection.path.segments)

/** Cuts what an earlier, longer way left behind this hop. */
export const trim = (connection: Model.Connection): Model.Connection => ({
  ...connection,
  path: { ...connection.path, segments: connection.path.segments.slice(0, connection.path.index + 1) }
})

/** Gives this hop another id, for example the one under which it already knows the client. */
export const rename = (id: string, connection: Model.Connection): Model.Connection =>
  change(connection, connection.path.index, { id })

/** What a hop shows of itself. */
export interface Proof {
  readonly token: string
  readonly expiresAt: Millis
  readonly identity?: string
}

/** Notes the token of the segment at `index`; the time always belongs to the token. */
export const sign = (connection: Model.Connection, index: number, proof: Proof): Model.Connection =>
  change(connection, index, proof)

/** How long the segment at `index` can be counted on, where no token of an identity says it. */
export const last = (connection: Model.Connection, index: number, expiresAt: Millis): Model.Connection =>
  connection.path.segments[index]?.identity === undefined ? change(connection, index, { expiresAt }) : connection

/** The connection without what anybody proved: in plain text nothing is believed, and nothing expires by a token. */
export const unsigned = (connection: Model.Connection): Model.Connection =>
  connection.path.segments.every(isUnsigned) ? connection : {
    ...connection,
    path: {
      ...connection.path,
      segments: connection.path.segments.map((segment) =>
        isUnsigned(segment) ? segment : { name: segment.name, id: segment.id, token: "", metrics: segment.metrics }
      )
    }
  }

const isUnsigned = ({ identity, token }: Model.PathSegment): boolean => identity === undefined && token === ""

/**
 * When a server ends a connection that is not refreshed: a request timeout before the caller's token expires, or half
 * of what is left if that is later. Upstream takes what is left of the deadline of the request. Ours: a token counts for
 * the lifetime of our own at most, so that no caller can make a connection immortal.
 */
export const deadline = (
  { path }: Model.Connection,
  settings: { readonly requestTimeoutMs: number; readonly maxTokenLifetimeMs: number },
  now: Millis
): Millis => {
  const latest = now + settings.maxTokenLifetimeMs
  const expiresAt = Math.min(path.segments[path.index - 1]?.expiresAt ?? latest, latest)
  return Math.max(expiresAt - settings.requestTimeoutMs, now + Math.max(1, Math.floor((expiresAt - now) / 2)))
}

const segment = (name: string, id: string): Model.PathSegment => ({ name, id, token: "", metrics: {} })

const at = (
  connection: Model.Connection,
  index: number,
  segments: ReadonlyArray<Model.PathSegment>
): Model.Connection => ({ ...connection, id: segments[index]?.id ?? connection.id, path: { index, segments } })

const change = (
  connection: Model.Connection,
  index: number,
  part: Partial<Model.PathSegment>
): Model.Connection =>
  at(
    connection,
    connection.path.index,
    connection.path.segments.map((segment, i) => i === index ? { ...segment, ...part } : segment)
  )
