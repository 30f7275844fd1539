/**
 * What is known to go wrong with Meridio's TAPA, by the number of the report or the name of the behaviour, and that it
 * does not go wrong here. Source: issues and code of Nordix/Meridio up to v1.2.8.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cidr from "../../core/net/Cidr.ts"
import * as World from "./World.ts"

const at = { trench: "t", conduit: "c", stream: "s" }
const other = { ...at, trench: "u" }
const second = 1_000
const minute = 60 * second

const opened = (options: Partial<World.Options> = {}, seconds = 10): World.World => {
  const world = World.make({ seed: 7, targets: 1, ...options })
  world.open(0, at)
  world.until(seconds * second)
  return world
}

const isSettled = (world: World.World, i = 0): void => {
  assert.deepStrictEqual(world.statuses(i), ["s Open"])
  assert.deepStrictEqual(world.registered("enabled").flatMap(({ ips }) => ips), [world.address(i)])
  assert.strictEqual(world.connections().length, 1)
}

/** What was asked of the manager, as the addresses on the interface. */
const requested = (world: World.World) =>
  world.log.flatMap(({ command }) =>
    command._tag === "RequestConnection" ? [command.connection.context.ip.srcAddrs] : []
  )

describe("Connections", () => {
  it("#193 a crash leaves no stale interface: the next process takes the connection over, with its name", () => {
    const world = opened()
    const [before] = world.connections()
    const requests = world.commands("RequestConnection").length
    world.crash(0)
    world.open(0, at)
    world.until(20 * second)
    isSettled(world)
    const command = world.commands("RequestConnection")[requests]?.command
    assert.strictEqual(command?._tag === "RequestConnection" ? command.interfaceName : undefined, "nsm-0")
    assert.deepStrictEqual(world.connections().map(({ id }) => id), [before?.id])
  })

  it("#444 a connection is never duplicated: every request of a conduit has the same id, over crashes and losses", () => {
    const world = opened({ lossPercent: 30, calmAt: minute })
    for (let i = 1; i <= 5; i++) {
      world.until(i * 10 * second)
      world.crash(0)
      world.open(0, at)
    }
    world.until(3 * minute)
    isSettled(world)
    const ids = world.log.flatMap(({ command }) => command._tag === "RequestConnection" ? [command.connection.id] : [])
    assert.deepStrictEqual([...new Set(ids)], ["target-0-proxy.c.t.ns-0"])
  })

  it("#534 a connection that is down when it is taken over is asked for at another endpoint", () => {
    const world = opened()
    world.down(0)
    world.crash(0)
    world.open(0, at)
    world.until(20 * second)
    isSettled(world)
    const states = world.log.flatMap(({ command }) =>
      command._tag === "RequestConnection" ? [command.connection.state] : []
    )
    assert.include(states, "ReselectRequested")
  })

  it("#584 killed while the manager is away, it waits and takes over what the manager then knows", () => {
    const world = opened()
    world.manager = false
    world.crash(0)
    world.open(0, at)
    world.until(40 * second)
    assert.deepStrictEqual(world.statuses(0), ["s Unavailable"])
    world.manager = true
    world.until(minute)
    isSettled(world)
  })

  it("a query that the manager never answers is repeated two seconds after its deadline", () => {
    const world = World.make({ seed: 7, targets: 1 })
    world.manager = false
    world.open(0, at)
    world.until(minute)
    const times = world.commands("QueryConnection").map(({ at }) => at)
    assert.isTrue(times.length > 20)
    for (const [i, time] of times.slice(1).entries()) assert.isTrue(time - (times[i] ?? 0) <= 2_500)
  })

  it("a recovered connection without a mechanism is no reason to crash", () => {
    const world = opened()
    world.strip(0)
    world.crash(0)
    world.open(0, at)
    world.until(20 * second)
    isSettled(world)
  })

  it("the load balancer's comment: a connection that nobody heals is asked for anew after a minute", () => {
    const world = opened()
    world.down(0)
    world.until(80 * second)
    isSettled(world)
  })
})

