import { assert, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { createPrivateKey, randomBytes, X509Certificate } from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import * as tls from "node:tls"
import * as Inside from "../netlink/Inside.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Authority from "../spiffe/dev/Authority.ts"
import * as FdRelay from "./FdRelay.ts"
import * as Message from "./Message.ts"
import * as Receiver from "./Receiver.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "sluice-fdpass-"))),
  (path) => Effect.sync(() => fs.rmSync(path, { recursive: true, force: true }))
)

const pathOf = (address: string): string => address.slice("unix://".length)
const urlOf = ({ dev, ino }: fs.Stats): string => `inode://${dev}/${ino}`

/** A server that says everything twice as it comes, on a path. */
const echo = (path: string) =>
  Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer({ allowHalfOpen: true }, (socket) => {
        socket.on("error", () => undefined)
        socket.pipe(socket)
      })
      server.listen(path, () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )

/** Sends the bytes, ends, and returns what comes back. */
const say = (path: string, bytes: Buffer) =>
  Effect.callback<Buffer, Error>((resume) => {
    const heard: Array<Buffer> = []
    const socket = net.connect({ path, allowHalfOpen: true })
    socket.on("error", (cause) => resume(Effect.fail(cause)))
    socket.on("data", (chunk) => heard.push(Buffer.from(chunk)))
    socket.on("end", () => resume(Effect.succeed(Buffer.concat(heard))))
    socket.end(bytes)
  })

/** An echo behind a receiver behind a relay that lends the files. */
const lending = (files: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const path = yield* folder
    yield* echo(join(path, "echo.sock"))
    const arrivals = yield* Receiver.listen(join(path, "nsm.sock"), join(path, "echo.sock"))
    const relay = yield* FdRelay.connect({ socketPath: join(path, "nsm.sock"), files })
    return { relay, arrivals, path }
  })

it.live("lends a namespace and a socket file, and the receiver can use both", () =>
  Effect.gen(function*() {
    const namespace = yield* Namespace.scoped(`sl-fd-${process.pid}`)
    const at = yield* folder
    const socketFile = join(at, "endpoint.sock")
    yield* echo(socketFile)
    const { arrivals, relay } = yield* lending([namespace, socketFile])
    assert.deepStrictEqual(relay.urls, [yield* Namespace.url(namespace), yield* FdRelay.urlOf(socketFile)])

    assert.strictEqual(String(yield* say(pathOf(relay.address), Buffer.from("hello"))), "hello")
    const { bytes, descriptors } = yield* Queue.take(arrivals)
    assert.strictEqual(String(bytes), "hello")
    assert.deepStrictEqual(descriptors.map((fd) => urlOf(fs.fstatSync(fd))), relay.urls)
    const [lentNamespace = "", lentSocket = ""] = descriptors.map((fd) => `/proc/self/fd/${fd}`)
    const inside = Inside.run(lentNamespace, () =>
      fs.readdirSync("/sys/class/net").length >= 0
        ? fs.readlinkSync("/proc/thread-self/ns/net")
        : "")
    assert.strictEqual(inside, `net:[${relay.urls[0]?.split("/").at(-1)}]`)
    assert.strictEqual(
      String(yield* say(lentSocket, Buffer.from("through the lent socket"))),
      "through the lent socket"
    )
  }))

it.live("lends again on every connection, and only with the first bytes", () =>
  Effect.gen(function*() {
    const { arrivals, relay } = yield* lending(["/proc/thread-self/ns/net"])
    for (const word of ["one", "two", "three"]) {
      assert.strictEqual(String(yield* say(pathOf(relay.address), Buffer.from(word))), word)
      assert.strictEqual((yield* Queue.take(arrivals)).descriptors.length, 1)
    }
    assert.strictEqual(yield* Queue.size(arrivals), 0)
  }))

it.live("bytes pass unchanged, also more than any buffer holds, and an end is passed on", () =>
  Effect.gen(function*() {
    const { relay } = yield* lending(["/proc/thread-self/ns/net"])
    const bytes = randomBytes(5_000_000)
    assert.isTrue(bytes.equals(yield* say(pathOf(relay.address), bytes)))
    assert.strictEqual((yield* say(pathOf(relay.address), Buffer.alloc(0))).length, 0)
  }))

