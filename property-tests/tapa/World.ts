/**
 * A trench in virtual time: targets with their whole ambassador, the registry of our NSP, and the manager of NSM with
 * the proxy behind it. Answers take uneven time, some are lost; connections move, go down and come back; processes and
 * services die. Equal seeds give equal runs.
 */
import type * as Config from "../../core/config/Model.ts"
import * as Target from "../../core/config/Target.ts"
import * as Machine from "../../core/Machine.ts"
import * as Cidr from "../../core/net/Cidr.ts"
import * as Nsm from "../../core/nsm/Model.ts"
import { Registry } from "../../core/nsp/index.ts"
import * as Seed from "../../core/Seed.ts"
import { Ambassador } from "../../core/tapa/index.ts"

type Command = Ambassador.Command
type Event = Ambassador.Event
type Called = Extract<Command, { readonly call: number }>

export interface Options {
  readonly seed: Seed.Seed
  readonly targets: number
  readonly maxTargets?: number
  /** Of 100 calls, how many get lost on the way there or back, until `calmAt`. */
  readonly lossPercent?: number
  readonly calmAt?: number
}

interface Process {
  state: Ambassador.State
  /** Calls that were not cancelled; a dead process has none. */
  readonly open: Set<number>
  readonly watches: Array<Extract<Command, { readonly _tag: `Watch${string}` }>>
  armedAt: number | undefined
  readonly replies: Array<Ambassador.Answer>
}

const all = { trench: "", conduit: "", stream: "" }
const entryTimeoutMs = 30_000
export const settingsOf = (i: number) => ({
  name: `target-${i}`,
  node: "node",
  namespace: "ns",
  timeoutMs: 15_000,
  tokenLifetimeMs: 600_000,
  entryTimeoutMs
})

export type World = ReturnType<typeof make>