describe("Closing", () => {
  it("leaked close: the connection has a budget of its own when the NSP does not answer, and its close is repeated", () => {
    const world = opened()
    world.setNsp(false)
    world.manager = false
    world.close(0, at)
    world.until(50 * second)
    assert.isTrue(world.commands("CloseConnection").length >= 3)
    assert.strictEqual(world.connections().length, 1)
    world.manager = true
    world.until(3 * minute)
    assert.deepStrictEqual(world.connections(), [])
  })

  it("e2e MT-Switch: a close followed by an open of another trench is not reordered", () => {
    const world = opened()
    world.close(0, at)
    world.open(0, other)
    assert.deepStrictEqual(world.answers(0), ["Ok", "Ok"])
    world.until(20 * second)
    assert.deepStrictEqual(world.answers(0), ["Ok", "Ok", "Ok"])
    assert.deepStrictEqual(world.state(0)?.trench, "u")
    assert.deepStrictEqual(world.connections().map(({ networkService }) => networkService), ["proxy.c.u.ns"])
  })

  it("a connect loop ends with its last stream: nothing stays when it is closed before it was connected", () => {
    for (const ms of [0, 100, 200, 300, 400, 500, 700, 900]) {
      const world = opened({}, 0)
      world.until(ms)
      world.close(0, at)
      world.until(minute)
      assert.deepStrictEqual([world.statuses(0), world.state(0)?.conduits], [[], []])
      assert.deepStrictEqual([world.connections(), world.registered()], [[], []])
    }
  })

  it("#478 a close does not wait for a VIP update that fails", () => {
    const world = opened()
    world.manager = false
    world.configure({ vips: ["20.0.0.2/32"] })
    world.until(12 * second)
    world.manager = true
    world.close(0, at)
    world.until(14 * second)
    assert.deepStrictEqual([world.connections(), world.state(0)?.conduits], [[], []])
    assert.isFalse(world.log.some(({ at, command }) => at > 12 * second && command._tag === "RequestConnection"))
  })

  it("#354 a shutdown closes streams and connections, and refuses to open", () => {
    const world = opened()
    world.shutdown(0)
    world.open(0, { ...at, stream: "r" })
    assert.deepStrictEqual(world.answers(0), ["Ok", "Unavailable"])
    world.until(15 * second)
    assert.isTrue(world.isStopped(0))
    assert.deepStrictEqual([world.connections(), world.registered()], [[], []])
  })
})

