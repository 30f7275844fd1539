/** The endpoint side of NSM in a simulated process, as `shells/sdk/Endpoint.ts`: its connections and its registration. */
import type * as Machine from "../../core/Machine.ts"
import { Host, Model, Monitor, Registration } from "../../core/nsm/index.ts"
import * as Actor from "./Actor.ts"
import type * as Api from "./Api.ts"
import { type Ground, lifetimes, names, requestMs } from "./Ground.ts"
import { randomText } from "./Sdk.ts"
import type { Life } from "./World.ts"

export interface Options {
  readonly name: string
  readonly netns: string
  readonly service: Model.NetworkService
  readonly labels: Model.Labels
}

/** What the endpoint does with connections; the answer of a request is its connection, or why not. */
export interface Handler {
  readonly request: (connection: Model.Connection, done: (answer: Model.Connection | undefined) => void) => Api.Leave
  readonly close: (connection: Model.Connection) => void
}

/** How long the manager may take to forget the endpoint. */
const farewellMs = 2_000

/** Serves and registers; the result unregisters, stops to serve, and calls back. */
export const serve = (ground: Ground, life: Life, options: Options, handler: Handler): (done: () => void) => void => {
  const { machines, observe, world } = ground
  const { labels, name, netns, service } = options
  const waiting = new Map<number, (answer: Api.Answer) => void>()
  let replies = 0
  let isServing = true

  const host = Actor.start(world, life, observe, machines.host, {
    name,
    netns,
    requestTimeoutMs: requestMs,
    maxTokenLifetimeMs: lifetimes.tokenMs
  }, (command: Host.Command, send: (event: Host.Event) => void) => {
    switch (command._tag) {
      case "HandleRequest": {
        const { call } = command
        return handler.request(command.connection, (connection) =>
          send(
            connection === undefined
              ? { _tag: "HandleFailed", call, reason: "Unavailable", message: "refused" }
              : { _tag: "HandleSucceeded", call, connection }
          ))
      }
      case "HandleClose":
        handler.close(command.connection)
        return send({ _tag: "CloseFinished", call: command.call })
      case "Reply": {
        const done = waiting.get(command.reply)
        waiting.delete(command.reply)
        return done?.(command.result)
      }
    }
  })

  const ask = (done: (answer: Api.Answer) => void): number => {
    waiting.set(replies, done)
    return replies++
  }
  life.api = {
    ...life.api,
    network: {
      request: (connection, preferences, done) => {
        if (!isServing) return () => undefined
        const reply = ask(done)
        host.send({
          _tag: "RequestRequested",
          reply,
          freshId: `${name}-${randomText(life)}`,
          random: randomText(life),
          connection,
          preferences
        })
        return () => void waiting.delete(reply)
      },
      close: (connection, done) => {
        if (isServing) host.send({ _tag: "CloseRequested", reply: ask(done), connection })
      },
      monitor: monitors(host, {
        all: (state) => Object.entries(Host.connections(state)),
        one: Host.standingOf,
        touched: (event, before) => "call" in event ? [Host.waitingFor(before, event.call) ?? ""] : []
      })
    }
  }

  const registration = Actor.start(world, life, observe, machines.registration, {
    services: [service],
    endpoint: { name, networkServices: [service.name], labels: { [service.name]: labels }, url: life.name },
    minBackoffMs: 200,
    maxBackoffMs: 5_000,
    seed: life.draw(0, 0xffff_fffe)
  }, (command: Registration.Command, send: (event: Registration.Event) => void) => enrol(ground, life, command, send))

  return (done) => {
    let isOver = false
    const end = (): void => {
      if (isOver) return
      isOver = true
      isServing = false
      const { network: _, ...rest } = life.api
      life.api = rest
      done()
    }
    registration.follow((state) => Registration.isClosed(state) && life.later(0, end))
    registration.send({ _tag: "CloseRequested" })
    life.later(farewellMs, end)
  }
}

/** How the connections that stand are found in a state. */
export interface View<State, Event> {
  readonly all: (state: State) => ReadonlyArray<readonly [key: string, connection: Model.Connection]>
  readonly one: (state: State, key: string) => Model.Connection | undefined
  /** The keys of those that the event can have changed; undefined for any. */
  readonly touched: (event: Event | Machine.Woken, before: State) => ReadonlyArray<string> | undefined
}

/**
 * Connections as monitors tell them: all at first, then what became different, which is found once for all of them and
 * told to those only whose selector names one of its segments, or no segment at all.
 */
