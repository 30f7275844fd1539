import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream, SubscriptionRef } from "effect"
import { LoadBalancer, Maglev } from "../../core/loadbalancer/index.ts"
import { Ip } from "../../core/net/index.ts"
import * as Kernel from "../../property-tests/loadbalancer/Kernel.ts"
import { StreamAvailabilityServiceDefinition } from "../../proto/gen/api/loadbalancer/v1/stream.ts"
import * as Client from "../grpc/Client.ts"
import * as Nftables from "../nftables/Nftables.ts"
import type * as Runner from "../runtime/Runner.ts"
import * as World from "./World.ts"

const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, n) => n + 1)

type Running = Runner.Running<LoadBalancer.State, LoadBalancer.Event>

/** Waits until exactly these targets of the stream get traffic. */
const balancing = (running: Running, ...identifiers: ReadonlyArray<number>) =>
  Stream.runDrain(Stream.takeUntil(running.changes, ({ applying, rules }) =>
    applying === undefined
    && JSON.stringify(rules?.streams.map((stream) => stream.identifiers)) === JSON.stringify([identifiers])))

const counts = (answers: { readonly [port: string]: string }): { readonly [name: string]: number } => {
  const all: { [name: string]: number } = {}
  for (const name of Object.values(answers)) all[name.trim()] = (all[name.trim()] ?? 0) + 1
  return all
}

// Programs of a client that asks port 80 of the host.
const connect = (host: string) => `
  require("net").connect(80, "${host}").on("data", (data) => console.log(String(data)))`
const datagram = (host: string) => `
  const socket = require("dgram").createSocket("${host.includes(":") ? "udp6" : "udp4"}")
  setTimeout(() => process.exit(1), 3000)
  socket.on("message", (data) => { console.log(String(data)); process.exit() }).send("1", 80, "${host}")`

// Each way to the targets by the setting that brings it about.
const ways = [
  { way: "on the general way", fast: false, env: { SLUICE_EXTERNAL_INTERFACE: "none" } },
  { way: "on the fast path", fast: true, env: { SLUICE_EXTERNAL_INTERFACE: "auto" } }
]

const serving = (targets: number, env: { readonly [name: string]: string } = {}) =>
  Effect.gen(function*() {
    const world = yield* World.make(targets)
    const running = yield* World.start(world.balancer, world.nsp, env)
    yield* SubscriptionRef.set(world.nsp.targets, numbers(targets).map(World.target))
    yield* balancing(running, ...numbers(targets))
    return { ...world, running }
  })

/** How many packets have taken the fast path. */
const forwarded = (balancer: string) =>
  Effect.map(
    Effect.forEach(["hops4-5000", "hops6-5000"], (name) =>
      Effect.scoped(Effect.flatMap(Nftables.make(balancer), (nftables) =>
        nftables.elementCounters("netdev", table, "map", name)))),
    (all) =>
      all.flatMap((counts) => [...counts.values()]).reduce((total, { packets }) =>
        total + packets, 0)
  )

const table = "sluice-lb-conduit-a.trench-a"

