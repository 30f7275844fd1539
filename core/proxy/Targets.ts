/**
 * Decides how targets that connect to the proxy are answered, and which of them are connected.
 *
 *     absent ──requested──▶ waiting for addresses ──granted──▶ established ──closed──▶ absent
 *                           │ refused, abandoned
 *                           ▼
 *                        absent
 *
 * 1. No target is answered without a gateway of each family.
 * 2. Every request is answered once, or its caller has left.
 * 3. A connection holds its lease from its first request to its close; a request that fails for good leaves nothing, nor
 *    does one whose caller left before it took the answer.
 * 4. The lease belongs to the client's own id of the connection, which survives a replaced proxy; two connections of one
 *    client share it (Meridio issue 584: there the close of the stale one frees the addresses of the live one).
 */
import { Schema } from "effect"
import * as Machine from "../Machine.ts"
import * as Memo from "../Memo.ts"
import { Cidr, Kernel } from "../net/index.ts"
import { IpContext as NsmIpContext } from "../nsm/Model.ts"
import * as Same from "../Same.ts"
import * as IpContext from "./IpContext.ts"
import { Pair, type Port } from "./Model.ts"

const Request = Schema.Struct({ reply: Schema.Natural, ip: NsmIpContext })

const Target = Schema.Struct({
  /** The id of the connection at the proxy, unique. */
  id: Schema.String,
  /** The client's own id of the connection. */
  client: Schema.String,
  link: Schema.optionalKey(Kernel.LinkName),
  /** The addresses it was answered with. */
  established: Schema.optionalKey(Pair),
  /** The replies of which one has to be taken for the connection to be established; absent: one was. */
  untaken: Schema.optionalKey(Schema.Array(Schema.Natural)),
  waiting: Schema.Array(Request)
})
type Target = typeof Target.Type

export const State = Schema.Struct({
  draining: Schema.Boolean,
  /** The gateways; empty: not known yet. */
  bridge: Schema.Array(Cidr.Cidr),
  targets: Schema.Array(Target)
})
export type State = typeof State.Type

/** What a request is answered with. */
export const Answer = Schema.TaggedUnion({
  Accepted: { ip: NsmIpContext },
  /** Not now; the client tries again. */
  Refused: { reason: Schema.String }
})
export type Answer = typeof Answer.Type

export const Event = Schema.TaggedUnion({
  /** A target asks for a connection, changes it or refreshes it. */
  RequestReceived: {
    reply: Schema.Natural,
    id: Schema.String,
    client: Schema.String,
    link: Schema.optionalKey(Kernel.LinkName),
    ip: NsmIpContext
  },
  /** The caller has left before it was answered, or before it took the answer. */
  RequestAbandoned: { reply: Schema.Natural },
  CloseReceived: { id: Schema.String },
  /** The gateways are known or have changed. */
  BridgeChanged: { addresses: Schema.Array(Cidr.Cidr) },
  LeaseGranted: { client: Schema.String, pair: Pair },
  LeaseRefused: { client: Schema.String, reason: Schema.String },
  CloseRequested: {}
})
export type Event = typeof Event.Type

export const Command = Schema.TaggedUnion({
  Reply: { reply: Schema.Natural, answer: Answer },
  /** To whoever has the addresses. */
  AcquireLease: { client: Schema.String, holder: Schema.String },
  ReleaseLease: { client: Schema.String, holder: Schema.String }
})
export type Command = typeof Command.Type

type Step = Machine.Step<State, Command>

export const init = (): Step => [{ draining: false, bridge: [], targets: [] }, []]

export const step = (state: State, event: Event | Machine.Woken): Step => {
  switch (event._tag) {
    case "RequestReceived":
      return requested(state, event)
    case "RequestAbandoned":
      return abandoned(state, event.reply)
    case "CloseReceived":
      return each(state, ({ id }) => id === event.id, (target) => end(target, "the connection was closed"))
    case "BridgeChanged":
      return Same.equals(state.bridge, event.addresses)
        ? Machine.stay(state)
        : [{ ...state, bridge: event.addresses }, []]
    case "LeaseGranted":
      return each(state, ({ client }) => client === event.client, (target) => answer(state, target, event.pair))
    case "LeaseRefused":
      return each(
        state,
        ({ client, waiting }) => client === event.client && waiting.length > 0,
        (target) => refuse(target, event.reason)
      )
    case "CloseRequested":
      return drain(state)
    case "Woken":
      return Machine.stay(state)
  }
}

/** The interfaces of the targets. */
export const ports: (state: State) => ReadonlyArray<Port> = Memo.each(({ targets }) => targets.flatMap(portsOf))

