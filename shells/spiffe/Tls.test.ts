import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Option, Queue, Result, Scope, Stream, SubscriptionRef } from "effect"
import { createPrivateKey, X509Certificate } from "node:crypto"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Token from "../../core/nsm/Token.ts"
import { HealthCheckResponse_ServingStatus, HealthDefinition } from "../../proto/gen/grpc/health/v1/health.ts"
import * as FdRelay from "../fdpass/FdRelay.ts"
import * as Receiver from "../fdpass/Receiver.ts"
import * as GrpcClient from "../grpc/Client.ts"
import * as GrpcError from "../grpc/Error.ts"
import * as Server from "../grpc/Server.ts"
import * as SpiffeClient from "./Client.ts"
import * as Authority from "./dev/Authority.ts"
import * as Spiffe from "./Spiffe.ts"
import * as Svid from "./Svid.ts"
import * as Tls from "./Tls.ts"
import * as Tokens from "./Tokens.ts"

const hour = 3_600_000
const now = Date.now()
const authorityOf = (trustDomain: string) => Authority.make(trustDomain, now - hour, now + 24 * hour)
const home = authorityOf("example.org")
const other = authorityOf("other.org")

/** An identity that the issuer made, which believes the trusted authorities. */
const svidOf = (
  id: string,
  issuer: Authority.Authority,
  trusted: ReadonlyArray<Authority.Authority>,
  options: {
    readonly intermediate?: Authority.Authority
    readonly notAfter?: number
    /** All authorities of its own domain; without, the issuer. */
    readonly bundle?: ReadonlyArray<Authority.Authority>
  } = {}
): Svid.Svid => {
  const leaf = { uris: [id], notBefore: now - hour, notAfter: options.notAfter ?? now + hour }
  const { chain, key } = Authority.issue(options.intermediate ?? issuer, leaf)
  const bundles = Object.fromEntries(trusted.map(({ certificate, name }) => [`spiffe://${name}`, certificate]))
  return Result.getOrThrow(Svid.fromResponse({
    svids: [{
      spiffeId: id,
      x509Svid: Buffer.concat([chain, options.intermediate?.certificate ?? Buffer.alloc(0)]),
      x509SvidKey: key,
      bundle: Buffer.concat((options.bundle ?? [issuer]).map(({ certificate }) => certificate)),
      hint: ""
    }],
    crl: [],
    federatedBundles: bundles
  }, now))
}

/** The identity of a process as a test wants it. */
const being = (svid: Svid.Svid) =>
  Effect.map(SubscriptionRef.make(svid), (ref) => ({
    become: (next: Svid.Svid) => SubscriptionRef.set(ref, next),
    spiffe: Spiffe.Spiffe.of({ current: SubscriptionRef.get(ref), changes: SubscriptionRef.changes(ref) })
  }))

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sluice-tls-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true }))
)

type Check = (peer: Svid.Peer, call: Server.Call) => Effect.Effect<void>

/** A server with an identity that tells who calls it. */
const serve = (spiffe: Spiffe.Spiffe["Service"], address: string, onCall: Check = () => Effect.void) =>
  Effect.gen(function*() {
    const credentials = yield* Tls.server
    return yield* Server.serve({
      address,
      credentials,
      services: [Server.service(HealthDefinition, {
        check: (_request, call) =>
          Effect.gen(function*() {
            yield* onCall(yield* Tls.peer(call), call)
            return { status: HealthCheckResponse_ServingStatus.SERVING }
          }),
        watch: (_request, call) =>
          Stream.fromEffect(Tls.peer(call)).pipe(
            Stream.flatMap(() => Stream.tick("10 millis")),
            Stream.map(() => ({ status: HealthCheckResponse_ServingStatus.SERVING }))
          )
      })]
    })
  }).pipe(Effect.provideService(Spiffe.Spiffe, spiffe))

const clientOf = (spiffe: Spiffe.Spiffe["Service"], options: SpiffeClient.Options) =>
  Effect.provideService(SpiffeClient.make(options), Spiffe.Spiffe, spiffe)

