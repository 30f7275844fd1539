/**
 * Lives of connections as random moves: requests, refreshes, changes of context, closes, a manager that is killed at any
 * point and comes back, links that somebody deletes, namespaces that end. The manager of `core/nsm` decides; a `Ground`
 * carries out, on modelled kernels (`Sequence.test.ts`) or on real ones (`shells/nsm/Forwarder.test.ts`).
 *
 * 1. While everything is up, the kernels hold what a forwarder that starts from nothing would make, and nothing else.
 * 2. At any rest, nothing stands that belongs to no connection.
 * 3. After the last close, and after a restart without records, the kernels are as they were before.
 */
import { assert } from "@effect/vitest"
import { Arbitrary, Effect, HashMap, Option, Result, Schema } from "effect"
import { Cidr, Ip } from "../../core/net/index.ts"
import type * as CircuitState from "../../core/nsm/CircuitState.ts"
import * as Forward from "../../core/nsm/Forward.ts"
import * as Manager from "../../core/nsm/Manager.ts"
import * as Model from "../../core/nsm/Model.ts"
import * as Path from "../../core/nsm/Path.ts"
import * as Kernels from "../simulation/Kernels.ts"
import { carryOut, type Ground, isSame, observed, ours, places, wholly } from "./Ground.ts"
import * as Scenario from "./Scenario.ts"

const Client = Schema.Literals([0, 1, 2])
type Client = typeof Client.Type
const clients: ReadonlyArray<Client> = Client.literals

const Wish = Schema.Struct({
  place: Schema.Literals(["a", "a", "b"]),
  name: Schema.Literals([0, 0, 1]),
  mtu: Schema.Literals([1300, 1400]),
  payload: Schema.Literals(["", "ETHERNET"]),
  addresses: Schema.Array(Schema.Literals([0, 1, 2, 3])).check(Schema.isMaxLength(4)),
  vips: Schema.Array(Schema.Literals([0, 1, 2])).check(Schema.isMaxLength(3)),
  gateways: Schema.Literals([0, 1, 2]),
  /** Policies for the source alone, for traffic of it, or both. */
  traffic: Schema.Literals(["none", "none", "only", "both"]),
  neighbours: Schema.Literals([0, 0, 1]),
  routes: Schema.Literals([0, 0, 1, 2])
})
type Wish = typeof Wish.Type

const Move = Schema.Struct({
  kind: Schema.Literals([
    "request",
    "request",
    "request",
    "request",
    "reselect",
    "refresh",
    "refresh",
    "close",
    "close",
    "crash",
    "cut",
    "monitor",
    "renew"
  ]),
  client: Client,
  wish: Wish,
  endpoint: Schema.Literals(["", "", "nse-e", "nse-f"]),
  /** Whether the endpoints refuse. */
  refuses: Schema.Literals([false, false, false, false, false, true]),
  /** Whether the manager is killed on the way: after so many commands and operations. */
  killed: Schema.Literals([false, false, false, true]),
  commands: Schema.Literals([0, 1, 2, 3]),
  operations: Schema.Literals([0, 1, 2, 3, 5, 8, 13, 21])
})
type Move = typeof Move.Type

export interface Sequence {
  readonly moves: ReadonlyArray<Move>
  /** How it ends: each connection is closed, or the manager is killed and its records are lost. */
  readonly forgets: boolean
}

// The generator keeps a list short, so a long sequence is made of several.
const stretch = Arbitrary.array(Arbitrary.schema(Move), { minLength: 1, maxLength: 8 })

export const sequences: Arbitrary.Arbitrary<Sequence> = Arbitrary.map(
  Arbitrary.all({
    stretches: Arbitrary.all([stretch, stretch]),
    forgets: Arbitrary.schema(Schema.Literals([false, false, true]))
  }),
  ({ forgets, stretches }) => ({ moves: stretches.flat(), forgets })
)

const manager = Scenario.settings.name
const vips = ["20.0.0.1/32", "20.0.0.2/32", "2000::1/128"].map(Cidr.unsafe)

/** Source addresses of a client; only VIPs are shared. */
const pool = (client: Client): ReadonlyArray<Cidr.Cidr> =>
  [`172.16.${client}.2/24`, `172.16.${client}.3/24`, `fd00:${client}::2/64`, `10.${client}.7.7/32`].map(Cidr.unsafe)

