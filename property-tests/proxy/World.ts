/**
 * A small world around the machine of one proxy: an IPAM that hands out the lowest free address, a manager with load
 * balancers that come and go, targets, and the model of the kernel. Commands take effect when they are answered, in any
 * order; a cancelled one takes effect or does not, without an answer. Nothing here is random: the moves are given.
 */
import { assert } from "@effect/vitest"
import * as Machine from "../../core/Machine.ts"
import { Cidr, type Ip, Kernel } from "../../core/net/index.ts"
import * as Nsm from "../../core/nsm/Model.ts"
import { Mesh, Model, Proxy } from "../../core/proxy/index.ts"
import * as KernelModel from "../kernel/KernelModel.ts"

export const settings: Model.Settings = {
  ...Model.defaults,
  name: "proxy-1",
  networkService: "conduit-a.t.red",
  families: ["v4", "v6"],
  mac: "02:00:00:00:00:01",
  mtu: 1500,
  releaseDelayMs: 20_000,
  renewMs: 300_000,
  expiryGraceMs: 60_000,
  tokenLifetimeMs: 600_000
}

/** The connection of a target as its proxy sees it. */
export interface Client {
  readonly id: string
  readonly client: string
  readonly link: string
}

type Awaiting = Extract<Proxy.Command, { readonly call: number }>

const veth = (name: string): Kernel.Link => ({
  name,
  kind: "veth",
  mac: "02:00:00:00:00:07",
  up: true,
  carrier: true,
  mtu: 1500
})