const check = (client: GrpcClient.Client) =>
  client.call(HealthDefinition, "check", { service: "" }, { timeoutMs: 5000, waitForReady: false })

const keyOf = (key: Buffer) => createPrivateKey({ key, format: "der", type: "pkcs8" })

const serialOf = ({ certificate }: Svid.Peer): string => certificate.serialNumber

/** How many connections a server on a unix socket has. */
const socketsOf = (address: string): number =>
  fs.readFileSync("/proc/net/unix", "utf8").split("\n").filter((line) => {
    const [, , , , , state, , path] = line.split(/\s+/)
    return path === address.slice("unix://".length) && state === "03"
  }).length

const alice = "spiffe://example.org/ns/alice"
const bob = "spiffe://example.org/ns/bob"

for (const kind of ["a unix socket", "TCP"]) {
  it.live(`over ${kind} both sides learn who the other is, and the token proves it`, () =>
    Effect.gen(function*() {
      const at = yield* folder
      const calls = yield* Queue.unbounded<readonly [Svid.Peer, Server.Call]>()
      const server = yield* being(svidOf(bob, home, [home]))
      const client = yield* being(svidOf(alice, home, [home], { notAfter: now + hour - 60_000 }))
      const address = kind === "TCP" ? "tcp://127.0.0.1:0" : `unix://${at}/bob.sock`
      const { target } = yield* serve(server.spiffe, address, (...call) => Queue.offer(calls, call))
      const connection = yield* clientOf(client.spiffe, { target, maxTokenLifetimeMs: 24 * hour })
      assert.isTrue(Option.isNone(yield* connection.peer))
      yield* check(connection)
      assert.strictEqual(Option.getOrThrow(yield* connection.peer).id.text, bob)

      const [peer, call] = yield* Queue.take(calls)
      assert.strictEqual(peer.id.text, alice)
      const sent = Token.fromMetadata(call.metadata)
      assert.isDefined(sent)
      const { claims } = Result.getOrThrow(Token.decode(sent?.token ?? ""))
      assert.deepStrictEqual([claims.sub, claims.aud], [alice, [bob]])
      assert.strictEqual(claims.exp * 1000, peer.notAfter)
      assert.strictEqual(sent?.expiresAt, peer.notAfter)
      const isSigned = Tokens.signedBy(peer.certificate)
      const own = Tokens.make({ svid: yield* server.spiffe.current, peer, now, maxLifetimeMs: 600_000 })
      const tokens = [sent?.token ?? "", own.token]
      assert.deepStrictEqual(Token.server(tokens, 1, now, isSigned), Result.succeed(undefined))
      const byOther = Tokens.signedBy((yield* server.spiffe.current).certificate)
      assert.isTrue(Result.isFailure(Token.server(tokens, 1, now, byOther)))
      assert.isFalse(isSigned(`${sent?.token.slice(0, -4)}AAAA`))
    }))
}

it.live("a client of a foreign authority is refused, and so is a server", () =>
  Effect.gen(function*() {
    const at = yield* folder
    const namesake = authorityOf("example.org")
    const calls: Array<string> = []
    const note: Check = ({ id }) => Effect.sync(() => void calls.push(id.text))
    const [mine, theirs] = [yield* being(svidOf(bob, home, [home])), yield* being(svidOf(bob, namesake, [namesake]))]
    const server = yield* serve(mine.spiffe, `unix://${at}/bob.sock`, note)
    const stranger = yield* clientOf(theirs.spiffe, { target: server.target, maxTokenLifetimeMs: hour })
    assert.strictEqual((yield* Effect.flip(check(stranger))).code, GrpcError.Code.Unavailable)
    // Believes the server, so that only the server can refuse.
    const { bundles } = yield* mine.spiffe.current
    const trusting = yield* being({ ...(yield* theirs.spiffe.current), bundles })
    const intruder = yield* clientOf(trusting.spiffe, { target: server.target })
    assert.strictEqual((yield* Effect.flip(check(intruder))).code, GrpcError.Code.Unavailable)
    const anonymous = yield* GrpcClient.make({ target: server.target })
    assert.strictEqual((yield* Effect.flip(check(anonymous))).code, GrpcError.Code.Unavailable)
    assert.deepStrictEqual(calls, [])
    yield* check(yield* clientOf(mine.spiffe, { target: server.target }))
    assert.deepStrictEqual(calls, [bob])
  }))

