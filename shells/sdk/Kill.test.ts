/**
 * Manager, endpoint and client are programs of their own and are killed without a chance to say goodbye. Whatever comes
 * back, one pair of links connects client and endpoint in the end, and nothing else is left.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule, type Scope, Stream } from "effect"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as Model from "../../core/nsm/Model.ts"
import * as Grpc from "../grpc/Client.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import * as Peer from "./Peer.ts"
import { clientId } from "./Workload.ts"

/** Short, so that expiry can be waited for. */
const lifetimeMs = 6_000
const alive = ["manager", "endpoint", "client"] as const
type Who = typeof alive[number]
let counter = 0

const world = Effect.gen(function*() {
  const tag = `sl-kill-${process.pid}-${counter++}`
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), `${tag}-`))
  yield* Effect.addFinalizer(() => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true })))
  const namespaces = { client: yield* Namespace.scoped(`${tag}-c`), endpoint: yield* Namespace.scoped(`${tag}-e`) }
  const manager = `unix://${folder}/nsm.sock`
  const children = new Map<Who, ChildProcess>()
  /** What the living endpoint and client said. */
  const said = { endpoint: new Array<string>(), client: new Array<string>() }

  const spawned = (who: Who): ChildProcess => {
    if (who === "manager") {
      return spawn(process.execPath, ["shells/cli/Main.ts", "nsmgr"], {
        stdio: "ignore",
        env: {
          ...process.env,
          NSM_NAME: tag,
          NSM_LISTEN_ON: manager,
          NSM_STATE_PATH: `${folder}/state.json`,
          NSM_MAX_TOKEN_LIFETIME: `${lifetimeMs}ms`,
          NSM_REQUEST_TIMEOUT: "1s",
          SLUICE_HEALTH_SOCKET: `${folder}/health.sock`
        }
      })
    }
    const child = spawn(process.execPath, ["shells/sdk/Workload.ts", who], {
      stdio: ["ignore", "pipe", "ignore"],
      env: {
        ...process.env,
        MANAGER: manager,
        NAMESPACE: namespaces[who],
        SOCKET: `${folder}/nse.sock`,
        LIFETIME: String(lifetimeMs)
      }
    })
    said[who] = []
    const lines = said[who]
    child.stdout.on("data", (data: Buffer) => lines.push(...data.toString().trimEnd().split("\n")))
    return child
  }
  const start = (...whos: ReadonlyArray<Who>) =>
    Effect.sync(() => {
      for (const who of whos) children.set(who, spawned(who))
    })
  const kill = (...whos: ReadonlyArray<Who>) =>
    Effect.forEach(whos, (who) =>
      Effect.callback<void>((resume) => {
        const child = children.get(who)
        if (child === undefined || child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      }), { discard: true, concurrency: "unbounded" })
  yield* Effect.addFinalizer(() => kill(...alive))

  /** The ends of links in both namespaces. */
  const links = Effect.forEach(
    Object.values(namespaces),
    (namespace) =>
      Effect.scoped(Effect.flatMap(Netlink.make(namespace), ({ snapshot }) => snapshot)).pipe(
        Effect.map(({ links }) => links.filter(({ kind, up }) => kind === "veth" && up).map(({ name }) => name))
      )
  )
  const channel = yield* Grpc.make({ target: manager })
  /** What the manager holds, as a new monitor hears it. */
  const held = Peer.monitor(channel, { segments: [], networkServices: [] }).pipe(
    Stream.take(1),
    Stream.runCollect,
    Effect.map((events) => events.flatMap(({ connections }) => Object.values(connections)))
  )
  /** One connection, up everywhere, over which packets pass. */
  const stands = Effect.gen(function*() {
    const [connection, ...more] = yield* held
    const [inClient = [], inEndpoint = []] = yield* links
    return more.length === 0 && connection?.state === "Up" && Model.clientId(connection) === clientId
      && said.client.at(-1) === "Up nse nsm-0" && said.endpoint.includes(`accepted ${clientId}`)
      && inClient.join() === "nsm-0" && inEndpoint.length === 1 && pings(namespaces.client)
  })
  const isEmpty = Effect.gen(function*() {
    return (yield* held).length === 0 && (yield* links).every((names) => names.length === 0)
  })
  yield* start(...alive)
  yield* until("the first connection stands", stands)
  return { folder, start, kill, stands, isEmpty, held, links, said }
})

const pings = (namespace: string): boolean => {
  try {
    execFileSync("ip", ["netns", "exec", path.basename(namespace), "ping", "-c1", "-W1", "10.9.0.2"], {
      stdio: "ignore"
    })
    return true
  } catch {
    return false
  }
}

/** Waits until the condition holds; its failures count as "not yet". */
const until = <E>(what: string, condition: Effect.Effect<boolean, E>) =>
  Effect.orElseSucceed(condition, () => false).pipe(
    Effect.flatMap((holds) => holds ? Effect.void : Effect.fail("not yet")),
    Effect.retry(Schedule.spaced("100 millis")),
    Effect.ignore,
    Effect.timeoutOrElse({ duration: "40 seconds", orElse: () => Effect.die(new Error(`timed out: ${what}`)) })
  )

const run = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.scoped(effect)

describe("After kill -9", () => {
  for (
    const whos of [
      ["manager"],
      ["endpoint"],
      ["client"],
      ["manager", "endpoint"],
      ["manager", "client"],
      alive
    ] as const
  ) {
    it.live(`of ${whos.join(" and ")} a restart leads back to the one connection`, () =>
      run(Effect.gen(function*() {
        const { kill, stands, start } = yield* world
        yield* kill(...whos)
        yield* start(...whos)
        yield* until("the connection stands again", stands)
      })), 90_000)
  }

  it.live(
    "of the manager that lost its records, the client gets its connection back by itself",
    () =>
      run(Effect.gen(function*() {
        const { folder, kill, stands, start } = yield* world
        yield* kill("manager")
        fs.rmSync(`${folder}/state.json`)
        yield* start("manager")
        yield* until("the connection stands again", stands)
      })),
    90_000
  )

  it.live(
    "of a client that does not return nothing is left once its token has expired, and the endpoint hears of it",
    () =>
      run(Effect.gen(function*() {
        const { isEmpty, kill, said } = yield* world
        yield* kill("client")
        // On a busy machine a connection may have ended for want of a refresh before, and come back.
        const ended = () => said.endpoint.filter((line) => line === `ended ${clientId}`).length
        const before = ended()
        yield* until("nothing is left", isEmpty)
        yield* until("the endpoint hears of the end", Effect.sync(() => said.endpoint.at(-1) === `ended ${clientId}`))
        assert.strictEqual(ended(), before + 1)
      })),
    90_000
  )

  it.live(
    "of a client that does not return, while the manager is away, nothing is left either",
    () =>
      run(Effect.gen(function*() {
        const { isEmpty, kill, start } = yield* world
        yield* kill("client", "manager")
        yield* start("manager")
        yield* until("nothing is left", isEmpty)
      })),
    90_000
  )

  it.live(
    "of an endpoint that does not return nothing is left once the client has gone too",
    () =>
      run(Effect.gen(function*() {
        const { isEmpty, kill, said } = yield* world
        yield* kill("endpoint")
        yield* until("the client knows", Effect.sync(() => said.client.at(-1)?.startsWith("Down") === true))
        yield* kill("client")
        yield* until("nothing is left", isEmpty)
      })),
    90_000
  )
})
