/** The manager of NSM in a simulated world, as `shells/nsm`: circuits, registry, and the forwarder on modelled kernels. */
import { HashMap, Option } from "effect"
import type * as Machine from "../../core/Machine.ts"
import * as Memo from "../../core/Memo.ts"
import type { Kernel } from "../../core/net/index.ts"
import * as CircuitState from "../../core/nsm/CircuitState.ts"
import * as Cross from "../../core/nsm/Cross.ts"
import { Forward, Manager, Model, Registry } from "../../core/nsm/index.ts"
import * as Actor from "./Actor.ts"
import type * as Api from "./Api.ts"
import { monitors } from "./Endpoint.ts"
import { type Ground, lifetimes, names, requestMs } from "./Ground.ts"
import { randomText } from "./Sdk.ts"
import type { Life, Program } from "./World.ts"

type Event = Manager.Event
type Command = Manager.Command
type Send = (event: Event) => void

/** How long the forwarder works on one plan. */
const forwardMs = { shortest: 1, longest: 15 }

export const program = (ground: Ground): Program => {
  const { kernels, machines, network, observe, world } = ground
  const disk = new Map<string, CircuitState.Record>()

  /** What stands in the namespaces of the cross connect. */
  const observed = (cross: Cross.Cross): Forward.Observed =>
    Object.fromEntries(Cross.namespaces(cross).filter(kernels.exists).map((netns) => [netns, kernels.get(netns)]))
  const carryOut = (operations: ReadonlyArray<Forward.Operation>): void => {
    for (const operation of operations) {
      if (operation._tag === "Change") kernels.apply(operation.netns, operation.operation)
      else kernels.createPair(operation.alias, operation.client, operation.endpoint)
    }
  }
  const plumb = (
    cross: Cross.Cross,
    previous: Cross.Cross | undefined,
    adopts: boolean
  ): Model.Failure | undefined => {
    const places = placesOf({ cross, previous })
    const snapshots = places.map((netns) => kernels.exists(netns) ? kernels.get(netns) : undefined)
    const outcome = planned({ cross, previous, adopts, places, snapshots })
    if ("reason" in outcome) return outcome
    carryOut(outcome)
    return undefined
  }

  return {
    name: names.manager,
    boot: (life) => {
      const connections = new Map<number, (answer: Api.Answer) => void>()
      const registrations = new Map<number, (answer: Registry.Answer) => void>()
      let replies = 0
      const ask = <A>(waiting: Map<number, A>, done: A): number => {
        waiting.set(replies, done)
        return replies++
      }
      /** One plan at a time, after a while. */
      const work = (act: () => void): void => life.later(life.draw(forwardMs.shortest, forwardMs.longest), act)

      const perform = (command: Command, send: Send): Actor.Stop => {
        switch (command._tag) {
          case "RequestEndpoint":
            return requestEndpoint(ground, life, command, send)
          case "CloseEndpoint": {
            const { call, connection, target, timeoutMs } = command
            return network.call<void>(
              life,
              target.url,
              ({ network }, answer) => network?.close(connection, () => answer()),
              { timeoutMs },
              () => send({ _tag: "EndpointClosed", call })
            )
          }
          case "Plumb":
          case "Adopt":
            return work(() => {
              const { call, cross } = command
              const failure = plumb(cross, command.previous, command._tag === "Adopt")
              send(failure === undefined ? { _tag: "PlumbSucceeded", call } : { _tag: "PlumbFailed", call, ...failure })
            })
          case "Unplumb":
            return work(() => {
              carryOut(Forward.plan.plan({ previous: command.cross }, observed(command.cross)))
              send({ _tag: "UnplumbFinished", call: command.call })
            })
          case "WatchEndpoint":
            return watchEndpoint(ground, life, command, send)
          case "WatchLink": {
            const { alias, client } = command.cross
            const stop = kernels.follow(client.netns, () => {
              if (kernels.get(client.netns).links.some((link) => link.alias === alias)) return
              stop()
              life.later(100, () => {
                const clientGone = !kernels.exists(client.netns)
                send({ _tag: "LinkLost", call: command.call, clientGone })
              })
            })
            return stop
          }
          case "SaveRecord":
            return void disk.set(Model.clientId(command.record.connection), command.record)
          case "ForgetRecord":
            return void disk.delete(command.clientId)
          case "Sweep":
            for (const netns of kernels.names()) {
              kernels.applyAll(netns, Forward.sweep(names.manager, command.keep, netns, kernels.get(netns)))
            }
            return
          case "Reply": {
            const done = connections.get(command.reply)
            connections.delete(command.reply)
            return done?.(command.result)
          }
          case "Answer": {
            const done = registrations.get(command.reply)
            registrations.delete(command.reply)
            return done?.(command.answer)
          }
          case "Cancel":
            return
        }
      }

      const manager = Actor.start(world, life, observe, machines.manager, {
        settings: {
          name: names.manager,
          requestTimeoutMs: requestMs,
          maxTokenLifetimeMs: lifetimes.tokenMs,
          endpointLifetimeMs: lifetimes.endpointMs
        },
        records: [...disk.values()]
      }, perform)

      life.api = {
        network: {
          request: (connection, preferences, done) => {
            const reply = ask(connections, done)
            const freshId = randomText(life)
            manager.send({ _tag: "RequestRequested", reply, freshId, connection, preferences })
            return () => void connections.delete(reply)
          },
          close: (connection, done) =>
            manager.send({
              _tag: "CloseRequested",
              reply: ask(connections, done),
              freshId: randomText(life),
              connection
            }),
          monitor: monitors(manager, { all: standing, one: Manager.standingOf, touched })
        },
        registrar: {
          registerService: (service, done) =>
            manager.send({ _tag: "RegisterServiceRequested", reply: ask(registrations, done), service }),
          registerEndpoint: (endpoint, done) =>
            manager.send({ _tag: "RegisterEndpointRequested", reply: ask(registrations, done), endpoint }),
          unregisterEndpoint: (name, done) =>
            manager.send({ _tag: "UnregisterEndpointRequested", reply: ask(registrations, done), name }),
          list: (template, done) =>
            done(
              Object.values(manager.current().registry.endpoints).filter((one) => Registry.fitsEndpoint(template, one))
            ),
          watch: watches(manager)
        }
      }
    }
  }
}