const contextOf = (
  client: Client,
  { addresses, gateways, mtu, neighbours, routes, traffic, vips: chosen }: Wish
): Model.Context => {
  const sources = vips.filter((_, i) => chosen.some((vip) => vip === i))
  const hops = (family: Ip.Family) =>
    [1, 9].slice(0, gateways).map((n) => Ip.unsafe(family === "v4" ? `172.16.${client}.${n}` : `fd00:${client}::${n}`))
  return {
    ...Model.emptyContext,
    mtu,
    ip: {
      ...Model.emptyIp,
      srcAddrs: [...pool(client).filter((_, i) => addresses.some((address) => address === i)), ...sources],
      srcRoutes: [`30.0.${client}.0/24`, `30.1.${client}.0/24`].slice(0, routes).map((prefix, i) => ({
        prefix: Cidr.unsafe(prefix),
        ...(i === 0 ? {} : { nextHop: Ip.unsafe(`172.16.${client}.20${gateways}`) })
      })),
      neighbours: neighbours === 0 ? [] : [{ ip: Ip.unsafe(`172.16.${client}.77`), mac: "02:00:00:00:00:0A" }],
      policies: sources.flatMap((from) => {
        const family = Cidr.family(from)
        const routes = hops(family).map((nextHop) => ({ prefix: Cidr.defaultRoute(family), nextHop }))
        return [
          ...(traffic === "only" ? [] : [{ from, routes }]),
          ...(traffic === "none" ? [] : [
            { from, proto: "6", dstPort: "80-90", routes: [] },
            { from, proto: "17", srcPort: "53", dstPort: "1024-65534", routes: [] }
          ])
        ]
      })
    }
  }
}

/** What the endpoint answers: its own address for each client, its interface in its namespace. */
const answer = (
  { connection, target }: Extract<Manager.Command, { _tag: "RequestEndpoint" }>,
  ground: Ground
): Model.Connection => {
  const client = Model.clientId(connection)
  const entered = Result.getOrThrow(Path.enter({ name: target.name, freshId: `${target.name}-${client}` }, connection))
  const { ip } = connection.context
  return Path.giveBack(connection, {
    ...entered,
    mechanism: connection.mechanism
      ?? Model.kernelMechanism(ground.url(target.name === "nse-e" ? "e" : "f"), `to-${client}`),
    context: {
      ...connection.context,
      ip: { ...ip, dstAddrs: [`172.16.${client}.100/24`, `fd00:${client}::100/64`].map(Cidr.unsafe) }
    }
  })
}

/** Plays the sequence to its end and checks the laws at each rest; fails with the first that is broken. */
export const play = ({ forgets, moves }: Sequence, ground: Ground): Effect.Effect<void> =>
  Effect.gen(function*() {
    const base = yield* wholly(ground)
    const world = player(ground)
    yield* world.boot
    for (const move of moves) {
      yield* world.move(move)
      yield* rest(world.state(), ground)
    }
    if (forgets) yield* world.forget
    else for (const client of clients) yield* world.move({ ...idle, kind: "close", client })
    isSame(yield* wholly(ground), base, "at the end")
  })

const idle: Move = {
  kind: "close",
  client: 0,
  wish: {
    place: "a",
    name: 0,
    mtu: 1400,
    payload: "",
    addresses: [],
    vips: [],
    gateways: 0,
    traffic: "none",
    neighbours: 0,
    routes: 0
  },
  endpoint: "",
  refuses: false,
  killed: false,
  commands: 0,
  operations: 0
}