it.live("trust domains that know each other talk, but none speaks for another", () =>
  Effect.gen(function*() {
    const at = yield* folder
    const both = [home, other]
    const seen = yield* Queue.unbounded<string>()
    const note: Check = ({ id }) => Queue.offer(seen, id.text)
    const server = yield* being(svidOf(bob, home, both))
    const address = `unix://${at}/bob.sock`
    yield* serve(server.spiffe, address, note)
    const guest = yield* being(svidOf("spiffe://other.org/guest", other, both))
    yield* check(yield* clientOf(guest.spiffe, { target: address }))
    assert.strictEqual(yield* Queue.take(seen), "spiffe://other.org/guest")

    // The authority of other.org issues an id of example.org: OpenSSL finds the chain good, SPIFFE does not.
    const issued = Authority.issue(other, { uris: [alice], notBefore: now - hour, notAfter: now + hour })
    const certificate = new X509Certificate(issued.chain)
    const honest = yield* guest.spiffe.current
    const forged = { ...honest, chain: [certificate], certificate, key: keyOf(issued.key) }
    const impostor = yield* being(forged)
    const refused = yield* Effect.flip(check(yield* clientOf(impostor.spiffe, { target: address })))
    assert.strictEqual(refused.code, GrpcError.Code.Unauthenticated)
    assert.include(refused.details, "Untrusted")
    yield* serve(impostor.spiffe, `unix://${at}/impostor.sock`)
    const victim = yield* clientOf(server.spiffe, { target: `unix://${at}/impostor.sock` })
    const error = yield* Effect.flip(check(victim))
    assert.strictEqual(error.code, GrpcError.Code.Unavailable)
    assert.include(error.details, "Untrusted")
  }))

it.live("intermediate authorities are shown and believed", () =>
  Effect.gen(function*() {
    const at = yield* folder
    const intermediate = Authority.subordinate(home, now - hour, now + hour)
    for (const [i, trusted] of [[home], [home, other]].entries()) {
      const address = `unix://${at}/${i}.sock`
      const server = yield* being(svidOf(bob, home, trusted, { intermediate }))
      const client = yield* being(svidOf(alice, home, trusted, { intermediate }))
      yield* serve(server.spiffe, address)
      yield* check(yield* clientOf(client.spiffe, { target: address }))
    }
  }))

it.live("after a rotation new calls use the new SVID while old ones go on, on both sides", () =>
  Effect.gen(function*() {
    const at = yield* folder
    const [entered, release] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
    const serials = yield* Queue.unbounded<string>()
    const server = yield* being(svidOf(bob, home, [home]))
    const client = yield* being(svidOf(alice, home, [home]))
    const address = `unix://${at}/bob.sock`
    yield* serve(server.spiffe, address, ({ certificate }, { metadata }) =>
      Effect.gen(function*() {
        yield* Queue.offer(serials, certificate.serialNumber)
        if (metadata["wait"] === undefined) return
        yield* Deferred.succeed(entered, undefined)
        yield* Deferred.await(release)
      }))
    const connection = yield* clientOf(client.spiffe, { target: address, maxTokenLifetimeMs: hour })
    const first = yield* client.spiffe.current
    const options = { metadata: { wait: "1" }, timeoutMs: 10_000 }
    const slow = yield* Effect.forkChild(connection.call(HealthDefinition, "check", { service: "" }, options))
    const ticks = yield* Queue.unbounded<number>()
    const scope = yield* Scope.make()
    yield* connection.stream(HealthDefinition, "watch", { service: "" }).pipe(
      Stream.runForEach(() => Queue.offer(ticks, 0)),
      Effect.forkIn(scope)
    )
    yield* Deferred.await(entered)
    yield* Queue.take(ticks)
    assert.strictEqual(yield* Queue.take(serials), first.certificate.serialNumber)

    const [nextServer, nextClient] = [svidOf(bob, home, [home]), svidOf(alice, home, [home])]
    yield* server.become(nextServer)
    yield* client.become(nextClient)
    // The change travels by a fiber of its own.
    yield* Effect.repeat(check(connection), {
      until: () => Effect.map(Queue.take(serials), (serial) => serial === serialOf(nextClient)),
      times: 1000
    })
    assert.strictEqual(serialOf(Option.getOrThrow(yield* connection.peer)), serialOf(nextServer))
    yield* Queue.clear(ticks)
    yield* Queue.take(ticks)
    yield* Deferred.succeed(release, undefined)
    yield* Fiber.join(slow)
    yield* Queue.take(ticks)
    const open = Effect.sync(() => socketsOf(address))
    assert.strictEqual(yield* open, 2)
    yield* Scope.close(scope, yield* Effect.exit(Effect.void))
    yield* Effect.repeat(Effect.andThen(Effect.sleep(1), open), { until: (count) => count === 1, times: 5000 })
    assert.strictEqual(yield* open, 1)
  }))

