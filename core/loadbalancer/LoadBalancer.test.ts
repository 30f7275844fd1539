import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import * as KernelModel from "../../property-tests/kernel/KernelModel.ts"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import type { Flow, Stream } from "../config/Model.ts"
import type { Target } from "../config/Target.ts"
import type * as Machine from "../Machine.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import type * as Kernel from "../net/Kernel.ts"
import * as LoadBalancer from "./LoadBalancer.ts"

const settings: LoadBalancer.Settings = {
  conduit: { trench: "trench-a", conduit: "conduit-a" },
  hostname: "lb-1",
  offsetStart: 5_000,
  offsetEnd: 9_999,
  table: "sluice-lb",
  linkPrefix: "load-balan-"
}

const stream = (name: string, maxTargets = 2): Stream => ({ ...settings.conduit, stream: name, maxTargets })
const vip = { name: "vip", address: Cidr.unsafe("20.0.0.1/32") }
const flow = (name: string, more: Partial<Flow> = {}): Flow => ({
  name,
  stream: { ...settings.conduit, stream: "stream-a" },
  vips: [vip],
  sourceSubnets: [],
  sourcePorts: [],
  destinationPorts: [],
  protocols: ["tcp"],
  byteMatches: [],
  priority: 1,
  ...more
})
const target = (identifier: number, ip: string, more: Partial<Target> = {}): Target => ({
  kind: "default",
  stream: { ...settings.conduit, stream: "stream-a" },
  ips: [`${ip}/24`],
  context: { identifier: String(identifier) },
  status: "enabled",
  ...more
})

const links: Kernel.Snapshot = KernelModel.applyAll(
  { links: [], addresses: [], rules: [], routes: [], neighbours: [] },
  [
    { _tag: "AddBridge", name: "load-balan-a" },
    { _tag: "SetLinkUp", link: "load-balan-a", up: true },
    { _tag: "AddAddress", link: "load-balan-a", cidr: Cidr.unsafe("172.16.0.3/24") }
  ]
)

/** The machine in a kernel that does what it is told. Each event takes a millisecond. */
class World {
  state: LoadBalancer.State
  kernel = links
  readonly log: Array<string> = []
  now = 0
  refuseRules = false
  refuseFastPath = false
  /** How often it has become available or unavailable. */
  turns = 0
  /** Marks that packets got although nothing led to a target. */
  readonly astray: Array<number> = []

  constructor() {
    const [state] = LoadBalancer.machine.init(settings, 0)
    this.state = state
  }

  send(event: LoadBalancer.Event | Machine.Woken): void {
    this.now++
    const [state, commands] = LoadBalancer.machine.step(this.state, event, this.now)
    if (LoadBalancer.isAvailable(state) !== LoadBalancer.isAvailable(this.state)) this.turns++
    this.state = state
    for (const command of commands) this.perform(command)
  }

  sleep(ms: number): void {
    const until = this.now + ms
    for (let round = 0; round < 100; round++) {
      const wake = LoadBalancer.machine.wake(this.state)
      if (wake === undefined || wake > until) break
      this.now = Math.max(this.now, wake - 1)
      this.send({ _tag: "Woken" })
    }
    this.now = until
  }

  perform(command: LoadBalancer.Command): void {
    switch (command._tag) {
      case "ReadKernel":
        return this.send({ _tag: "ReadSucceeded", call: command.call, snapshot: this.kernel })
      case "ApplyOperations":
        this.log.push(...command.operations.map(operation))
        this.kernel = KernelModel.applyAll(this.kernel, command.operations)
        return this.send({ _tag: "OperationsSucceeded", call: command.call })
      case "ApplyRules": {
        if (this.refuseRules || (this.refuseFastPath && command.after.fastPath !== undefined)) {
          return this.send({ _tag: "RulesFailed", call: command.call, reason: "no" })
        }
        const marks = command.after.streams.flatMap(({ identifiers, offset }) =>
          identifiers.map((each) => offset + each)
        )
        const { routes, rules } = this.kernel
        this.astray.push(
          ...marks.filter((mark) =>
            !routes.some(({ table }) => table === mark) ||
            !rules.some((rule) => rule.mark === mark && rule.table === mark)
          )
        )
        const streams = command.after.streams.map(({ identifiers, name, offset }) =>
          `${name}@${offset}[${identifiers.join()}]`
        )
        this.log.push(
          `rules: ${streams.join(" ")} flows ${command.after.flows.map(({ name }) => name).join()}`
            + (command.after.fastPath === undefined ? "" : `, from ${command.after.fastPath.externals.join()}`)
            + (command.before === undefined ? ", anew" : "")
        )
        return this.send({ _tag: "RulesSucceeded", call: command.call })
      }
      case "ServeEndpoint":
        this.log.push("serve")
        return this.send({ _tag: "EndpointServed", call: command.call })
      case "StopEndpoint":
        this.log.push("stop")
        return this.send({ _tag: "EndpointStopped", call: command.call })
    }
  }