/** A manager with its disk, which outlives it, and clients that remember what they asked for last. */
const player = (ground: Ground) => {
  const disk = new Map<string, CircuitState.Record>()
  const wishes = new Map<Client, Wish>()
  let [state] = Manager.machine.init({ settings: Scenario.settings, records: [] }, 0)
  let serial = 0

  const perform = (command: Manager.Command, refuses: boolean): Effect.Effect<Manager.Event | undefined> => {
    switch (command._tag) {
      case "RequestEndpoint": {
        const { call } = command
        return Effect.succeed(
          refuses
            ? { _tag: "EndpointRefused", call, reason: "Unavailable", message: "" }
            : { _tag: "EndpointAnswered", call, connection: answer(command, ground) }
        )
      }
      case "CloseEndpoint":
        return Effect.succeed({ _tag: "EndpointClosed", call: command.call })
      case "Plumb":
        return plumbed(command.call, ground.plumb(command.cross, command.previous))
      case "Adopt":
        return plumbed(command.call, ground.adopt(command.cross, command.previous))
      case "Unplumb":
        return Effect.as(ground.unplumb(command.cross), { _tag: "UnplumbFinished", call: command.call })
      case "Sweep":
        return Effect.as(ground.sweep(command.keep), undefined)
      case "SaveRecord":
        disk.set(Model.clientId(command.record.connection), command.record)
        return Effect.succeed(undefined)
      case "ForgetRecord":
        disk.delete(command.clientId)
        return Effect.succeed(undefined)
      case "WatchEndpoint":
      case "WatchLink":
      case "Cancel":
      case "Reply":
      case "Answer":
        return Effect.succeed(undefined)
    }
  }

  /** Performs all that follows, unless the manager dies on the way. */
  const settle = (first: ReadonlyArray<Manager.Command>, { commands, killed, operations, refuses }: Move) =>
    Effect.gen(function*() {
      const waiting = [...first]
      for (let done = 0;; done++) {
        const command = waiting.shift()
        if (command === undefined) return
        if (killed && done === commands) {
          yield* begin(command, operations)
          return yield* boot
        }
        const outcome = yield* perform(command, refuses)
        if (outcome !== undefined) waiting.push(...take(outcome))
      }
    })

  const begin = (command: Manager.Command, operations: number): Effect.Effect<void> => {
    if (command._tag === "Unplumb") return ground.begin({ previous: command.cross }, operations)
    if (command._tag !== "Plumb") return Effect.void
    const { cross, previous } = command
    return ground.begin({ cross, ...(previous === undefined ? {} : { previous }) }, operations)
  }

  const take = (event: Manager.Event): ReadonlyArray<Manager.Command> => {
    const [next, commands] = Manager.machine.step(state, event, 0)
    state = next
    return commands
  }

  const boot: Effect.Effect<void> = Effect.suspend(() => {
    const [first, commands] = Manager.machine.init({ settings: Scenario.settings, records: [...disk.values()] }, 0)
    state = first
    const offers = [
      { _tag: "RegisterServiceRequested" as const, reply: 0, service: Scenario.service },
      ...["nse-e", "nse-f"].map((name) => ({
        _tag: "RegisterEndpointRequested" as const,
        reply: 0,
        endpoint: Scenario.endpoint(name)
      }))
    ]
    return settle([...commands, ...offers.flatMap(take)], idle)
  })

  const connection = (client: Client, change: Partial<Model.Connection> = {}): Model.Connection => ({
    ...Model.connection(`${client}`, "service"),
    path: { index: 0, segments: [{ name: "client", id: `${client}`, token: "", metrics: {} }] },
    ...change
  })

  const request = (client: Client, wish: Wish, move: Move, change: Partial<Model.Connection>) => {
    wishes.set(client, wish)
    const reply = serial++
    return settle(
      take({
        _tag: "RequestRequested",
        reply,
        freshId: `m${reply}`,
        connection: connection(client, { context: contextOf(client, wish), ...change }),
        preferences: [Model.kernelMechanism(ground.url(wish.place), `nsm-${wish.name}`)]
      }),
      move
    )
  }

  const standing = (client: Client) => Option.getOrUndefined(HashMap.get(state.circuits, `${client}`))?.standing

  const move = (move: Move): Effect.Effect<void> => {
    const { client, endpoint: endpointName, kind, wish } = move
    switch (kind) {
      case "request":
        return request(client, wish, move, { endpointName })
      case "reselect":
        return request(client, wish, move, { state: "ReselectRequested" })
      case "refresh":
        return request(client, wishes.get(client) ?? wish, move, {})
      case "close": {
        const reply = serial++
        return settle(
          take({ _tag: "CloseRequested", reply, freshId: `m${reply}`, connection: connection(client) }),
          move
        )
      }
      case "crash":
        return boot
      case "cut": {
        const found = standing(client)
        if (found === undefined) return Effect.void
        const { endpoint } = found.cross
        return Effect.andThen(
          ground.change(endpoint.netns, { _tag: "DeleteLink", link: endpoint.link }),
          Effect.suspend(() => lost(client, false, move))
        )
      }
      case "monitor": {
        const call = standing(client)?.endpointWatch
        return call === undefined ? Effect.void : settle(take({ _tag: "EndpointChanged", call, change: "Down" }), move)
      }
      case "renew": {
        const { place } = wish
        const gone = clients.filter((client) => standing(client)?.cross.client.netns === ground.url(place))
        return Effect.andThen(
          ground.renew(place),
          Effect.forEach(gone, (client) => lost(client, true, { ...move, killed: false }), { discard: true })
        )
      }
    }
  }

  const lost = (client: Client, clientGone: boolean, move: Move) => {
    const call = standing(client)?.linkWatch
    return call === undefined ? Effect.void : settle(take({ _tag: "LinkLost", call, clientGone }), move)
  }

  return {
    state: () => state,
    boot,
    move,
    /** Kills the manager, loses its records, and starts it again. */
    forget: Effect.suspend(() => {
      disk.clear()
      return boot
    })
  }
}

const plumbed = (call: number, effect: Effect.Effect<void, Model.Failure>): Effect.Effect<Manager.Event> =>
  Effect.match(effect, {
    onSuccess: () => ({ _tag: "PlumbSucceeded", call }),
    onFailure: (failure) => ({ _tag: "PlumbFailed", call, ...failure })
  })

/** What must hold while nothing is going on. */
const rest = ({ circuits }: Manager.State, ground: Ground): Effect.Effect<void> =>
  Effect.gen(function*() {
    const standing = [...HashMap.values(circuits)].flatMap((circuit) => circuit.standing ?? [])
    const crosses = standing.map(({ cross }) => cross)
    const isSettled = standing.every(({ connection }) => connection.state === "Up")
    const fresh = Kernels.make()
    for (const place of places) fresh.create(ground.url(place))
    for (const cross of crosses) carryOut(fresh, Forward.plan.plan({ cross }, observed(fresh, cross)))
    for (const place of places) {
      const url = ground.url(place)
      const seen = yield* ground.look(url)
      assert.deepStrictEqual(Forward.sweep(manager, crosses, url, seen), [], `no leftovers in ${place}`)
      if (isSettled) isSame(ours(seen, manager), ours(fresh.get(url), manager), `in ${place}`)
    }
  })
