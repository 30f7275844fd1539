/** A target in a simulated world: its ambassador, as `shells/tapa`, and the application that opens streams. */
import type * as Config from "../../core/config/Model.ts"
import type * as Target from "../../core/config/Target.ts"
import type * as Cidr from "../../core/net/Cidr.ts"
import { Configuration } from "../../core/nsp/index.ts"
import * as Same from "../../core/Same.ts"
import { Ambassador, type Model } from "../../core/tapa/index.ts"
import * as Actor from "./Actor.ts"
import type * as Api from "./Api.ts"
import { type Ground, lifetimes, requestMs } from "./Ground.ts"
import * as Sdk from "./Sdk.ts"
import type { Life, Program } from "./World.ts"

export interface Options {
  readonly name: string
  readonly node: string
  readonly namespace: string
  readonly netns: string
  /** The streams that the application wants from the beginning. */
  readonly wishes: ReadonlyArray<Config.StreamKey>
  /** The process that is the NSP of a trench. */
  readonly nspOf: (trench: string) => string
}

export interface Tapa extends Program {
  readonly netns: string
  /** The application asks; it asks again when the ambassador refuses or restarts, until it wants the opposite. */
  readonly open: (stream: Config.StreamKey) => void
  readonly close: (stream: Config.StreamKey) => void
  /** The streams that the application wants. */
  readonly wished: () => ReadonlyArray<Config.StreamKey>
  readonly statuses: () => ReadonlyArray<Model.StreamStatus>
  /** What the application heard last by its watch, which it opens again with each life of the ambassador. */
  readonly watched: () => ReadonlyArray<Model.StreamStatus>
  readonly state: () => Ambassador.State | undefined
}

type Command = Ambassador.Command
type Event = Ambassador.Event
type Send = (event: Event) => void

/** How soon the application asks again. */
const askAgainMs = 1_000
/** How long news take to the application on the same machine. */
const watchMs = 2
const everything = { trench: "", conduit: "", stream: "" }

export const make = (ground: Ground, options: Options): Tapa => {
  const { machines, observe, world } = ground
  const wishes = new Map(options.wishes.map((stream) => [keyOf(stream), stream]))
  let watched: ReadonlyArray<Model.StreamStatus> = []
  let actor: Actor.Actor<Ambassador.State, Event> | undefined
  let ask: ((tag: "OpenRequested" | "CloseRequested", stream: Config.StreamKey) => void) | undefined
  const isAlive = (): boolean => world.isAlive(options.name)

  const boot: Program["boot"] = (life) => {
    const asked = new Map<number, () => void>()
    let replies = 0
    const sdk = Sdk.make(ground, life, { name: options.name, netns: options.netns, naming: "Counter" })
    const running = Actor.start(
      world,
      life,
      observe,
      machines.tapa,
      {
        settings: {
          name: options.name,
          node: options.node,
          namespace: options.namespace,
          timeoutMs: requestMs,
          tokenLifetimeMs: lifetimes.tokenMs,
          entryTimeoutMs: lifetimes.refreshMs
        },
        seed: life.draw(0, 0xffff_ffff)
      },
      (command: Command, send: Send) => {
        if (command._tag !== "Reply") return perform(ground, life, sdk, options.nspOf, command, send)
        const again = asked.get(command.reply)
        asked.delete(command.reply)
        if (command.answer._tag === "Unavailable" || command.answer._tag === "Conflict") again?.()
      }
    )
    actor = running
    ask = (tag, stream) => {
      const reply = replies++
      const isWanted = (): boolean => wishes.has(keyOf(stream)) === (tag === "OpenRequested")
      asked.set(reply, () => life.later(askAgainMs, () => isWanted() && ask?.(tag, stream)))
      running.send({ _tag: tag, reply, stream })
    }
    life.shutdown = (done) => {
      running.follow((state) => Ambassador.isStopped(state) && life.later(0, done))
      running.send({ _tag: "ShutdownRequested" })
    }
    life.later(askAgainMs, () => {
      let told = watched
      running.follow((state) => {
        const next = Ambassador.statuses(state, everything)
        if (Same.equals(next, told)) return
        told = next
        life.later(watchMs, () => {
          watched = next
        })
      })
      watched = told = Ambassador.statuses(running.current(), everything)
    })
    life.later(askAgainMs, () => wishes.forEach((stream) => ask?.("OpenRequested", stream)))
  }

  return {
    name: options.name,
    netns: options.netns,
    boot,
    open: (stream) => {
      wishes.set(keyOf(stream), stream)
      if (isAlive()) ask?.("OpenRequested", stream)
    },
    close: (stream) => {
      wishes.delete(keyOf(stream))
      if (isAlive()) ask?.("CloseRequested", stream)
    },
    wished: () => [...wishes.values()],
    statuses: () =>
      actor === undefined || !isAlive()
        ? []
        : Ambassador.statuses(actor.current(), everything),
    watched: () => isAlive() ? watched : [],
    state: () => isAlive() ? actor?.current() : undefined
  }
}