  change(operation: Kernel.Operation): void {
    this.kernel = KernelModel.apply(this.kernel, operation)
    this.send({ _tag: "KernelChanged" })
    this.sleep(200)
  }

  taken(): ReadonlyArray<string> {
    return this.log.splice(0)
  }
}

const operation = (operation: Kernel.Operation): string => {
  switch (operation._tag) {
    case "ReplaceRoute":
      return `+route ${operation.route.table}`
    case "AddRule":
      return `+rule ${operation.rule.table}`
    case "DeleteRoute":
      return `-route ${operation.route.table}`
    case "DeleteRule":
      return `-rule ${operation.rule.table}`
    case "SetLinkUp":
      return `${operation.link} ${operation.up ? "up" : "down"}`
    default:
      return operation._tag
  }
}

const announced: LoadBalancer.Event = { _tag: "FrontendsChanged", frontends: ["lb-0", "lb-1"] }
const targets = (...targets: ReadonlyArray<Target>): LoadBalancer.Event => ({ _tag: "TargetsChanged", targets })

const serving = (): World => {
  const world = new World()
  world.send(targets(target(1, "172.16.0.11"), target(2, "172.16.0.12")))
  world.send({ _tag: "StreamsChanged", streams: [stream("stream-a"), stream("stream-b")] })
  world.send({ _tag: "FlowsChanged", flows: [flow("flow-a"), flow("flow-z", { vips: [] })] })
  world.send({ _tag: "PortNatsChanged", portNats: [] })
  world.send(announced)
  return world
}