interface Wish {
  readonly cross: Cross.Cross
  readonly previous: Cross.Cross | undefined
}

/** The namespaces in which something of either may stand. */
const placesOf: (wish: Wish) => ReadonlyArray<string> = Memo.last(({ cross }) => cross, ({ cross, previous }) => [
  ...new Set([cross, previous].flatMap((one) => one === undefined ? [] : Cross.namespaces(one)))
])

interface Work extends Wish {
  readonly adopts: boolean
  readonly places: ReadonlyArray<string>
  /** Of the places, as far as they exist. */
  readonly snapshots: ReadonlyArray<Kernel.Snapshot | undefined>
}

/** The same cross connect in kernels that did not change takes the same operations: after the first time none. */
const planned: (work: Work) => ReadonlyArray<Forward.Operation> | Model.Failure = Memo.last(
  ({ cross }) => cross,
  ({ adopts, cross, places, previous, snapshots }) => {
    const seen: Forward.Observed = Object.fromEntries(
      snapshots.flatMap((snapshot, i) => snapshot === undefined ? [] : [[places[i] ?? "", snapshot]])
    )
    if (Cross.namespaces(cross).some((netns) => seen[netns] === undefined)) {
      return { reason: "NotFound", message: "the namespace is gone" }
    }
    if (adopts && !Forward.stands(cross, seen)) return { reason: "NotFound", message: "the links are gone" }
    const conflict = Forward.conflict(cross, seen)
    return conflict === undefined
      ? Forward.plan.plan({ cross, ...(previous === undefined ? {} : { previous }) }, seen)
      : { reason: "Conflict", message: conflict }
  }
)