export const make = ({ calmAt = 0, lossPercent = 0, maxTargets = 100, seed, targets }: Options) => {
  let now = 0
  let random = seed
  const draw = (low: number, high: number): number => {
    const [value, after] = Seed.between(random, low, high)
    random = after
    return value
  }
  let agenda: Array<{ readonly at: number; readonly run: () => void }> = []
  const later = (ms: number, run: () => void) => void agenda.push({ at: now + ms, run })

  // The NSP: what is configured, and who is registered.
  const fresh = () => Registry.machine.init({ settings: { entryTimeoutMs: 2 * entryTimeoutMs }, stored: [] }, now)[0]
  let registry = fresh()
  const tell = (event: Registry.Event | Machine.Woken) => {
    registry = Registry.machine.step(registry, event, now)[0]
  }
  const world = {
    /** Whether the services answer. */
    nsp: true,
    manager: true,
    streams: ["s"] as ReadonlyArray<string>,
    vips: ["20.0.0.1/32"] as ReadonlyArray<string>,
    /** The addresses of the proxy's bridge. */
    gateways: ["172.16.0.1/16"] as ReadonlyArray<string>,
    /** Every command that any target ever gave. */
    log: [] as Array<{ readonly at: number; readonly target: number; readonly command: Command }>
  }

  // The manager: connections by id, addresses by id as the IPAM keeps them, and how many interfaces were made.
  const connections = new Map<string, Nsm.Connection>()
  const addresses = new Map<string, Cidr.Cidr>()
  let hosts = 1
  const allocate = (id: string): Cidr.Cidr => {
    const address = Cidr.unsafe(`172.16.${Math.floor(++hosts / 250)}.${1 + hosts % 250}/16`)
    addresses.set(id, address)
    return address
  }
  const grant = (wanted: Nsm.Connection, process: Process): Nsm.Connection => {
    const { context, id } = wanted
    const address = addresses.get(id) ?? allocate(id)
    const segment = { name: process.state.settings.name, id, token: `secret ${now}`, metrics: {} }
    const ip = {
      ...context.ip,
      srcAddrs: [address, ...context.ip.policies.flatMap(({ from }) => from ?? [])],
      extraPrefixes: world.gateways.map(Cidr.unsafe)
    }
    const granted: Nsm.Connection = {
      ...wanted,
      state: "Up",
      endpointName: "proxy",
      mechanism: { cls: "LOCAL", type: "KERNEL", parameters: { name: "nsm-0", inodeURL: "inode://4/1" } },
      path: { index: 0, segments: [{ ...segment, expiresAt: now + 600_000 }] },
      context: { ...context, ip }
    }
    connections.set(id, granted)
    return granted
  }

  const processes: Array<Process> = []
  const step = (i: number, process: Process, event: Event | Machine.Woken) => {
    if (processes[i] === process) take(i, process, Ambassador.step(process.state, event, now))
  }
  const take = (i: number, process: Process, [state, commands]: Machine.Step<Ambassador.State, Command>) => {
    process.state = state
    for (const command of commands) {
      world.log.push({ at: now, target: i, command })
      perform(i, process, command)
    }
    const deadline = Ambassador.wake(state)
    if (deadline === undefined || deadline === process.armedAt) return
    process.armedAt = deadline
    later(Math.max(0, deadline - now), () => {
      if (process.armedAt === deadline) process.armedAt = undefined
      step(i, process, Machine.woken)
    })
  }
  const perform = (i: number, process: Process, command: Command) => {
    if (command._tag === "Reply") process.replies.push(command.answer)
    else if (command._tag === "Cancel") process.open.delete(command.call)
    else if ("call" in command) begin(i, process, command)
  }
  const begin = (i: number, process: Process, command: Exclude<Called, { readonly _tag: "Cancel" }>) => {
    process.open.add(command.call)
    const isLost = now < calmAt && draw(0, 99) < lossPercent
    const arrives = !isLost || draw(0, 1) === 0
    later(draw(1, 200), () => {
      if (!process.open.has(command.call)) return
      if (isWatch(command)) {
        process.watches.push(command)
        return later(draw(1, 200), () => hear(i, process, command, isLost))
      }
      const answer = arrives ? serve(process, command) : undefined
      later(draw(1, 200), () => {
        if (!process.open.delete(command.call)) return
        step(i, process, isLost || answer === undefined ? failure(command) : answer)
      })
    })
  }
  /** A watch tells what there is now, or that it broke. */
  const hear = (i: number, process: Process, watch: Process["watches"][number], isLost: boolean) => {
    if (!process.open.has(watch.call)) return
    const event = isLost ? undefined : serve(process, watch)
    if (event === undefined) process.open.delete(watch.call)
    step(i, process, event ?? failure(watch))
  }

  /** The answer of a service, or of nobody. */
  const serve = (process: Process, command: Exclude<Called, { readonly _tag: "Cancel" }>): Event | undefined => {
    const { call } = command
    switch (command._tag) {
      case "QueryConnection": {
        if (!world.manager) return undefined
        return { _tag: "QuerySucceeded", at: command.at, call, connection: connections.get(command.id) ?? null }
      }
      case "RequestConnection":
        if (!world.manager) return undefined
        return { _tag: "RequestSucceeded", at: command.at, call, connection: grant(command.connection, process) }
      case "CloseConnection":
        if (!world.manager) return undefined
        connections.delete(command.id)
        return { _tag: "CloseSucceeded", at: command.at, call }
      case "WatchConnection": {
        const connection = connections.get(command.id)
        return connection === undefined
          ? undefined
          : { _tag: "ConnectionChanged", at: command.at, call, connection }
      }
      case "WatchStreams":
        return world.nsp ? { _tag: "StreamsChanged", at: command.at, call, streams: configured(command.at) } : undefined
      case "WatchVips":
        return world.nsp
          ? { _tag: "VipsChanged", at: command.at, call, vips: world.vips.map(Cidr.unsafe) }
          : undefined
      default:
        return world.nsp ? register(command) : undefined
    }
  }
  const configured = (at: Config.ConduitKey) => world.streams.map((stream) => ({ ...at, stream, maxTargets }))
  const register = (
    command: Extract<Command, { readonly _tag: "ListTargets" | "RegisterTarget" | "UnregisterTarget" }>
  ): Event => {
    tell(Machine.woken)
    const { at, call } = command
    if (command._tag === "ListTargets") {
      const found = Registry.targets(registry, { kind: "default", status: "any", stream: at })
      return { _tag: "ListSucceeded", at, call, targets: found }
    }
    const { identifier, ips, status } = command.target
    const target: Target.Target = { kind: "default", stream: at, ips, context: { identifier: `${identifier}` }, status }
    const isNew = command._tag === "RegisterTarget"
    tell({ _tag: isNew ? "RegisterRequested" : "UnregisterRequested", reply: 0, target })
    return { _tag: isNew ? "RegisterSucceeded" : "UnregisterSucceeded", at, call }
  }

  /** Tells everybody who watches, after some time. */
  const notify = (isMeant: (watch: Process["watches"][number]) => boolean) =>
    processes.forEach((process, i) => {
      for (const watch of process.watches.filter(({ call }) => process.open.has(call)).filter(isMeant)) {
        later(draw(1, 200), () => hear(i, process, watch, false))
      }
    })
  const change = (i: number, how: (connection: Nsm.Connection) => Nsm.Connection) => {
    for (const [id, connection] of connections) {
      if (!id.startsWith(`${settingsOf(i).name}-`)) continue
      connections.set(id, how(connection))
      notify((watch) => watch._tag === "WatchConnection" && watch.id === id)
    }
  }
  const start = (i: number) => {
    const input = { settings: settingsOf(i), seed: draw(0, 0xffff_ffff) }
    const [state, commands] = Ambassador.init(input)
    const process: Process = { state, open: new Set(), watches: [], armedAt: undefined, replies: [] }
    processes[i] = process
    take(i, process, [state, commands])
  }
  for (let i = 0; i < targets; i++) start(i)

  const ask = (tag: "OpenRequested" | "CloseRequested", i: number, at: Config.StreamKey) => {
    const process = processes[i]
    if (process !== undefined) step(i, process, { _tag: tag, reply: 0, stream: at })
  }
  return Object.assign(world, {
    draw,
    now: () => now,
    until: (end: number) => {
      while (true) {
        const first = agenda.reduce((least, { at }) => Math.min(least, at), Infinity)
        if (first > end) break
        const due = agenda.filter(({ at }) => at === first)
        agenda = agenda.filter(({ at }) => at !== first)
        now = Math.max(now, first)
        for (const { run } of due) run()
      }
      now = end
    },
    open: (i: number, at: Config.StreamKey) => ask("OpenRequested", i, at),
    close: (i: number, at: Config.StreamKey) => ask("CloseRequested", i, at),
    shutdown: (i: number) => {
      const process = processes[i]
      if (process !== undefined) step(i, process, { _tag: "ShutdownRequested" })
    },
    /** The process dies without a word and starts again, with nothing open. */
    crash: (i: number) => {
      processes[i]?.open.clear()
      start(i)
    },
    isStopped: (i: number) => processes[i] !== undefined && Ambassador.isStopped(processes[i].state),
    state: (i: number) => processes[i]?.state,
    answers: (i: number) => processes[i]?.replies.map(({ _tag }) => _tag) ?? [],
    statuses: (i: number) =>
      processes[i] === undefined
        ? []
        : Ambassador.statuses(processes[i].state, all).map(({ at, status }) => `${at.stream} ${status}`),
    /** The configuration or the VIPs changed. */
    configure: (how: Partial<Pick<typeof world, "streams" | "vips">>) => {
      Object.assign(world, how)
      notify((watch) => watch._tag === "WatchStreams" || watch._tag === "WatchVips")
    },
    /** The service is gone, or is there again. */
    setNsp: (isThere: boolean) => {
      world.nsp = isThere
      notify((watch) => watch._tag === "WatchStreams" || watch._tag === "WatchVips")
    },
    forget: () => {
      registry = fresh()
    },
    down: (i: number) => change(i, (connection) => ({ ...connection, state: "Down" })),
    heal: (i: number) => change(i, (connection) => ({ ...connection, state: "Up" })),
    /** The manager no longer knows how the packets of the target go. */
    strip: (i: number) =>
      change(i, (connection) => {
        const { mechanism: _, ...rest } = connection
        return rest
      }),
    /** The proxy gives the target another address. */
    move: (i: number) =>
      change(i, (connection) => {
        const old = addresses.get(connection.id)
        const { ip } = connection.context
        const srcAddrs = [allocate(connection.id), ...ip.srcAddrs.filter((address) => address !== old)]
        return { ...connection, context: { ...connection.context, ip: { ...ip, srcAddrs } } }
      }),
    connections: () => [...connections.values()],
    /** The address that the target has now, on its only connection. */
    address: (i: number): string =>
      [...addresses].find(([id]) => id.startsWith(`${settingsOf(i).name}-`))?.[1] ?? "none",
    registered: (status: "any" | "enabled" = "any") => {
      tell(Machine.woken)
      return Registry.targets(registry, { kind: "default", status })
    },
    /** The identifiers that load balancers use in a stream. */
    identifiers: (stream: Config.StreamKey) => {
      tell(Machine.woken)
      return Registry.targets(registry, { kind: "default", status: "enabled", stream })
        .flatMap((target) => Target.identifier(target) ?? []).toSorted((a, b) => a - b)
    },
    commands: (tag: Command["_tag"]) => world.log.filter(({ command }) => command._tag === tag)
  })
}

const isWatch = (command: Called): command is Process["watches"][number] => command._tag.startsWith("Watch")

/** What a call that nobody answers ends in. */
const failure = (command: Exclude<Called, { readonly _tag: "Cancel" }>): Event => {
  const { call } = command
  const reason = "Unavailable"
  switch (command._tag) {
    case "QueryConnection":
      return { _tag: "QueryFailed", at: command.at, call, reason }
    case "RequestConnection":
      return { _tag: "RequestFailed", at: command.at, call, reason }
    case "CloseConnection":
      return { _tag: "CloseFailed", at: command.at, call, reason }
    case "WatchConnection":
      return { _tag: "ConnectionLost", at: command.at, call, reason }
    case "WatchStreams":
      return { _tag: "StreamsLost", at: command.at, call, reason }
    case "WatchVips":
      return { _tag: "VipsLost", at: command.at, call, reason }
    case "ListTargets":
      return { _tag: "ListFailed", at: command.at, call, reason }
    case "RegisterTarget":
      return { _tag: "RegisterFailed", at: command.at, call, reason }
    case "UnregisterTarget":
      return { _tag: "UnregisterFailed", at: command.at, call, reason }
  }
}
