/** The machine of a load balancer in a kernel that does what it is told, and what it is told about. */
import type { Flow, Stream } from "../../core/config/Model.ts"
import type { Target } from "../../core/config/Target.ts"
import { LoadBalancer } from "../../core/loadbalancer/index.ts"
import type * as Machine from "../../core/Machine.ts"
import * as Cidr from "../../core/net/Cidr.ts"
import type * as Kernel from "../../core/net/Kernel.ts"
import * as KernelModel from "../kernel/KernelModel.ts"

export const settings: LoadBalancer.Settings = {
  conduit: { trench: "trench-a", conduit: "conduit-a" },
  hostname: "lb-1",
  offsetStart: 5_000,
  offsetEnd: 9_999,
  table: "sluice-lb",
  linkPrefix: "load-balan-"
}

export const stream = (name: string, maxTargets = 2): Stream => ({ ...settings.conduit, stream: name, maxTargets })
export const vip = { name: "vip", address: Cidr.unsafe("20.0.0.1/32") }
export const flow = (name: string, more: Partial<Flow> = {}): Flow => ({
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
export const target = (identifier: number, ip: string, more: Partial<Target> = {}): Target => ({
  kind: "default",
  stream: { ...settings.conduit, stream: "stream-a" },
  ips: [`${ip}/24`],
  context: { identifier: String(identifier) },
  status: "enabled",
  ...more
})

export const links: Kernel.Snapshot = KernelModel.applyAll(
  { links: [], addresses: [], rules: [], routes: [], neighbours: [] },
  [
    { _tag: "AddBridge", name: "load-balan-a" },
    { _tag: "SetLinkUp", link: "load-balan-a", up: true },
    { _tag: "AddAddress", link: "load-balan-a", cidr: Cidr.unsafe("172.16.0.3/24") }
  ]
)

/** The machine in a kernel that does what it is told. Each event takes a millisecond. */
export class World {
  state: LoadBalancer.State
  kernel = links
  readonly log: Array<string> = []
  now = 0
  refuseRules = false
  refuseFastPath = false
  /** What happens while the kernel is read to look at what was just applied. */
  meanwhile: (() => void) | undefined
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
      case "ReadKernel": {
        const { kernel } = this.state
        const { meanwhile } = this
        if (meanwhile !== undefined && kernel._tag === "Reading" && kernel.again) {
          this.meanwhile = undefined
          meanwhile()
        }
        return this.send({ _tag: "ReadSucceeded", call: command.call, snapshot: this.kernel })
      }
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

export const operation = (operation: Kernel.Operation): string => {
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

export const announced: LoadBalancer.Event = { _tag: "FrontendsChanged", frontends: ["lb-0", "lb-1"] }
export const targets = (...targets: ReadonlyArray<Target>): LoadBalancer.Event => ({ _tag: "TargetsChanged", targets })

export const serving = (): World => {
  const world = new World()
  world.send(targets(target(1, "172.16.0.11"), target(2, "172.16.0.12")))
  world.send({ _tag: "StreamsChanged", streams: [stream("stream-a"), stream("stream-b")] })
  world.send({ _tag: "FlowsChanged", flows: [flow("flow-a"), flow("flow-z", { vips: [] })] })
  world.send({ _tag: "PortNatsChanged", portNats: [] })
  world.send(announced)
  return world
}
