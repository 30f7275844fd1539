import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schedule, Stream, SubscriptionRef } from "effect"
import { writeFileSync } from "node:fs"
import * as World from "./World.ts"

const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, n) => n + 1)

type Running = Effect.Success<ReturnType<typeof World.start>>

const balancing = (running: Running, ...identifiers: ReadonlyArray<number>) =>
  Stream.runDrain(Stream.takeUntil(running.changes, ({ applying, rules }) =>
    applying === undefined
    && JSON.stringify(rules?.streams.map((stream) => stream.identifiers)) === JSON.stringify([identifiers])))

const ways = [
  { way: "on the general way", env: { SLUICE_EXTERNAL_INTERFACE: "none" } },
  { way: "on the fast path", env: { SLUICE_EXTERNAL_INTERFACE: "ext" } }
]

const serving = (targets: number, env: { readonly [name: string]: string }) =>
  Effect.gen(function*() {
    const world = yield* World.make(targets)
    const running = yield* World.start(world.balancer, world.nsp, env)
    yield* SubscriptionRef.set(world.nsp.targets, numbers(targets).map(World.target))
    yield* balancing(running, ...numbers(targets))
    return { ...world, running }
  })

const natting = (running: Running, nsp: Effect.Success<ReturnType<typeof World.make>>["nsp"]) =>
  Effect.gen(function*() {
    const nat = (protocol: string) => ({ port: 80, targetPort: 4_000, vips: nsp.wireVips, protocol })
    yield* SubscriptionRef.set(nsp.nats, [nat("tcp"), nat("udp")])
    yield* Stream.runDrain(
      Stream.takeUntil(running.changes, ({ applying, rules }) => applying === undefined && rules?.portNats.length === 2)
    )
  })

/** How many datagrams programs in the namespace have been given. */
const received = (path: string) =>
  Effect.map(World.sh(path, "awk '$1 == \"Udp:\" { n = $2 } END { print n }' /proc/net/snmp"), Number)

// Sends more than fits into a packet, and says when the other end has taken all of it.
const upload = (host: string) => `
  setTimeout(() => process.exit(1), 5000)
  const socket = require("net").connect(80, "${host}", () => socket.write(Buffer.alloc(5000)))
  socket.resume().on("close", () => { console.log("closed"); process.exit() })`