export const make = () => {
  let now = 1_700_000_000_000
  let [state, started] = Proxy.init(settings, now)
  let inFlight: Array<Awaiting> = []
  let kernel: Kernel.Snapshot = Kernel.empty
  let links = 0
  let replies = 0
  const allocated = new Map<string, Cidr.Cidr>()
  const connections = new Map<string, Nsm.Connection>()
  const asked = new Map<number, Client>()
  const clients = new Map<string, Client>()
  const answers = new Map<string, Nsm.IpContext>()
  let untaken: Array<{ readonly reply: number; readonly client: Client; readonly ip: Nsm.IpContext }> = []
  let endpoints: ReadonlyArray<string> = []
  let vips: ReadonlyArray<Cidr.Cidr> = []
  let egress = false
  let applied = 0

  const addLink = (name: string): void => {
    kernel = { ...kernel, links: [...kernel.links, veth(name)] }
  }
  const dropLink = (name: string | undefined) => {
    if (name !== undefined) kernel = KernelModel.apply(kernel, { _tag: "DeleteLink", link: name })
  }

  const allocate = ({ family, name }: Model.Child): Model.Allocation => {
    const key = `${family} ${name}`
    const taken = new Set(allocated.values())
    let address = allocated.get(key)
    for (let n = 1; address === undefined; n++) {
      const candidate = addressOf(family, n)
      if (!taken.has(candidate)) address = candidate
    }
    allocated.set(key, address)
    return { family, name, address }
  }

  /** Carries a command out; the result is its answer. */
  const perform = (command: Awaiting): Proxy.Event | undefined => {
    const { call } = command
    switch (command._tag) {
      case "AllocateAddresses":
        return { _tag: "AllocateSucceeded", call, allocations: command.children.map(allocate) }
      case "ReleaseAddresses":
        for (const { family, name } of command.children) allocated.delete(`${family} ${name}`)
        return { _tag: "ReleaseSucceeded", call }
      case "QueryConnection": {
        const connection = connections.get(command.id)
        return { _tag: "QuerySucceeded", call, ...(connection === undefined ? {} : { connection }) }
      }
      case "RequestConnection": {
        if (!endpoints.includes(command.connection.endpointName)) {
          return { _tag: "RequestFailed", call, reason: "NotFound" }
        }
        dropLink(Nsm.interfaceName(connections.get(command.connection.id) ?? command.connection))
        const name = `lb-${links++}`
        addLink(name)
        const connection: Nsm.Connection = {
          ...command.connection,
          mechanism: Nsm.kernelMechanism("inode://4/1", name),
          state: "Up"
        }
        connections.set(connection.id, connection)
        return { _tag: "RequestSucceeded", call, connection }
      }
      case "CloseConnection": {
        const connection = connections.get(command.id)
        if (connection !== undefined) dropLink(Nsm.interfaceName(connection))
        connections.delete(command.id)
        return { _tag: "CloseSucceeded", call }
      }
      case "ObserveKernel":
        return { _tag: "ObserveSucceeded", call, snapshot: kernel }
      case "ApplyOperations":
        applied += command.operations.length
        kernel = KernelModel.applyAll(kernel, command.operations)
        return { _tag: "ApplySucceeded", call }
      case "ServeTargets":
        return undefined
      case "StopServing":
        return { _tag: "StopSucceeded", call }
      case "Cancel":
        return undefined
    }
  }

  /** Lets a command fail; the close of every other connection is carried out, but its answer is lost. */
  const fail = (command: Awaiting): Proxy.Event | undefined => {
    const { _tag, call } = command
    const reason = "Unavailable"
    switch (_tag) {
      case "AllocateAddresses":
        return { _tag: "AllocateFailed", call, reason }
      case "ReleaseAddresses":
        return { _tag: "ReleaseFailed", call, reason }
      case "QueryConnection":
        return { _tag: "QueryFailed", call, reason }
      case "RequestConnection":
        return { _tag: "RequestFailed", call, reason }
      case "CloseConnection":
        if (call % 8 < 4) perform(command)
        return { _tag: "CloseFailed", call, reason }
      case "ObserveKernel":
        return { _tag: "ObserveFailed", call, reason }
      case "ApplyOperations":
        return { _tag: "ApplyFailed", call, reason }
      case "ServeTargets":
        return { _tag: "ServeFailed", call, reason }
      case "StopServing":
      case "Cancel":
        return undefined
    }
  }

  const take = (commands: ReadonlyArray<Proxy.Command>): void => {
    for (const command of commands) {
      switch (command._tag) {
        case "Cancel": {
          const cancelled = inFlight.find(({ call }) => call === command.call)
          inFlight = inFlight.filter((other) => other !== cancelled)
          // Every other one had reached its server already.
          if (cancelled !== undefined && cancelled.call % 2 === 0) perform(cancelled)
          break
        }
        case "Reply": {
          const client = asked.get(command.reply)
          asked.delete(command.reply)
          assert.isDefined(client, "a request is answered once")
          if (client === undefined || command.answer._tag === "Refused") break
          untaken.push({ reply: command.reply, client, ip: command.answer.ip })
          break
        }
        case "SetHealth":
          assert.notStrictEqual(command.serving, egress, "health is told when it changes")
          egress = command.serving
          break
        case "WatchConnection":
        case "ReportFault":
          break
        default:
          inFlight.push(command)
      }
    }
    const requested = inFlight.flatMap((command) => command._tag === "RequestConnection" ? [command.connection.id] : [])
    assert.strictEqual(new Set(requested).size, requested.length, "one request in flight for each load balancer")
  }

  /** The endpoint takes the answers that have been given. */
  const collect = (): void => {
    for (const { client, ip } of untaken) {
      if (!clients.has(client.id)) addLink(client.link)
      clients.set(client.id, client)
      answers.set(client.id, ip)
    }
    untaken = []
  }

  const send = (event: Proxy.Event | Machine.Woken): void => {
    const [next, commands] = Proxy.step(state, event, now)
    state = next
    take(commands)
  }
  take(started)

  const sleep = (ms: number): void => {
    const end = now + ms
    for (let rounds = 0; rounds < 100; rounds++) {
      const deadline = Proxy.wake(state)
      if (deadline === undefined || deadline > end) break
      now = Math.max(now, deadline)
      send(Machine.woken)
    }
    now = end
  }

  /** Answers the command in flight at the place. */
  const answer = (place: number, succeeds: boolean): void => {
    const command = inFlight[place % Math.max(1, inFlight.length)]
    if (command === undefined) return
    const event = succeeds ? perform(command) : fail(command)
    if (event === undefined) return
    inFlight = inFlight.filter((other) => other !== command)
    send(event)
    if (command._tag === "ApplyOperations" || command._tag === "RequestConnection") send({ _tag: "KernelChanged" })
  }

  return {
    state: () => state,
    kernel: () => kernel,
    allocated: (): ReadonlyMap<string, Cidr.Cidr> => allocated,
    connections: (): ReadonlyMap<string, Nsm.Connection> => connections,
    clients: (): ReadonlyMap<string, Client> => clients,
    answers: (): ReadonlyMap<string, Nsm.IpContext> => answers,
    endpoints: () => endpoints,
    vips: () => vips,
    hasEgress: () => egress,
    /** How many operations have been applied to the kernel. */
    applied: () => applied,
    sleep,
    answer,
    /** Nothing fails any more: answers everything and lets time pass, until nothing is left to wait for but routine. */
    settle: (): void => {
      for (let round = 0; round < 100; round++) {
        collect()
        for (let n = 0; inFlight.some(({ _tag }) => _tag !== "ServeTargets") && n < 500; n++) {
          answer(inFlight.findIndex(({ _tag }) => _tag !== "ServeTargets"), true)
        }
        sleep(1_000)
      }
    },
    setEndpoints: (names: ReadonlyArray<string>): void => {
      endpoints = names
      send({
        _tag: "EndpointsChanged",
        endpoints: names.map((name) => ({ name, networkServices: [settings.networkService], labels: {}, url: "" }))
      })
    },
    setVips: (addresses: ReadonlyArray<Cidr.Cidr>): void => {
      vips = addresses
      send({ _tag: "VipsChanged", vips })
    },
    collect,
    /** Without a name of its own the client shares it with every other one. */
    request: (n: number, name = `client-${n % 2}`): void => {
      collect()
      const client = { id: `nse-${n}`, client: name, link: `tg-${n}` }
      const ip = answers.get(client.id) ?? Nsm.emptyIp
      asked.set(replies, client)
      send({ _tag: "RequestReceived", reply: replies++, ...client, ip })
    },
    abandon: (): void => {
      for (const reply of asked.keys()) {
        asked.delete(reply)
        send({ _tag: "RequestAbandoned", reply })
      }
      // The endpoint is gone before it took these.
      const lost = untaken
      untaken = []
      for (const { reply } of lost) send({ _tag: "RequestAbandoned", reply })
    },
    /** The close of an established connection; another one is not told. */
    close: (n: number): void => {
      collect()
      const client = clients.get(`nse-${n}`)
      if (client === undefined) return
      clients.delete(client.id)
      answers.delete(client.id)
      dropLink(client.link)
      send({ _tag: "CloseReceived", id: client.id })
    },
    /** The SDK reports a connection as lost or healed. */
    change: (name: string, up: boolean): void => {
      const id = `${settings.name}-${settings.networkService}-${name}`
      const connection = connections.get(id)
      const isConnected = state.parts.mesh.links.some((link) => link.id === id && link.phase._tag === "Connected")
      if (connection === undefined || !isConnected) return
      const changed: Nsm.Connection = { ...connection, state: up ? "Up" : "Down" }
      connections.set(id, changed)
      send({ _tag: "ConnectionChanged", id, connection: changed })
    },
    /** Somebody makes an interface. */
    addLink,
    /** Somebody meddles with the kernel. */
    meddle: (operation: Kernel.Operation): void => {
      kernel = KernelModel.apply(kernel, operation)
      send({ _tag: "KernelChanged" })
    },
    /** The IPAM loses its data, and a stranger is the first one to come. */
    forget: (): void => {
      allocated.clear()
      for (const family of settings.families) allocate({ family, name: "stranger" })
    },
    shutDown: (): void => send({ _tag: "CloseRequested" }),
    links: (): ReadonlyArray<Mesh.Link> => state.parts.mesh.links
  }
}
export type World = ReturnType<typeof make>

const addressOf = (family: Ip.Family, n: number): Cidr.Cidr =>
  Cidr.unsafe(family === "v4" ? `172.16.${n >> 8}.${n & 255}/20` : `fd00::${n.toString(16)}/64`)
