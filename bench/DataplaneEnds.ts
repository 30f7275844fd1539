/** What runs at the two ends of a chain of namespaces: one program, as text, that starts quickly. */
import { Effect, type Scope } from "effect"
import { spawn } from "node:child_process"

/** Where packets are counted and dropped, and how many sockets send to them. */
export const ports = { first: 5_000, count: 1_000, sockets: 200 }

/**
 * `sink` receives TCP, `echo` repeats datagrams to an address. `ask` reads one question in JSON per line and answers it with one:
 *
 * - `send`: seconds per datagram, one system call for each, over connected sockets in turn.
 * - `burst`: the same with 64 datagrams in a system call.
 * - `stream`: Gbit/s of one TCP connection.
 * - `trip`: microseconds of a round trip of a datagram, the median and the 99th percentile.
 *
 * Sending does the work of the whole way in its system calls. The first two are the median of stretches of 64 datagrams,
 * the third is the best of stretches of 32 MiB, so that others who take processor time disturb little.
 */
const program = `
  const koffi = require("koffi")
  const lib = koffi.load("libc.so.6")
  const c = (text) => lib.func(text)
  const [, mode, own] = process.argv
  const familyOf = (host) => host.includes(":") ? 10 : 2
  const addressOf = (host, port) => {
    const bytes = Buffer.alloc(familyOf(host) === 2 ? 16 : 28)
    bytes.writeUInt16LE(familyOf(host), 0)
    bytes.writeUInt16BE(port, 2)
    if (familyOf(host) === 2) bytes.set(host.split(".").map(Number), 4)
    else {
      const [head, tail] = host.split("::").map((part) => part.split(":").filter(Boolean).map((word) => parseInt(word, 16)))
      head.forEach((word, n) => bytes.writeUInt16BE(word, 8 + 2 * n))
      tail.forEach((word, n) => bytes.writeUInt16BE(word, 24 - 2 * tail.length + 2 * n))
    }
    return bytes
  }
  const socketOf = (host) => c("int socket(int, int, int)")(familyOf(host), 2, 0)
  const connect = c("int connect(int, const uint8_t *, uint32_t)")
  const send = c("long send(int, const uint8_t *, size_t, int)")
  const connected = (host, port) => {
    const socket = socketOf(host)
    const address = addressOf(host, port)
    if (connect(socket, address, address.length) < 0) throw new Error("connect " + host)
    // Nothing is waited for longer than a second: the question is then answered without it.
    c("int setsockopt(int, int, int, const uint8_t *, uint32_t)")(socket, 1, 20, Buffer.from([1, ...Array(15).fill(0)]), 16)
    return socket
  }
  const middle = (count, stretch, work) => {
    const times = []
    for (let done = 0; done < count; done += stretch) {
      const begin = process.hrtime.bigint()
      work()
      times.push(Number(process.hrtime.bigint() - begin) / 1e9 / stretch)
    }
    return times.sort((a, b) => a - b)[Math.floor(times.length / 2)]
  }
  const once = (make) => {
    const known = new Map()
    return (key) => known.get(key) ?? known.set(key, make(key)).get(key)
  }
  const sockets = once((host) => Array.from({ length: ${ports.sockets} }, (_, n) =>
    connected(host, ${ports.first} + n * ${ports.count / ports.sockets})))
  const bursts = once((host) => {
    const payload = koffi.alloc("uint8_t", 64)
    const vectors = koffi.alloc("uint64_t", 2)
    const names = koffi.alloc("uint8_t", 64 * 28)
    const headers = koffi.alloc("uint64_t", 64 * 8)
    const size = addressOf(host, 0).length
    for (let n = 0; n < 64; n++) {
      koffi.encode(names, n * 28, koffi.array("uint8_t", size), [...addressOf(host, ${ports.first} + n * ${
  ports.count / 100
})])
    }
    koffi.encode(vectors, koffi.array("uint64_t", 2), [koffi.address(payload), 36n])
    koffi.encode(headers, koffi.array("uint64_t", 64 * 8), Array.from({ length: 64 }, (_, n) => [
      koffi.address(names) + BigInt(n * 28), BigInt(size), koffi.address(vectors), 1n, 0n, 0n, 0n, 0n
    ]).flat())
    return [socketOf(host), headers, payload, vectors, names]
  })
  const datagram = Buffer.alloc(36)
  const work = {
    send: ({ host, count }) => {
      const all = sockets(host)
      let i = 0; return middle(count, 64, () => { for (let n = 0; n < 64; n++) send(all[i++ % all.length], datagram, 36, 0) })
    },
    burst: ({ host, count }) => {
      const sendmmsg = c("int sendmmsg(int, void *, unsigned int, int)")
      const [socket, headers] = bursts(host)
      return middle(count, 64, () => { if (sendmmsg(socket, headers, 64, 0) < 0) throw new Error("sendmmsg") })
    },
    trip: ({ host, count }) => {
      const socket = connected(host, 4001)
      const receive = c("long recv(int, uint8_t *, size_t, int)")
      const times = []
      for (let n = 0; n < count; n++) {
        const begin = process.hrtime.bigint()
        send(socket, datagram, 36, 0)
        if (receive(socket, datagram, 36, 0) < 0) break
        times.push(Number(process.hrtime.bigint() - begin) / 1e3)
      }
      c("int close(int)")(socket)
      times.sort((a, b) => a - b)
      return [0.5, 0.99].map((share) => times[Math.floor(times.length * share)])
    },
    stream: ({ host, count }) => new Promise((resolve, reject) => {
      const chunk = Buffer.alloc(1 << 20)
      const stretch = 32
      let left = count
      let [most, begin] = [0, 0n]
      const socket = require("net").connect(4000, host, () => {
        begin = process.hrtime.bigint()
        write()
      })
      const write = () => {
        while (left > 0) {
          if (left-- % stretch === 0) {
            const now = process.hrtime.bigint()
            if (left < count - 1) most = Math.max(most, stretch * chunk.length * 8 / Number(now - begin))
            begin = now
          }
          if (!socket.write(chunk)) return socket.once("drain", write)
        }
        socket.end()
      }
      socket.resume().on("error", reject).on("close", () => resolve(most))
    })
  }
  require("os").setPriority(-20)
  if (mode === "sink") {
    require("net").createServer((socket) => socket.on("error", () => 0).resume()).listen(4000, "::", () => console.log("up"))
  } else if (mode === "full") {
    // Sockets nobody reads: what comes is dropped where the program would have got it.
    for (let n = 0; n < ${ports.sockets}; n++) {
      const address = addressOf(own, ${ports.first} + n * ${ports.count} / ${ports.sockets})
      c("int bind(int, const uint8_t *, uint32_t)")(socketOf(own), address, address.length)
    }
    setInterval(() => 0, 1e6)
    console.log("up")
  } else if (mode === "echo") {
    const socket = socketOf(own)
    const address = addressOf(own, 4001)
    c("int bind(int, const uint8_t *, uint32_t)")(socket, address, address.length)
    const from = Buffer.alloc(28)
    const length = Buffer.alloc(4)
    const receive = c("long recvfrom(int, uint8_t *, size_t, int, uint8_t *, uint8_t *)")
    const answer = c("long sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)")
    require("fs").writeSync(1, "up")
    while (true) {
      length.writeUInt32LE(28)
      const size = receive(socket, datagram, 36, 0, from, length)
      answer(socket, datagram, size, 0, from, length.readUInt32LE())
    }
  } else {
    require("readline").createInterface({ input: process.stdin }).on("line", async (line) => {
      const question = JSON.parse(line)
      console.log(JSON.stringify(await work[question.work](question)))
    })
    process.stdout.write("up\\n")
  }`