describe("LoadBalancer", () => {
  it("touches nothing before it knows every list, then routes before it balances", () => {
    const world = serving()
    assert.deepStrictEqual(world.taken(), [])
    assert.isFalse(LoadBalancer.isAvailable(world.state))
    world.send({ _tag: "VipsChanged", vips: [vip] })
    assert.deepStrictEqual(world.taken(), [
      "+route 5001",
      "+route 5002",
      "+rule 5001",
      "+rule 5002",
      "rules: stream-a@5000[] stream-b@5002[] flows flow-a, anew",
      "serve",
      "rules: stream-a@5000[1,2] stream-b@5002[] flows flow-a"
    ])
    assert.isTrue(LoadBalancer.isAvailable(world.state))
  })

  it("balances without a target before it forgets the way to it", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.taken()
    world.send(targets(target(2, "172.16.0.12")))
    assert.deepStrictEqual(world.taken(), [
      "rules: stream-a@5000[2] stream-b@5002[] flows flow-a",
      "-rule 5001",
      "-route 5001"
    ])
    world.send(targets())
    assert.isFalse(LoadBalancer.isAvailable(world.state))
  })

  it("uses no target that is disabled, without identifier, beyond the limit, of another conduit or out of reach", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.taken()
    world.send(targets(
      target(1, "172.16.0.11", { status: "disabled" }),
      target(2, "172.16.9.12"),
      target(3, "172.16.0.13"),
      target(1, "172.16.0.14", { context: {} }),
      target(1, "172.16.0.15", { stream: { trench: "trench-a", conduit: "conduit-b", stream: "stream-a" } })
    ))
    assert.deepStrictEqual(world.state.rules?.streams.flatMap(({ identifiers }) => identifiers), [])
    assert.deepStrictEqual(world.kernel.rules, links.rules)
  })

  it("takes a target out when its link goes, and in again when it returns", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.taken()
    world.change({ _tag: "SetLinkUp", link: "load-balan-a", up: false })
    assert.strictEqual(world.taken()[0], "rules: stream-a@5000[] stream-b@5002[] flows flow-a")
    assert.isFalse(LoadBalancer.isAvailable(world.state))
    world.change({ _tag: "SetLinkUp", link: "load-balan-a", up: true })
    assert.isTrue(LoadBalancer.isAvailable(world.state))
  })

  it("drops its streams, its links and its endpoint with the frontend of its pod", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.taken()
    world.send({ _tag: "FrontendsChanged", frontends: ["lb-0"] })
    world.sleep(200)
    const log = world.taken()
    assert.deepStrictEqual(log.slice(0, 2), ["stop", "rules:  flows "])
    assert.include(log, "load-balan-a down")
    assert.deepStrictEqual(world.kernel.routes.filter(({ table }) => table > 5_000), [])
    assert.isFalse(LoadBalancer.isAvailable(world.state))
  })

  it("replaces the rules altogether after a failure, a second later", () => {
    const world = serving()
    world.refuseRules = true
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.refuseRules = false
    world.taken()
    world.sleep(999)
    assert.deepStrictEqual(world.taken(), [])
    world.sleep(10)
    assert.deepStrictEqual(world.taken(), ["rules: stream-a@5000[1,2] stream-b@5002[] flows flow-a, anew", "serve"])
  })

  it("believes an empty configuration only when it stands", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.taken()
    world.send({ _tag: "StreamsChanged", streams: [] })
    world.sleep(1_900)
    world.send({ _tag: "StreamsChanged", streams: [stream("stream-a"), stream("stream-b")] })
    world.sleep(5_000)
    assert.deepStrictEqual(world.taken(), [])
    world.send({ _tag: "StreamsChanged", streams: [] })
    world.sleep(2_100)
    assert.strictEqual(world.taken()[0], "rules:  flows flow-a")
  })

  it("lets frontends announce when it reaches all targets, or some for 2 s", () => {
    const world = serving()
    world.send(targets(target(1, "172.16.0.11"), target(2, "172.16.9.12")))
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.sleep(1_900)
    assert.isFalse(LoadBalancer.isAvailable(world.state))
    world.sleep(200)
    assert.isTrue(LoadBalancer.isAvailable(world.state))
    const other = serving()
    other.send(targets(target(1, "172.16.0.11"), target(2, "172.16.9.12")))
    other.send({ _tag: "VipsChanged", vips: [vip] })
    other.send(targets(target(1, "172.16.0.11"), target(2, "172.16.0.12")))
    assert.isTrue(LoadBalancer.isAvailable(other.state))
    other.send(targets(target(1, "172.16.0.11"), target(2, "172.16.9.12")))
    assert.isTrue(LoadBalancer.isAvailable(other.state), "a target that goes takes nothing from the others")
    other.send(targets())
    assert.isFalse(LoadBalancer.isAvailable(other.state))
  })

  it("takes the fast path where the frontend has its gateways, and does without it when the kernel refuses", () => {
    const world = serving()
    const rule = { family: "v4", priority: 100, table: 4_096, from: Cidr.network(vip.address), foreign: false } as const
    const hops = [{ via: Ip.unsafe("192.0.2.9"), link: "ext" }]
    const destination = Cidr.defaultRoute("v4")
    const shape = { family: "v4", table: 4_096, type: "unicast", metric: 32, protocol: 12, onlink: false } as const
    const gateway: Kernel.Route = { ...shape, destination, hops }
    world.kernel = KernelModel.applyAll(world.kernel, [
      { _tag: "AddBridge", name: "ext" },
      { _tag: "SetLinkUp", link: "ext", up: true },
      { _tag: "AddAddress", link: "ext", cidr: Cidr.unsafe("192.0.2.1/24") },
      { _tag: "AddRule", rule },
      {
        _tag: "ReplaceRoute",
        route: gateway
      }
    ])
    world.send({ _tag: "VipsChanged", vips: [vip] })
    const rules = "rules: stream-a@5000[1,2] stream-b@5002[] flows flow-a"
    assert.strictEqual(world.taken().at(-1), `${rules}, from ext`)
    world.change({ _tag: "DeleteRoute", route: gateway })
    assert.deepStrictEqual(world.taken(), [rules])
    world.refuseFastPath = true
    world.change({ _tag: "ReplaceRoute", route: gateway })
    world.sleep(30_000)
    assert.deepStrictEqual(world.taken(), [`${rules}, anew`])
    assert.isTrue(LoadBalancer.isAvailable(world.state))
    world.refuseFastPath = false
    world.sleep(31_000)
    assert.deepStrictEqual(world.taken(), [`${rules}, from ext`])
    world.refuseFastPath = true
    world.change({ _tag: "SetLinkMtu", link: "ext", mtu: 9_000 })
    assert.deepStrictEqual(world.taken(), [`${rules}, anew`])
    world.refuseFastPath = false
    world.change({ _tag: "SetLinkMtu", link: "ext", mtu: 1_500 })
    assert.deepStrictEqual(world.taken(), [`${rules}, from ext`], "at once when it leads elsewhere")
  })
})

