/**
 * Several targets agree on identifiers at one NSP, all with their real machines, in virtual time: requests and answers
 * take uneven time, some get lost, the NSP may forget everything.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Target from "../../core/config/Target.ts"
import * as Machine from "../../core/Machine.ts"
import * as Cidr from "../../core/net/Cidr.ts"
import { Registry } from "../../core/nsp/index.ts"
import * as Seed from "../../core/Seed.ts"
import { Stream } from "../../core/tapa/index.ts"
import { at, settings } from "./Fixtures.ts"

const filter: Registry.Filter = { kind: "default", status: "any", stream: at }

interface Options {
  readonly seed: Seed.Seed
  readonly targets: number
  readonly maxTargets: number
  /** Of 100 requests, how many are lost on the way there or back, until `calmAt`. */
  readonly lossPercent: number
  readonly calmAt: number
}

const simulate = ({ calmAt, lossPercent, maxTargets, seed, targets }: Options) => {
  let now = 0
  let random = seed
  const draw = (low: number, high: number): number => {
    const [value, after] = Seed.between(random, low, high)
    random = after
    return value
  }
  const agenda: Array<{ readonly at: number; readonly run: () => void }> = []
  const later = (ms: number, run: () => void) => void agenda.push({ at: now + ms, run })
  const fresh = () => Registry.machine.init({ settings: { entryTimeoutMs: 60_000 }, stored: [] }, now)[0]
  let registry = fresh()
  const tell = (event: Registry.Event | Machine.Woken) => {
    registry = Registry.machine.step(registry, event, now)[0]
  }
  const machines: Array<Stream.State> = []
  const armed: Array<number | undefined> = []

  const step = (i: number, event: Stream.Event | Machine.Woken) => {
    const before = machines[i]
    if (before !== undefined) take(i, Stream.step(before, event, now))
  }
  const take = (i: number, [state, commands]: Machine.Step<Stream.State, Stream.Command>) => {
    machines[i] = state
    for (const command of commands) perform(i, command)
    const deadline = Stream.wake(state)
    if (deadline === undefined || deadline === armed[i]) return
    armed[i] = deadline
    later(Math.max(0, deadline - now), () => {
      if (armed[i] === deadline) armed[i] = undefined
      step(i, Machine.woken)
    })
  }
  const perform = (i: number, command: Stream.Command) => {
    if (command._tag === "Cancel") return
    const { call } = command
    const isLost = now < calmAt && draw(0, 99) < lossPercent
    const arrives = !isLost || draw(0, 1) === 0
    later(draw(1, 200), () => {
      const answer = arrives ? serve(command) : undefined
      later(draw(1, 200), () => {
        if (!isLost && answer !== undefined) step(i, answer)
        else if (command._tag === "ListTargets") step(i, { _tag: "ListFailed", at, call, reason: "Unavailable" })
        else if (command._tag === "RegisterTarget") step(i, { _tag: "RegisterFailed", at, call, reason: "Unavailable" })
        else step(i, { _tag: "UnregisterFailed", at, call, reason: "Unavailable" })
      })
    })
  }
  const serve = (command: Exclude<Stream.Command, { _tag: "Cancel" }>): Stream.Event => {
    tell(Machine.woken)
    const { call } = command
    if (command._tag === "ListTargets") {
      return { _tag: "ListSucceeded", at, call, targets: Registry.targets(registry, filter) }
    }
    const { identifier, ips, status } = command.target
    const target: Target.Target = { kind: "default", stream: at, ips, context: { identifier: `${identifier}` }, status }
    if (command._tag === "RegisterTarget") {
      tell({ _tag: "RegisterRequested", reply: 0, target })
      return { _tag: "RegisterSucceeded", at, call }
    }
    tell({ _tag: "UnregisterRequested", reply: 0, target })
    return { _tag: "UnregisterSucceeded", at, call }
  }

  for (let i = 0; i < targets; i++) {
    later(draw(0, 100), () =>
      take(
        i,
        Stream.init({
          at,
          settings,
          opened: 0,
          nextCall: 0,
          seed: draw(0, 0xffff_ffff),
          situation: { _tag: "Available", maxTargets, ips: [Cidr.unsafe(`172.16.0.${i + 2}/24`)] }
        }, now)
      ))
  }
  return {
    forget: () => {
      registry = fresh()
    },
    until: (end: number, observe: () => void = () => undefined) => {
      while (true) {
        agenda.sort((a, b) => a.at - b.at)
        if ((agenda[0]?.at ?? Infinity) > end) break
        const next = agenda.shift()
        now = next?.at ?? now
        next?.run()
        observe()
      }
      now = end
    },
    open: () => machines.filter(({ status }) => status === "Open").length,
    unavailable: () => machines.filter(({ status }) => status === "Unavailable").length,
    /** The identifiers that load balancers use. */
    enabled: () => {
      tell(Machine.woken)
      return Registry.targets(registry, { ...filter, status: "enabled" }).flatMap((target) =>
        Target.identifier(target) ?? []
      )
    }
  }
}

const minute = 60_000

describe("Targets of one stream", () => {
  it.prop("settle on different identifiers in spite of losses", { seed: Seed.Seed }, ({ seed }) => {
    const world = simulate({ seed, targets: 6, maxTargets: 6, lossPercent: 20, calmAt: 3 * minute })
    world.until(6 * minute)
    assert.strictEqual(world.open(), 6)
    assert.deepStrictEqual(world.enabled().toSorted((a, b) => a - b), [1, 2, 3, 4, 5, 6])
  }, { arbitrary: { runs: 100 } })

  it.prop("never share an identifier when nothing is lost", { seed: Seed.Seed }, ({ seed }) => {
    const world = simulate({ seed, targets: 5, maxTargets: 6, lossPercent: 0, calmAt: 0 })
    for (let t = 0; t < 90_000; t += 50) {
      world.until(t)
      const identifiers = world.enabled()
      assert.strictEqual(new Set(identifiers).size, identifiers.length)
    }
  }, { arbitrary: { runs: 30 } })

  it.prop("settle for one of them when there is one identifier", { seed: Seed.Seed }, ({ seed }) => {
    const world = simulate({ seed, targets: 3, maxTargets: 1, lossPercent: 0, calmAt: 0 })
    world.until(5 * minute)
    assert.deepStrictEqual([world.open(), world.unavailable(), world.enabled()], [1, 2, [1]])
  }, { arbitrary: { runs: 100 } })

  it("never win the last identifier both, in 10 000 races of two", () => {
    for (let seed = 0; seed < 10_000; seed++) {
      const world = simulate({ seed, targets: 2, maxTargets: 1, lossPercent: 0, calmAt: 0 })
      world.until(minute, () => {
        if (world.open() > 1 || world.enabled().length > 1) assert.fail(`both won the race with seed ${seed}`)
      })
      if (world.open() !== 1) assert.fail(`nobody won the race with seed ${seed}`)
    }
  }, 120_000)

  it.prop("return after an NSP that forgot everything", { seed: Seed.Seed }, ({ seed }) => {
    const world = simulate({ seed, targets: 4, maxTargets: 4, lossPercent: 0, calmAt: 0 })
    world.until(minute)
    assert.strictEqual(world.open(), 4)
    world.forget()
    assert.deepStrictEqual(world.enabled(), [])
    world.until(minute + settings.entryTimeoutMs + Stream.attemptMs)
    assert.deepStrictEqual(world.enabled().toSorted((a, b) => a - b), [1, 2, 3, 4])
  }, { arbitrary: { runs: 100 } })
})
