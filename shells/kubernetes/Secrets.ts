/** The data of Kubernetes Secrets, followed. Needs the verb `watch` on secrets of the namespace, as Meridio's frontend. */
import { Effect, Result, Schema, Stream } from "effect"
import type * as Kubernetes from "./Kubernetes.ts"
import { pathOf } from "./Kubernetes.ts"

/** Key to bytes, one per character; undefined when there is no such Secret. */
export type Data = ReadonlyMap<string, string> | undefined

const decode = Schema.decodeUnknownResult(
  Schema.Struct({ data: Schema.optionalKey(Schema.NullOr(Schema.Record(Schema.String, Schema.String))) })
)

/**
 * The data of a Secret now and after each change. A failed watch changes nothing; two watches in a row that end without
 * a word mean that the Secret has gone while nobody looked.
 */
export const follow = (kubernetes: Kubernetes.Kubernetes, namespace: string, name: string): Stream.Stream<Data> =>
  Stream.suspend(() => {
    let silent = 0
    let lost = ""
    return kubernetes.follow({ path: pathOf(namespace, "secrets"), name }).pipe(
      Stream.mapEffect((change): Effect.Effect<ReadonlyArray<Data>> => {
        switch (change._tag) {
          case "Present":
            silent = 0
            lost = ""
            return Effect.succeed([dataOf(change.object)])
          case "Deleted":
            return Effect.succeed([undefined])
          case "Silent":
            silent += 1
            return Effect.succeed(silent === 2 ? [undefined] : [])
          case "Lost": {
            const isNews = lost !== change.details
            lost = change.details
            return Effect.as(
              isNews
                ? Effect.logWarning(`The Secret ${namespace}/${name} cannot be watched, trying again`, change.details)
                : Effect.void,
              []
            )
          }
        }
      }),
      Stream.flatMap((data) => Stream.fromIterable(data))
    )
  })

const dataOf = (object: unknown): Data => {
  const { data } = Result.getOrElse(decode(object), () => ({ data: undefined }))
  return new Map(
    Object.entries(data ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, text]) => [key, Buffer.from(text, "base64").toString("latin1")])
  )
}