describe("The load balancer under change", () => {
  it.live.each(ways)(
    "loses no packet and moves no flow of the others while a target comes and goes at least 200 times, $way",
    ({ env }) =>
      Effect.gen(function*() {
        const { load, nsp, overflowed, running, targetPath } = yield* serving(4, env)
        const file = `${nsp.folder}/over`
        const loading = yield* Effect.forkChild(load(World.vips.v4, 60, file))
        const answered = Effect.map(
          Effect.forEach(numbers(4), (n) => received(targetPath(n))),
          (counts) => counts.reduce((sum, count) => sum + count, 0)
        )
        // Changes are so quick that the load would hardly be under way.
        for (let n = 0; n < 100 || (yield* answered) < 60 * 200; n++) {
          yield* SubscriptionRef.set(nsp.targets, numbers(3).map(World.target))
          yield* balancing(running, 1, 2, 3)
          yield* SubscriptionRef.set(nsp.targets, numbers(4).map(World.target))
          yield* balancing(running, 1, 2, 3, 4)
        }
        writeFileSync(file, "")
        const flows = yield* Fiber.join(loading)
        let moved = 0
        let lost = 0
        for (const { answers, sent } of flows) {
          assert.isAbove(sent, 100)
          lost += Object.values(answers).reduce((left, n) => left - n, sent)
          if ("4" in answers) moved++
          assert.strictEqual(Object.keys(answers).length, "4" in answers ? 2 : 1, JSON.stringify(answers))
        }
        assert.isAbove(moved, 3)
        assert.strictEqual(lost, yield* overflowed)
      }),
    90_000
  )

  it.live.each(ways)(
    "loses no packet when a target returns with another MAC address after its routes were taken away, $way",
    ({ env }) =>
      Effect.gen(function*() {
        const { balancer, load, nsp, overflowed, running, targetPath } = yield* serving(4, env)
        const file = `${nsp.folder}/over`
        const loading = yield* Effect.forkChild(load(World.vips.v4, 60, file))
        const answered = (least: number) =>
          Effect.repeat(received(targetPath(4)), { until: (count) => count >= least, schedule: Schedule.spaced(10) })
        for (let n = 1; n <= 10; n++) {
          const before = yield* answered(0)
          yield* answered(before + 20)
          yield* SubscriptionRef.set(nsp.targets, numbers(3).map(World.target))
          yield* balancing(running, 1, 2, 3)
          assert.strictEqual(yield* World.shUntilGone(balancer, "ip rule list fwmark 5004", /./), "")
          yield* World.sh(targetPath(4), `ip link set nsm-0 address 02:00:00:00:00:${n + 10}`)
          yield* SubscriptionRef.set(nsp.targets, numbers(4).map(World.target))
          yield* balancing(running, 1, 2, 3, 4)
        }
        writeFileSync(file, "")
        const flows = yield* Fiber.join(loading)
        const lost = flows.reduce(
          (sum, { answers, sent }) => Object.values(answers).reduce((left, n) => left - n, sum + sent),
          0
        )
        assert.strictEqual(lost, yield* overflowed)
      }),
    60_000
  )

  it.live.each(ways)(
    "tells the MTU of the path also where ports are translated, $way",
    ({ env }) =>
      Effect.gen(function*() {
        const { ask, balancer, client, nsp, running } = yield* serving(2, env)
        yield* natting(running, nsp)
        yield* World.sh(balancer, "ip link set load-balan-1 mtu 1400")
        for (const host of Object.values(World.vips)) {
          assert.strictEqual(yield* World.sh(client, `exec ${process.execPath} -e '${upload(host)}'`), "closed\n")
          assert.match(yield* World.sh(client, `ip route get ${host}`), /mtu 1400/)
        }
        yield* World.sh(balancer, "ip link set load-balan-1 mtu 1500; ip link set ext mtu 1300")
        for (const host of Object.values(World.vips)) {
          const answers = yield* ask({ protocol: "udp", host, firstPort: 20_000, count: 6, length: 1_400, port: 80 })
          assert.deepStrictEqual(Object.values(answers).map((text) => text.length), numbers(6).map(() => 1_400))
        }
      }),
    60_000
  )

  it.live("finds the target of an ICMP error also when the packet in it has options", () =>
    Effect.gen(function*() {
      const { ask, complain, running } = yield* serving(3, {})
      const answers = yield* ask({ protocol: "udp", host: World.vips.v4, firstPort: 20_000, count: 30 })
      const hits = Effect.map(running.metrics, (samples) =>
        numbers(3).map((n) =>
          samples.find(({ labels, name }) =>
            name.endsWith("hit.packets") && labels["identifier"] === String(5_000 + n)
          )
            ?.value ?? 0
        ))
      const matches = Effect.map(
        running.metrics,
        (samples) => samples.find(({ name }) => name.endsWith("flow.matches"))?.value ?? 0
      )
      const [before, matched] = [yield* hits, yield* matches]
      yield* complain(20_000, 30, 5)
      yield* complain(20_000, 30, 6)
      yield* complain(20_000, 30, 15)
      const after = yield* hits
      const flows = numbers(3).map((n) => Object.values(answers).filter((name) => name === String(n)).length)
      assert.deepStrictEqual(after.map((value, n) => value - (before[n] ?? 0)), flows.map((count) => count * 3))
      assert.strictEqual((yield* matches) - matched, 90, "they count as packets of the flow")
    }), 60_000)

  it.live.each(ways)("counts what flows catch and targets get, $way", ({ env }) =>
    Effect.gen(function*() {
      const { ask, running } = yield* serving(2, env)
      for (const host of Object.values(World.vips)) {
        yield* ask({ protocol: "udp", host, firstPort: 20_000, count: 50 })
      }
      const samples = yield* running.metrics
      const named = (name: string) => samples.filter((sample) => sample.name === `meridio.conduit.stream.${name}`)
      const labels = { trench: "trench-a", conduit: "conduit-a", stream: "stream-a" }
      assert.deepStrictEqual(named("flow.matches").map(({ labels, value }) => ({ labels, value })), [
        { labels: { ...labels, flow: "flow-a" }, value: 100 }
      ])
      const packets = named("target.hit.packets")
      assert.deepStrictEqual(
        packets.map((sample) => sample.labels),
        [1, 2].map((n) => ({
          ...labels,
          identifier: String(5_000 + n),
          target_ips: `["172.16.0.${10 + n}","fd00::${10 + n}"]`
        }))
      )
      assert.strictEqual(packets.reduce((total, { value }) => total + value, 0), 100)
      assert.strictEqual(named("target.hit.bytes").reduce((total, { value }) => total + value, 0), 50 * 29 + 50 * 49)
      const link = samples.find(({ name }) => name === "meridio.interface.tx_packets")
      assert.include(link?.labels, { interface_name: "load-balan-1", conduit: "conduit-a" })
    }), 60_000)
})
