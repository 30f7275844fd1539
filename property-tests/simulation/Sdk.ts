/** The client of NSM in a simulated process, as `shells/sdk/Client.ts`: sessions, interface names, queries, finding. */
import * as ClientState from "../../core/nsm/ClientState.ts"
import { Client, Finding, Model, Naming } from "../../core/nsm/index.ts"
import * as Same from "../../core/Same.ts"
import * as Actor from "./Actor.ts"
import { type Ground, lifetimes, names, reopenMs, requestMs } from "./Ground.ts"
import type { Life } from "./World.ts"

type Done<A> = (result: Result<A>) => void
/** How a call ended; reasons as in `Model.Reason`. */
export type Result<A> = { readonly _tag: "Succeeded"; readonly value: A } | {
  readonly _tag: "Failed"
  readonly reason: Model.Reason
}

export interface Options {
  /** The segment of the client in the path. */
  readonly name: string
  readonly netns: string
  readonly naming: "Counter" | "Service"
}

interface Session {
  readonly actor: Actor.Actor<Client.State, Client.Event>
  readonly waiting: Map<number, (result: typeof Client.Command.cases.Reply.Type["result"]) => void>
  users: number
}

/** A name stays reserved after its connection ended. */
const nameRestMs = 600_000
const queryMs = 5_000
const roundMs = 60_000
const tickMs = 5_000

export type Sdk = ReturnType<typeof make>

