import { assert, it } from "@effect/vitest"
import { Effect, Exit, Logger, Result, Schedule, Scope, Stream } from "effect"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { stringify } from "yaml"
import { Cidr, type Kernel } from "../../core/net/index.ts"
import * as Manifests from "../../property-tests/fixtures/Manifests.ts"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as Client from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import * as NspConfig from "../nsp/Config.ts"
import * as Nsp from "../nsp/Service.ts"
import * as Settings from "../runtime/Settings.ts"
import { NsmClient } from "../sdk/Client.ts"
import * as Endpoint from "../sdk/Endpoint.ts"
import * as Config from "./Config.ts"
import { serve } from "./Main.ts"

const tag = `sl-tapa-${process.pid}`
const stream: Tap.Stream = { name: "s", conduit: { name: "c", trench: { name: "t" } } }

const until = <E>(what: string, condition: Effect.Effect<boolean, E>) =>
  Effect.orElseSucceed(condition, () => false).pipe(
    Effect.filterOrFail((holds) => holds, () => "not yet"),
    Effect.retry(Schedule.spaced("50 millis")),
    Effect.timeoutOrElse({ duration: "20 seconds", orElse: () => Effect.die(new Error(`timed out: ${what}`)) })
  )

const startManager = (folder: string, url: string) =>
  Effect.gen(function*() {
    const child = spawn(process.execPath, [join(import.meta.dirname, "../cli/Main.ts"), "nsmgr"], {
      stdio: "ignore",
      env: {
        ...process.env,
        NSM_NAME: tag,
        NSM_LISTEN_ON: url,
        NSM_STATE_PATH: `${folder}/state.json`,
        SLUICE_HEALTH_SOCKET: `${folder}/nsmgr-health.sock`
      }
    })
    const end = (signal: NodeJS.Signals) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill(signal)
      })
    yield* Effect.addFinalizer(() => end("SIGTERM"))
    yield* until("the manager serves", Health.check({ address: url, service: "networkservice.NetworkService" }))
    return { kill: end("SIGKILL") }
  })

/** Answers as Meridio's proxy does. */
const startProxy = (folder: string, manager: string, namespace: string) =>
  Effect.gen(function*() {
    const addresses = ["172.16.0.2/24", "fd00::2/64"].map(Cidr.unsafe)
    const running = yield* Endpoint.serve({
      name: `${tag}-proxy`,
      services: [{ name: "proxy.c.t.red", payload: "ETHERNET", matches: [] }],
      labels: {},
      socket: `${folder}/proxy.sock`,
      manager,
      namespace,
      requestTimeoutMs: 5_000,
      maxTokenLifetimeMs: 600_000
    }, {
      request: (connection) => {
        const { ip } = connection.context
        const srcAddrs = [...addresses, ...ip.srcAddrs.filter((address) => !addresses.includes(address))]
        const dstAddrs = ["172.16.0.3/24", "fd00::3/64"].map(Cidr.unsafe)
        const extraPrefixes = ["172.16.0.1/24", "fd00::1/64"].map(Cidr.unsafe)
        return Effect.succeed({
          ...connection,
          context: { ...connection.context, ip: { ...ip, srcAddrs, dstAddrs, extraPrefixes } }
        })
      },
      close: () => Effect.void
    })
    yield* Stream.runDrain(Stream.takeUntil(running.registered, (registered) => registered))
  })

const startNsp = (folder: string) => {
  const objects = [
    Manifests.trench,
    Manifests.conduit(),
    Manifests.stream(),
    Manifests.flow("f", { vips: ["v4", "v6"] }),
    ...Manifests.vips,
    Manifests.attractor(),
    Manifests.gateway()
  ]
  writeFileSync(join(folder, "trench.yaml"), objects.map((one) => stringify(one)).join("---\n"))
  const settings = Result.getOrThrow(Settings.decode(NspConfig.settings, {
    NSP_CONFIG_PATH: join(folder, "trench.yaml"),
    NSP_DATASOURCE: join(folder, "registry.db"),
    NSP_PORT: "0"
  }))
  return Effect.provide(Nsp.start(settings), Health.serve(`unix://${folder}/nsp-health.sock`))
}

