import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Result, Scope, Stream, SubscriptionRef } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { SpiffeWorkloadAPIDefinition } from "../../proto/gen/workload.ts"
import type { X509SVIDResponse } from "../../proto/gen/workload.ts"
import * as Client from "../grpc/Client.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as Server from "../grpc/Server.ts"
import * as WorkloadApi from "./dev/WorkloadApi.ts"
import * as Spiffe from "./Spiffe.ts"
import * as SpiffeId from "./SpiffeId.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-spiffe-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)
const id = Result.getOrThrow(SpiffeId.parse("spiffe://example.org/ns/a"))
const other = Result.getOrThrow(SpiffeId.parse("spiffe://other.org/ns/b"))

const refuse = () => Stream.fail(GrpcError.error("InvalidArgument", "go away"))
const nothing: X509SVIDResponse = { svids: [], crl: [], federatedBundles: {} }

/** A development agent for the id on an address. */
const agent = (address: string) => WorkloadApi.serve({ identities: [{ id, address }], ttlMs: 3_600_000 })

const socket = Effect.map(folder, (path) => `unix://${path}/agent.sock`)

/** The changes as they come. */
const watched = (spiffe: Spiffe.Spiffe["Service"]) =>
  Effect.gen(function*() {
    const queue = yield* Queue.unbounded<string>()
    yield* Effect.forkScoped(
      Stream.runForEach(spiffe.changes, ({ certificate }) => Queue.offer(queue, certificate.serialNumber))
    )
    return queue
  })

it.live("the identity of the agent is fetched, with the bundles of all domains, and follows its rotation", () =>
  Effect.gen(function*() {
    const path = yield* folder
    const [mine, theirs] = [`unix://${path}/a.sock`, `unix://${path}/b.sock`]
    const identities = [{ id, address: mine }, { id: other, address: theirs }]
    const agent = yield* WorkloadApi.serve({ identities, ttlMs: 3_600_000 })
    const spiffe = yield* Spiffe.make({ endpoint: mine })
    const first = yield* spiffe.current
    assert.strictEqual(first.id.text, id.text)
    assert.sameMembers(Object.keys(first.bundles), ["example.org", "other.org"])
    assert.isAbove(first.notAfter, Date.now())
    const seen = yield* watched(spiffe)
    assert.strictEqual(yield* Queue.take(seen), first.certificate.serialNumber)
    yield* agent.rotate
    const second = yield* Queue.take(seen)
    assert.notStrictEqual(second, first.certificate.serialNumber)
    assert.strictEqual((yield* spiffe.current).certificate.serialNumber, second)
    assert.strictEqual((yield* (yield* Spiffe.make({ endpoint: theirs })).current).id.text, other.text)
  }))

it.live("certificates come anew before half of their life has passed", () =>
  Effect.gen(function*() {
    const endpoint = yield* socket
    yield* WorkloadApi.serve({ identities: [{ id, address: endpoint }], ttlMs: 3000 })
    const spiffe = yield* Spiffe.make({ endpoint })
    const seen = yield* watched(spiffe)
    const [first, started] = [yield* Queue.take(seen), Date.now()]
    assert.notStrictEqual(yield* Queue.take(seen), first)
    assert.isBelow(Date.now() - started, 1500)
  }))

it.live(
  "an agent that is late is waited for, and one that goes away leaves the last identity",
  () =>
    Effect.gen(function*() {
      const endpoint = yield* socket
      const spiffe = yield* Spiffe.make({ endpoint, backoffMs: 1 })
      const waiting = yield* Effect.forkChild(spiffe.current)
      const scope = yield* Scope.make()
      yield* Scope.provide(agent(endpoint), scope)
      const first = yield* Fiber.join(waiting)
      const seen = yield* watched(spiffe)
      yield* Queue.take(seen)
      yield* Scope.close(scope, yield* Effect.exit(Effect.void))
      assert.strictEqual((yield* spiffe.current).certificate.serialNumber, first.certificate.serialNumber)
      yield* agent(endpoint)
      assert.notStrictEqual(yield* Queue.take(seen), first.certificate.serialNumber)
    }),
  30_000
)