export const make = (ground: Ground, life: Life, options: Options) => {
  const { machines, network, observe, world } = ground
  const sessions = new Map<string, Session>()
  const reserved = new Map<string, { readonly id: string; readonly freeAt: number }>()
  let replies = 0

  const perform = (session: () => Session): Actor.Perform<Client.Event, typeof Client.Command.Type> =>
  (
    command,
    send
  ) => {
    switch (command._tag) {
      case "Request": {
        const { call, connection, preferences, timeoutMs } = command
        return network.call<Client.Event>(
          life,
          names.manager,
          ({ network }, answer) =>
            network?.request(connection, preferences, (result) =>
              answer(
                result._tag === "Succeeded"
                  ? { _tag: "RequestSucceeded", call, connection: result.connection }
                  : { _tag: "RequestFailed", call, ...failureOf(result) }
              )),
          { timeoutMs, waitForReady: true },
          (reply) => send(reply._tag === "Answered" ? reply.value : { _tag: "RequestFailed", call, ...broken(reply) })
        )
      }
      case "Close": {
        const { call, connection, timeoutMs } = command
        return network.call<Client.Event>(
          life,
          names.manager,
          ({ network }, answer) =>
            network?.close(connection, (result) =>
              answer({
                _tag: "CloseFinished",
                call,
                ...(result._tag === "Failed" ? { failure: failureOf(result) } : {})
              })),
          { timeoutMs },
          (reply) =>
            send(reply._tag === "Answered" ? reply.value : { _tag: "CloseFinished", call, failure: broken(reply) })
        )
      }
      case "Monitor": {
        const { call, connection } = command
        const selector = { segments: [{ name: options.name, id: connection.id, token: "" }], networkServices: [] }
        return network.watch<Model.ConnectionEvent>(
          life,
          names.manager,
          ({ network }, emit) => network?.monitor(selector, emit),
          {
            message: (event) => {
              const change = ClientState.changeIn(event, connection)
              if (change !== undefined) send({ _tag: "MonitorChanged", call, change })
            },
            end: () => send({ _tag: "MonitorChanged", call, change: "Lost" })
          }
        )
      }
      case "Reply": {
        const { waiting } = session()
        const done = waiting.get(command.reply)
        waiting.delete(command.reply)
        return done?.(command.result)
      }
      case "Cancel":
        return
    }
  }

  const sessionOf = (id: string): Session => {
    const known = sessions.get(id)
    if (known !== undefined) return known
    const waiting: Session["waiting"] = new Map()
    const session: Session = {
      waiting,
      users: 0,
      actor: Actor.start(world, life, observe, machines.client, {
        name: options.name,
        netns: options.netns,
        requestTimeoutMs: requestMs,
        maxTokenLifetimeMs: lifetimes.tokenMs,
        minBackoffMs: 200,
        maxBackoffMs: 5_000,
        seed: life.draw(0, 0xffff_fffe)
      }, perform(() => session))
    }
    sessions.set(id, session)
    return session
  }

  const leave = (id: string, session: Session): void => {
    session.users--
    if (session.users === 0 && Client.isIdle(session.actor.current()) && sessions.get(id) === session) {
      sessions.delete(id)
    }
  }

  const nameFor = ({ id, networkService }: Model.Connection): string => {
    const own = [...reserved].find(([, entry]) => entry.id === id)
    if (own !== undefined) return own[0]
    if (options.naming === "Service") return Naming.byService(networkService, randomText(life))
    for (const [name, { freeAt }] of reserved) if (freeAt <= life.now()) reserved.delete(name)
    return Naming.byCounter(new Set(reserved.keys()))
  }
  const release = (id: string): void => {
    for (const [name, entry] of reserved) {
      if (entry.id === id) reserved.set(name, { id, freeAt: life.now() + nameRestMs })
    }
  }

  const request = (connection: Model.Connection, interfaceName: string | undefined, done: Done<Model.Connection>) => {
    const { id } = connection
    const session = sessionOf(id)
    const name = interfaceName ?? nameFor(connection)
    const reply = replies++
    reserved.set(name, { id, freeAt: Number.POSITIVE_INFINITY })
    session.users++
    let isOver = false
    session.waiting.set(reply, (result) => {
      const isKept = Client.view(session.actor.current()) !== undefined
      if (result._tag === "Failed" && !isKept) {
        release(id)
        if (result.reason === "Conflict") reserved.set(name, { id: "", freeAt: life.now() + nameRestMs })
      }
      leave(id, session)
      if (isOver) return
      done(
        result._tag === "Succeeded"
          ? { _tag: "Succeeded", value: result.connection }
          : { _tag: "Failed", reason: result._tag === "Failed" ? result.reason : "Conflict" }
      )
    })
    session.actor.send({ _tag: "RequestRequested", reply, connection, interfaceName: name })
    return () => {
      isOver = true
    }
  }

  const query = (id: string, done: Done<Model.Connection | undefined>): () => void => {
    let isOver = false
    let stop: (() => void) | undefined
    const finish = (result: Result<Model.Connection | undefined>): void => {
      if (isOver) return
      isOver = true
      stop?.()
      done(result)
    }
    stop = network.watch<Model.ConnectionEvent>(
      life,
      names.manager,
      ({ network }, emit) => network?.monitor({ segments: [{ name: "", id, token: "" }], networkServices: [] }, emit),
      {
        message: ({ connections }) => {
          const found = Model.clientRecord(id, Object.values(connections))
          finish({
            _tag: "Succeeded",
            value: found === undefined ? undefined : { ...found, id, path: { ...found.path, index: 0 } }
          })
        },
        end: () => finish({ _tag: "Failed", reason: "Unavailable" })
      },
      true
    )
    life.later(queryMs, () => finish({ _tag: "Failed", reason: "Timeout" }))
    return () => {
      if (isOver) return
      isOver = true
      stop?.()
    }
  }

  const close = (id: string, done: Done<void>): () => void => {
    const session = sessionOf(id)
    session.users++
    let isOver = false
    const finish = (result: Result<void>): void => {
      release(id)
      leave(id, session)
      if (!isOver) done(result)
    }
    if (Client.isIdle(session.actor.current())) {
      query(id, (found) => {
        if (found._tag === "Failed") return finish(found)
        const connection = found.value
        if (connection === undefined) return finish({ _tag: "Succeeded", value: undefined })
        network.call<void>(
          life,
          names.manager,
          ({ network }, answer) => network?.close(connection, () => answer()),
          { timeoutMs: requestMs },
          (reply) =>
            finish(
              reply._tag === "Answered"
                ? { _tag: "Succeeded", value: undefined }
                : { _tag: "Failed", reason: reply.reason }
            )
        )
      })
    } else {
      const reply = replies++
      session.waiting.set(reply, (result) =>
        finish(
          result._tag === "Failed"
            ? { _tag: "Failed", reason: result.reason }
            : { _tag: "Succeeded", value: undefined }
        ))
      session.actor.send({ _tag: "CloseRequested", reply })
    }
    return () => {
      isOver = true
    }
  }

  /** The connection as it stands and each change of it, then its end. */
  const changes = (id: string, on: (connection: Model.Connection) => void, ended: () => void): () => void => {
    const session = sessions.get(id)
    if (session === undefined) {
      life.later(0, ended)
      return () => undefined
    }
    let last: Model.Connection | undefined
    let stop: (() => void) | undefined
    const show = (state: Client.State): void => {
      const view = Client.view(state)
      if (view === undefined) {
        if (last === undefined) return
        stop?.()
        return ended()
      }
      if (Same.equals(view, last)) return
      last = view
      on(view)
    }
    stop = session.actor.follow(show)
    life.later(0, () => show(session.actor.current()))
    return stop
  }

  /** The endpoints of a service, the whole set after each change. */
  const find = (networkService: string, on: (endpoints: ReadonlyArray<Model.Endpoint>) => void): void => {
    const template: Model.Endpoint = { name: "", networkServices: [networkService], labels: {}, url: "" }
    let known = Finding.nothing
    let told: ReadonlyArray<Model.Endpoint> | undefined
    const learn = (state: Finding.State): void => {
      known = state
      const view = Finding.view(known)
      if (Same.equals(view, told)) return
      told = view
      on(view)
    }
    const tick = (): void => {
      learn(told === undefined ? known : Finding.forget(known, life.now()))
      life.later(tickMs, tick)
    }
    const round = (): void => {
      let isOver = false
      const next = (): void => {
        if (isOver) return
        isOver = true
        life.later(reopenMs, round)
      }
      network.call<ReadonlyArray<Model.Endpoint>>(
        life,
        names.manager,
        ({ registrar }, answer) => registrar?.list(template, answer),
        { timeoutMs: requestMs },
        (reply) => {
          if (reply._tag === "Failed") return next()
          if (told === undefined) life.later(tickMs, tick)
          learn(Finding.relist(known, reply.value, life.now()))
          const stop = network.watch<{ readonly value: Model.Endpoint; readonly deleted: boolean }>(
            life,
            names.manager,
            ({ registrar }, emit) => registrar?.watch(template, emit),
            { message: ({ deleted, value }) => learn(Finding.change(known, value, deleted)), end: next }
          )
          life.later(roundMs, () => {
            stop()
            next()
          })
        }
      )
    }
    round()
  }

  return { request, query, close, changes, find }
}

/** Letters and digits, as a random interface name holds them. */
export const randomText = (life: Life): string => {
  let text = ""
  while (text.length < 14) text += signs[life.draw(0, 35)] ?? ""
  return text
}

const signs = "0123456789abcdefghijklmnopqrstuvwxyz"

const broken = ({ reason }: { readonly reason: Model.Reason }): Model.Failure => ({ reason, message: "" })

const failureOf = (
  result: { readonly _tag: "Closed" } | ({ readonly _tag: "Failed" } & Model.Failure)
): Model.Failure =>
  result._tag === "Failed"
    ? { reason: result.reason, message: result.message }
    : { reason: "Conflict", message: "the connection was closed" }
