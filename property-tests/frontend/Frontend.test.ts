import { afterAll, assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Equal, Schema } from "effect"
import { type BirdConfig, Connectivity, Frontend, Quarantine, Speaker } from "../../core/frontend/index.ts"
import * as Machine from "../../core/Machine.ts"
import { Cidr } from "../../core/net/index.ts"
import { machineLaws } from "../laws/MachineLaws.ts"
import { events, gateways, outcomes, settings } from "./Specimen.ts"

const announces = (config: BirdConfig.Config): boolean => /protocol static 'VIP[46]'/.test(config.text)

let announcing = 0

/** What must hold after every step of every run. */
const invariant = (
  state: Frontend.State,
  commands: ReadonlyArray<Frontend.Command>,
  event: Frontend.Event | Machine.Woken
): void => {
  const wanted = Frontend.wantedConfig(state)
  if (announces(wanted)) announcing++
  const forwards = state.loadBalancer._tag === "Forwarding" || state.loadBalancer._tag === "Lost"
  if (!forwards || !state.connectivity.connected || state.phase._tag !== "Running") {
    assert.isFalse(announces(wanted), "1: announced only while the load balancer forwards and the outside is connected")
    assert.deepStrictEqual(wanted.announces, [])
  }
  if (event._tag === "LoadBalancerObserved" && !event.forwarding) {
    assert.isFalse(announces(wanted), "2: a load balancer that does not forward ends the announcement at once")
  }
  assert.isTrue(wanted.announces.every((vip) => state.attractor?.vips.includes(vip)), "only VIPs are announced")
  assert.isTrue(wanted.announces.every((vip) => state.keeper.kept.includes(vip)), "10: rules before the announcement")
  for (const command of commands) {
    if (command._tag === "ConvergeRules" && state.speaker.process._tag !== "Off") {
      const { process } = state.speaker
      const spoken = process._tag === "Up" ? process.applied.announces : []
      assert.isTrue(spoken.every((vip) => command.desired.vips.includes(vip)), "10: the withdrawal before the rules go")
    }
    if (command._tag === "ConvergeRules") {
      const { guarded, vips } = command.desired
      assert.isFalse(guarded.some((vip) => vips.includes(vip)), "a VIP is not a former one")
      assert.isTrue(
        state.keeper.kept.every((vip) => vips.includes(vip) || guarded.includes(vip)),
        "the egress of a removed VIP stays dropped"
      )
    }
    if (command._tag === "RegisterTarget") assert.isTrue(state.connectivity.connected, "15: registered while connected")
    if (command._tag === "StartBird") assert.isFalse(announces(command.config), "BIRD starts without announcing")
  }
  const configures = commands.filter(({ _tag }) => _tag === "ConfigureBird")
  assert.isAtMost(configures.length, 1, "13: one configure at a time")
  const gateways = Quarantine.free(state.attractor?.gateways ?? [], state.quarantine)
  assert.deepStrictEqual(
    state.connectivity,
    Connectivity.judge(gateways, state.monitor.protocols, state.monitor.sessions, state.settings.perFamily),
    "11: connectivity is what the rows say"
  )
  assert.strictEqual(state.egress, state.connectivity.connected && state.phase._tag === "Running", "17: Egress health")
  const last = commands.findLast(({ _tag }) => _tag === "RegisterTarget" || _tag === "UnregisterTarget")
  if (!state.egress && last !== undefined) assert.strictEqual(last._tag, "UnregisterTarget", "15: the last word")
}

/** A run of events and answers, the first (good) answer to everything unless `pick` says otherwise. */
const play = (
  happenings: ReadonlyArray<{ readonly event: Frontend.Event; readonly move: "event" | "answer" | "wake" }>,
  pick: (command: Frontend.Command) => number,
  isAnswered: (command: Frontend.Command) => boolean = () => true
) => {
  let now = 0
  let [state, commands] = Frontend.init(settings, now)
  let open = [...commands]
  const all = [...commands]
  const step = (event: Frontend.Event | Machine.Woken) => {
    const [next, asked] = Frontend.step(state, event, now)
    state = next
    invariant(next, asked, event)
    open.push(...asked)
    all.push(...asked)
  }
  let refused: ((config: BirdConfig.Config) => boolean) | undefined
  const answer = () => {
    const command = open.shift()
    if (command !== undefined && !isAnswered(command)) return
    if (command?._tag === "ConfigureBird" && refused?.(command.config) === true) {
      return step({ _tag: "ConfigureRefused", call: command.call, message: "x.conf:1:1 no" })
    }
    const possible = command === undefined ? [] : outcomes(command)
    const outcome = command && possible[pick(command) % Math.max(1, possible.length)]
    if (outcome !== undefined) step(outcome)
  }
  const wake = () => {
    now = Math.max(now, Frontend.wake(state) ?? now)
    step(Machine.woken)
  }
  for (const { event, move } of happenings) {
    if (move === "event") step(event)
    else if (move === "answer") answer()
    else wake()
  }
  const live = (turns: number) => {
    for (let i = 0; i < turns; i++) {
      if (open.length === 0) wake()
      else answer()
    }
  }
  const refuse = (bad: (config: BirdConfig.Config) => boolean) => {
    refused = bad
  }
  return { answer, all, live, refuse, isIdle: () => open.length === 0, now: () => now, state: () => state, step, wake }
}

