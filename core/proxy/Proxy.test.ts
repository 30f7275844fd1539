import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { machineLaws } from "../../property-tests/laws/MachineLaws.ts"
import { Cidr, Kernel } from "../net/index.ts"
import * as Nsm from "../nsm/Model.ts"
import * as Convergence from "./Convergence.ts"
import * as Leases from "./Leases.ts"
import * as Mesh from "./Mesh.ts"
import { defaults, type Settings } from "./Model.ts"
import * as Proxy from "./Proxy.ts"
import * as Targets from "./Targets.ts"

const settings: Settings = {
  ...defaults,
  name: "proxy-1",
  networkService: "conduit-a.trench-a.red",
  families: ["v4", "v6"],
  mac: "02:00:00:00:00:01",
  mtu: 1500,
  releaseDelayMs: 20_000,
  renewMs: 300_000,
  expiryGraceMs: 60_000,
  tokenLifetimeMs: 600_000
}
const inputs = Arbitrary.Constant(settings)

// Few names, so that events meet; one value per family and role, so that answers fit.
const Few = Schema.Literals([1, 2, 3])
const Choice = Schema.Struct({
  which: Schema.Natural,
  dice: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 })),
  n: Few,
  m: Few,
  set: Schema.Array(Few).check(Schema.isMaxLength(3)),
  up: Schema.Boolean
})
type Choice = typeof Choice.Type
const choose = <Event>(...events: ReadonlyArray<(choice: Choice) => Event>): Arbitrary.Arbitrary<Event> =>
  Arbitrary.map(Arbitrary.schema(Choice), (choice) => {
    const event = events[choice.which % events.length]
    if (event === undefined) throw new Error("no events to choose from")
    return event(choice)
  })

const pair = (n: number) => ({
  src: [Cidr.unsafe(`172.16.0.${n * 2}/24`), Cidr.unsafe(`fd00::${n * 2}/64`)],
  dst: [Cidr.unsafe(`172.16.0.${n * 2 + 1}/24`), Cidr.unsafe(`fd00::${n * 2 + 1}/64`)]
})
const endpoint = (n: number): Nsm.Endpoint => ({
  name: `lb-${n}`,
  networkServices: [settings.networkService],
  labels: {},
  url: ""
})
const lbId = (n: number): string => `proxy-1-conduit-a.trench-a.red-lb-${n}`
const connection = (n: number, up = true): Nsm.Connection => ({
  ...Nsm.connection(lbId(n), settings.networkService),
  mechanism: { cls: "LOCAL", type: "KERNEL", parameters: { name: `nsm-${n}` } },
  context: { ...Nsm.emptyContext, ip: { ...Nsm.emptyIp, srcAddrs: pair(n).dst, dstAddrs: pair(n).src } },
  state: up ? "Up" : "Down"
})

const meshEvents = choose<Mesh.Event>(
  ({ set }) => ({ _tag: "EndpointsChanged", endpoints: set.map(endpoint) }),
  ({ set }) => ({ _tag: "EndpointsChanged", endpoints: set.map(endpoint) }),
  ({ m, n }) => ({ _tag: "LeaseGranted", id: lbId(n), pair: pair(m) }),
  ({ n }) => ({ _tag: "LeaseGranted", id: lbId(n), pair: pair(n) }),
  ({ n, up }) => ({ _tag: "ConnectionChanged", id: lbId(n), connection: connection(n, up) }),
  ({ n }) => ({ _tag: "RequestSucceeded", call: n, connection: connection(n) })
)
const meshOutcomes = (command: Mesh.Command): ReadonlyArray<Mesh.Event> => {
  const { _tag } = command
  switch (_tag) {
    case "QueryConnection":
      return [
        { _tag: "QuerySucceeded", call: command.call },
        { _tag: "QuerySucceeded", call: command.call, connection: connection(1) },
        { _tag: "QueryFailed", call: command.call, reason: "Timeout" }
      ]
    case "RequestConnection":
      return [
        { _tag: "RequestSucceeded", call: command.call, connection: connection(2) },
        { _tag: "RequestFailed", call: command.call, reason: "Timeout" }
      ]
    case "CloseConnection":
      return [
        { _tag: "CloseSucceeded", call: command.call },
        { _tag: "CloseFailed", call: command.call, reason: "Timeout" }
      ]
    default:
      return []
  }
}

describe("I8: what the mesh promises", () => {
  machineLaws(Mesh.machine, {
    inputs,
    size: 60,
    events: meshEvents,
    outcomes: meshOutcomes,
    close: { event: { _tag: "CloseRequested" }, isClosed: ({ links }) => links.length === 0 },
    invariant: ({ links }, commands) => {
      assert.strictEqual(new Set(links.map(({ id }) => id)).size, links.length, "one connection per endpoint")
      for (const command of commands) {
        if (command._tag !== "ReleaseLease") continue
        const phase = links.find(({ id }) => id === command.id)?.phase._tag
        assert.include([undefined, "Probing"], phase, "a lease is released after the close")
      }
    }
  })
})

