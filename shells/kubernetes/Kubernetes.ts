/**
 * Follows single objects of the Kubernetes API through its maintained client, which is loaded with the first connection.
 *
 *     watch ─▶ Present (as it is now) ─▶ Present | Deleted ... ─▶ end, Silent or Lost ─▶ 500 ms ─▶ watch ...
 *
 * 1. Only the verb `watch` is needed: each watch starts with the object as it is, so nothing is missed in between.
 * 2. A watch is asked to end after 25 s, and given up when nothing at all comes for 30 s: no dead connection stays.
 * 3. The stream never ends by itself. Source of the verb and the pause: Meridio `pkg/k8s/watcher`.
 */
import { Effect, Queue, Schedule, Schema, Stream } from "effect"
import type { Client } from "./Client.ts"

/** Why the API cannot be used at all. Failures that may pass are `Lost`. */
export class KubernetesError extends Schema.TaggedError<KubernetesError>()("KubernetesError", {
  reason: Schema.Literals(["NoCluster", "Config"]),
  details: Schema.String
}) {
  override get message(): string {
    return this.details
  }
}

/** What is heard of an object. */
export type Change =
  | { readonly _tag: "Present"; readonly object: unknown }
  | { readonly _tag: "Deleted" }
  /** The watch ended well, but without a word: there is probably no such object. */
  | { readonly _tag: "Silent" }
  /** The watch failed; the next one follows. */
  | { readonly _tag: "Lost"; readonly details: string }

/** One object: the path of its kind, for example `/api/v1/namespaces/default/configmaps`, and its name. */
export interface Which {
  readonly path: string
  readonly name: string
}

/** A connection to the API. */
export interface Kubernetes {
  /** The address of the API, for messages. */
  readonly server: string
  readonly follow: (which: Which) => Stream.Stream<Change>
}

/** Where one kind of namespaced core objects lives. */
export const pathOf = (namespace: string, kind: "configmaps" | "secrets"): string =>
  `/api/v1/namespaces/${encodeURIComponent(namespace)}/${kind}`

/** Reads how to reach the API: from KUBECONFIG, `~/.kube/config` or the service account of the pod, in this order. */
export const connect: Effect.Effect<Kubernetes, KubernetesError> = Effect.gen(function*() {
  const { load } = yield* Effect.promise(() => import("./Client.ts"))
  const { server, watch } = yield* Effect.try({
    try: load,
    catch: (cause) =>
      new KubernetesError({
        reason: "Config",
        details: `the Kubernetes configuration cannot be read: ${describe(cause)}`
      })
  })
  if (server === undefined) {
    return yield* new KubernetesError({
      reason: "NoCluster",
      details: "there is no Kubernetes: KUBECONFIG, ~/.kube/config and the pod's service account name no cluster"
    })
  }
  return {
    server,
    follow: (which) => Stream.repeat(once(watch, which), Schedule.spaced(pauseMs))
  }
})

const pauseMs = 500
const watchS = 25

const isStatus = Schema.is(Schema.Struct({ message: Schema.String }))

/** One watch, to its end. */
const once = (watch: Client["watch"], { name, path }: Which): Stream.Stream<Change> =>
  Stream.callback<Change>((queue) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        let isOver = false
        let isSilent = true
        const tell = (change: Change): void => {
          isSilent = false
          Queue.offerUnsafe(queue, change)
        }
        const end = (change: Change | undefined): void => {
          if (isOver) return
          isOver = true
          if (change !== undefined) Queue.offerUnsafe(queue, change)
          Queue.endUnsafe(queue)
        }
        const lost = (cause: unknown): void => end({ _tag: "Lost", details: describe(cause) })
        // An error thrown in here would be swallowed by the client.
        const heard = (type: string, object: unknown): void => {
          if (type === "ADDED" || type === "MODIFIED") tell({ _tag: "Present", object })
          else if (type === "DELETED") tell({ _tag: "Deleted" })
          else if (type === "ERROR") lost(isStatus(object) ? object.message : JSON.stringify(object))
        }
        const finished = (error: unknown): void =>
          error === null || error === undefined ? end(isSilent ? { _tag: "Silent" } : undefined) : lost(error)
        const query = { fieldSelector: `metadata.name=${name}`, timeoutSeconds: watchS }
        const running = watch(path, query, heard, finished)
        running.catch(lost)
        return () => {
          isOver = true
          void running.then((controller) => controller.abort(), () => undefined)
        }
      }),
      (stop) => Effect.sync(stop)
    )
  )

const hasCode = Schema.is(Schema.Struct({ statusCode: Schema.Int }))

/** The message with the code of the answer or what lies behind it: `fetch failed` alone says nothing. */
const describe = (cause: unknown): string => {
  if (!(cause instanceof Error)) return String(cause)
  const status = hasCode(cause) ? `${cause.statusCode} ` : ""
  return `${status}${cause.message}${cause.cause === undefined ? "" : `: ${describe(cause.cause)}`}`
}
