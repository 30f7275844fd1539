import { assert, it } from "@effect/vitest"
import { Effect, Exit, Logger, Result, Scope, Stream, SubscriptionRef } from "effect"
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Cidr } from "../../core/net/index.ts"
import * as Manifests from "../../property-tests/fixtures/Manifests.ts"
import * as Tap from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as Client from "../grpc/Client.ts"
import * as Health from "../grpc/Health.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import * as Settings from "../runtime/Settings.ts"
import { NsmClient } from "../sdk/Client.ts"
import * as Ambassador from "./Ambassador.ts"
import * as Config from "./Config.ts"
import { addresses, startManager, startProxy, tag, until } from "./KernelRig.ts"
import { serve } from "./Main.ts"
import * as NspRig from "./NspRig.ts"
import * as Rig from "./Rig.ts"
import * as Sidecar from "./Sidecar.ts"

const stream: Tap.Stream = { name: "s", conduit: { name: "c", trench: { name: "t" } } }

/** The kernel's number of the interface, which a new one of that name would not have. */
const interfaceNumber = (namespace: string): number =>
  Number.parseInt(
    execFileSync("nsenter", [`--net=${namespace}`, "ip", "-o", "link", "show", "nsm-0"], { encoding: "utf8" })
  )

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
      Effect.provide(serve(settings, Ambassador.start(settings)), [nsm, Health.serve(`unix://${folder}/health.sock`)])
        .pipe(Scope.provide(scope)),
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
      const { port } = yield* NspRig.start(folder, Manifests.changed(Manifests.flow("f", { vips: ["v4", "v6"] })))
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

it.live(
  "as user 10005 without capabilities: an interface for the stream, kept over kill -9, which a signal gives back",
  () =>
    Effect.scoped(Effect.gen(function*() {
      const folder = yield* Sidecar.folder
      const target = yield* Namespace.scoped(`${tag}-u`)
      const proxy = yield* Namespace.scoped(`${tag}-q`)
      const manager = `unix://${folder}/nsm.sock`
      yield* startManager(folder, manager)
      yield* startProxy(folder, manager, proxy)
      const { targets } = yield* Rig.nsp(`unix://${folder}/nsp-t.sock`)
      const look = Effect.scoped(Effect.flatMap(Netlink.make(target), ({ snapshot }) => snapshot))
      const start = Effect.gen(function*() {
        const child = yield* Sidecar.start({ MERIDIO_NAMESPACE: "red", MERIDIO_NAME: "target-1" }, {
          folder,
          through: ["nsenter", `--net=${target}`, ...Sidecar.unprivileged]
        })
        yield* child.ready
        yield* child.client.call(Tap.TapDefinition, "open", stream)
        yield* isOpen(child.client)
        return child
      })
      const victim = yield* start
      const expected = ["20.0.0.1/32", "172.16.0.2/24", "fd00::2/64"].map(Cidr.unsafe)
      yield* until("the VIP is on the interface", Effect.map(look, (found) => addresses(found).length === 3))
      assert.deepStrictEqual(addresses(yield* look), expected)
      const index = interfaceNumber(target)

      yield* victim.kill("SIGKILL")
      assert.strictEqual(yield* victim.ended, "SIGKILL")
      assert.deepStrictEqual(addresses(yield* look), expected)
      const child = yield* start
      const after = yield* look
      assert.deepStrictEqual(addresses(after), expected)
      assert.deepStrictEqual(after.links.map(({ name }) => name).filter((name) => name !== "lo"), ["nsm-0"])
      assert.strictEqual(interfaceNumber(target), index, "the same interface")
      assert.lengthOf(yield* SubscriptionRef.get(targets), 1, "one entry at the NSP")

      yield* child.kill("SIGTERM")
      assert.strictEqual(yield* child.ended, 0)
      assert.isTrue((yield* look).links.every(({ name }) => name !== "nsm-0"))
      assert.deepStrictEqual(yield* SubscriptionRef.get(targets), [])
    })).pipe(Effect.provide(Logger.layer([]))),
  60_000
)