const children = (n: number) => [{ name: `child-${n}`, family: "v4" as const }]
const leaseOutcomes = (command: Leases.Command | Proxy.Command): ReadonlyArray<LeaseOutcome> => {
  switch (command._tag) {
    case "AllocateAddresses": {
      const { call } = command
      const allocate = (offset: number) =>
        command.children.map((child, i) => ({
          ...child,
          address: child.family === "v4"
            ? Cidr.unsafe(`172.16.0.${i + offset}/24`)
            : Cidr.unsafe(`fd00::${i + offset}/64`)
        }))
      return [
        { _tag: "AllocateSucceeded", call, allocations: allocate(1) },
        { _tag: "AllocateSucceeded", call, allocations: allocate(7) },
        { _tag: "AllocateFailed", call, reason: "Unavailable" },
        { _tag: "AllocateSucceeded", call, allocations: [] }
      ]
    }
    case "ReleaseAddresses":
      return [
        { _tag: "ReleaseSucceeded", call: command.call },
        { _tag: "ReleaseFailed", call: command.call, reason: "Unavailable" }
      ]
    default:
      return []
  }
}
type LeaseOutcome = Extract<
  Leases.Event,
  { _tag: "AllocateSucceeded" | "AllocateFailed" | "ReleaseSucceeded" | "ReleaseFailed" }
>

machineLaws(Leases.machine, {
  inputs,
  size: 60,
  events: choose<Leases.Event>(
    ({ m, n }) => ({ _tag: "AcquireRequested", key: `key-${n}`, holder: `holder-${m}`, children: children(n) }),
    ({ m, n }) => ({ _tag: "ReleaseRequested", key: `key-${n}`, holder: `holder-${m}` }),
    ({ set }) =>
      set.length < 3
        ? { _tag: "ReleaseRequested", key: "key-1", holder: "holder-1" }
        : { _tag: "DrainRequested" }
  ),
  outcomes: leaseOutcomes,
  invariant: ({ draining, leases }, commands, event) => {
    for (const { holders, phase } of leases) {
      if (phase._tag === "Pending") assert.lengthOf(holders, 0, "a lease that waits for its release has no holder")
      if (phase._tag === "Held") assert.isAbove(holders.length, 0, "a lease without holders is not kept")
    }
    for (const command of commands) {
      if (command._tag !== "ReleaseAddresses") continue
      assert.isTrue(draining || event._tag === "Woken", "a release waits for its delay")
    }
  }
})

const contexts = (n: number): Nsm.IpContext =>
  n === 1 ? Nsm.emptyIp : { ...Nsm.emptyIp, srcAddrs: [...pair(n).src, Cidr.unsafe("20.0.0.1/32")] }
const request = ({ m, n, which }: Choice): typeof Targets.Event.cases.RequestReceived.Type => ({
  _tag: "RequestReceived",
  reply: which,
  id: `nse-${n}`,
  client: `client-${m}`,
  link: `nsm-${n}`,
  ip: contexts(m)
})

machineLaws(Targets.machine, {
  size: 60,
  events: choose<Targets.Event>(
    request,
    request,
    ({ m }) => ({ _tag: "LeaseGranted", client: `client-${m}`, pair: pair(m) }),
    ({ m }) => ({ _tag: "LeaseRefused", client: `client-${m}`, reason: "Unavailable" }),
    ({ which }) => ({ _tag: "RequestAbandoned", reply: which }),
    ({ n }) => ({ _tag: "CloseReceived", id: `nse-${n}` }),
    ({ n }) => ({ _tag: "BridgeChanged", addresses: pair(n).src }),
    ({ dice }) => dice < 40 ? { _tag: "BridgeChanged", addresses: pair(1).src } : { _tag: "CloseRequested" }
  ),
  outcomes: () => [],
  close: {
    event: { _tag: "CloseRequested" },
    isClosed: ({ targets }) => targets.every(({ waiting }) => waiting.length === 0)
  },
  invariant: ({ bridge, targets }, commands) => {
    assert.strictEqual(new Set(targets.map(({ id }) => id)).size, targets.length)
    assert.isTrue(targets.every(({ established, waiting }) => established !== undefined || waiting.length > 0))
    for (const command of commands) {
      if (command._tag !== "Reply" || command.answer._tag !== "Accepted") continue
      assert.sameMembers([...command.answer.ip.extraPrefixes], [...bridge], "an answer has every gateway")
    }
  }
})