const laws = {
  inputs: Arbitrary.Constant(settings),
  events,
  outcomes,
  close: {
    event: { _tag: "StopRequested" } as const,
    isClosed: ({ phase }: Frontend.State) => phase._tag === "Stopped"
  },
  invariant,
  maxMoves: 200
}

machineLaws(Frontend.machine, laws)

/** A frontend that announces, with nothing in flight. */
const announcingFrontend = (): Frontend.State => {
  const good = { vips: ["20.0.0.1/32", "2000::1/128"], gateways: gateways.slice(0, 2) }
  const world = play([], () => 0)
  world.step({ _tag: "AttractorObserved", attractors: [good] })
  world.step({ _tag: "LoadBalancerObserved", forwarding: true })
  while (Speaker.announced(world.state().speaker).length === 0 || !world.isIdle()) {
    if (world.isIdle()) world.wake()
    else world.answer()
  }
  return world.state()
}

machineLaws({ ...Frontend.machine, name: "a frontend that announces", init: () => [announcingFrontend(), []] }, laws)

afterAll(() => assert.isAbove(announcing, 50, "the runs get as far as an announcement"))

describe("A frontend", () => {
  const runs = Arbitrary.array(
    Arbitrary.all({ event: events, move: Arbitrary.schema(Schema.Literals(["event", "answer", "wake"])) }),
    { maxLength: 50 }
  )

  it.prop("13: the last wanted configuration is applied in the end", { run: runs }, ({ run }) => {
    const world = play(run, () => 0)
    world.step({ _tag: "LoadBalancerObserved", forwarding: true })
    world.live(120)
    while (!world.isIdle()) world.answer()
    const { process } = world.state().speaker
    assert.strictEqual(process._tag, "Up")
    assert.isTrue(process._tag === "Up" && Equal.equals(process.applied, Frontend.wantedConfig(world.state())))
  })

  it.prop(
    "2: BIRD announces nothing in the end once the load balancer stops, whatever it refuses",
    { run: runs },
    ({ run }) => {
      const world = play(run, () => 0)
      world.step({ _tag: "AttractorObserved", attractors: [{ vips: ["20.0.0.1/32"], gateways: [gatewayA] }] })
      world.step({ _tag: "LoadBalancerObserved", forwarding: true })
      world.live(80)
      assert.deepStrictEqual(Speaker.announced(world.state().speaker), [Cidr.unsafe("20.0.0.1/32")])
      world.refuse((config) => config.text.includes("NBR-gateway-v4-b"))
      const bad = { ...gatewayA, name: "gateway-v4-b" }
      world.step({ _tag: "AttractorObserved", attractors: [{ vips: ["20.0.0.1/32"], gateways: [gatewayA, bad] }] })
      world.step({ _tag: "LoadBalancerObserved", forwarding: false })
      world.live(80)
      assert.deepStrictEqual(Speaker.announced(world.state().speaker), [])
    }
  )

  it.prop(
    "14: a gateway that BIRD refuses keeps neither gateways nor VIPs waiting, even if BIRD does not say which it is",
    { run: runs, mask: Arbitrary.schema(Schema.Natural) },
    ({ mask, run }) => {
      const good = gateways.slice(0, 6).filter(({ name }) => !name.startsWith("guarded"))
      const bad = good.filter((_, i) => (mask >> i) % 2 === 1).map(({ name }) => name)
      const world = play(run, () => 0)
      // What BIRD runs already is never left out, even if it is refused from now on.
      world.step({ _tag: "AttractorObserved", attractors: [] })
      world.live(100)
      world.refuse((config) => bad.some((name) => config.text.includes(`'NBR-${name}'`)))
      world.step({ _tag: "AttractorObserved", attractors: [{ vips: ["20.0.0.1/32"], gateways: good }] })
      world.step({ _tag: "LoadBalancerObserved", forwarding: true })
      world.live(200)
      const { quarantine, speaker: { process } } = world.state()
      if (process._tag !== "Up") return assert.fail("BIRD runs")
      for (const { name } of good) {
        const runs = process.applied.text.includes(`'NBR-${name}'`)
        assert.strictEqual(runs, !bad.includes(name), name)
      }
      assert.deepStrictEqual(
        quarantine.map(({ certain, gateway }) => `${gateway.name} ${certain}`).toSorted(),
        bad.map((name) => `${name} true`).toSorted()
      )
      if (bad.length < good.length) assert.deepStrictEqual(process.applied.announces, [Cidr.unsafe("20.0.0.1/32")])
    }
  )

  it.prop("16: an NSP that never answers delays no withdrawal", { run: runs }, ({ run }) => {
    const ofNsp = new Set<Frontend.Command["_tag"]>(["RegisterTarget", "UnregisterTarget"])
    const world = play(run, () => 0, ({ _tag }) => !ofNsp.has(_tag))
    world.step({ _tag: "AttractorObserved", attractors: [{ vips: ["20.0.0.1/32"], gateways: [gatewayA] }] })
    world.step({ _tag: "LoadBalancerObserved", forwarding: true })
    world.live(80)
    while (!world.isIdle()) world.answer()
    assert.deepStrictEqual(Speaker.announced(world.state().speaker), [Cidr.unsafe("20.0.0.1/32")])
    const before = world.now()
    world.step({ _tag: "LoadBalancerObserved", forwarding: false })
    while (!world.isIdle()) world.answer()
    assert.deepStrictEqual(Speaker.announced(world.state().speaker), [])
    assert.strictEqual(world.now(), before)
  })

  it.prop("18: a stop from anywhere ends in time, with BIRD gone", { run: runs }, ({ run }) => {
    const world = play(run, (command) => command._tag === "UnregisterTarget" ? 1 : 0)
    world.step({ _tag: "StopRequested" })
    const asked = world.now()
    for (let i = 0; i < 120 && world.state().phase._tag !== "Stopped"; i++) {
      if (world.isIdle()) world.wake()
      else world.answer()
    }
    assert.strictEqual(world.state().phase._tag, "Stopped")
    assert.isAtMost(world.now() - asked, 2 * settings.stopMs)
    assert.strictEqual(world.state().speaker.process._tag, "Off")
    assert.isTrue(world.state().keeper.doing._tag === "Waiting" && world.state().keeper.kept.length === 0)
  })

  it.prop("19: the same attractor again changes nothing", { run: runs, last: events }, ({ last, run }) => {
    const world = play(run, () => 0)
    world.step(last)
    const before = world.state()
    if (last._tag === "AttractorObserved" && last.attractors.length === 1) {
      assert.strictEqual(Frontend.step(before, last, world.now())[0], before)
    }
  })

  it.effect("12: as many failed looks as allowed change nothing, one more ends connectivity once", () =>
    Effect.sync(() => {
      const failing = { on: false }
      const world = play([], (command) => command._tag === "QueryBird" && failing.on ? 3 : 0)
      world.step({ _tag: "AttractorObserved", attractors: [{ vips: ["20.0.0.1/32"], gateways: [gatewayA] }] })
      const turn = () => {
        const before = world.all.filter(({ _tag }) => _tag === "QueryBird").length
        do {
          while (!world.isIdle()) world.answer()
          world.wake()
        } while (world.all.filter(({ _tag }) => _tag === "QueryBird").length === before)
        while (!world.isIdle()) world.answer()
      }
      turn()
      assert.isTrue(world.state().connectivity.connected)
      failing.on = true
      for (let i = 0; i < settings.maxSessionErrors; i++) {
        turn()
        assert.isTrue(world.state().connectivity.connected, `after ${i + 1} failures`)
      }
      turn()
      assert.isFalse(world.state().connectivity.connected)
      turn()
      const unregisters = world.all.filter(({ _tag }) => _tag === "UnregisterTarget")
      assert.strictEqual(unregisters.length, 2, "the one at the start and the one at the loss")
    }))
})

const gatewayA = {
  name: "gateway-v4-a",
  address: "169.254.100.150",
  protocol: "bgp",
  remoteAs: 0,
  localAs: 0,
  remotePort: 0,
  localPort: 0,
  holdTimeS: 24,
  bfd: true,
  minTxMs: 300,
  minRxMs: 300,
  multiplier: 5,
  keySource: "",
  keyName: ""
}