describe("The load balancer in the kernel", () => {
  it.live.each(ways)(
    "spreads TCP, UDP and pings of both families over the targets, each flow to one of them, $way",
    ({ env, fast }) =>
      Effect.gen(function*() {
        const { ask, balancer, client } = yield* serving(3, env)
        for (const host of Object.values(World.vips)) {
          for (const protocol of ["tcp", "udp"] as const) {
            const answers = yield* ask({ protocol, host, firstPort: 20_000, count: 90 })
            assert.hasAllKeys(counts(answers), ["1", "2", "3"], `${protocol} ${host}`)
            for (const share of Object.values(counts(answers))) assert.isAtLeast(share, 12)
          }
          const [small, large] = [
            yield* ask({ protocol: "udp", host, firstPort: 30_000, count: 20 }),
            yield* ask({ protocol: "udp", host, firstPort: 30_000, count: 20, payload: 4_000 })
          ]
          assert.deepStrictEqual(large, small, "fragments follow their flow")
          yield* World.sh(client, `for n in 1 2 3 4 5 6; do ping -qn -c 1 -W 2 ${host}; done`)
        }
        assert.strictEqual((yield* forwarded(balancer)) > 300, fast)
      }),
    60_000
  )

  it.live.each(ways)(
    "moves the flows of a target that goes and no others, and gives them back when it returns, $way",
    ({ env }) =>
      Effect.gen(function*() {
        const { ask, balancer, nsp, running } = yield* serving(4, env)
        const flows = { protocol: "udp", host: World.vips.v4, firstPort: 20_000, count: 300 } as const
        const before = yield* ask(flows)
        yield* SubscriptionRef.set(nsp.targets, [1, 2, 4].map(World.target))
        yield* balancing(running, 1, 2, 4)
        const without = yield* ask(flows)
        assert.hasAllKeys(counts(without), ["1", "2", "4"])
        const moved = Object.keys(before).filter((port) => before[port] !== "3" && before[port] !== without[port])
        assert.deepStrictEqual(moved, [])
        const rules = yield* World.shUntilGone(
          balancer,
          "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all",
          /5003/
        )
        assert.notMatch(rules, /5003/)
        assert.strictEqual(rules.match(/^\d+:.*fwmark/gm)?.length, 6)
        yield* SubscriptionRef.set(nsp.targets, numbers(4).map(World.target))
        yield* balancing(running, 1, 2, 3, 4)
        assert.deepStrictEqual(yield* ask(flows), before)
      }),
    60_000
  )

  it.live.each(ways)("tells clients and targets the MTU of the path, $way", ({ env }) =>
    Effect.gen(function*() {
      const { ask, balancer, client } = yield* serving(2, env)
      yield* World.sh(balancer, "ip link set load-balan-1 mtu 1400")
      // The pings of a client are too big for the way to the target: the answer comes from the VIP.
      for (const [host, told] of [[World.vips.v4, "mtu = 1400"], [World.vips.v6, "mtu=1400"]] as const) {
        const text = yield* World.sh(client, `ping -n -c 1 -W 2 -M do -s 1420 ${host} || true`)
        assert.match(text, new RegExp(`From ${host} .*${told}`))
      }
      // The answers of a target are too big for the way to the client: only that target has to learn it.
      yield* World.sh(balancer, "ip link set load-balan-1 mtu 1500; ip link set ext mtu 1300")
      for (const host of Object.values(World.vips)) {
        const answers = yield* ask({ protocol: "udp", host, firstPort: 20_000, count: 6, length: 1_400 })
        assert.deepStrictEqual(Object.values(answers).map((text) => text.length), numbers(6).map(() => 1_400))
        assert.hasAllKeys(counts(answers), ["1", "2"])
      }
    }), 60_000)

  it.live.each(ways)("translates ports, both ways, $way", ({ env }) =>
    Effect.gen(function*() {
      const { client, nsp, running } = yield* serving(2, env)
      const nat = (protocol: string) => ({ port: 80, targetPort: 4_000, vips: nsp.wireVips, protocol })
      yield* SubscriptionRef.set(nsp.nats, [nat("tcp"), nat("udp")])
      yield* Stream.runDrain(
        Stream.takeUntil(
          running.changes,
          ({ applying, rules }) => applying === undefined && rules?.portNats.length === 2
        )
      )
      for (const host of Object.values(World.vips)) {
        for (const program of [connect(host), datagram(host)]) {
          assert.match(yield* World.sh(client, `exec ${process.execPath} -e '${program}'`), /^[12]\s*$/)
        }
      }
    }), 60_000)

  it.live(
    "tells the frontend when there is somebody to serve, and drops everything with it",
    () =>
      Effect.gen(function*() {
        const { ask, balancer, nsp, running } = yield* serving(2)
        const frontend = yield* Client.make({ target: `unix://${nsp.folder}/lb.sock` })
        const first = frontend.stream(StreamAvailabilityServiceDefinition, "watch", {}).pipe(
          Stream.map(({ targets }) => targets.map(({ context }) => context)),
          Stream.take(1),
          Stream.runCollect
        )
        assert.deepStrictEqual(yield* first, [[{ identifier: World.hostname }]])
        yield* SubscriptionRef.set(nsp.frontends, [])
        yield* Stream.runDrain(Stream.takeUntil(running.changes, (state) =>
          !LoadBalancer.isAvailable(state) && state.kernel._tag === "Idle" && state.endpoint._tag === "Absent"
          && state.planned.length === 0))
        assert.deepStrictEqual(yield* first, [[{}]])
        assert.match(yield* World.sh(balancer, "ip link show load-balan-1"), /state DOWN/)
        const answers = yield* ask({ protocol: "tcp", host: World.vips.v4, firstPort: 20_000, count: 2 }).pipe(
          Effect.timeoutOption(1_500)
        )
        assert.strictEqual(answers._tag, "None")
      }),
    60_000
  )

  it.live(
    "keeps answers from a VIP that the frontend does not know out of the pod's own network",
    () =>
      Effect.gen(function*() {
        const { balancer, nsp, targetPath } = yield* World.make(1)
        yield* World.sh(
          balancer,
          `ip link add eth0 type veth peer name cluster; ip link set cluster up; ip link set eth0 up
        ip addr add 10.9.0.1/24 dev eth0; ip addr add fd09::1/64 dev eth0 nodad
        ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:09 dev eth0; ip neigh add fd09::2 lladdr 02:00:00:00:00:09 dev eth0
        ip route add default via 10.9.0.2; ip -6 route add default via fd09::2
        nft 'table inet count { chain leaks { type filter hook postrouting priority 0;
          oifname eth0 meta l4proto { icmp, icmpv6 } iifname load-balan-1 counter; }; }'`
        )
        yield* SubscriptionRef.set(nsp.targets, numbers(1).map(World.target))
        yield* balancing(yield* World.start(balancer, nsp), 1)
        yield* World.sh(targetPath(1), "ip addr add 20.0.0.9/32 dev lo; ip addr add 2000::9/128 dev lo nodad")
        const leaks = Effect.gen(function*() {
          for (const way of ["20.0.0.9 198.51.100.1", "2000::9 2001:db8:1::1"]) {
            yield* World.sh(targetPath(1), `ping -qn -c 3 -i 0.2 -W 0.2 -I ${way} || true`)
          }
          return (/packets (\d+)/.exec(yield* World.sh(balancer, "nft list table inet count")) ?? [])[1]
        })
        assert.strictEqual(yield* leaks, "0")
        yield* World.sh(balancer, `nft delete chain inet ${table} guard`)
        assert.strictEqual(yield* leaks, "6", "without the guard they would leave")
      }),
    60_000
  )

  it.live("gives each flow the same target on both ways", () =>
    Effect.gen(function*() {
      const { ask, balancer, nsp } = yield* World.make(3)
      yield* SubscriptionRef.set(nsp.targets, numbers(3).map(World.target))
      const answers = yield* Effect.forEach(ways, ({ env }) =>
        Effect.scoped(Effect.gen(function*() {
          yield* balancing(yield* World.start(balancer, nsp, env), 1, 2, 3)
          return yield* Effect.forEach(Object.values(World.vips), (host) =>
            Effect.forEach(
              ["tcp", "udp"] as const,
              (protocol) => ask({ protocol, host, firstPort: 20_000, count: 100 })
            ))
        })))
      assert.deepStrictEqual(answers[0], answers[1])
    }), 60_000)

  it.live("gives each flow the target that the model says", () =>
    Effect.gen(function*() {
      const { ask } = yield* serving(3)
      const choose = Kernel.chooser({
        name: "stream-a",
        maxTargets: 10,
        slots: Maglev.size(10),
        offset: 5_000,
        identifiers: numbers(3)
      })
      for (const family of Ip.families) {
        const answers = yield* ask({ protocol: "udp", host: World.vips[family], firstPort: 20_000, count: 100 })
        const expected = Object.keys(answers).map((port) => [
          port,
          String(choose({
            source: Ip.unsafe(World.clientAddresses[family]),
            destination: Ip.unsafe(World.vips[family]),
            protocol: 17,
            sourcePort: Number(port),
            destinationPort: 4_000
          }))
        ])
        assert.deepStrictEqual(answers, Object.fromEntries(expected))
      }
    }), 60_000)

  it.live("goes on without its process, and a new one puts right what changed meanwhile", () =>
    Effect.gen(function*() {
      const { ask, balancer, nsp } = yield* World.make(3)
      const flows = { protocol: "udp", host: World.vips.v6, firstPort: 20_000, count: 100 } as const
      yield* SubscriptionRef.set(nsp.targets, numbers(3).map(World.target))
      const before = yield* Effect.scoped(Effect.gen(function*() {
        yield* balancing(yield* World.start(balancer, nsp), 1, 2, 3)
        return yield* ask(flows)
      }))
      assert.deepStrictEqual(yield* ask(flows), before)
      yield* World.sh(balancer, "ip rule add priority 90 fwmark 5007 lookup 5007")
      yield* SubscriptionRef.set(nsp.targets, [1, 2].map(World.target))
      const running = yield* World.start(balancer, nsp)
      yield* balancing(running, 1, 2)
      yield* Stream.runDrain(Stream.takeUntil(running.changes, ({ kernel, readAt }) =>
        kernel._tag === "Idle" && readAt < Number.MAX_SAFE_INTEGER))
      assert.hasAllKeys(counts(yield* ask(flows)), ["1", "2"])
      assert.notMatch(yield* World.sh(balancer, "ip rule; ip -6 rule"), /5003|5007/)
    }), 60_000)
})
