import { assert, describe, it } from "@effect/vitest"
import { Effect, Queue, Stream } from "effect"
import * as ApiServer from "../../property-tests/fixtures/ApiServer.ts"
import * as Kubernetes from "./Kubernetes.ts"

const path = Kubernetes.pathOf("red", "configmaps")
const thing = (value: string, name = "x"): ApiServer.Thing => ({ metadata: { name }, data: { value } })

/** Runs with other variables of the environment, which the client reads by itself. */
const withEnvironment = <A, E, R>(
  variables: { readonly [name: string]: string | undefined },
  effect: Effect.Effect<A, E, R>
) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const before = Object.fromEntries(Object.keys(variables).map((name) => [name, process.env[name]]))
      assign(variables)
      return before
    }),
    () => effect,
    (before) => Effect.sync(() => assign(before))
  )

const assign = (variables: { readonly [name: string]: string | undefined }): void => {
  for (const [name, value] of Object.entries(variables)) {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
}

/** A server, and what a follower of the object `x` hears, one by one. */
const following = Effect.gen(function*() {
  const api = yield* ApiServer.start(path)
  const kubernetes = yield* withEnvironment({ KUBECONFIG: api.kubeconfig }, Kubernetes.connect)
  const heard = yield* Queue.unbounded<Kubernetes.Change>()
  yield* Effect.forkScoped(
    Stream.runForEach(kubernetes.follow({ path, name: "x" }), (change) => Queue.offer(heard, change))
  )
  const next = Effect.timeout(Queue.take(heard), "5 seconds")
  const watched = Effect.timeout(Queue.take(api.asked), "5 seconds")
  return { api, next, watched, heard }
})

describe("Kubernetes", () => {
  it.live("asks for a watch of the one object, as who the kubeconfig says", () =>
    Effect.gen(function*() {
      const { watched } = yield* following
      const { authorization, url } = yield* watched
      assert.strictEqual(authorization, "Bearer let-me-in")
      assert.strictEqual(url.pathname, "/api/v1/namespaces/red/configmaps")
      assert.deepStrictEqual(Object.fromEntries(url.searchParams), {
        watch: "true",
        fieldSelector: "metadata.name=x",
        timeoutSeconds: "25"
      })
    }))

  it.live("tells of the object as it is, of each change, and of its end", () =>
    Effect.gen(function*() {
      const { api, heard, next, watched } = yield* following
      yield* watched
      yield* api.put(thing("other", "y"))
      yield* api.put(thing("1"))
      assert.deepStrictEqual(yield* next, { _tag: "Present", object: thing("1") })
      yield* api.put(thing("2"))
      assert.deepStrictEqual(yield* next, { _tag: "Present", object: thing("2") })
      yield* api.say(JSON.stringify({ type: "BOOKMARK", object: { metadata: { resourceVersion: "9" } } }))
      yield* api.say("no JSON")
      yield* api.remove("x")
      assert.deepStrictEqual(yield* next, { _tag: "Deleted" })
      assert.strictEqual(yield* Queue.size(heard), 0)
    }))

  it.live("watches again half a second after a watch has ended, and hears what it missed", () =>
    Effect.gen(function*() {
      const { api, next, watched } = yield* following
      yield* watched
      yield* api.put(thing("1"))
      yield* next
      const endedAt = performance.now()
      yield* api.end("well")
      yield* api.put(thing("2"))
      yield* watched
      assert.isAtLeast(performance.now() - endedAt, 490)
      assert.deepStrictEqual(yield* next, { _tag: "Present", object: thing("2") })
    }))

  it.live("says that a watch ended without a word, as it does when there is no such object", () =>
    Effect.gen(function*() {
      const { api, next, watched } = yield* following
      yield* watched
      yield* api.end("well")
      assert.deepStrictEqual(yield* next, { _tag: "Silent" })
    }))

  it.live("says why a watch failed and tries again", () =>
    Effect.gen(function*() {
      const { api, next, watched } = yield* following
      yield* watched
      yield* api.answer(403)
      yield* api.say(JSON.stringify({ type: "ERROR", object: { code: 410, message: "too old resource version" } }))
      assert.deepStrictEqual(yield* next, { _tag: "Lost", details: "too old resource version" })
      assert.deepStrictEqual(yield* next, { _tag: "Lost", details: "403 Forbidden" })
      yield* api.answer(200)
      yield* api.put(thing("1"))
      let change = yield* next
      while (change._tag === "Lost") change = yield* next
      assert.deepStrictEqual(change, { _tag: "Present", object: thing("1") })
      yield* api.end("cut")
      assert.strictEqual((yield* next)._tag, "Lost")
      assert.deepStrictEqual(yield* next, { _tag: "Present", object: thing("1") })
    }))

  it.live("closes the connection when nobody listens any more", () =>
    Effect.gen(function*() {
      const api = yield* ApiServer.start(path)
      yield* api.put(thing("1"))
      const kubernetes = yield* withEnvironment({ KUBECONFIG: api.kubeconfig }, Kubernetes.connect)
      yield* Stream.runDrain(Stream.take(kubernetes.follow({ path, name: "x" }), 1))
      yield* Effect.timeout(Effect.repeat(api.watching, { until: (count) => count === 0 }), "5 seconds")
    }))

  it.live("says what is missing where there is no cluster, and what is wrong with a bad kubeconfig", () =>
    Effect.gen(function*() {
      const nowhere = { KUBECONFIG: undefined, HOME: "/nonexistent", KUBERNETES_SERVICE_HOST: undefined }
      const none = yield* Effect.flip(withEnvironment(nowhere, Kubernetes.connect))
      assert.strictEqual(none.reason, "NoCluster")
      assert.match(none.message, /KUBECONFIG/)
      const bad = yield* Effect.flip(withEnvironment({ KUBECONFIG: "/nonexistent/config" }, Kubernetes.connect))
      assert.strictEqual(bad.reason, "Config")
      assert.match(bad.message, /\/nonexistent\/config/)
    }))
})
