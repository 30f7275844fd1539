import { assert, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { LoadBalancer } from "../../core/loadbalancer/index.ts"
import { machineLaws } from "../laws/MachineLaws.ts"
import { flow, links, settings, stream, target, vip, World } from "./Machine.ts"

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
