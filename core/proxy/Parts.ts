/**
 * Carries messages between the smaller machines of the proxy: what one asks of another is delivered at once, what it asks
 * of the world leaves as a command.
 *
 *     Mesh, Targets ──acquire, release──▶ Leases ──granted, refused──▶ Mesh, Targets
 *
 * Calls of the parts are told apart by their remainder, so that each number is used once.
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import { Ip } from "../net/index.ts"
import * as Convergence from "./Convergence.ts"
import * as Leases from "./Leases.ts"
import * as Mesh from "./Mesh.ts"
import { bridgeChildren, pairChildren, type Settings, toPair } from "./Model.ts"
import * as Targets from "./Targets.ts"

export const State = Schema.Struct({
  families: Schema.Array(Ip.Family),
  leases: Leases.State,
  mesh: Mesh.State,
  targets: Targets.State,
  kernel: Convergence.State
})
export type State = typeof State.Type

/** What the parts ask of the world. */
export const commands = [
  Leases.Command.cases.AllocateAddresses,
  Leases.Command.cases.ReleaseAddresses,
  Mesh.Command.cases.QueryConnection,
  Mesh.Command.cases.RequestConnection,
  Mesh.Command.cases.WatchConnection,
  Mesh.Command.cases.CloseConnection,
  Targets.Command.cases.Reply,
  Convergence.Command.cases.ObserveKernel,
  Convergence.Command.cases.ApplyOperations,
  Leases.Command.cases.Cancel
] as const
const Command = Schema.Union(commands)
export type Command = typeof Command.Type

/** What the world answers. */
export const outcomes = [
  Leases.Event.cases.AllocateSucceeded,
  Leases.Event.cases.AllocateFailed,
  Leases.Event.cases.ReleaseSucceeded,
  Leases.Event.cases.ReleaseFailed,
  Mesh.Event.cases.QuerySucceeded,
  Mesh.Event.cases.QueryFailed,
  Mesh.Event.cases.RequestSucceeded,
  Mesh.Event.cases.RequestFailed,
  Mesh.Event.cases.CloseSucceeded,
  Mesh.Event.cases.CloseFailed,
  Convergence.Event.cases.ObserveFailed,
  Convergence.Event.cases.ApplySucceeded,
  Convergence.Event.cases.ApplyFailed
] as const
const Outcome = Schema.Union(outcomes)
export type Outcome = typeof Outcome.Type

/** An event for one of the parts, with a call number of that part. */
export type Message =
  | { readonly to: "Leases"; readonly event: Leases.Event | Machine.Woken }
  | { readonly to: "Mesh"; readonly event: Mesh.Event | Machine.Woken }
  | { readonly to: "Targets"; readonly event: Targets.Event }
  | { readonly to: "Kernel"; readonly event: Convergence.Event | Machine.Woken }

type Step = Machine.Step<State, Command>

const remainders = { Own: 0, Leases: 1, Mesh: 2, Kernel: 3 }
type Part = keyof typeof remainders

/** The number under which the world knows a call of a part. */
export const outerCall = (part: Part, call: number): number => call * 4 + remainders[part]

/** The call of the part, if it is one. */
export const innerCall = (part: Part, call: number): number | undefined =>
  call % 4 === remainders[part] ? (call - remainders[part]) / 4 : undefined

export const init = (settings: Settings, now: Machine.Millis): Step => {
  const [kernel, started] = Convergence.init(settings)
  const state: State = {
    families: settings.families,
    leases: Leases.init(settings)[0],
    mesh: Mesh.init(settings)[0],
    targets: Targets.init()[0],
    kernel
  }
  const children = bridgeChildren(settings.families)
  const [next, acquired] = deliver(state, now, {
    to: "Leases",
    event: { _tag: "AcquireRequested", key: bridgeKey, holder: "proxy", children }
  })
  return [next, [...started.map((command) => ({ ...command, call: outerCall("Kernel", command.call) })), ...acquired]]
}

export const wake = ({ kernel, leases, mesh }: State): Machine.Millis | undefined =>
  Machine.earliest(Leases.wake(leases), Mesh.wake(mesh), Convergence.wake(kernel))

/** Hands messages to the parts, and what they say to each other, until nobody has anything to say. */
export const deliver = (state: State, now: Machine.Millis, ...messages: ReadonlyArray<Message>): Step => {
  let next = state
  const commands: Array<Command> = []
  const queue = [...messages]
  // It grows while it is read.
  for (const message of queue) {
    const [after, started, said] = hear(next, message, now)
    next = after
    commands.push(...started)
    queue.push(...said)
  }
  return [next, commands]
}

