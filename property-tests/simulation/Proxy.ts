/** A proxy in a simulated world, as `shells/proxy`: one per node. */
import type * as IpamModel from "../../core/ipam/Model.ts"
import type * as Cidr from "../../core/net/Cidr.ts"
import * as Cidrs from "../../core/net/Cidr.ts"
import type { Ip } from "../../core/net/index.ts"
import * as Nsm from "../../core/nsm/Model.ts"
import { Configuration } from "../../core/nsp/index.ts"
import { Model, Proxy, type Targets } from "../../core/proxy/index.ts"
import * as Actor from "./Actor.ts"
import * as Endpoint from "./Endpoint.ts"
import { applyAll, follow, type Ground, lifetimes, requestMs } from "./Ground.ts"
import * as Sdk from "./Sdk.ts"
import type { Life, Program } from "./World.ts"

export interface Options {
  readonly name: string
  readonly node: string
  readonly namespace: string
  readonly trench: string
  readonly conduit: string
  readonly families: ReadonlyArray<Ip.Family>
  readonly netns: string
  readonly nsp: string
  readonly ipam: string
}

export interface ProxyProgram extends Program {
  readonly netns: string
  readonly state: () => Proxy.State | undefined
}

type Event = Proxy.Event
type Command = Proxy.Command

const mtu = 1500
const stopMs = 3_000
/** Changes of the kernel that come together are told together. */
const noticeMs = 20

const keyOf = (command: Command): string | number | undefined =>
  command._tag === "WatchConnection"
    ? `watch ${command.id}`
    : "call" in command
    ? command.call
    : undefined

export const make = (ground: Ground, options: Options): ProxyProgram => {
  const { kernels, machines, observe, world } = ground
  const { conduit, name, namespace, netns, node, trench } = options
  let actor: Actor.Actor<Proxy.State, Event> | undefined

  const boot: Program["boot"] = (life) => {
    const answers = new Map<number, (answer: typeof Targets.Answer.Type) => void>()
    const sdk = Sdk.make(ground, life, { name, netns, naming: "Service" })
    const startedAt = life.now()
    let replies = 0
    let stopServing: ((done: () => void) => void) | undefined

    const handler: Endpoint.Handler = {
      request: (connection, done) => {
        const reply = replies++
        const link = Nsm.interfaceName(connection)
        answers.set(reply, (answer) => {
          const { context } = connection
          if (answer._tag === "Refused") return done(undefined)
          // A refresh that changes nothing carries the same value on.
          const isSame = context.mtu === mtu && context.ip === answer.ip
          done(isSame ? connection : { ...connection, context: { ...context, mtu, ip: answer.ip } })
        })
        actor?.send({
          _tag: "RequestReceived",
          reply,
          id: connection.id,
          client: Nsm.clientId(connection),
          ...(link === undefined ? {} : { link }),
          ip: connection.context.ip
        })
        return () => {
          if (answers.delete(reply)) actor?.send({ _tag: "RequestAbandoned", reply })
        }
      },
      close: ({ id }) => actor?.send({ _tag: "CloseReceived", id })
    }

    const sameNode = { nodeName: "{{.nodeName}}" }
    const running = Actor.start(
      world,
      life,
      observe,
      machines.proxy,
      {
        ...Model.defaults,
        name,
        networkService: `${conduit}.${trench}.${namespace}`,
        families: options.families,
        mac: Model.stableMac(trench, conduit, node),
        mtu,
        releaseDelayMs: 20_000,
        renewMs: lifetimes.renewMs,
        expiryGraceMs: lifetimes.tokenMs / 2,
        tokenLifetimeMs: lifetimes.tokenMs
      },
      (command: Command, send: (event: Event) => void): Actor.Stop => {
        switch (command._tag) {
          case "ServeTargets":
            if (life.isBroken()) {
              return life.later(1, () => send({ _tag: "ServeFailed", call: command.call, reason: "no socket" }))
            }
            stopServing = Endpoint.serve(ground, life, {
              name,
              netns,
              service: {
                name: `proxy.${conduit}.${trench}.${namespace}`,
                payload: "ETHERNET",
                matches: [{ source: sameNode, destinations: [sameNode], fallthrough: false }]
              },
              labels: { nodeName: node }
            }, handler)
            return
          case "StopServing": {
            const { call } = command
            let isOver = false
            const stopped = (): void => {
              if (!isOver) send({ _tag: "StopSucceeded", call })
              isOver = true
            }
            life.later(stopMs, stopped)
            return stopServing === undefined ? stopped() : stopServing(stopped)
          }
          case "Reply": {
            const answer = answers.get(command.reply)
            answers.delete(command.reply)
            return answer?.(command.answer)
          }
          case "ObserveKernel":
            return life.later(1, () =>
              send(
                life.isBroken() && life.draw(0, 3) === 0
                  ? { _tag: "ObserveFailed", call: command.call, reason: "no buffer space" }
                  : { _tag: "ObserveSucceeded", call: command.call, snapshot: kernels.get(netns) }
              ))
          case "ApplyOperations":
            return life.later(1, () => {
              const { call, operations } = command
              const isDone = applyAll(ground, life, netns, operations)
              send(isDone ? { _tag: "ApplySucceeded", call } : { _tag: "ApplyFailed", call, reason: "busy" })
            })
          case "AllocateAddresses":
          case "ReleaseAddresses":
            return allot(ground, life, { ...options, startedAt }, command, send)
          default:
            return connect(sdk, command, send)
        }
      },
      keyOf
    )
    actor = running
    life.shutdown = (done) => {
      running.follow(({ phase }) => phase._tag === "Closed" && life.later(0, done))
      running.send({ _tag: "CloseRequested" })
    }

    let isNoticed = false
    const stop = kernels.follow(netns, () => {
      if (!life.isAlive()) return stop()
      if (isNoticed) return
      isNoticed = true
      life.later(noticeMs, () => {
        isNoticed = false
        running.send({ _tag: "KernelChanged" })
      })
    })
    follow<ReadonlyArray<Cidr.Cidr>>(
      ground,
      life,
      options.nsp,
      ({ nsp }, emit) => nsp?.watch((all) => Configuration.vips(all, { trench }).map(({ address }) => address), emit),
      (vips) => running.send({ _tag: "VipsChanged", vips })
    )
    sdk.find(`${conduit}.${trench}.${namespace}`, (endpoints) => running.send({ _tag: "EndpointsChanged", endpoints }))
  }

  return { name, netns, boot, state: () => world.isAlive(name) ? actor?.current() : undefined }
}