/** The addresses of the interface that the TAPA was given. */
const addresses = ({ addresses }: Kernel.Snapshot) =>
  addresses.filter(({ link }) => link === "nsm-0").map(({ cidr }) => cidr).toSorted(Cidr.compare)

/** A TAPA in the namespace; `crash` ends it without draining. */
const startTapa = (folder: string, manager: string, namespace: string, port: number) =>
  Effect.gen(function*() {
    const settings = Result.getOrThrow(Settings.decode(Config.settings, {
      MERIDIO_NAME: "target-1",
      MERIDIO_NAMESPACE: "red",
      MERIDIO_SOCKET: `${folder}/ambassador.sock`,
      SLUICE_NSP_ADDRESS: `127.0.0.1:${port}`
    }))
    const nsm = NsmClient.layer({
      name: settings.name,
      manager,
      namespace,
      naming: "Counter",
      requestTimeoutMs: 5_000,
      maxTokenLifetimeMs: 600_000
    })
    const scope = yield* Scope.fork(yield* Effect.scope)
    yield* Effect.forkIn(
      Effect.provide(serve(settings), [nsm, Health.serve(`unix://${folder}/health.sock`)]).pipe(Scope.provide(scope)),
      scope
    )
    const client = yield* Client.make({ target: `unix://${settings.socket}`, waitForReady: true, maxBackoffMs: 50 })
    return { client, crash: Scope.close(scope, Exit.void) }
  })

const isOpen = (client: Client.Client) =>
  client.stream(Tap.TapDefinition, "watch", stream).pipe(
    Stream.filter(({ streamStatus }) => streamStatus[0]?.status === Tap.StreamStatus_Status.OPEN),
    Stream.runHead,
    Effect.timeout("20 seconds")
  )

it.live(
  "in the kernel: an interface with the VIPs and their rules, kept over crashes of both sides, gone after the close",
  () =>
    Effect.scoped(Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), `${tag}-`))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
      )
      const target = yield* Namespace.scoped(`${tag}-t`)
      const proxy = yield* Namespace.scoped(`${tag}-p`)
      const manager = `unix://${folder}/nsm.sock`
      const { kill } = yield* startManager(folder, manager)
      yield* startProxy(folder, manager, proxy)
      const { port } = yield* startNsp(folder)
      const look = Effect.scoped(Effect.flatMap(Netlink.make(target), ({ snapshot }) => snapshot))
      const first = yield* startTapa(folder, manager, target, port)
      yield* first.client.call(Tap.TapDefinition, "open", stream)
      yield* isOpen(first.client)
      const expected = ["20.0.0.1/32", "172.16.0.2/24", "2000::1/128", "fd00::2/64"].map(Cidr.unsafe)
      yield* until("the VIPs are on the interface", Effect.map(look, (found) => addresses(found).length === 4))
      const before = yield* look
      assert.deepStrictEqual(addresses(before), expected)
      assert.deepStrictEqual(
        before.rules.flatMap(({ from }) => from ?? []).toSorted(Cidr.compare),
        ["20.0.0.1/32", "2000::1/128"].map(Cidr.unsafe)
      )

      yield* first.crash
      assert.deepStrictEqual(addresses(yield* look), expected)
      const second = yield* startTapa(folder, manager, target, port)
      yield* second.client.call(Tap.TapDefinition, "open", stream)
      yield* isOpen(second.client)
      assert.deepStrictEqual(addresses(yield* look), expected)

      yield* kill
      yield* startManager(folder, manager)
      yield* isOpen(second.client)
      assert.deepStrictEqual(addresses(yield* look), expected)

      yield* second.client.call(Tap.TapDefinition, "close", stream)
      yield* until(
        "the interface is gone",
        Effect.map(look, ({ links }) => links.every(({ name }) => name !== "nsm-0"))
      )
    })).pipe(Effect.provide(Logger.layer([]))),
  90_000
)