it.live("a refusal is final, any other error is not", () =>
  Effect.gen(function*() {
    const endpoint = yield* socket
    let calls = 0
    const answers = yield* SubscriptionRef.make(nothing)
    const real = WorkloadApi.service(answers)
    yield* Server.serve({
      address: endpoint,
      services: [{
        ...real,
        handlers: {
          ...real.handlers,
          fetchX509SVID: () => {
            calls++
            return Stream.fail(GrpcError.error(calls === 3 ? "InvalidArgument" : "PermissionDenied", "go away"))
          }
        }
      }]
    })
    const spiffe = yield* Spiffe.make({ endpoint, backoffMs: 1 })
    const error = yield* Effect.flip(spiffe.current)
    assert.deepStrictEqual([error.reason, calls], ["Refused", 3])
    assert.include(error.message, "go away")
    assert.strictEqual((yield* Effect.flip(Stream.runDrain(spiffe.changes))).reason, "Refused")
  }))

it.live("an identity that was given outlasts a refusal", () =>
  Effect.gen(function*() {
    const endpoint = yield* socket
    const scope = yield* Scope.make()
    yield* Scope.provide(agent(endpoint), scope)
    const spiffe = yield* Spiffe.make({ endpoint, backoffMs: 1 })
    const first = yield* spiffe.current
    yield* Scope.close(scope, yield* Effect.exit(Effect.void))
    const { handlers, ...rest } = WorkloadApi.service(yield* SubscriptionRef.make(nothing))
    yield* Server.serve({
      address: endpoint,
      services: [{ ...rest, handlers: { ...handlers, fetchX509SVID: refuse } }]
    })
    assert.strictEqual((yield* Effect.flip(Stream.runDrain(spiffe.changes))).reason, "Refused")
    assert.strictEqual((yield* spiffe.current).certificate.serialNumber, first.certificate.serialNumber)
  }), 30_000)

it.live("an identity that is not usable is passed over", () =>
  Effect.gen(function*() {
    const endpoint = yield* socket
    const answers = yield* SubscriptionRef.make(nothing)
    yield* Server.serve({ address: endpoint, services: [WorkloadApi.service(answers)] })
    const spiffe = yield* Spiffe.make({ endpoint })
    const waiting = yield* Effect.timeoutOption(spiffe.current, 100)
    assert.strictEqual(waiting._tag, "None")
  }))

it.live("the agent refuses calls without its metadata, and says what it does not have", () =>
  Effect.gen(function*() {
    const target = yield* socket
    yield* agent(target)
    const client = yield* Client.make({ target })
    const bare = yield* Effect.flip(Stream.runDrain(client.stream(SpiffeWorkloadAPIDefinition, "fetchX509SVID", {})))
    assert.strictEqual(bare.code, GrpcError.Code.InvalidArgument)
    const bundles = yield* Stream.runHead(client.stream(SpiffeWorkloadAPIDefinition, "fetchX509Bundles", {}, {
      metadata: { "workload.spiffe.io": "true" }
    }))
    assert.isTrue(bundles._tag === "Some" && bundles.value.bundles["spiffe://example.org"] !== undefined)
    const jwt = { audience: [], spiffeId: "" }
    const absent = yield* Effect.flip(client.call(SpiffeWorkloadAPIDefinition, "fetchJWTSVID", jwt))
    assert.strictEqual(absent.code, GrpcError.Code.Unimplemented)
  }))

it.live("an address that is missing or wrong is told with the name of the variable", () =>
  Effect.gen(function*() {
    for (const endpoint of ["", "nonsense"]) {
      const error = yield* Effect.flip(Spiffe.make({ endpoint }))
      assert.strictEqual(error.reason, "BadEndpoint")
      assert.include(error.message, "SPIFFE_ENDPOINT_SOCKET")
    }
  }))
