/**
 * The channels between processes: calls and streams with latency, in order inside of a connection, in any order between
 * connections; connections that break, and partitions.
 *
 * 1. Messages from one process to another arrive in the order in which they were sent, or not at all.
 * 2. A partition holds messages back, as TCP does; when it lasts longer than the keepalive, both sides hear of the loss.
 * 3. The death of a process ends its calls and streams at the other side; a call that was under way may have had its
 *    effect.
 */
import * as Api from "./Api.ts"
import type { Message } from "./Journal.ts"
import type { Life, World } from "./World.ts"

/** Why a call failed, as gRPC tells it. */
export type Reason = "Unavailable" | "Timeout"

export type Reply<A> = { readonly _tag: "Answered"; readonly value: A } | {
  readonly _tag: "Failed"
  readonly reason: Reason
}

export interface CallOptions {
  readonly timeoutMs?: number
  /** Whether the call waits for the other side to come up. */
  readonly waitForReady?: boolean
}

interface Exchange {
  readonly client: Life
  readonly server: Life
  readonly lose: () => void
  readonly leave: () => void
}

/** The silence after which a connection counts as lost: the interval of keepalives and its timeout. */
const keepaliveMs = 50_000
/** Pauses between attempts to connect. */
const reconnectMs = { shortest: 100, longest: 2_000 }

export type Network = ReturnType<typeof make>

