/**
 * Stories of a proxy with its IPAM, its load balancers and the model of the kernel. The kernel is read and changed at once
 * and told as what ip(8) would do; what the others answer is up to the story.
 */
import { Schema } from "effect"
import * as Machine from "../../core/Machine.ts"
import { Cidr, IpCommand, Kernel } from "../../core/net/index.ts"
import * as Nsm from "../../core/nsm/Model.ts"
import { Model, Proxy } from "../../core/proxy/index.ts"
import * as KernelModel from "../kernel/KernelModel.ts"
import { transcript } from "../laws/Transcript.ts"

const settings: Model.Settings = {
  ...Model.defaults,
  name: "proxy-1",
  networkService: "conduit-a.t.red",
  families: ["v4"],
  mac: "02:00:00:00:00:01",
  mtu: 1500,
  releaseDelayMs: 20_000,
  renewMs: 300_000,
  expiryGraceMs: 300_000,
  tokenLifetimeMs: 600_000
}

const call = { call: Machine.Call }
const name = { name: Schema.String }

const Event = Schema.TaggedUnion({
  EndpointsFound: { names: Schema.Array(Schema.String) },
  VipsChanged: { vips: Schema.Array(Cidr.Cidr) },
  TargetAsked: { reply: Schema.Natural, link: Kernel.LinkName },
  LinkMade: name,
  LinkGone: name,
  IpamAnswered: call,
  IpamFailed: call,
  NothingKnown: call,
  Connected: { ...call, link: Kernel.LinkName },
  NotConnected: call,
  Closed: call,
  NotClosed: call
})

const Command = Schema.TaggedUnion({
  Allocate: { ...call, names: Schema.Array(Schema.String) },
  Release: { ...call, names: Schema.Array(Schema.String) },
  Query: { ...call, id: Schema.String },
  Connect: { ...call, id: Schema.String, own: Schema.Array(Cidr.Cidr), theirs: Schema.Array(Cidr.Cidr) },
  Close: { ...call, id: Schema.String },
  Serve: call,
  Cancel: call,
  Egress: { serving: Schema.Boolean },
  Accept: { reply: Schema.Natural, own: Schema.Array(Cidr.Cidr), gateways: Schema.Array(Cidr.Cidr) },
  Refuse: { reply: Schema.Natural, reason: Schema.String },
  Run: { command: Schema.String },
  Other: { what: Schema.String }
})
type Told = typeof Command.Type

const State = Schema.Struct({
  proxy: Proxy.State,
  kernel: Kernel.Snapshot,
  inFlight: Schema.Array(Proxy.Command),
  /** The names in the IPAM; the first one has the first address. */
  names: Schema.Array(Schema.String)
})
type State = typeof State.Type

const told = (command: Proxy.Command): Told => {
  switch (command._tag) {
    case "AllocateAddresses":
      return { _tag: "Allocate", call: command.call, names: command.children.map(({ name }) => name) }
    case "ReleaseAddresses":
      return { _tag: "Release", call: command.call, names: command.children.map(({ name }) => name) }
    case "QueryConnection":
      return { _tag: "Query", call: command.call, id: command.id }
    case "RequestConnection": {
      const { context: { ip }, id } = command.connection
      return { _tag: "Connect", call: command.call, id, own: ip.srcAddrs, theirs: ip.dstAddrs }
    }
    case "CloseConnection":
      return { _tag: "Close", call: command.call, id: command.id }
    case "ServeTargets":
      return { _tag: "Serve", call: command.call }
    case "Cancel":
      return command
    case "SetHealth":
      return { _tag: "Egress", serving: command.serving }
    case "Reply": {
      const { answer, reply } = command
      return answer._tag === "Refused"
        ? { _tag: "Refuse", reply, reason: answer.reason }
        : { _tag: "Accept", reply, own: answer.ip.srcAddrs, gateways: answer.ip.extraPrefixes }
    }
    default:
      return { _tag: "Other", what: command._tag }
  }
}

/** Takes the commands; those for the kernel are done at once, which may lead to more. */
const take = (
  state: State,
  [proxy, commands]: Machine.Step<Proxy.State, Proxy.Command>,
  now: Machine.Millis
): Machine.Step<State, Told> => {
  let next: State = { ...state, proxy }
  const lines: Array<Told> = []
  for (const command of commands) {
    if (command._tag === "ObserveKernel" || command._tag === "ApplyOperations") {
      const { call } = command
      const operations = command._tag === "ApplyOperations" ? command.operations : []
      next = { ...next, kernel: KernelModel.applyAll(next.kernel, operations) }
      lines.push(...operations.map((operation): Told => ({ _tag: "Run", command: IpCommand.line(operation) })))
      const event: Proxy.Event = command._tag === "ApplyOperations"
        ? { _tag: "ApplySucceeded", call }
        : { _tag: "ObserveSucceeded", call, snapshot: next.kernel }
      const [after, more] = take(next, Proxy.step(next.proxy, event, now), now)
      next = after
      lines.push(...more)
    } else {
      next = "call" in command ? { ...next, inFlight: [...next.inFlight, command] } : next
      if (command._tag !== "WatchConnection") lines.push(told(command))
    }
  }
  return [next, lines]
}

