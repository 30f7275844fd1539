import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope, SubscriptionRef } from "effect"
import { execFileSync, spawn } from "node:child_process"
import * as path from "node:path"
import * as Health from "../grpc/Health.ts"
import * as Host from "../lab/Host.ts"
import * as Namespace from "../netlink/Namespace.ts"
import { eventually } from "./Eventually.ts"
import * as Main from "./Main.ts"
import { announces, attractor, birdOf, gateway, ip, rules, startFrontend, type World, world } from "./World.ts"

const vips = ["20.0.0.1", "2000::1"]

/** Packets of VIPs that came out of a frontend, by the way they took. */
interface Counts {
  /** Into the frontend. */
  readonly sent: number
  readonly toGateway: number
  /** By the pod's own network: must stay 0. */
  readonly leaked: number
}

interface Traffic {
  readonly counts: () => Counts
  /** Lets the target send, as fast as a flood of pings goes. */
  readonly start: Effect.Effect<void, Host.HostError, Scope.Scope>
}

/** A pod network with a default route, and a target that sends from the VIPs through the frontend. */
const traffic = (lab: World): Effect.Effect<Traffic, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const name = path.basename(lab.frontend)
    const primary = yield* Namespace.scoped(`${name}-p`)
    const target = yield* Namespace.scoped(`${name}-t`)
    ip(lab.frontend, `link add eth0 type veth peer name eth0 netns ${path.basename(primary)}`)
    ip(lab.frontend, `link add nsm0 type veth peer name nsm0 netns ${path.basename(target)}`)
    const ends = [
      [lab.frontend, "eth0", "10.9.0.1/24", "fd09::1/64"],
      [primary, "eth0", "10.9.0.2/24", "fd09::2/64"],
      [lab.frontend, "nsm0", "172.16.0.1/24", "fd16::1/64"],
      [target, "nsm0", "172.16.0.2/24", "fd16::2/64"]
    ] as const
    for (const [namespace, link, v4, v6] of ends) {
      ip(namespace, `address add ${v4} dev ${link}`, `address add ${v6} dev ${link} nodad`, `link set ${link} up`)
    }
    ip(lab.frontend, "route add default via 10.9.0.2", "route add default via fd09::2")
    ip(target, "route add default via 172.16.0.1", "route add default via fd16::1", "link set lo up")
    ip(target, ...vips.map((vip) => `address add ${vip}/${vip.includes(":") ? 128 : 32} dev lo`))
    for (const [namespace, link] of [[primary, "eth0"], [lab.frontend, "nsm0"], [lab.outside, "ext"]] as const) {
      yield* Host.run(["nsenter", `--net=${namespace}`, "nft", "-f", "-"], counting(link))
    }
    yield* Host.run([
      "nsenter",
      `--net=${lab.frontend}`,
      "sysctl",
      "-q",
      "net.ipv4.ip_forward=1",
      "net.ipv6.conf.all.forwarding=1",
      "net.ipv4.conf.all.rp_filter=0",
      "net.ipv4.conf.nsm0.rp_filter=0"
    ])
    return {
      counts: () => ({ sent: count(lab.frontend), toGateway: count(lab.outside), leaked: count(primary) }),
      start: Effect.forEach(
        [["20.0.0.1", "203.0.113.1"], ["2000::1", "2001:db8::1"]] as const,
        ([from, to]) =>
          Host.start({
            command: ["ping", "-q", "-f", "-I", from, to],
            namespace: target,
            logFile: path.join(lab.folder, "ping.log"),
            graceMs: 500
          }),
        { discard: true }
      )
    }
  })

const counting = (link: string): string => `
table inet count {
  chain in {
    type filter hook prerouting priority -300;
    iifname ${link} ip saddr 20.0.0.1 counter
    iifname ${link} ip6 saddr 2000::1 counter
  }
}`

const count = (namespace: string): number =>
  [
    ...execFileSync("nsenter", [`--net=${namespace}`, "nft", "list", "table", "inet", "count"], { encoding: "utf8" })
      .matchAll(/counter packets (\d+)/g)
  ].reduce((sum, [, packets]) => sum + Number(packets), 0)

/** Waits until the target has sent some more. */
const more = ({ counts }: Traffic) => {
  const before = counts().sent
  return eventually("more is sent", () => counts().sent > before + 50)
}

/** Ends as soon as the kernel has told of a rule for each VIP; before that nobody knows that they are VIPs. */
const firstRules = (namespace: string): Effect.Effect<Effect.Effect<void>, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => spawn("ip", ["-n", path.basename(namespace), "monitor", "rule"])),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    ),
    ({ stdout }) => {
      let told = ""
      return Effect.callback<void>((resume) => {
        stdout.on("data", (data) => {
          told += String(data)
          if (vips.every((vip) => told.includes(`from ${vip} `))) resume(Effect.void)
        })
      })
    }
  )

describe("No packet of a VIP leaves by the pod's own network", { timeout: 120_000 }, () => {
  it.live("whatever happens to VIPs, gateways, BIRD and the frontend", () =>
    Effect.gen(function*() {
      const lab = yield* world()
      const flow = yield* traffic(lab)
      const known = yield* firstRules(lab.frontend)
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, vips: [] }])
      yield* SubscriptionRef.set(lab.forwarding, true)
      const running = yield* startFrontend(lab)
      yield* eventually("the sessions are up", () => running.current().connectivity.connected)
      const dry = (what: string) => assert.strictEqual(flow.counts().leaked, 0, what)

      yield* SubscriptionRef.set(lab.attractors, [attractor])
      yield* known
      yield* flow.start
      yield* more(flow)
      dry("the first VIPs of both families")
      yield* eventually("the VIPs are announced", () => announces(lab, "20.0.0.1/32", "2000::1/128"))
      yield* eventually("they reach the gateway", () => flow.counts().toGateway > 50)

      process.kill(birdOf(lab.settings.birdSocket), "SIGKILL")
      yield* eventually("the loss is noticed", () => !running.current().connectivity.connected)
      yield* more(flow)
      dry("BIRD crashed")
      yield* eventually("the VIPs are back", () => announces(lab, "20.0.0.1/32", "2000::1/128"), 40_000)
      yield* more(flow)
      dry("BIRD came back")

      ip(lab.outside, "link set ext down")
      yield* eventually("the loss is noticed", () => !running.current().connectivity.connected)
      yield* more(flow)
      dry("the gateway is down")
      ip(lab.outside, "link set ext up", "address replace 100:100::150/64 dev ext nodad")
      yield* eventually("the gateway is back", () => announces(lab, "20.0.0.1/32", "2000::1/128"), 60_000)
      yield* more(flow)
      dry("the gateway is back")

      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, vips: attractor.vips.slice(1) }])
      yield* eventually("the VIP is removed", () => rules(lab.frontend, "-4").length === 1)
      yield* more(flow)
      dry("a VIP was removed under traffic")
      yield* SubscriptionRef.set(lab.attractors, [{ ...attractor, gateways: [gateway] }])
      yield* eventually("the VIP is back", () => rules(lab.frontend, "-4").length === 2)
      yield* more(flow)
      dry("the VIP is back, a gateway is gone")

      yield* Main.drain(running)
      yield* more(flow)
      dry("the frontend has ended")
    }).pipe(Effect.provide(Health.layer)))
})