export const monitors = <State, Event>(
  actor: Actor.Actor<State, Event>,
  { all, one, touched }: View<State, Event>
): Api.NetworkService["monitor"] => {
  type Listener = (events: ReadonlyArray<Model.ConnectionEvent>) => void
  const listeners = new Map<string, Set<Listener>>()
  const known = new Map<string, Model.Connection>()
  /** The keys of what is known, by the ids of its segments. */
  const having = new Map<string, Set<string>>()
  const learn = (key: string, connection: Model.Connection | undefined): void => {
    const [was, is] = [known.get(key)?.path.segments ?? [], connection?.path.segments ?? []]
    if (connection === undefined) known.delete(key)
    else known.set(key, connection)
    // As a rule a refresh goes the same way.
    if (was.length === is.length && was.every(({ id }, i) => id === is[i]?.id)) return
    for (const { id } of was) having.get(id)?.delete(key)
    for (const { id } of is) having.set(id, (having.get(id) ?? new Set()).add(key))
  }
  for (const [key, connection] of all(actor.current())) learn(key, connection)
  actor.follow((state, event, before) => {
    const [old, fresh]: [Array<Model.Connection>, Array<Model.Connection>] = [[], []]
    const keys = touched(event, before) ?? new Set([...known.keys(), ...all(state).map(([key]) => key)])
    for (const key of keys) {
      const [was, is] = [known.get(key), one(state, key)]
      if (was === is) continue
      if (was !== undefined) old.push(was)
      if (is !== undefined) fresh.push(is)
      learn(key, is)
    }
    if (old.length === 0 && fresh.length === 0) return
    const called = new Set(listeners.get(everyone))
    for (const { path } of [...old, ...fresh]) {
      for (const { id } of path.segments) for (const listener of listeners.get(id) ?? []) called.add(listener)
    }
    if (called.size === 0) return
    const events = Monitor.events(fresh, old.filter(({ id }) => fresh.every((one) => one.id !== id)))
    for (const listener of called) listener(events)
  })
  return (selector, emit) => {
    const own = selector.segments.some(({ id }) => id === "") ? [] : selector.segments.map(({ id }) => id)
    const keys = own[0] === undefined ? known.keys() : having.get(own[0]) ?? []
    emit(Monitor.initial(selector, byId([...keys].flatMap((key) => known.get(key) ?? []))))
    const listener: Listener = (events) => Monitor.selected(selector, events).forEach(emit)
    const ids = own.length === 0 ? [everyone] : own
    for (const id of ids) listeners.set(id, (listeners.get(id) ?? new Set()).add(listener))
    return () => {
      for (const id of ids) listeners.get(id)?.delete(listener)
    }
  }
}

/** Stands for selectors that name no segment. */
const everyone = ""

const byId = (connections: ReadonlyArray<Model.Connection>): Monitor.Connections =>
  Object.fromEntries(connections.map((connection) => [connection.id, connection]))

const enrol = (
  { network }: Ground,
  life: Life,
  command: Registration.Command,
  send: (event: Registration.Event) => void
): Actor.Stop => {
  const options = { timeoutMs: requestMs }
  const failed = (call: number) => send({ _tag: "CallFailed", call, reason: "Unavailable", message: "" })
  switch (command._tag) {
    case "DefineService": {
      const { call, service } = command
      return network.call<void>(
        life,
        names.manager,
        ({ registrar }, answer) => registrar?.registerService(service, () => answer()),
        options,
        (reply) => reply._tag === "Answered" ? send({ _tag: "DefineSucceeded", call }) : failed(call)
      )
    }
    case "RegisterEndpoint": {
      const { call, endpoint } = command
      return network.call<Model.Endpoint | undefined>(
        life,
        names.manager,
        ({ registrar }, answer) =>
          registrar?.registerEndpoint(
            endpoint,
            (result) => answer(result._tag === "Endpoint" ? result.endpoint : undefined)
          ),
        options,
        (reply) => {
          const expiresAt = reply._tag === "Answered" ? reply.value?.expiresAt : undefined
          if (expiresAt === undefined) failed(call)
          else send({ _tag: "RegisterSucceeded", call, expiresAt })
        }
      )
    }
    case "WatchEndpoint": {
      const { call, endpoint } = command
      const template: Model.Endpoint = { name: endpoint.name, networkServices: [], labels: {}, url: "" }
      const lost = (): void => send({ _tag: "WatchLost", call })
      return network.watch<{ readonly value: Model.Endpoint; readonly deleted: boolean }>(
        life,
        names.manager,
        ({ registrar }, emit) => registrar?.watch(template, emit),
        { message: ({ deleted }) => deleted && lost(), end: lost }
      )
    }
    case "UnregisterEndpoint": {
      const { call, endpoint } = command
      return network.call<void>(
        life,
        names.manager,
        ({ registrar }, answer) => registrar?.unregisterEndpoint(endpoint.name, () => answer()),
        { timeoutMs: farewellMs },
        () => send({ _tag: "UnregisterFinished", call })
      )
    }
    case "Cancel":
      return
  }
}
