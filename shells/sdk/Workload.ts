/**
 * A client or an endpoint as a program of its own, for tests that kill it: `node Workload.ts client|endpoint` with its
 * place in the environment. Each line that it prints is one thing that happened.
 */
import { Effect, Schedule, Stream } from "effect"
import { Cidr } from "../../core/net/index.ts"
import * as Model from "../../core/nsm/Model.ts"
import { NsmClient } from "./Client.ts"
import * as Endpoint from "./Endpoint.ts"

const { LIFETIME = "0", MANAGER: manager = "", NAMESPACE: namespace = "", SOCKET: socket = "" } = process.env
const limits = { requestTimeoutMs: 1_000, maxTokenLifetimeMs: Number(LIFETIME) }

export const service = "kill"
export const clientId = "client-0"

const say = (...words: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.sync(() => process.stdout.write(`${words.join(" ")}\n`))

const endpoint = Endpoint.serve({
  name: "nse",
  services: [{ name: service, payload: "ETHERNET", matches: [] }],
  labels: {},
  socket,
  manager,
  namespace,
  ...limits
}, {
  request: (connection) => {
    const { ip } = connection.context
    const own = { srcAddrs: [Cidr.unsafe("10.9.0.1/30")], dstAddrs: [Cidr.unsafe("10.9.0.2/30")] }
    const context = { ...connection.context, ip: { ...ip, ...own } }
    return Effect.as(say("accepted", Model.clientId(connection)), { ...connection, context })
  },
  close: (connection) => say("ended", Model.clientId(connection))
}).pipe(
  Effect.flatMap(({ registered }) => Stream.runForEach(registered, (is) => say(is ? "registered" : "unregistered")))
)

const client = Effect.gen(function*() {
  const nsm = yield* NsmClient
  // As programs do that must come up: until it works.
  yield* Effect.retry(nsm.request(Model.connection(clientId, service)), Schedule.spaced("200 millis"))
  yield* Stream.runForEach(
    nsm.changes(clientId),
    (connection) => say(connection.state, connection.endpointName, Model.interfaceName(connection) ?? "")
  )
}).pipe(Effect.provide(NsmClient.layer({ name: "workload", manager, namespace, naming: "Counter", ...limits })))

const role = process.argv[2] === "client" ? client : endpoint
if (process.argv[1] === import.meta.filename) Effect.runFork(Effect.scoped(role))
