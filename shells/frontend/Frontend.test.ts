import { assert, describe, it } from "@effect/vitest"
import { Effect, SubscriptionRef } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { Metrics } from "../../core/frontend/index.ts"
import * as Health from "../grpc/Health.ts"
import * as Config from "./Config.ts"
import { eventually } from "./Eventually.ts"
import * as Main from "./Main.ts"
import { gatewayConfig, staticConfig } from "./Outside.ts"
import {
  announces,
  announcesNothing,
  attractor,
  birdOf,
  gateway,
  healthy,
  ip,
  learned,
  password,
  routes,
  rules,
  startFrontend,
  startProcess,
  type World,
  world
} from "./World.ts"

const guard6 = "101: from 2000::1 lookup 4097"

/** What stays after the end, so that no egress of a former VIP takes another way: the pod ends later. */
const onlyGuards = (lab: World, family: "-4" | "-6", vips?: ReadonlyArray<string>): void => {
  const wanted = vips ?? [family === "-4" ? "20.0.0.1" : "2000::1"]
  assert.deepStrictEqual(rules(lab.frontend, family), wanted.map((vip) => `101: from ${vip} lookup 4097`))
  assert.strictEqual(routes(lab.frontend, family, 4096), "")
  assert.strictEqual(routes(lab.frontend, family, 4097) === "", wanted.length === 0)
}