/** The outcome as an event of the part whose command it answers. */
export const answer = (event: Outcome): ReadonlyArray<Message> => {
  switch (event._tag) {
    case "AllocateSucceeded":
    case "AllocateFailed":
    case "ReleaseSucceeded":
    case "ReleaseFailed": {
      const call = innerCall("Leases", event.call)
      return call === undefined ? [] : [{ to: "Leases", event: { ...event, call } }]
    }
    case "QuerySucceeded":
    case "QueryFailed":
    case "RequestSucceeded":
    case "RequestFailed":
    case "CloseSucceeded":
    case "CloseFailed": {
      const call = innerCall("Mesh", event.call)
      return call === undefined ? [] : [{ to: "Mesh", event: { ...event, call } }]
    }
    case "ObserveFailed":
    case "ApplySucceeded":
    case "ApplyFailed": {
      const call = innerCall("Kernel", event.call)
      return call === undefined ? [] : [{ to: "Kernel", event: { ...event, call } }]
    }
  }
}

type Heard = readonly [state: State, commands: ReadonlyArray<Command>, said: ReadonlyArray<Message>]

const hear = (state: State, message: Message, now: Machine.Millis): Heard => {
  switch (message.to) {
    case "Leases": {
      const [leases, commands] = Leases.step(state.leases, message.event, now)
      return sort(leases === state.leases ? state : { ...state, leases }, commands, fromLeases)
    }
    case "Mesh": {
      const [mesh, commands] = Mesh.step(state.mesh, message.event, now)
      return sort(
        mesh === state.mesh ? state : { ...state, mesh },
        commands,
        (command) => fromMesh(command, state.families)
      )
    }
    case "Targets": {
      const [targets, commands] = Targets.step(state.targets, message.event)
      return sort(
        targets === state.targets ? state : { ...state, targets },
        commands,
        (command) => fromTargets(command, state.families)
      )
    }
    case "Kernel": {
      const [kernel, commands] = Convergence.step(state.kernel, message.event, now)
      const outer = commands.map((command) => ({ ...command, call: outerCall("Kernel", command.call) }))
      return [kernel === state.kernel ? state : { ...state, kernel }, outer, []]
    }
  }
}

/** What a command of a part is: one for the world, or messages to other parts. */
type Sorted = Command | ReadonlyArray<Message>

const sort = <C>(state: State, commands: ReadonlyArray<C>, from: (command: C) => Sorted): Heard => {
  const outside: Array<Command> = []
  const said: Array<Message> = []
  for (const command of commands) {
    const sorted = from(command)
    if ("_tag" in sorted) outside.push(sorted)
    else said.push(...sorted)
  }
  return [state, outside, said]
}

const fromLeases = (command: Leases.Command): Sorted => {
  switch (command._tag) {
    case "AllocateAddresses":
    case "ReleaseAddresses":
    case "Cancel":
      return { ...command, call: outerCall("Leases", command.call) }
    case "GrantLease": {
      const { allocations, key } = command
      if (key === bridgeKey) {
        const addresses = allocations.map(({ address }) => address)
        return [{ to: "Targets", event: { _tag: "BridgeChanged", addresses } }]
      }
      const id = connectionOf(key)
      const pair = toPair(id, allocations)
      return [
        { to: "Mesh", event: { _tag: "LeaseGranted", id, pair } },
        { to: "Targets", event: { _tag: "LeaseGranted", client: id, pair } }
      ]
    }
    case "RefuseLease":
      return [{
        to: "Targets",
        event: { _tag: "LeaseRefused", client: connectionOf(command.key), reason: command.reason }
      }]
  }
}

const fromMesh = (command: Mesh.Command, families: ReadonlyArray<Ip.Family>): Sorted => {
  switch (command._tag) {
    case "AcquireLease":
      return [acquire(command.id, meshHolder, families)]
    case "ReleaseLease":
      return [release(command.id, meshHolder)]
    case "WatchConnection":
      return command
    case "QueryConnection":
    case "RequestConnection":
    case "CloseConnection":
    case "Cancel":
      return { ...command, call: outerCall("Mesh", command.call) }
  }
}

const fromTargets = (command: Targets.Command, families: ReadonlyArray<Ip.Family>): Sorted => {
  switch (command._tag) {
    case "AcquireLease":
      return [acquire(command.client, `target ${command.holder}`, families)]
    case "ReleaseLease":
      return [release(command.client, `target ${command.holder}`)]
    case "Reply":
      return command
  }
}

const acquire = (id: string, holder: string, families: ReadonlyArray<Ip.Family>): Message => ({
  to: "Leases",
  event: { _tag: "AcquireRequested", key: keyOf(id), holder, children: pairChildren(id, families) }
})

const release = (id: string, holder: string): Message => ({
  to: "Leases",
  event: { _tag: "ReleaseRequested", key: keyOf(id), holder }
})

const bridgeKey = "bridge"
const meshHolder = "mesh"
const keyOf = (id: string): string => `connection ${id}`
const connectionOf = (key: string): string => key.slice("connection ".length)