type Child = ReturnType<typeof start>

const start = (namespace: string, ...args: ReadonlyArray<string>) =>
  spawn("nsenter", [`--net=${namespace}`, process.execPath, "-e", program, ...args], {
    stdio: ["pipe", "pipe", "inherit"]
  })

const running = (namespace: string, ...args: ReadonlyArray<string>): Effect.Effect<Child, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Child>((resume) => {
      const child = start(namespace, ...args)
      child.stdout.once("data", () => resume(Effect.succeed(child)))
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

/** Receives at the addresses of the namespace until the scope ends. */
export const serve = (namespace: string, addresses: ReadonlyArray<string>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.andThen(
    running(namespace, "sink"),
    Effect.forEach(
      addresses,
      (address) => Effect.andThen(running(namespace, "echo", address), running(namespace, "full", address)),
      { discard: true }
    )
  )

export interface Question {
  readonly work: "send" | "burst" | "stream" | "trip"
  readonly host: string
  /** Datagrams, round trips or MiB. */
  readonly count: number
}

/** Answers questions from the namespace, one after the other, until the scope ends. */
export const asker = (
  namespace: string
): Effect.Effect<(question: Question) => Effect.Effect<unknown>, never, Scope.Scope> =>
  Effect.map(running(namespace, "ask"), (child) => (question) =>
    Effect.callback<unknown>((resume) => {
      let text = ""
      const onEnd = () => resume(Effect.die(new Error(`${question.work} to ${question.host} ended`)))
      const onData = (data: Buffer) => {
        text += String(data)
        if (!text.endsWith("\n")) return
        child.stdout.off("data", onData)
        child.off("close", onEnd)
        const answer: unknown = JSON.parse(text)
        resume(Effect.succeed(answer))
      }
      child.once("close", onEnd).stdout.on("data", onData)
      child.stdin.write(`${JSON.stringify(question)}\n`)
    }))