describe("The frontend with BIRD and a gateway", { timeout: 120_000 }, () => {
  it.live("announces while the load balancer forwards, guards egress, survives the death of BIRD, leaves only guards", () =>
    Effect.gen(function*() {
      const lab = yield* world()
      const running = yield* startFrontend(lab)

      yield* eventually("the sessions are up", () => running.current().connectivity.connected)
      yield* eventually(
        "registered twice",
        () => lab.registry.filter((line) => line.startsWith("register")).length >= 2
      )
      assert.deepStrictEqual(lab.registry.slice(0, 3), [
        "unregister fe-0 1",
        "register fe-0 1",
        "register fe-0 1"
      ])
      yield* eventually("ready", () => healthy)
      assert.isTrue(yield* announcesNothing(lab), "nothing is announced before the load balancer forwards")
      yield* eventually(
        "default routes are learned",
        () =>
          /default via 169.254.100.150 dev ext-vlan proto bird/.test(routes(lab.frontend, "-4", 4096)) &&
          /default via 100:100::150 dev ext-vlan proto bird/.test(routes(lab.frontend, "-6", 4096))
      )
      assert.match(routes(lab.frontend, "-4", 4097), /blackhole default .*metric 4294967295/)
      assert.match(routes(lab.frontend, "-6", 4097), /blackhole default .*metric 4294967295/)
      assert.deepStrictEqual(rules(lab.frontend, "-4"), [
        "100: from 20.0.0.1 lookup 4096",
        "101: from 20.0.0.1 lookup 4097"
      ])
      assert.deepStrictEqual(rules(lab.frontend, "-6"), [
        "100: from 2000::1 lookup 4096",
        "101: from 2000::1 lookup 4097"
      ])

      yield* SubscriptionRef.set(lab.forwarding, true)
      yield* eventually("the VIPs are announced", () => announces(lab, "20.0.0.1/32", "2000::1/128"))
      yield* SubscriptionRef.set(lab.forwarding, false)
      yield* eventually("the VIPs are withdrawn", () => announcesNothing(lab))
      assert.isTrue(running.current().connectivity.connected, "the sessions stay")
      yield* SubscriptionRef.set(lab.forwarding, true)
      yield* eventually("the VIPs are announced again", () => announces(lab, "20.0.0.1/32", "2000::1/128"))

      const pid = birdOf(lab.settings.birdSocket)
      process.kill(pid, "SIGKILL")
      yield* eventually("the loss is noticed", () => !running.current().connectivity.connected)
      assert.match(routes(lab.frontend, "-4", 4097), /blackhole default/)
      assert.strictEqual(rules(lab.frontend, "-4").length, 2)
      yield* eventually("another BIRD runs", () => {
        const other = birdOf(lab.settings.birdSocket)
        return other !== 0 && other !== pid
      })
      yield* eventually("the VIPs are back", () => announces(lab, "20.0.0.1/32", "2000::1/128"), 40_000)

      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, vips: attractor.vips.slice(0, 1) }])
      yield* eventually(
        "one VIP is gone",
        () => Effect.map(learned(lab), (text) => text.includes("20.0.0.1/32") && !text.includes("2000::1"))
      )
      yield* eventually("only the guard of its egress stays", () => rules(lab.frontend, "-6").join() === guard6)

      yield* Main.drain(running)
      assert.isTrue(yield* announcesNothing(lab))
      assert.strictEqual(lab.registry.at(-1), "unregister fe-0 1")
      assert.strictEqual(birdOf(lab.settings.birdSocket), 0, "BIRD is gone")
      for (const family of ["-4", "-6"] as const) onlyGuards(lab, family)
    }).pipe(Effect.provide(Health.layer)))

  it.live("as a process comes back over what a killed one left, and leaves only guards after a signal", () =>
    Effect.gen(function*() {
      const lab = yield* world()
      yield* SubscriptionRef.set(lab.forwarding, true)
      const first = yield* startProcess(lab, 1)
      yield* eventually("the VIPs are announced", () => announces(lab, "20.0.0.1/32", "2000::1/128"))
      first.child.kill("SIGKILL")
      assert.strictEqual(yield* first.exited, "SIGKILL")
      yield* eventually(
        "BIRD dies with it, and the VIPs are withdrawn",
        () => birdOf(lab.settings.birdSocket) === 0 ? announcesNothing(lab) : false
      )
      assert.match(routes(lab.frontend, "-4", 4097), /blackhole default/)

      // Meanwhile a VIP was removed, so that its rules must go.
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, vips: attractor.vips.slice(1) }])
      const second = yield* startProcess(lab, 2)
      yield* eventually(
        "the remaining VIP is announced, the other not",
        () => Effect.map(learned(lab), (text) => text.includes("2000::1/128") && !text.includes("20.0.0.1"))
      )
      yield* eventually("and its rules are gone", () => rules(lab.frontend, "-4").length === 0)
      assert.strictEqual(routes(lab.frontend, "-4", 4097), "")

      second.child.kill("SIGTERM")
      assert.strictEqual(yield* second.exited, "code 0")
      assert.strictEqual(birdOf(lab.settings.birdSocket), 0)
      assert.strictEqual(lab.registry.at(-1), "unregister fe-0 1")
      onlyGuards(lab, "-4", [])
      onlyGuards(lab, "-6")
    }))

  it.live("takes a static gateway by its BFD session, and loses it with that", () =>
    Effect.gen(function*() {
      const lab = yield* world(staticConfig)
      const fixed = { ...gateway, name: "static-v4", protocol: "static" }
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, gateways: [fixed] }])
      const running = yield* startFrontend(lab)
      yield* eventually("BFD is up", () => running.current().connectivity.connected)
      yield* eventually("the default route", () =>
        /default via 169.254.100.150 dev ext-vlan proto bird/.test(routes(lab.frontend, "-4", 4096)))
      yield* eventually("it is seen", () =>
        Metrics.gatewayRoutes(running.current())[0]?.imported === 1)
      assert.strictEqual(Metrics.gatewayRoutes(running.current())[0]?.protocol, "Static+BFD")
      ip(lab.outside, "address del 169.254.100.150/24 dev ext")
      yield* eventually("BFD is down", () => !running.current().connectivity.connected)
      yield* eventually("no way out", () => routes(lab.frontend, "-4", 4096) === "")
      ip(lab.outside, "address add 169.254.100.150/24 dev ext")
      yield* eventually("BFD is up again", () => running.current().connectivity.connected)
    }).pipe(Effect.provide(Health.layer)))

  it.live("authenticates with a secret that comes later, and hides it", () =>
    Effect.gen(function*() {
      const lab = yield* world(gatewayConfig(`password "${password}";`))
      const guarded = { ...gateway, bgpAuth: { keyName: "gw.key", keySource: "bgp-keys" } }
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, gateways: [guarded] }])
      const running = yield* startFrontend(lab)
      yield* eventually("the missing secret is known", () => running.current().complaints.length === 1)
      assert.include(running.current().complaints[0], "there is no key gw.key in the secret bgp-keys")

      const secret = path.join(lab.folder, "secrets", "bgp-keys")
      fs.mkdirSync(secret, { recursive: true })
      fs.writeFileSync(path.join(secret, "gw.key"), `${password}\n`)
      yield* eventually("the line break is refused", () =>
        running.current().complaints.some((complaint) => complaint.includes("holds a line break")))
      fs.writeFileSync(path.join(secret, "gw.key"), password)
      yield* eventually("the session is up", () =>
        running.current().connectivity.connected)

      const file = Config.birdConfigFile(lab.settings)
      assert.include(fs.readFileSync(file, "utf8"), `password "${password}";`)
      assert.strictEqual(fs.statSync(file).mode & 0o777, 0o600)
      assert.notInclude(JSON.stringify(running.current()), "s3cret")
    }).pipe(Effect.provide(Health.layer)))
})