const some = <A>(all: ReadonlyArray<A>): Arbitrary.Arbitrary<ReadonlyArray<A>> =>
  Arbitrary.map(Arbitrary.schema(Schema.Array(Schema.Boolean)), (flags) => all.filter((_, i) => flags[i] ?? false))

const kinds = [
  "vips",
  "nats",
  "streams",
  "flows",
  "targets",
  "targets",
  "frontends",
  "frontends",
  "kernel",
  "stale"
] as const

const events: Arbitrary.Arbitrary<LoadBalancer.Event> = Arbitrary.map(
  Arbitrary.all({
    kind: Arbitrary.schema(Schema.Literals(kinds)),
    streams: some([stream("stream-a"), stream("stream-b"), stream("stream-c", 20_000)]),
    flows: some([flow("flow-a"), flow("flow-b")]),
    targets: some([
      target(1, "172.16.0.11"),
      target(2, "172.16.0.12"),
      target(2, "172.16.0.13"),
      target(1, "10.0.0.1")
    ]),
    frontends: some(["lb-1", "lb-2"])
  }),
  ({ flows, frontends, kind, streams, targets }): LoadBalancer.Event => {
    switch (kind) {
      case "vips":
        return { _tag: "VipsChanged", vips: flows.length > 1 ? [] : [vip] }
      case "nats":
        return { _tag: "PortNatsChanged", portNats: [] }
      case "streams":
        return { _tag: "StreamsChanged", streams }
      case "flows":
        return { _tag: "FlowsChanged", flows }
      case "targets":
        return { _tag: "TargetsChanged", targets }
      case "frontends":
        return { _tag: "FrontendsChanged", frontends }
      case "kernel":
        return { _tag: "KernelChanged" }
      case "stale":
        return { _tag: "RulesSucceeded", call: 1_000_000 }
    }
  }
)

it.prop(
  "21: no mark without a route; available exactly while there is a target, with one change at the first and the last",
  { run: Arbitrary.array(events, { maxLength: 30 }) },
  ({ run }) => {
    const world = new World()
    for (const event of run) {
      const before = world.turns
      world.send(event)
      world.sleep(5_000)
      assert.deepStrictEqual(world.astray, [])
      assert.isAtMost(world.turns - before, 1)
      const { rules } = world.state
      const count = rules?.streams.reduce((sum, { identifiers }) => sum + identifiers.length, 0) ?? 0
      assert.strictEqual(LoadBalancer.isAvailable(world.state), count > 0)
    }
  }
)

const outcomes = (command: LoadBalancer.Command): ReadonlyArray<LoadBalancer.Event> => {
  switch (command._tag) {
    case "ReadKernel":
      return [
        { _tag: "ReadSucceeded", call: command.call, snapshot: links },
        { _tag: "ReadFailed", call: command.call, reason: "busy" }
      ]
    case "ApplyOperations":
      return [
        { _tag: "OperationsSucceeded", call: command.call },
        { _tag: "OperationsFailed", call: command.call, reason: "busy" }
      ]
    case "ApplyRules":
      return [
        { _tag: "RulesSucceeded", call: command.call },
        { _tag: "RulesFailed", call: command.call, reason: "busy" }
      ]
    case "ServeEndpoint":
      return [
        { _tag: "EndpointServed", call: command.call },
        { _tag: "EndpointFailed", call: command.call, reason: "busy" }
      ]
    case "StopEndpoint":
      return [{ _tag: "EndpointStopped", call: command.call }]
  }
}

machineLaws(LoadBalancer.machine, {
  inputs: Arbitrary.Constant(settings),
  events,
  outcomes,
  close: { event: { _tag: "CloseRequested" }, isClosed: LoadBalancer.isClosed },
  invariant: ({ rules, lists }) =>
    rules === undefined ||
    rules.streams.every(({ identifiers }) => identifiers.length <= (lists.targets ?? []).length + 2)
})