const operations: ReadonlyArray<Kernel.Operation> = [{ _tag: "SetLinkUp", link: "bridge0", up: true }]

machineLaws(Convergence.machine, {
  inputs,
  size: 30,
  events: choose<Convergence.Event>(() => ({ _tag: "ReasonNoticed" })),
  outcomes: (command): ReadonlyArray<Convergence.Event> => {
    const { call } = command
    return command._tag === "ObserveKernel"
      ? [
        { _tag: "Planned", call, operations },
        { _tag: "Planned", call, operations: [] },
        { _tag: "ObserveFailed", call, reason: "ENOBUFS" }
      ]
      : [{ _tag: "ApplySucceeded", call }, { _tag: "ApplyFailed", call, reason: "ENETUNREACH" }]
  }
})

const snapshots: ReadonlyArray<Kernel.Snapshot> = [
  Kernel.empty,
  {
    ...Kernel.empty,
    links: ["bridge0", "nsm-1", "nsm-2"].map((name) => ({
      name,
      kind: name === "bridge0" ? "bridge" : "veth",
      mac: "02:00:00:00:00:01",
      up: true,
      carrier: true,
      mtu: 1500
    })),
    addresses: ["172.16.0.1/24", "fd00::2/64", "172.16.0.7/24", "fd00::8/64"].map((cidr) => ({
      link: "bridge0",
      cidr: Cidr.unsafe(cidr),
      dadFailed: false
    }))
  }
]

machineLaws(Proxy.machine, {
  inputs,
  size: 150,
  maxMoves: 150,
  events: choose<Proxy.Event>(
    ({ set }) => ({ _tag: "EndpointsChanged", endpoints: set.map(endpoint) }),
    ({ n, up }) => ({ _tag: "ConnectionChanged", id: lbId(n), connection: connection(n, up) }),
    request,
    request,
    ({ which }) => ({ _tag: "RequestAbandoned", reply: which }),
    ({ n }) => ({ _tag: "CloseReceived", id: `nse-${n}` }),
    ({ n }) => ({ _tag: "VipsChanged", vips: [Cidr.unsafe(`20.0.0.${n}/32`)] }),
    () => ({ _tag: "KernelChanged" }),
    ({ dice }) => dice < 40 ? { _tag: "KernelChanged" } : { _tag: "CloseRequested" }
  ),
  outcomes: (command): ReadonlyArray<Proxy.Event> => {
    switch (command._tag) {
      case "AllocateAddresses":
      case "ReleaseAddresses":
        return leaseOutcomes(command)
      case "QueryConnection":
      case "RequestConnection":
      case "CloseConnection":
        return meshOutcomes(command).flatMap((event) => Schema.is(Proxy.Event)(event) ? [event] : [])
      case "ObserveKernel":
        return [
          ...snapshots.map((snapshot) => ({ _tag: "ObserveSucceeded", call: command.call, snapshot }) as const),
          { _tag: "ObserveFailed", call: command.call, reason: "ENOBUFS" }
        ]
      case "ApplyOperations":
        return [
          { _tag: "ApplySucceeded", call: command.call },
          { _tag: "ApplyFailed", call: command.call, reason: "ENETUNREACH" }
        ]
      case "ServeTargets":
        return [{ _tag: "ServeFailed", call: command.call, reason: "Unavailable" }]
      case "StopServing":
        return [{ _tag: "StopSucceeded", call: command.call }]
      default:
        return []
    }
  },
  close: { event: { _tag: "CloseRequested" }, isClosed: ({ phase }) => phase._tag === "Closed" }
})

describe("Convergence", () => {
  const [reading] = Convergence.init(settings)

  it("reads the kernel again when it changed while it was being read", () => {
    const [noticed] = Convergence.step(reading, { _tag: "ReasonNoticed" }, 0)
    const [, commands] = Convergence.step(noticed, { _tag: "Planned", call: 0, operations: [] }, 0)
    assert.deepStrictEqual(commands, [{ _tag: "ObserveKernel", call: 1 }])
  })

  it("I19: pauses before it tries operations again that did not help", () => {
    const [applying, first] = Convergence.step(reading, { _tag: "Planned", call: 0, operations }, 0)
    assert.deepStrictEqual(first, [{ _tag: "ApplyOperations", call: 1, operations }])
    const [again] = Convergence.step(applying, { _tag: "ApplyFailed", call: 1, reason: "ENETUNREACH" }, 0)
    const [pausing, none] = Convergence.step(again, { _tag: "Planned", call: 2, operations }, 10)
    assert.deepStrictEqual(none, [])
    assert.strictEqual(Convergence.wake(pausing), settings.applyRetryMs)
  })
})
