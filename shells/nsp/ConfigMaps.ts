/**
 * Follows the ConfigMap that Meridio's operator keeps for a trench (`meridio-configuration-<trench>`).
 *
 *     present ─▶ parse ─▶ judge ─▶ in force       deleted, lost, bad: the last good one stays in force
 */
import { Effect, Result, Schema, Stream } from "effect"
import type { Scope } from "effect"
import { ConfigMap, type Model } from "../../core/config/index.ts"
import * as Kubernetes from "../kubernetes/Kubernetes.ts"
import * as Supervision from "../runtime/Supervision.ts"
import * as InForce from "./InForce.ts"
import * as Yaml from "./Yaml.ts"

export interface Options extends InForce.Wanted {
  /** The ConfigMap, in the namespace of the trench. */
  readonly name: string
}

/** Follows the ConfigMap for the life of the scope. The stream starts with the first good configuration. */
export const follow = (
  kubernetes: Kubernetes.Kubernetes,
  options: Options
): Effect.Effect<Stream.Stream<Model.Configuration>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { name, namespace } = options
    const where = { configMap: `${namespace}/${name}`, server: kubernetes.server }
    const inForce = yield* InForce.make(where)
    let lastObject: string | undefined
    let lastTrouble: string | undefined
    const warn = (text: string) => {
      if (text === lastTrouble) return Effect.void
      lastTrouble = text
      return Effect.logWarning(text, where)
    }
    const hear = (change: Kubernetes.Change): Effect.Effect<void> => {
      switch (change._tag) {
        case "Present": {
          lastTrouble = undefined
          // Each new watch begins with what is known already.
          const object = JSON.stringify(dataOf(change.object))
          if (object === lastObject) return Effect.void
          lastObject = object
          return inForce.offer(judge(change.object, options))
        }
        case "Deleted":
          lastObject = undefined
          return warn("The ConfigMap has been deleted; what is in force stays in force")
        case "Silent":
          return warn(
            "Nothing is heard of the ConfigMap; is there one of that name? (NSP_CONFIG_MAP_NAME, NSP_NAMESPACE)"
          )
        case "Lost":
          return warn(`The ConfigMap cannot be watched, trying again: ${change.details}`)
      }
    }
    const which = { path: Kubernetes.pathOf(namespace, "configmaps"), name }
    yield* Supervision.fork("nsp-configmap", Stream.runForEach(kubernetes.follow(which), hear))
    return inForce.changes
  })

const Data = Schema.Struct({ data: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)) })
const decode = Schema.decodeUnknownResult(Data)

const dataOf = (object: unknown): unknown =>
  Result.match(decode(object), { onFailure: () => object, onSuccess: ({ data }) => data })

const judge = (object: unknown, { name, namespace, trench }: Options): InForce.Judged => {
  const decoded = decode(object)
  if (Result.isFailure(decoded)) return Result.fail([`it is no ConfigMap: ${decoded.failure.message}`])
  const { data = {} } = decoded.success
  const documents = ConfigMap.keys.map((key) => ({ key, document: Yaml.sources(`data.${key}`, data[key] ?? "") }))
  const unreadable = documents.flatMap(({ document }) => "problem" in document ? [document.problem] : [])
  if (unreadable.length > 0) return Result.fail(unreadable)
  const values = Object.fromEntries(
    documents.map(({ document, key }) => [key, "value" in document ? document.value : null])
  )
  return InForce.pick(ConfigMap.read({ namespace, name }, values), { trench, namespace })
}
