import { assert, describe, it } from "@effect/vitest"
import { Effect, SubscriptionRef } from "effect"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import * as Bird from "../bird/Bird.ts"
import * as Health from "../grpc/Health.ts"
import * as Namespace from "../netlink/Namespace.ts"
import { eventually } from "./Eventually.ts"
import { frr, frrConfig, frrStatic, gatewayConfig, secondConfig } from "./Outside.ts"
import { announces, attractor, gateway, ip, routes, rules, startFrontend, type World, world } from "./World.ts"

const default4 = /default via 169\.254\.100\.150 dev ext-vlan proto bird/
const default6 = /default via 100:100::150 dev ext-vlan proto bird/

const learnsDefaults = (lab: World) =>
  eventually(
    "default routes",
    () => default4.test(routes(lab.frontend, "-4", 4096)) && default6.test(routes(lab.frontend, "-6", 4096))
  )

const says = <E>(answer: Effect.Effect<string, E>, pattern: RegExp) =>
  Effect.match(answer, { onSuccess: (text) => pattern.test(text), onFailure: () => false })

/** Only BFD notices a loss within the test: the hold time is 24 s. */
const bfdWatchesBoth = ({ current }: Effect.Success<ReturnType<typeof startFrontend>>) =>
  eventually(
    "BFD watches both",
    () => current().monitor.sessions.filter(({ state }) => state === "Up").length === 2
  )

/** Whether a ping from the address gets an answer. */
const reaches = (namespace: string, from: string, to: string): boolean => {
  try {
    const ping = ["ping", "-c", "1", "-W", "1", "-q", "-I", from, to]
    execFileSync("nsenter", [`--net=${namespace}`, ...ping], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

describe("The frontend and FRR as its gateway", { timeout: 120_000 }, () => {
  it.live("speak BGP with a password and BFD in both families", () =>
    Effect.gen(function*() {
      const lab = yield* world("")
      const folder = path.join(lab.folder, "secrets", "bgp-keys")
      fs.mkdirSync(folder, { recursive: true })
      fs.writeFileSync(path.join(folder, "gw.key"), "s3cret-4")
      const vtysh = yield* frr(
        lab.outside,
        path.join(lab.folder, "frr"),
        frrConfig([" neighbor 169.254.100.1 password s3cret-4"], true),
        10_179
      )
      const [gateway4 = gateway, gateway6 = gateway] = attractor.gateways
      const guarded = { ...gateway4, bgpAuth: { keyName: "gw.key", keySource: "bgp-keys" } }
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, gateways: [guarded, gateway6] }])
      yield* SubscriptionRef.set(lab.forwarding, true)
      const running = yield* startFrontend(lab)
      yield* eventually("the sessions are up", () => running.current().connectivity.connected)
      yield* learnsDefaults(lab)
      yield* eventually("FRR has the IPv4 VIP", () => says(vtysh("show ip route bgp"), /20\.0\.0\.1\/32/))
      yield* eventually("FRR has the IPv6 VIP", () => says(vtysh("show ipv6 route bgp"), /2000::1\/128/))
      yield* eventually("BFD is up", () => says(vtysh("show bfd peers json"), /"status":"up"[^]*"status":"up"/))

      yield* bfdWatchesBoth(running)
      // With a hold time of 24 s only BFD can notice this soon.
      ip(lab.outside, "address del 169.254.100.150/24 dev ext")
      yield* eventually("the loss is noticed", () => running.current().connectivity.v4 === "Down", 8000)
      assert.strictEqual(routes(lab.frontend, "-4", 4096), "")
      ip(lab.outside, "address add 169.254.100.150/24 dev ext")
      yield* eventually("the session is back", () => running.current().connectivity.connected, 60_000)

      fs.writeFileSync(path.join(folder, "gw.key"), "another")
      yield* eventually("another password ends the session", () => !running.current().connectivity.connected, 60_000)
    }).pipe(Effect.provide(Health.layer)))

  it.live("meet when only FRR connects", () =>
    Effect.gen(function*() {
      const lab = yield* world("")
      yield* frr(lab.outside, path.join(lab.folder, "frr"), frrConfig([], false), 0)
      yield* SubscriptionRef.set(lab.forwarding, true)
      const running = yield* startFrontend(lab)
      yield* eventually("the sessions are up", () => running.current().connectivity.connected, 60_000)
      yield* learnsDefaults(lab)
    }).pipe(Effect.provide(Health.layer)))

  it.live("need only BFD for a static gateway", () =>
    Effect.gen(function*() {
      const lab = yield* world("")
      const vtysh = yield* frr(lab.outside, path.join(lab.folder, "frr"), frrStatic, 10_179)
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, gateways: [{ ...gateway, protocol: "static" }] }])
      const running = yield* startFrontend(lab)
      yield* eventually("BFD is up", () => running.current().connectivity.connected)
      yield* eventually("FRR sees it", () => says(vtysh("show bfd peers json"), /"status":"up"/))
      yield* eventually("the default route", () => default4.test(routes(lab.frontend, "-4", 4096)))
      ip(lab.outside, "link set ext down")
      yield* eventually("BFD is down", () => !running.current().connectivity.connected)
      yield* eventually("no way out", () => routes(lab.frontend, "-4", 4096) === "")
    }).pipe(Effect.provide(Health.layer)))
})

