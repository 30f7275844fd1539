/**
 * Lends open files to whoever is at the other end of a unix socket, beside bytes that this module does not understand:
 * upstream's NSM hands over network namespaces and sockets this way, below TLS, and gRPC for Node cannot.
 *
 *     connect:  own client ──▶ private socket ─(first bytes + files)─▶ socketPath ──▶ their server
 *     serve:    their client ──▶ socketPath ──▶ private socket ──▶ own server, ─(first bytes + files)─▶ back
 *
 * 1. The files go with the first bytes of each connection, so a reconnect lends them again, and every later call on
 *    the connection finds them.
 * 2. The private socket is in a folder that only this user may enter: it lends our namespace to whoever connects.
 * 3. A side is read only as fast as the other takes. An end is passed on; an error closes both.
 * 4. `urls` name exactly the files that are lent: each is opened once and held for the life of the scope.
 */
import { Effect, Schema } from "effect"
import type { Scope } from "effect"
import * as fs from "node:fs"
import * as net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as GrpcSocket from "../grpc/Socket.ts"
import * as SocketFolder from "../grpc/SocketFolder.ts"
import * as Message from "./Message.ts"

/** A file could not be opened, or a socket could not be had. */
export class FdPassError extends Schema.TaggedError<FdPassError>()("FdPassError", {
  path: Schema.String,
  detail: Schema.String
}) {
  override get message(): string {
    return `cannot pass descriptors, ${this.path}: ${this.detail}`
  }
}

/** What is lent, and over which socket. */
export interface Options {
  /** The socket of the other side for `connect`, the public one of this side for `serve`; a path. */
  readonly socketPath: string
  /** Paths of the files to lend: `/proc/thread-self/ns/net`, a socket file. At most 64. */
  readonly files: ReadonlyArray<string>
}

/** A relay that works. */
export interface Relay {
  /** `unix:///...`: where the own client connects (`connect`), or where the own server has to listen (`serve`). */
  readonly address: string
  /** How NSM names the files, in their order: `inode://DEVICE/INODE`. */
  readonly urls: ReadonlyArray<string>
}

/** The name by which NSM knows the file at a path: `inode://DEVICE/INODE` in decimal. */
export const urlOf = (path: string): Effect.Effect<string, FdPassError> =>
  attempt(path, () => inodeUrl(fs.statSync(path)))

/** Makes a private socket whose connections go to `socketPath`, with the files. The other side may come and go. */
export const connect = (options: Options): Effect.Effect<Relay, FdPassError, Scope.Scope> =>
  Effect.gen(function*() {
    const files = yield* openAll(options.files)
    const listen = join(yield* privateFolder, "relay.sock")
    yield* relay(listen, options.socketPath, (accepted, dialled) => {
      forward(accepted, dialled, files.descriptors)
      dialled.pipe(accepted)
    })
    return { address: `unix://${listen}`, urls: files.urls }
  })

/**
 * Listens on `socketPath`, open to all users, and passes connections on to the own server with the files in the answer.
 * A stale socket is replaced; fails when somebody serves there already.
 */
export const serve = (options: Options): Effect.Effect<Relay, FdPassError, Scope.Scope> =>
  Effect.gen(function*() {
    const files = yield* openAll(options.files)
    const target = join(yield* privateFolder, "server.sock")
    yield* refined(options.socketPath, GrpcSocket.prepare(options.socketPath))
    yield* relay(options.socketPath, target, (accepted, dialled) => {
      accepted.pipe(dialled)
      forward(dialled, accepted, files.descriptors)
    })
    yield* refined(options.socketPath, GrpcSocket.openToAll(options.socketPath))
    return { address: `unix://${target}`, urls: files.urls }
  })

// Without right to read or write, which is all that a name needs, and all that a socket file allows.
const O_PATH = 0o10000000

interface Files {
  readonly descriptors: ReadonlyArray<number>
  readonly urls: ReadonlyArray<string>
}