describe("Addresses and VIPs", () => {
  it("#390 VIPs are never registered as addresses of the target, with gateways or without", () => {
    for (const gateways of [["172.16.0.1/16"], []]) {
      const world = World.make({ seed: 7, targets: 1 })
      world.gateways = gateways
      world.open(0, at)
      world.until(10 * second)
      world.configure({ vips: ["20.0.0.1/32", "20.0.0.2/32"] })
      world.until(2 * minute)
      assert.strictEqual(world.connections()[0]?.context.ip.srcAddrs.length, 3)
      world.crash(0)
      world.open(0, at)
      world.until(4 * minute)
      isSettled(world)
      const ips = world.log.flatMap(({ command }) => command._tag === "RegisterTarget" ? command.target.ips : [])
      assert.deepStrictEqual([...new Set<string>(ips)], [world.address(0)])
    }
  })

  it("#349 and #485 a new address is registered at once, and the old one is not left to expire", () => {
    const world = opened()
    const old = world.address(0)
    world.move(0)
    world.until(13 * second)
    isSettled(world)
    assert.notStrictEqual(world.address(0), old)
    assert.strictEqual(world.registered().length, 1)
  })

  it("#548 a target whose interface is being replaced is not served meanwhile", () => {
    const world = opened()
    world.down(0)
    world.until(12 * second)
    assert.deepStrictEqual([world.statuses(0), world.registered()], [["s Unavailable"], []])
  })

  it("#485 a flow event without new VIPs causes no request, nor does a VIP inside of a gateway's subnet", () => {
    const world = opened()
    const requests = requested(world).length
    world.configure({ vips: ["20.0.0.1/32"] })
    world.configure({ vips: ["172.16.0.77/32", "20.0.0.1/32"] })
    world.until(20 * second)
    assert.strictEqual(requested(world).length, requests)
  })

  it("a failing VIP update goes on with the newest list, and cannot hold a lock", () => {
    const world = opened()
    world.manager = false
    world.configure({ vips: ["20.0.0.2/32"] })
    world.until(12 * second)
    world.configure({ vips: ["20.0.0.3/32"] })
    world.configure({ streams: [] })
    world.until(15 * second)
    assert.deepStrictEqual(world.statuses(0), ["s Undefined"])
    world.manager = true
    world.until(20 * second)
    assert.deepStrictEqual(requested(world).at(-1), [world.address(0), "20.0.0.3/32"].map(Cidr.unsafe))
  })

  it("VIPs left on a recovered connection are removed, also when none is wanted any more", () => {
    const world = opened()
    world.vips = []
    world.crash(0)
    world.open(0, at)
    world.until(20 * second)
    assert.deepStrictEqual(requested(world).at(-1), [Cidr.unsafe(world.address(0))])
  })
})

describe("Streams", () => {
  it("ghosts in Watch: what is closed is not seen again, whatever answers late", () => {
    for (let ms = 0; ms < 3_000; ms += 150) {
      const world = opened({ lossPercent: 40, calmAt: minute }, 0)
      world.until(ms)
      world.close(0, at)
      for (let t = ms; t < ms + 40 * second; t += second) {
        assert.deepStrictEqual(world.statuses(0), [])
        world.until(t)
      }
    }
  })

  it("deadlock of addresses and streams: a move while a stream opens ends open", () => {
    for (let ms = 0; ms < 2_000; ms += 100) {
      const world = opened({}, 0)
      world.until(ms)
      world.move(0)
      world.until(ms + 100)
      world.move(0)
      world.until(20 * second)
      isSettled(world)
    }
  })

  it("#148 it is back soon after the NSP is, and an NSP that starts without its configuration closes nothing", () => {
    const world = opened()
    world.setNsp(false)
    world.until(15 * second)
    const before = world.commands("UnregisterTarget").length
    world.streams = []
    world.setNsp(true)
    world.until(16 * second)
    world.configure({ streams: ["s"] })
    world.until(30 * second)
    isSettled(world)
    assert.strictEqual(world.commands("UnregisterTarget").length, before)
  })

  it("a configuration that disappears and returns opens the stream again, the connection stays", () => {
    const world = opened()
    world.configure({ streams: [] })
    world.until(12 * second)
    assert.deepStrictEqual([world.statuses(0), world.registered()], [["s Undefined"], []])
    assert.strictEqual(world.connections().length, 1)
    world.configure({ streams: ["s"] })
    world.until(15 * second)
    isSettled(world)
  })

  it("an NSP that forgets everything gets its targets back within a refresh and an attempt", () => {
    const world = opened()
    world.forget()
    world.until(10 * second + 45 * second)
    isSettled(world)
  })

  it("names with dots are not confused", () => {
    const world = World.make({ seed: 7, targets: 1 })
    world.streams = ["a.b", "a"]
    world.open(0, { trench: "t", conduit: "c", stream: "a.b" })
    world.open(0, { trench: "t", conduit: "b.c", stream: "a" })
    world.until(10 * second)
    assert.deepStrictEqual(world.statuses(0), ["a.b Open", "a Open"])
    assert.strictEqual(world.state(0)?.conduits.length, 2)
  })
})