const portsOf = ({ established, link }: Target): ReadonlyArray<Port> =>
  established === undefined || link === undefined ? [] : [portOf({ established, link })]

// Requests come and go while the port stays the same value.
const portOf = Memo.last(
  ({ established }: { readonly established: Pair; readonly link: string }) => established,
  ({ established, link }): Port => ({ link, role: "Target", remotes: established.src, phase: "Live" })
)

export const machine = Machine.make({
  name: "proxy-targets",
  Input: Schema.Struct({}),
  State,
  Event,
  Command,
  init,
  step,
  wake: () => undefined
})

const requested = (state: State, event: typeof Event.cases.RequestReceived.Type): Step => {
  const { client, id, ip, link, reply } = event
  if (state.draining) return [state, [refusal(reply, "the proxy shuts down")]]
  if (state.bridge.length === 0) return [state, [refusal(reply, "the proxy has no gateway address yet")]]
  const known = state.targets.find((target) => target.id === id)
  if (known !== undefined && known.client !== client) {
    const [without, ended] = each(
      state,
      (target) => target === known,
      (target) => end(target, "the client was replaced")
    )
    const [next, commands] = requested(without, event)
    return [next, [...ended, ...commands]]
  }
  // Whoever asks again has taken the answer.
  const { link: _, untaken: __, ...rest } = known ?? { id, client, waiting: [] }
  const target: Target = {
    ...rest,
    ...(link === undefined ? {} : { link }),
    waiting: [...rest.waiting, { reply, ip }]
  }
  const targets = known === undefined
    ? [...state.targets, target]
    : state.targets.map((other) => other === known ? target : other)
  return [{ ...state, targets }, [{ _tag: "AcquireLease", client, holder: id }]]
}

const answer = ({ bridge }: State, target: Target, granted: Pair): Outcome => {
  const { established, waiting } = target
  const pair = Same.equals(established, granted) ? established ?? granted : granted
  const answers = waiting.map(({ ip, reply }): Command => ({
    _tag: "Reply",
    reply,
    answer: { _tag: "Accepted", ip: IpContext.toTarget(ip, pair, bridge) }
  }))
  if (waiting.length === 0 && established === pair) return [target, answers]
  const untaken = established === undefined ? { untaken: waiting.map(({ reply }) => reply) } : {}
  return [{ ...target, ...untaken, established: pair, waiting: [] }, answers]
}

const refuse = (target: Target, reason: string): Outcome =>
  target.established === undefined
    ? end(target, reason)
    : [{ ...target, waiting: [] }, target.waiting.map(({ reply }) => refusal(reply, reason))]

const end = (target: Target, reason: string): Outcome => [undefined, [
  ...target.waiting.map(({ reply }) => refusal(reply, reason)),
  { _tag: "ReleaseLease", client: target.client, holder: target.id }
]]

const abandoned = (state: State, reply: number): Step => {
  const [next, commands] = each(state, ({ untaken = [] }) => untaken.includes(reply), (target) => {
    const untaken = (target.untaken ?? []).filter((other) => other !== reply)
    return untaken.length > 0 ? [{ ...target, untaken }, []] : end(target, "")
  })
  return next === state ? left(state, reply) : [next, commands]
}

const left = (state: State, reply: number): Step => {
  const isIt = (target: Target): boolean => target.waiting.some((request) => request.reply === reply)
  return each(state, isIt, (target) => {
    const left = { ...target, waiting: target.waiting.filter((request) => request.reply !== reply) }
    return left.waiting.length > 0 || left.established !== undefined ? [left, []] : end(left, "")
  })
}

const drain = (state: State): Step => {
  if (state.draining) return Machine.stay(state)
  const reason = "the proxy shuts down"
  return each({ ...state, draining: true }, ({ waiting }) => waiting.length > 0, (target) => refuse(target, reason))
}

const refusal = (reply: number, reason: string): Command => ({
  _tag: "Reply",
  reply,
  answer: { _tag: "Refused", reason }
})

/** What becomes of a target; undefined: it goes. */
type Outcome = readonly [target: Target | undefined, commands: ReadonlyArray<Command>]

const each = (state: State, isMeant: (target: Target) => boolean, act: (target: Target) => Outcome): Step => {
  const outcomes = state.targets.map((target): Outcome => isMeant(target) ? act(target) : [target, []])
  if (outcomes.every(([target], i) => target === state.targets[i])) return Machine.stay(state)
  const targets = outcomes.flatMap(([target]) => target === undefined ? [] : [target])
  return [{ ...state, targets }, outcomes.flatMap(([, commands]) => commands)]
}