it.live("a server lends its files with the first bytes of its answer", () =>
  Effect.gen(function*() {
    const path = yield* folder
    const socketPath = join(path, "made/on/the/way.sock")
    const relay = yield* FdRelay.serve({ socketPath, files: ["/proc/thread-self/ns/net"] })
    yield* echo(pathOf(relay.address))
    assert.strictEqual(fs.statSync(socketPath).mode & 0o777, 0o777)

    const socket = yield* Effect.acquireRelease(
      Effect.callback<net.Socket>((resume) => {
        const socket = net.connect({ path: socketPath })
        socket.once("connect", () => {
          // Before Node begins to read, which would lose the files.
          socket.pause()
          socket.write("ping", () => resume(Effect.succeed(socket)))
        })
      }),
      (socket) => Effect.sync(() => socket.destroy())
    )
    const descriptor = Message.descriptorOf(socket) ?? -1
    const received = yield* Effect.sync(() => Message.receive(descriptor, 100)).pipe(
      Effect.tap(() => Effect.sleep(1)),
      Effect.repeat({ while: ({ _tag }) => _tag === "Empty" })
    )
    assert.strictEqual(received._tag, "Received")
    if (received._tag !== "Received") return
    assert.strictEqual(String(received.bytes), "ping")
    assert.deepStrictEqual(received.descriptors.map((fd) => urlOf(fs.fstatSync(fd))), relay.urls)
    received.descriptors.forEach((fd) => fs.closeSync(fd))
  }))

it.live("the private socket is in a folder of ours alone, and goes with the scope", () =>
  Effect.gen(function*() {
    const at = yield* Effect.scoped(Effect.gen(function*() {
      const { relay } = yield* lending([])
      const at = dirname(pathOf(relay.address))
      assert.strictEqual(fs.statSync(at).mode & 0o777, 0o700)
      return at
    }))
    assert.isFalse(fs.existsSync(at))
  }))

it.live("what cannot be lent or served is refused with its path", () =>
  Effect.gen(function*() {
    const path = yield* folder
    const absent = yield* Effect.flip(FdRelay.connect({ socketPath: "/nowhere", files: [join(path, "absent")] }))
    assert.include(absent.message, join(path, "absent"))
    const many = yield* Effect.flip(FdRelay.connect({ socketPath: "/nowhere", files: Array(65).fill("/dev/null") }))
    assert.include(many.message, "at most 64")
    yield* echo(join(path, "taken.sock"))
    const taken = yield* Effect.flip(FdRelay.serve({ socketPath: join(path, "taken.sock"), files: [] }))
    assert.include(taken.message, "served by another process")
  }))

it.live("a connection ends when nobody is at the other side", () =>
  Effect.gen(function*() {
    const relay = yield* FdRelay.connect({ socketPath: "/nowhere.sock", files: [] })
    const heard = yield* Effect.result(say(pathOf(relay.address), Buffer.from("hello")))
    assert.isTrue(heard._tag === "Failure" || heard.success.length === 0)
  }))