const openAll = (paths: ReadonlyArray<string>): Effect.Effect<Files, FdPassError, Scope.Scope> =>
  Effect.gen(function*() {
    if (paths.length > Message.maxDescriptors) {
      const detail = `${paths.length} files are too many, at most ${Message.maxDescriptors} can be passed`
      return yield* new FdPassError({ path: paths[0] ?? "", detail })
    }
    const descriptors = yield* Effect.forEach(paths, (path) =>
      Effect.acquireRelease(
        attempt(path, () => fs.openSync(path, O_PATH)),
        (descriptor) => Effect.sync(() => fs.closeSync(descriptor))
      ))
    return { descriptors, urls: descriptors.map((descriptor) => inodeUrl(fs.fstatSync(descriptor))) }
  })

const privateFolder = Effect.suspend(() => refined(tmpdir(), SocketFolder.make("fd")))

const relay = (
  listen: string,
  target: string,
  splice: (accepted: net.Socket, dialled: net.Socket) => void
): Effect.Effect<void, FdPassError, Scope.Scope> =>
  Effect.gen(function*() {
    const open = new Set<net.Socket>()
    const log = Effect.runForkWith(yield* Effect.context())
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (accepted) => {
      const dialled = net.connect({ path: target, allowHalfOpen: true })
      tie(open, accepted, dialled, (detail) => log(Effect.logDebug(`Relay to ${target}: ${detail}`)))
      dialled.once("connect", () => splice(accepted, dialled))
    })
    yield* Effect.acquireRelease(listenOn(server, listen), () =>
      closed(server, () => open.forEach((socket) => socket.destroy())))
  })

const listenOn = (server: net.Server, path: string): Effect.Effect<void, FdPassError> =>
  Effect.callback((resume) => {
    const refused = (cause: Error) => resume(new FdPassError({ path, detail: cause.message }))
    server.once("error", refused)
    server.listen({ path, exclusive: true }, () => {
      server.off("error", refused)
      // Accepting can fail later, for example for want of descriptors; then only that connection is lost.
      server.on("error", () => undefined)
      resume(Effect.void)
    })
  })

const closed = (server: net.Server, cut: () => void): Effect.Effect<void> =>
  Effect.callback((resume) => {
    server.close(() => resume(Effect.void))
    cut()
  })

/** Two sockets that live and die together; what was read before an end is still delivered. */
const tie = (
  open: Set<net.Socket>,
  one: net.Socket,
  other: net.Socket,
  report: (detail: string) => void
): void => {
  for (const [socket, opposite] of [[one, other], [other, one]] as const) {
    open.add(socket)
    socket.on("error", ({ message }) => {
      report(message)
      opposite.destroy()
    })
    socket.once("close", () => {
      open.delete(socket)
      opposite.destroySoon()
    })
  }
}

const fullPauseMs = 5

/** Moves bytes; the descriptors travel with the first of them. */
const forward = (from: net.Socket, to: net.Socket, descriptors: ReadonlyArray<number>): void => {
  const ended = () => to.end()
  const first = () => {
    const chunk: unknown = from.read()
    if (!Buffer.isBuffer(chunk)) return void from.once("readable", first)
    from.off("end", ended)
    lend(chunk)
  }
  const lend = (chunk: Buffer) => {
    const socket = Message.descriptorOf(to)
    if (socket === undefined) return void from.destroy()
    const sent = Message.send(socket, chunk, descriptors)
    switch (sent._tag) {
      case "Full":
        // Nobody tells when there is room again: Node waits for that only with bytes of its own, which must not go first.
        return void setTimeout(lend, fullPauseMs, chunk)
      case "Failed":
        return void from.destroy(new Error(`the descriptors cannot be sent: ${sent.code}`))
      case "Sent":
        if (sent.bytes < chunk.length) to.write(chunk.subarray(sent.bytes))
        from.pipe(to)
    }
  }
  from.once("end", ended)
  first()
}

const inodeUrl = ({ dev, ino }: fs.Stats): string => `inode://${dev}/${ino}`

const refined = <A, E extends { readonly details: string }, R>(
  path: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, FdPassError, R> =>
  Effect.mapError(effect, ({ details }) => new FdPassError({ path, detail: details }))

const attempt = <A>(path: string, action: () => A): Effect.Effect<A, FdPassError> =>
  Effect.try({
    try: action,
    catch: (cause) => new FdPassError({ path, detail: cause instanceof Error ? cause.message : String(cause) })
  })
