/** Several targets of one trench while addresses change, connections go down, and processes and services die. */
import { assert, describe, it } from "@effect/vitest"
import * as Seed from "../../core/Seed.ts"
import * as World from "./World.ts"

const at = { trench: "t", conduit: "c", stream: "s" }
const second = 1_000
const minute = 60 * second

/** Everybody is served under the address of now, each with an identifier of its own, and nothing else is registered. */
const assertSettled = (world: World.World, targets: number) => {
  for (let i = 0; i < targets; i++) assert.deepStrictEqual(world.statuses(i), ["s Open"], `target ${i}`)
  const identifiers = world.identifiers(at)
  assert.strictEqual(new Set(identifiers).size, targets)
  const addresses = Array.from({ length: targets }, (_, i) => world.address(i))
  assert.deepStrictEqual(world.registered().flatMap(({ ips }) => ips).toSorted(), addresses.toSorted())
  assert.strictEqual(world.connections().length, targets)
}

const opened = (options: World.Options): World.World => {
  const world = World.make(options)
  for (let i = 0; i < options.targets; i++) world.open(i, at)
  return world
}

describe("Targets of a trench", () => {
  it.prop(
    "follow their addresses and connections, and settle once things are calm",
    { seed: Seed.Seed },
    ({ seed }) => {
      const targets = 4
      const calmAt = 5 * minute
      const world = opened({ seed, targets, maxTargets: 5, lossPercent: 10, calmAt })
      while (world.now() < calmAt) {
        world.until(world.now() + world.draw(1, 20 * second))
        const i = world.draw(0, targets - 1)
        switch (world.draw(0, 7)) {
          case 0:
            world.down(i)
            break
          case 1:
            world.heal(i)
            break
          case 2:
          case 3:
            world.move(i)
            break
          case 4:
            world.crash(i)
            world.open(i, at)
            break
          case 5:
            world.configure({ vips: [`20.0.0.${world.draw(1, 9)}/32`] })
            break
          case 6:
            world.setNsp(!world.nsp)
            break
          case 7:
            world.manager = !world.manager
        }
      }
      world.setNsp(true)
      world.manager = true
      for (let i = 0; i < targets; i++) world.heal(i)
      world.until(world.now() + 4 * minute)
      assertSettled(world, targets)
      for (const { context } of world.connections()) {
        assert.deepStrictEqual(context.ip.policies.map(({ from }) => String(from)), world.vips)
      }
    },
    { arbitrary: { runs: 60 } }
  )

  it.prop(
    "never share an identifier, whatever happens to addresses and connections",
    { seed: Seed.Seed },
    ({ seed }) => {
      const targets = 4
      const world = opened({ seed, targets, maxTargets: 5 })
      for (let round = 0; round < 400; round++) {
        world.until(world.now() + 250)
        const identifiers = world.identifiers(at)
        assert.strictEqual(new Set(identifiers).size, identifiers.length)
        const i = world.draw(0, targets - 1)
        if (round % 8 === 0) [world.move, world.down, world.heal][world.draw(0, 2)]?.(i)
      }
    },
    { arbitrary: { runs: 30 } }
  )

  it.prop("that are down are served by nobody, and come back by themselves", { seed: Seed.Seed }, ({ seed }) => {
    const world = opened({ seed, targets: 3 })
    world.until(10 * second)
    assertSettled(world, 3)
    world.down(0)
    world.down(1)
    world.until(12 * second)
    assert.deepStrictEqual([0, 1, 2].map(world.statuses), [["s Unavailable"], ["s Unavailable"], ["s Open"]])
    assert.deepStrictEqual(world.registered().map(({ ips }) => ips.join()), [world.address(2)])
    world.heal(0)
    world.until(15 * second)
    assert.deepStrictEqual([0, 1, 2].map(world.statuses), [["s Open"], ["s Unavailable"], ["s Open"]])
    // The second one is never healed: after a minute its endpoint is chosen anew.
    world.until(2 * minute)
    assertSettled(world, 3)
  }, { arbitrary: { runs: 50 } })

  it.prop("leave nothing behind when they drain, also with lost calls", { seed: Seed.Seed }, ({ seed }) => {
    const world = opened({ seed, targets: 3, lossPercent: 20, calmAt: 20 * second })
    world.until(world.draw(1, 20 * second))
    for (let i = 0; i < 3; i++) world.shutdown(i)
    world.until(world.now() + 31 * second)
    for (let i = 0; i < 3; i++) assert.isTrue(world.isStopped(i))
    assert.deepStrictEqual(world.connections(), [])
    // An unregistration that got lost is made up for by the expiry at the NSP.
    world.until(world.now() + 2 * minute)
    assert.deepStrictEqual(world.registered(), [])
  }, { arbitrary: { runs: 100 } })
})
