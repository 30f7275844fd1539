/** Drives the external client of the lab (`TrafficClient.ts`) and adds pings. */
import { Deferred, Effect, Result, Schema, type Scope } from "effect"
import * as readline from "node:readline"
import * as Host from "./Host.ts"
import * as Pods from "./Pods.ts"

export const Request = Schema.Struct({
  id: Schema.Natural,
  op: Schema.Literals(["tcp", "udp", "hold", "probe", "drop"]),
  address: Schema.String,
  port: Schema.Natural,
  count: Schema.Natural,
  source: Schema.optionalKey(Schema.String),
  /** The `hold` request that `probe` and `drop` speak of. */
  of: Schema.optionalKey(Schema.Natural)
})
export type Request = typeof Request.Type

export const Answer = Schema.Struct({
  id: Schema.Natural,
  /** How many connections each target answered. */
  replies: Schema.Record(Schema.String, Schema.Natural),
  lost: Schema.Natural,
  errors: Schema.Array(Schema.String)
})
export type Answer = typeof Answer.Type

/** Where traffic goes to and from. */
export interface Destination {
  readonly address: string
  readonly port: number
  readonly source?: string
}

export interface Traffic {
  readonly tcp: (to: Destination, count: number) => Effect.Effect<Answer>
  readonly udp: (to: Destination, count: number) => Effect.Effect<Answer>
  /** Opens connections that stay; the answer's `id` names them. */
  readonly hold: (to: Destination, count: number) => Effect.Effect<Answer>
  /** Asks the held connections again: `replies` counts those that still have their target. */
  readonly probe: (held: Answer) => Effect.Effect<Answer>
  readonly drop: (held: Answer) => Effect.Effect<Answer>
  /** Sends pings from `count` senders, which differ in their echo id; gives the number of answers. */
  readonly ping: (to: Pick<Destination, "address" | "source">, count: number) => Effect.Effect<number>
  /** How many connections and datagrams each target has answered so far. */
  readonly served: () => Readonly<Record<string, number>>
}

/** Starts the client in a pod. */
export const start = (pod: Pods.Pod): Effect.Effect<Traffic, Host.HostError, Scope.Scope> =>
  Effect.gen(function*() {
    const { child } = yield* Host.start({
      command: [process.execPath, Host.script("TrafficClient")],
      namespace: Pods.path(pod)
    })
    const served: Record<string, number> = {}
    const waiting = new Map<number, Deferred.Deferred<Answer>>()
    let next = 0
    if (child.stdout !== null) {
      readline.createInterface({ input: child.stdout }).on("line", (line) => {
        const answer = decode(line)
        if (Result.isFailure(answer)) return
        for (const [name, count] of Object.entries(answer.success.replies)) served[name] = (served[name] ?? 0) + count
        const waiter = waiting.get(answer.success.id)
        waiting.delete(answer.success.id)
        if (waiter !== undefined) Deferred.doneUnsafe(waiter, Effect.succeed(answer.success))
      })
    }
    const ask = (request: Omit<Request, "id">): Effect.Effect<Answer> =>
      Effect.suspend(() => {
        const id = next++
        const answer = Deferred.makeUnsafe<Answer>()
        waiting.set(id, answer)
        child.stdin?.write(JSON.stringify({ id, ...request }) + "\n")
        return Deferred.await(answer)
      })
    const about = (op: "probe" | "drop") => (held: Answer) => ask({ op, address: "", port: 0, count: 0, of: held.id })

    return {
      tcp: (to, count) => ask({ op: "tcp", ...to, count }),
      udp: (to, count) => ask({ op: "udp", ...to, count }),
      hold: (to, count) => ask({ op: "hold", ...to, count }),
      probe: about("probe"),
      drop: about("drop"),
      ping: ({ address, source }, count) =>
        Effect.map(
          Effect.forEach(Array.from({ length: count }), () => pingOnce(pod, address, source), { concurrency: 8 }),
          (answers) => answers.filter(Boolean).length
        ),
      served: () => served
    }
  })

const decode = Schema.decodeUnknownResult(Schema.fromJsonString(Answer))

const pingOnce = (pod: Pods.Pod, address: string, source: string | undefined): Effect.Effect<boolean> =>
  Host.run([
    "nsenter",
    `--net=${Pods.path(pod)}`,
    "ping",
    "-n",
    "-c",
    "1",
    "-W",
    "2",
    ...(source === undefined ? [] : ["-I", source]),
    address
  ]).pipe(Effect.as(true), Effect.orElseSucceed(() => false))