describe("The frontend and BIRD as its gateway", { timeout: 120_000 }, () => {
  it.live("send egress to the VRRP address, learn nothing, and announce all the same", () =>
    Effect.gen(function*() {
      const lab = yield* world(gatewayConfig(""), { env: { NFE_VRRPS: "169.254.100.254/24,100:100::fe" } })
      ip(lab.outside, "address add 169.254.100.254/24 dev ext", "address add 100:100::fe/64 dev ext nodad")
      ip(lab.outside, "link set lo up", "address add 203.0.113.1/32 dev lo")
      ip(lab.outside, "route add 20.0.0.1/32 via 169.254.100.1")
      ip(lab.frontend, "link set lo up", "address add 20.0.0.1/32 dev lo")
      yield* SubscriptionRef.set(lab.forwarding, true)
      yield* startFrontend(lab)
      yield* eventually("the VIPs are announced", () => announces(lab, "20.0.0.1/32", "2000::1/128"))
      assert.match(routes(lab.frontend, "-4", 4096), /^default via 169\.254\.100\.254 dev ext-vlan proto bird .*\n$/)
      assert.match(routes(lab.frontend, "-6", 4096), /^default via 100:100::fe dev ext-vlan proto bird .*\n$/)
      assert.strictEqual(routes(lab.frontend, "-4", 4097), "", "nothing is dropped")
      assert.isTrue(reaches(lab.frontend, "20.0.0.1", "203.0.113.1"))
    }).pipe(Effect.provide(Health.layer)))

  it.live("spread egress over all gateways when asked to", () =>
    Effect.gen(function*() {
      const lab = yield* world(gatewayConfig(""), { env: { NFE_ECMP: "true" } })
      const other = yield* Namespace.scoped(`${path.basename(lab.outside)}-2`)
      ip(lab.outside, `link add link ext name ext2 netns ${path.basename(other)} type macvlan mode bridge`)
      ip(other, "link set ext2 up", "address add 169.254.100.151/24 dev ext2")
      yield* Bird.make({
        command: ["nsenter", `--net=${other}`, "bird"],
        configFile: path.join(lab.folder, "gw2.conf"),
        socket: path.join(lab.folder, "gw2.ctl")
      }).start(secondConfig)
      const second = { ...gateway, name: "gateway-v4-b", address: "169.254.100.151" }
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, gateways: [gateway, second] }])
      const running = yield* startFrontend(lab)
      yield* eventually(
        "two ways out",
        () => /via 169\.254\.100\.150[^]*via 169\.254\.100\.151/.test(routes(lab.frontend, "-4", 4096))
      )
      yield* bfdWatchesBoth(running)
      ip(other, "address del 169.254.100.151/24 dev ext2")
      yield* eventually(
        "the way that is left",
        () => /^default via 169\.254\.100\.150 .*\n$/.test(routes(lab.frontend, "-4", 4096))
      )
      assert.isTrue(running.current().connectivity.connected)
    }).pipe(Effect.provide(Health.layer)))

  it.live("work where there is only IPv6", () =>
    Effect.gen(function*() {
      const lab = yield* world(gatewayConfig(""), { families: ["v6"] })
      const vips = attractor.vips.slice(1)
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, vips, gateways: attractor.gateways.slice(1) }])
      yield* SubscriptionRef.set(lab.forwarding, true)
      yield* startFrontend(lab)
      yield* eventually("the VIP is announced", () => announces(lab, "2000::1/128"))
      assert.match(routes(lab.frontend, "-6", 4096), default6)
      const { birdConfigPath } = lab.settings
      assert.match(fs.readFileSync(path.join(birdConfigPath, "bird-fe-meridio.conf"), "utf8"), /^router id 2[45]\d\./m)
      assert.deepStrictEqual(rules(lab.frontend, "-4"), [])
    }).pipe(Effect.provide(Health.layer)))

  it.live("lose one family and keep the other when each counts by itself", () =>
    Effect.gen(function*() {
      const lab = yield* world(gatewayConfig(""), { env: { SLUICE_PER_FAMILY: "true" } })
      yield* SubscriptionRef.set(lab.forwarding, true)
      const running = yield* startFrontend(lab)
      yield* eventually("both are announced", () => announces(lab, "20.0.0.1/32", "2000::1/128"))
      yield* bfdWatchesBoth(running)
      ip(lab.outside, "address del 100:100::150/64 dev ext")
      yield* eventually("IPv6 is down", () => running.current().connectivity.v6 === "Down")
      const config = path.join(lab.settings.birdConfigPath, "bird-fe-meridio.conf")
      yield* eventually("its VIP is withdrawn", () => !fs.readFileSync(config, "utf8").includes("2000::1"))
      assert.isTrue(yield* announces(lab, "20.0.0.1/32"))
      assert.isTrue(running.current().egress)
    }).pipe(Effect.provide(Health.layer)))

  it.live("show routes and counters to Prometheus", () =>
    Effect.gen(function*() {
      const port = yield* freePort
      const lab = yield* world(gatewayConfig(""), {
        env: { NFE_METRICS_ENABLED: "true", NFE_METRICS_PORT: String(port) }
      })
      yield* startFrontend(lab)
      let text = ""
      const labels = "protocol=\"BGP+BFD\",gateway=\"gateway-v4\",gateway_ip=\"169.254.100.150\"," +
        "trench=\"trench-a\",attractor=\"attractor-a\""
      yield* eventually("the route is counted", () =>
        Effect.promise(async () => {
          text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
          return text.includes(`meridio_attractor_gateway_imported_routes{${labels}} 1\n`)
        }))
      assert.include(text, `meridio_attractor_gateway_exported_routes{${labels}} 0\n`)
      assert.match(
        text,
        /meridio_interface_rx_packets_total\{interface_name="ext-vlan",mac_address="[0-9a-f:]{17}",ips="\[\\"169\.254\.100\.1\/24\\",\\"100:100::1\/64\\"\]",trench="trench-a",attractor="attractor-a"\} [1-9]/
      )
    }).pipe(Effect.provide(Health.layer)))
})

const freePort = Effect.callback<number>((resume) => {
  const server = net.createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})