/** Watches of endpoints: what fits at first, then what changes, which is found once for all of them. */
const watches = (manager: Actor.Actor<Manager.State, Event>): NonNullable<Api.Api["registrar"]>["watch"] => {
  type Change = Registry.Change<Model.Endpoint>
  const listeners = new Set<(change: Change) => void>()
  manager.follow(({ registry: { endpoints } }, _, { registry: { endpoints: before } }) => {
    if (before === endpoints) return
    const changes = Registry.changes(before, endpoints, () => true)
    for (const listener of listeners) changes.forEach(listener)
  })
  return (template, emit) => {
    const fits = (endpoint: Model.Endpoint): boolean => Registry.fitsEndpoint(template, endpoint)
    for (const change of Registry.changes({}, manager.current().registry.endpoints, fits)) emit(change)
    const listener = (change: Change): void => {
      if (fits(change.value)) emit(change)
    }
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }
}

const standing = (state: Manager.State): ReadonlyArray<readonly [clientId: string, connection: Model.Connection]> =>
  [...HashMap.keys(state.circuits)].flatMap((clientId) => {
    const connection = Manager.standingOf(state, clientId)
    return connection === undefined ? [] : [[clientId, connection]]
  })

/** The client ids of the connections that an event can have changed. */
const touched = (event: Event | Machine.Woken, { waiting }: Manager.State): ReadonlyArray<string> | undefined => {
  switch (event._tag) {
    case "RequestRequested":
    case "CloseRequested":
      return [Model.clientId(event.connection)]
    case "RegisterServiceRequested":
    case "Woken":
      return undefined
    case "UnregisterServiceRequested":
    case "RegisterEndpointRequested":
    case "UnregisterEndpointRequested":
      return []
    default:
      return Option.toArray(HashMap.get(waiting, event.call))
  }
}

const requestEndpoint = (
  { network }: Ground,
  life: Life,
  { call, connection, preferences, target, timeoutMs }: Extract<Command, { readonly _tag: "RequestEndpoint" }>,
  send: Send
): Actor.Stop =>
  network.call<Event>(
    life,
    target.url,
    ({ network }, answer) => {
      if (network === undefined) {
        return answer({ _tag: "EndpointRefused", call, reason: "Unavailable", message: "nobody listens" })
      }
      return network.request(connection, preferences, (result) => {
        switch (result._tag) {
          case "Succeeded":
            return answer({ _tag: "EndpointAnswered", call, connection: result.connection })
          case "Closed":
            return answer({ _tag: "EndpointRefused", call, reason: "Conflict", message: "closed" })
          case "Failed":
            return answer({ _tag: "EndpointRefused", call, reason: result.reason, message: result.message })
        }
      })
    },
    { timeoutMs },
    (reply) =>
      send(
        reply._tag === "Answered"
          ? reply.value
          : { _tag: "EndpointRefused", call, reason: reply.reason, message: "" }
      )
  )

/** Tells changes until the endpoint is lost or the connection is down there. */
const watchEndpoint = (
  { network }: Ground,
  life: Life,
  { call, connection, target }: Extract<Command, { readonly _tag: "WatchEndpoint" }>,
  send: Send
): Actor.Stop => {
  const own = connection.path.segments[connection.path.index]
  const selector = { segments: [{ name: own?.name ?? "", id: connection.id, token: "" }], networkServices: [] }
  const stop = network.watch<Model.ConnectionEvent>(
    life,
    target.url,
    ({ network }, emit) => network?.monitor(selector, emit),
    {
      message: (event) => {
        const change = CircuitState.changeIn(event, connection)
        if (change === undefined) return
        send({ _tag: "EndpointChanged", call, change })
        if (change === "Down") stop()
      },
      end: () => send({ _tag: "EndpointChanged", call, change: "Lost" })
    }
  )
  return stop
}