it.live(
  "the authority of a trust domain is replaced while calls and a stream go on, and none is lost",
  () =>
    Effect.gen(function*() {
      const at = yield* folder
      const next = authorityOf("example.org")
      // As an agent does: both are believed before the first leaf of the new one, and after the last of the old one.
      const stages = [
        { issuer: home, bundle: [home] },
        { issuer: home, bundle: [home, next] },
        { issuer: next, bundle: [home, next] },
        { issuer: next, bundle: [next] }
      ]
      const svidIn = (id: string, { bundle, issuer }: typeof stages[number]) => svidOf(id, issuer, [], { bundle })
      const [first, ...later] = stages.map((stage) => ({ server: svidIn(bob, stage), client: svidIn(alice, stage) }))
      if (first === undefined) return assert.fail("a first stage")
      const server = yield* being(first.server)
      const client = yield* being(first.client)
      const issuers = yield* Queue.unbounded<string>()
      const address = `unix://${at}/bob.sock`
      yield* serve(server.spiffe, address, ({ certificate }) => Queue.offer(issuers, certificate.serialNumber))
      const connection = yield* clientOf(client.spiffe, { target: address, maxTokenLifetimeMs: hour })
      const ticks = yield* Queue.unbounded<number>()
      const stream = yield* connection.stream(HealthDefinition, "watch", { service: "" }).pipe(
        Stream.runForEach(() => Queue.offer(ticks, 0)),
        Effect.forkChild
      )
      yield* Queue.take(ticks)
      let calls = 0
      const calling = yield* Effect.forkChild(
        Effect.forever(Effect.andThen(Effect.sync(() => calls++), check(connection)))
      )
      for (const { client: own, server: theirs } of later) {
        // Each side on its own, as agents tell them.
        yield* server.become(theirs)
        yield* client.become(own)
        const serial = own.certificate.serialNumber
        yield* Effect.repeat(Queue.take(issuers), { until: (seen) => seen === serial })
        const peer = Effect.map(connection.peer, (peer) => serialOf(Option.getOrThrow(peer)))
        assert.strictEqual(yield* peer, theirs.certificate.serialNumber)
        yield* Queue.clear(ticks)
        yield* Queue.take(ticks)
      }
      assert.isAbove(calls, later.length)
      assert.isUndefined(calling.pollUnsafe(), "no call has failed")
      assert.isUndefined(stream.pollUnsafe(), "the stream goes on")
      const stranger = yield* clientOf((yield* being(first.client)).spiffe, { target: address })
      assert.strictEqual((yield* Effect.flip(check(stranger))).code, GrpcError.Code.Unavailable)
      yield* Fiber.interrupt(calling)
      yield* Fiber.interrupt(stream)
    }),
  30_000
)