/** What the story says, in the words of the proxy. */
const translate = (state: State, event: typeof Event.Type): readonly [State, Proxy.Event] => {
  switch (event._tag) {
    case "EndpointsFound": {
      const endpoints = event.names.map((name) => ({ name, networkServices: [], labels: {}, url: "" }))
      return [state, { _tag: "EndpointsChanged", endpoints }]
    }
    case "VipsChanged":
      return [state, event]
    case "TargetAsked":
      return [state, {
        _tag: "RequestReceived",
        reply: event.reply,
        id: `nse-${event.link}`,
        client: "target-1",
        link: event.link,
        ip: Nsm.emptyIp
      }]
    case "LinkMade": {
      const { name } = event
      const link = { name, kind: "veth", mac: "02:00:00:00:00:07", up: true, carrier: true, mtu: 1500 }
      return [{ ...state, kernel: { ...state.kernel, links: [...state.kernel.links, link] } }, {
        _tag: "KernelChanged"
      }]
    }
    case "LinkGone": {
      const kernel = KernelModel.apply(state.kernel, { _tag: "DeleteLink", link: event.name })
      return [{ ...state, kernel }, { _tag: "KernelChanged" }]
    }
    case "IpamAnswered":
      return answered(state, event.call)
    case "IpamFailed":
      return [state, { _tag: "AllocateFailed", call: event.call, reason: "the IPAM is away" }]
    case "NothingKnown":
      return [state, { _tag: "QuerySucceeded", call: event.call }]
    case "Connected": {
      const request = state.inFlight.find((command) => "call" in command && command.call === event.call)
      if (request?._tag !== "RequestConnection") throw new Error(`no connection is asked for by call ${event.call}`)
      const connection = { ...request.connection, mechanism: Nsm.kernelMechanism("inode://4/1", event.link) }
      return [state, { _tag: "RequestSucceeded", call: event.call, connection }]
    }
    case "NotConnected":
      return [state, { _tag: "RequestFailed", call: event.call, reason: "Unavailable" }]
    case "Closed":
      return [state, { _tag: "CloseSucceeded", call: event.call }]
    case "NotClosed":
      return [state, { _tag: "CloseFailed", call: event.call, reason: "Unavailable" }]
  }
}

const answered = (state: State, call: number): readonly [State, Proxy.Event] => {
  const request = state.inFlight.find((command) => "call" in command && command.call === call)
  if (request?._tag === "ReleaseAddresses") return [state, { _tag: "ReleaseSucceeded", call }]
  if (request?._tag !== "AllocateAddresses") throw new Error(`the IPAM was asked nothing by call ${call}`)
  const names = [...new Set([...state.names, ...request.children.map(({ name }) => name)])]
  const allocations = request.children.map((child) => ({
    ...child,
    address: Cidr.unsafe(`172.16.0.${names.indexOf(child.name) + 1}/24`)
  }))
  return [{ ...state, names }, { _tag: "AllocateSucceeded", call, allocations }]
}

const machine = Machine.make<object, State, typeof Event.Type, Told>({
  name: "proxy-story",
  Input: Schema.Struct({}),
  State,
  Event,
  Command,
  init: (_, now) => {
    const [proxy, commands] = Proxy.init(settings, now)
    return take({ proxy, kernel: Kernel.empty, inFlight: [], names: [] }, [proxy, commands], now)
  },
  step: (state, event, now) => {
    const [before, heard] = event._tag === "Woken" ? [state, event] : translate(state, event)
    return take(before, Proxy.step(before.proxy, heard, now), now)
  },
  wake: ({ proxy }) => Proxy.wake(proxy)
})

const show = ({ proxy: { parts, phase } }: State): string =>
  [
    phase._tag,
    ...parts.mesh.links.map(({ endpoint, phase }) => `${endpoint}:${phase._tag}`),
    ...parts.leases.leases.map(({ key, phase }) =>
      `${key.replace(/^connection (proxy-1-conduit-a\.t\.red-)?/, "")}'s addresses:${phase._tag}`
    )
  ].join(", ")

transcript(machine, new URL("./stories/load-balancer.txt", import.meta.url), show)
transcript(machine, new URL("./stories/ipam-away.txt", import.meta.url), show)