it.live("a message that does not fit is not sent in part without saying so", () =>
  Effect.gen(function*() {
    const path = yield* folder
    yield* Effect.acquireRelease(
      Effect.callback<net.Server>((resume) => {
        const server = net.createServer({ pauseOnConnect: true })
        server.listen(join(path, "deaf.sock"), () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    )
    const socket = yield* Effect.acquireRelease(
      Effect.callback<net.Socket>((resume) => {
        const socket = net.connect(join(path, "deaf.sock"), () => resume(Effect.succeed(socket)))
      }),
      (socket) => Effect.sync(() => socket.destroy())
    )
    const descriptor = Message.descriptorOf(socket) ?? -1
    const short = Message.send(descriptor, Buffer.alloc(1_000_000), [0])
    assert.isTrue(short._tag === "Sent" && short.bytes > 0 && short.bytes < 1_000_000)
    assert.deepStrictEqual(Message.send(descriptor, Buffer.alloc(1_000_000), [0]), { _tag: "Full" })
    assert.deepStrictEqual(Message.send(descriptor, Buffer.alloc(1), [99_999]), { _tag: "Failed", code: "EBADF" })
  }))

const connections = Number(process.env["SLUICE_FDPASS_CONNECTIONS"] ?? 10_000)
/** Each costs two signatures: 10 000 take a minute. */
const secured = Number(process.env["SLUICE_FDPASS_TLS_CONNECTIONS"] ?? 400)
const atOnce = 20

const counted = Effect.sync(() => fs.readdirSync("/proc/self/fd").length)

/** Says something over many connections, opens what each lends, and sees that no descriptor stays. */
const many = (
  count: number,
  { arrivals, relay }: Effect.Success<ReturnType<typeof lending>>,
  speak: (path: string) => Effect.Effect<unknown, Error>
) =>
  Effect.gen(function*() {
    const path = pathOf(relay.address)
    const opened = Effect.map(Queue.take(arrivals), ({ close, descriptors }) => {
      const urls = descriptors.map((descriptor) => {
        const again = Namespace.openPath(`/proc/self/fd/${descriptor}`)
        const url = urlOf(fs.fstatSync(again))
        fs.closeSync(again)
        return url
      })
      close()
      return urls
    })
    yield* speak(path)
    yield* opened
    const before = yield* counted
    for (let i = 0; i < count; i += atOnce) {
      yield* Effect.forEach(Array(atOnce).keys(), () => speak(path), { concurrency: atOnce })
      for (let k = 0; k < atOnce; k++) assert.deepStrictEqual(yield* opened, relay.urls)
    }
    yield* Effect.repeat(Effect.andThen(Effect.sleep(1), counted), { until: (now) => now <= before, times: 5000 })
    assert.isAtMost(yield* counted, before)
  })

it.live(
  `${connections} connections leave no descriptor behind`,
  () =>
    Effect.flatMap(
      lending(["/proc/thread-self/ns/net"]),
      (lent) => many(connections, lent, (path) => say(path, Buffer.from("x")))
    ),
  600_000
)

it.live(
  `${secured} connections under TLS lend what can be opened, and leave no descriptor behind`,
  () =>
    Effect.gen(function*() {
      const at = yield* folder
      const now = Date.now()
      const authority = Authority.make("example.org", now - 60_000, now + 3_600_000)
      const leaf = { uris: ["spiffe://example.org/a"], notBefore: now - 60_000, notAfter: now + 3_600_000 }
      const { chain, key } = Authority.issue(authority, leaf)
      const cert = new X509Certificate(chain).toString()
      const options = { cert, key: createPrivateKey({ key, format: "der", type: "pkcs8" }).export(pem) }
      const ca = new X509Certificate(authority.certificate).toString()
      yield* Effect.acquireRelease(
        Effect.callback<tls.Server>((resume) => {
          const server = tls.createServer({ ...options, ca, requestCert: true, rejectUnauthorized: true }, (socket) => {
            socket.on("error", () => undefined)
            socket.pipe(socket)
          })
          server.listen(join(at, "tls.sock"), () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const arrivals = yield* Receiver.listen(join(at, "nsm.sock"), join(at, "tls.sock"))
      const relay = yield* FdRelay.connect({
        socketPath: join(at, "nsm.sock"),
        files: ["/proc/thread-self/ns/net"]
      })
      const speak = (path: string) =>
        Effect.callback<void, Error>((resume) => {
          const socket = tls.connect({ path, ...options, ca, checkServerIdentity: () => undefined })
          socket.on("error", (cause) => resume(Effect.fail(cause)))
          socket.once("data", () => socket.end())
          socket.on("close", () => resume(Effect.void))
          socket.write("x")
        })
      yield* many(secured, { arrivals, relay, path: at }, speak)
    }),
  600_000
)

const pem = { type: "pkcs8", format: "pem" } as const