it.live("what was built on a client can still say goodbye after a rotation; later calls fail and break nothing", () =>
  Effect.gen(function*() {
    const at = yield* folder
    const serials = yield* Queue.unbounded<string>()
    const server = yield* being(svidOf(bob, home, [home]))
    const client = yield* being(svidOf(alice, home, [home]))
    const address = `unix://${at}/bob.sock`
    yield* serve(server.spiffe, address, ({ certificate }) => Queue.offer(serials, certificate.serialNumber))
    const goodbyes = yield* Queue.unbounded<boolean>()
    const late = yield* Effect.scoped(Effect.gen(function*() {
      const connection = yield* clientOf(client.spiffe, { target: address, maxTokenLifetimeMs: hour })
      yield* Effect.addFinalizer(() =>
        Effect.flatMap(Effect.exit(check(connection)), (exit) => Queue.offer(goodbyes, exit._tag === "Success"))
      )
      const next = svidOf(alice, home, [home])
      yield* client.become(next)
      yield* Effect.repeat(check(connection), {
        until: () => Effect.map(Queue.take(serials), (serial) => serial === serialOf(next)),
        times: 1000
      })
      return connection
    }))
    assert.isTrue(yield* Queue.take(goodbyes))
    assert.strictEqual((yield* Effect.flip(check(late))).code, GrpcError.Code.Unavailable)
  }))

it.live("a handler in plain text does not know its caller", () =>
  Effect.gen(function*() {
    const at = yield* folder
    const { spiffe } = yield* being(svidOf(bob, home, [home]))
    const server = yield* Server.serve({
      address: `unix://${at}/plain.sock`,
      services: [Server.service(HealthDefinition, {
        check: (_request, call) =>
          Effect.as(Tls.peer(call), { status: HealthCheckResponse_ServingStatus.SERVING }).pipe(
            Effect.provideService(Spiffe.Spiffe, spiffe)
          ),
        watch: () => Stream.empty
      })]
    })
    const client = yield* GrpcClient.make({ target: server.target })
    assert.strictEqual((yield* Effect.flip(check(client))).code, GrpcError.Code.Unauthenticated)
  }))

it.live("a relay lends files below TLS, whose ends still know each other, and again after a reconnect", () =>
  Effect.gen(function*() {
    const at = yield* folder
    const seen = yield* Queue.unbounded<string>()
    const server = yield* being(svidOf(bob, home, [home]))
    const client = yield* being(svidOf(alice, home, [home]))
    const shown = join(at, "shown.sock")
    const back = yield* FdRelay.serve({ socketPath: shown, files: ["/proc/thread-self/ns/net"] })
    yield* serve(server.spiffe, back.address, ({ id }) => Queue.offer(seen, id.text))
    const arrivals = yield* Receiver.listen(join(at, "nsm.sock"), shown)
    const relay = yield* FdRelay.connect({
      socketPath: join(at, "nsm.sock"),
      files: ["/proc/thread-self/ns/net", shown]
    })
    const connection = yield* clientOf(client.spiffe, { target: relay.address, maxTokenLifetimeMs: hour })
    const arrived = Effect.map(Queue.take(arrivals), ({ bytes, descriptors }) => ({
      isTls: bytes[0] === 0x16,
      urls: descriptors.map((fd) => fs.fstatSync(fd)).map(({ dev, ino }) => `inode://${dev}/${ino}`)
    }))
    yield* check(connection)
    yield* check(connection)
    assert.deepStrictEqual([yield* Queue.take(seen), yield* Queue.take(seen)], [alice, alice])
    assert.deepStrictEqual(yield* arrived, { isTls: true, urls: relay.urls })
    assert.strictEqual(yield* Queue.size(arrivals), 0)
    yield* client.become(svidOf(alice, home, [home]))
    yield* Effect.repeat(check(connection), {
      until: () => Effect.map(Queue.size(arrivals), (size) => size > 0),
      times: 1000
    })
    assert.deepStrictEqual(yield* arrived, { isTls: true, urls: relay.urls })
  }))