/** Calls to the IPAM, one child after the other, as `shells/proxy/Ipam.ts`. */
const allot = (
  { network }: Ground,
  life: Life,
  { conduit, ipam, node, startedAt, trench }: Options & { readonly startedAt: number },
  command: Extract<Command, { readonly _tag: "AllocateAddresses" | "ReleaseAddresses" }>,
  send: (event: Event) => void
): Actor.Stop => {
  const { call, children } = command
  const isAllocate = command._tag === "AllocateAddresses"
  const allocations: Array<Model.Allocation> = []
  let stop: (() => void) | undefined
  const next = (index: number): void => {
    const child = children[index]
    if (child === undefined) {
      return send(
        isAllocate ? { _tag: "AllocateSucceeded", call, allocations } : { _tag: "ReleaseSucceeded", call }
      )
    }
    stop = network.call<IpamModel.Answer>(
      life,
      ipam,
      ({ ipam }, answer) =>
        ipam?.[isAllocate ? "allocate" : "release"]({ ...child, trench, conduit, node, startedAt }, answer),
      { timeoutMs: requestMs, waitForReady: true },
      (reply) => {
        const answer = reply._tag === "Answered" ? reply.value : undefined
        if (answer === undefined || answer._tag === "Refused") {
          const reason = answer?._tag ?? "Unavailable"
          return send({ _tag: isAllocate ? "AllocateFailed" : "ReleaseFailed", call, reason })
        }
        if (answer._tag === "Allocated") {
          allocations.push({ ...child, address: Cidrs.make(answer.address, answer.length) })
        }
        next(index + 1)
      }
    )
  }
  next(0)
  return () => stop?.()
}

const connect = (sdk: Sdk.Sdk, command: Command, send: (event: Event) => void): Actor.Stop => {
  switch (command._tag) {
    case "QueryConnection": {
      const { call, id } = command
      return sdk.query(id, (result) =>
        send(
          result._tag === "Succeeded"
            ? { _tag: "QuerySucceeded", call, ...(result.value === undefined ? {} : { connection: result.value }) }
            : { _tag: "QueryFailed", call, reason: result.reason }
        ))
    }
    case "RequestConnection": {
      const { call, connection } = command
      return sdk.request(connection, undefined, (result) =>
        send(
          result._tag === "Succeeded"
            ? { _tag: "RequestSucceeded", call, connection: result.value }
            : { _tag: "RequestFailed", call, reason: result.reason }
        ))
    }
    case "WatchConnection":
      return sdk.changes(
        command.id,
        (connection) => send({ _tag: "ConnectionChanged", id: command.id, connection }),
        () => undefined
      )
    case "CloseConnection": {
      const { call, id } = command
      return sdk.close(id, (result) =>
        send(
          result._tag === "Succeeded"
            ? { _tag: "CloseSucceeded", call }
            : { _tag: "CloseFailed", call, reason: result.reason }
        ))
    }
    default:
      return
  }
}
