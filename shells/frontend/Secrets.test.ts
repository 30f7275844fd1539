import { assert, describe, it } from "@effect/vitest"
import { Effect, SubscriptionRef } from "effect"
import * as ApiServer from "../../property-tests/fixtures/ApiServer.ts"
import * as Health from "../grpc/Health.ts"
import { pathOf } from "../kubernetes/Kubernetes.ts"
import { eventually } from "./Eventually.ts"
import { gatewayConfig } from "./Outside.ts"
import { attractor, gateway, password, startFrontend, world } from "./World.ts"

/** Kubernetes as the process finds it. */
const cluster = Effect.gen(function*() {
  const api = yield* ApiServer.start(pathOf("red", "secrets"))
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const before = process.env["KUBECONFIG"]
      process.env["KUBECONFIG"] = api.kubeconfig
      return before
    }),
    (before) =>
      Effect.sync(() => {
        if (before === undefined) delete process.env["KUBECONFIG"]
        else process.env["KUBECONFIG"] = before
      })
  )
  return api
})

const secret = (text: string): ApiServer.Thing => ({
  metadata: { name: "bgp-keys" },
  data: { "gw.key": Buffer.from(text, "latin1").toString("base64") }
})

describe("Secrets of Kubernetes", { timeout: 120_000 }, () => {
  it.live("authenticate a gateway, and it leaves with them", () =>
    Effect.gen(function*() {
      const api = yield* cluster
      const lab = yield* world(gatewayConfig(`password "${password}";`), {
        env: { NFE_SECRETS_PATH: "", NFE_NAMESPACE: "red" }
      })
      const guarded = { ...gateway, bgpAuth: { keyName: "gw.key", keySource: "bgp-keys" } }
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, gateways: [guarded] }])
      const running = yield* startFrontend(lab)
      yield* eventually("the missing secret is known", () => running.current().complaints.length === 1)
      yield* api.put(secret(`${password}\n`))
      yield* eventually(
        "the line break is refused",
        () => running.current().complaints.some((complaint) => complaint.includes("holds a line break"))
      )
      yield* api.put(secret(password))
      yield* eventually("the session is up", () => running.current().connectivity.connected)
      assert.deepStrictEqual(running.current().complaints, [])

      // A watch that ends is no news.
      yield* api.end("cut")
      yield* eventually("it is watched again", () => Effect.map(api.watching, (count) => count === 1))
      assert.isTrue(running.current().connectivity.connected)

      yield* api.remove("bgp-keys")
      yield* eventually("the session is down", () => !running.current().connectivity.connected)
      assert.include(running.current().complaints[0], "there is no key gw.key in the secret bgp-keys")
      yield* api.put(secret(password))
      yield* eventually("the session is back", () => running.current().connectivity.connected)
      assert.notInclude(JSON.stringify(running.current()), "s3cret")
    }).pipe(Effect.provide(Health.layer)))
})