const perform = (
  ground: Ground,
  life: Life,
  sdk: Sdk.Sdk,
  nspOf: Options["nspOf"],
  command: Command,
  send: Send
): Actor.Stop => {
  const { network } = ground
  const waitForReady = { waitForReady: true }
  switch (command._tag) {
    case "Reply":
    case "ConnectNsp":
    case "DisconnectNsp":
    case "Cancel":
      return
    case "ListTargets": {
      const { at, call } = command
      let stop: (() => void) | undefined
      stop = network.watch<ReadonlyArray<Target.Target>>(
        life,
        nspOf(at.trench),
        ({ nsp }, emit) => nsp?.watchTargets({ kind: "default", status: "any", stream: at }, emit),
        {
          message: (targets) => {
            stop?.()
            send({ _tag: "ListSucceeded", at, call, targets })
          },
          end: () => send({ _tag: "ListFailed", at, call, reason: "Unavailable" })
        },
        true
      )
      return stop
    }
    case "RegisterTarget": {
      const { at, call } = command
      return network.call<void>(
        life,
        nspOf(at.trench),
        ({ nsp }, answer) => nsp?.register(targetOf(command), answer),
        waitForReady,
        (reply) =>
          send(
            reply._tag === "Answered"
              ? { _tag: "RegisterSucceeded", at, call }
              : { _tag: "RegisterFailed", at, call, reason: reply.reason }
          )
      )
    }
    case "UnregisterTarget": {
      const { at, call } = command
      return network.call<void>(
        life,
        nspOf(at.trench),
        ({ nsp }, answer) => nsp?.unregister(targetOf(command), answer),
        waitForReady,
        (reply) =>
          send(
            reply._tag === "Answered"
              ? { _tag: "UnregisterSucceeded", at, call }
              : { _tag: "UnregisterFailed", at, call, reason: reply.reason }
          )
      )
    }
    case "WatchStreams": {
      const { at, call } = command
      return watch<ReadonlyArray<Config.Stream>>(
        ground,
        life,
        nspOf(at.trench),
        ({ nsp }, emit) => nsp?.watch((all) => Configuration.streams(all, { ...at }), emit),
        (streams) => send({ _tag: "StreamsChanged", at, call, streams }),
        () => send({ _tag: "StreamsLost", at, call, reason: "Unavailable" })
      )
    }
    case "WatchVips": {
      const { at, call } = command
      return watch<ReadonlyArray<Cidr.Cidr>>(
        ground,
        life,
        nspOf(at.trench),
        ({ nsp }, emit) => nsp?.watch((all) => vipsOf(Configuration.flows(all, { ...at })), emit),
        (vips) => send({ _tag: "VipsChanged", at, call, vips }),
        () => send({ _tag: "VipsLost", at, call, reason: "Unavailable" })
      )
    }
    case "QueryConnection": {
      const { at, call, id } = command
      return sdk.query(id, (result) =>
        send(
          result._tag === "Succeeded"
            ? { _tag: "QuerySucceeded", at, call, connection: result.value ?? null }
            : { _tag: "QueryFailed", at, call, reason: result.reason }
        ))
    }
    case "RequestConnection": {
      const { at, call, connection, interfaceName } = command
      return sdk.request(connection, interfaceName, (result) =>
        send(
          result._tag === "Succeeded"
            ? { _tag: "RequestSucceeded", at, call, connection: result.value }
            : { _tag: "RequestFailed", at, call, reason: result.reason }
        ))
    }
    case "CloseConnection": {
      const { at, call, id } = command
      return sdk.close(id, (result) =>
        send(
          result._tag === "Succeeded"
            ? { _tag: "CloseSucceeded", at, call }
            : { _tag: "CloseFailed", at, call, reason: result.reason }
        ))
    }
    case "WatchConnection": {
      const { at, call, id } = command
      return sdk.changes(
        id,
        (connection) => send({ _tag: "ConnectionChanged", at, call, connection }),
        () => send({ _tag: "ConnectionLost", at, call, reason: "Unavailable" })
      )
    }
  }
}

const watch = <A>(
  { network }: Ground,
  life: Life,
  nsp: string,
  open: (api: Api.Api, emit: (value: A) => void) => Api.Leave | undefined,
  message: (value: A) => void,
  end: () => void
): Actor.Stop => network.watch<A>(life, nsp, open, { message, end }, true)

const vipsOf = (flows: ReadonlyArray<Config.Flow>): ReadonlyArray<Cidr.Cidr> => [
  ...new Set(flows.flatMap(({ vips }) => vips.map(({ address }) => address)))
]

type Targeted = Extract<Command, { readonly _tag: "RegisterTarget" | "UnregisterTarget" }>

const targetOf = ({ at, target }: Targeted): Target.Target => ({
  kind: "default",
  stream: at,
  ips: target.ips,
  context: { identifier: String(target.identifier) },
  status: target.status
})

const keyOf = ({ conduit, stream, trench }: Config.StreamKey): string => `${trench}/${conduit}/${stream}`