export const make = (world: World, latency: () => readonly [low: number, high: number]) => {
  const exchanges = new Set<Exchange>()
  const waiting = new Map<string, Array<() => void>>()
  /** The last arrival of each way, by where it begins and where it ends. */
  const arrivals = new Map<string, Map<string, number>>()
  const partitions = new Map<string, number>()
  let held: Array<{ readonly pair: string; readonly run: () => void }> = []
  const listeners: Array<() => void> = []
  let epoch = 0

  const isApart = (a: string, b: string): boolean => partitions.size > 0 && partitions.has(pairOf(a, b))
  const delay = (): number => world.drawMessage(...latency())

  /** In order between two processes. */
  const send = (
    from: string,
    to: string,
    kind: Message["kind"],
    subject: Message["subject"],
    run: () => void
  ): void => {
    const ways = arrivals.get(from) ?? new Map<string, number>()
    const at = Math.max(world.elapsed() + delay(), ways.get(to) ?? 0)
    arrivals.set(from, ways.set(to, at))
    const plan = (arrive: () => void): void =>
      world.later(at - world.elapsed(), () => {
        if (isApart(from, to)) held.push({ pair: pairOf(from, to), run: arrive })
        else arrive()
      })
    if (world.journal === undefined) plan(run)
    else world.journal.send({ from, to, kind, subject }, run, plan, () => world.isAlive(to))
  }

  const lose = (exchange: Exchange): void => {
    if (!exchanges.delete(exchange)) return
    world.later(delay(), exchange.lose)
    world.later(delay(), () => exchange.server.isAlive() && exchange.leave())
  }

  const between = (a: string, b: string): ReadonlyArray<Exchange> =>
    [...exchanges].filter(({ client, server }) => pairOf(client.name, server.name) === pairOf(a, b))

  world.onLife((name, isAlive) => {
    if (isAlive) {
      const ready = waiting.get(name) ?? []
      waiting.delete(name)
      for (const run of ready) world.later(world.drawMessage(reconnectMs.shortest, reconnectMs.longest), run)
      return
    }
    for (const exchange of exchanges) {
      if (exchange.client.name !== name && exchange.server.name !== name) continue
      // Nobody hears a death behind a partition; the keepalive tells.
      if (isApart(exchange.client.name, exchange.server.name)) continue
      lose(exchange)
    }
  })

  /** Begins an exchange with whoever has the name, now or when it comes up. */
  const reach = (
    client: Life,
    to: string,
    waitForReady: boolean,
    isOver: () => boolean,
    begin: (server: Life) => void,
    refuse: () => void
  ): void => {
    const attempt = (): void => {
      if (isOver() || !client.isAlive()) return
      const server = world.life(to)
      if (server !== undefined) return begin(server)
      if (!waitForReady) return client.later(delay(), refuse)
      const others = waiting.get(to) ?? []
      waiting.set(to, [...others, attempt])
    }
    attempt()
  }

  /** Calls another process: `use` runs there, `done` here, once unless it is cancelled. */
  const call = <A>(
    client: Life,
    to: string,
    use: (api: Api.Api, answer: (value: A) => void) => Api.Leave | void,
    { timeoutMs, waitForReady = false }: CallOptions,
    done: (reply: Reply<A>) => void
  ): () => void => {
    let isOver = false
    let end: (() => void) | undefined
    const finish = (reply: Reply<A>): void => {
      if (isOver || !client.isAlive()) return
      isOver = true
      end?.()
      done(reply)
    }
    const failed = (reason: Reason) => () => finish({ _tag: "Failed", reason })
    const begin = (server: Life): void => {
      const subject = { name: "" }
      let leave: Api.Leave | void
      let isAnswered = false
      const exchange: Exchange = {
        client,
        server,
        lose: failed("Unavailable"),
        leave: () => isAnswered ? undefined : leave?.()
      }
      exchanges.add(exchange)
      end = () => {
        if (exchanges.delete(exchange)) {
          send(client.name, to, "end", subject, () => server.isAlive() && exchange.leave())
        }
      }
      send(client.name, to, "request", subject, () => {
        if (!server.isAlive()) return
        leave = use(world.journal === undefined ? server.api : Api.named(server.api, subject), (value) => {
          if (isAnswered) return
          isAnswered = true
          send(to, client.name, "answer", subject, () => {
            exchanges.delete(exchange)
            finish({ _tag: "Answered", value })
          })
        })
      })
    }
    if (timeoutMs !== undefined) client.later(timeoutMs, failed("Timeout"))
    reach(client, to, waitForReady, () => isOver, begin, failed("Unavailable"))
    return () => {
      if (isOver) return
      isOver = true
      end?.()
    }
  }

  /** Follows something at another process until it ends, which it always does for a reason, or is cancelled. */
  const watch = <A>(
    client: Life,
    to: string,
    open: (api: Api.Api, emit: (value: A) => void) => Api.Leave | undefined,
    on: { readonly message: (value: A) => void; readonly end: () => void },
    waitForReady = false
  ): () => void => {
    let isOver = false
    let end: (() => void) | undefined
    const lost = (): void => {
      if (isOver || !client.isAlive()) return
      isOver = true
      on.end()
    }
    const begin = (server: Life): void => {
      const subject = { name: "" }
      let leave: Api.Leave | undefined
      let isClosed = false
      const exchange: Exchange = {
        client,
        server,
        lose: lost,
        leave: () => {
          isClosed = true
          leave?.()
        }
      }
      exchanges.add(exchange)
      end = () => {
        if (exchanges.delete(exchange)) {
          send(client.name, to, "end", subject, () => server.isAlive() && exchange.leave())
        }
      }
      send(client.name, to, "request", subject, () => {
        if (!server.isAlive() || isClosed) return
        leave = open(world.journal === undefined ? server.api : Api.named(server.api, subject), (value) => {
          if (isClosed || !server.isAlive()) return
          send(to, client.name, "news", subject, () => {
            if (!isOver && client.isAlive() && exchanges.has(exchange)) on.message(value)
          })
        })
        if (leave === undefined) lose(exchange)
      })
    }
    reach(client, to, waitForReady, () => isOver, begin, lost)
    return () => {
      if (isOver) return
      isOver = true
      end?.()
    }
  }

  return {
    call,
    watch,
    /** Whether messages between the two get through now. */
    isReachable: (a: string, b: string): boolean => !isApart(a, b) && world.isAlive(a) && world.isAlive(b),
    isApart,
    /** Breaks every connection between the two; new ones can be made at once. */
    cut: (a: string, b: string): void => between(a, b).forEach(lose),
    part: (a: string, b: string): void => {
      const pair = pairOf(a, b)
      if (partitions.has(pair)) return
      const since = ++epoch
      partitions.set(pair, since)
      for (const listener of listeners) listener()
      world.later(keepaliveMs, () => {
        if (partitions.get(pair) !== since) return
        held = held.filter((one) => one.pair !== pair)
        between(a, b).forEach(lose)
      })
    },
    heal: (a: string, b: string): void => {
      const pair = pairOf(a, b)
      if (!partitions.delete(pair)) return
      const ready = held.filter((one) => one.pair === pair)
      held = held.filter((one) => one.pair !== pair)
      for (const { run } of ready) world.later(1, run)
      // Exchanges whose other side died meanwhile end now.
      for (const one of between(a, b)) if (!one.client.isAlive() || !one.server.isAlive()) lose(one)
      for (const listener of listeners) listener()
    },
    /** Hears of partitions that come and go. */
    onChange: (listener: () => void): void => void listeners.push(listener),
    open: () => exchanges.size
  }
}

const pairOf = (a: string, b: string): string => a < b ? `${a} ${b}` : `${b} ${a}`
