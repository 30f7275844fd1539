/**
 * The external client of the lab: makes connections to VIPs and says which target answered. A plain Node script that
 * reads one request (JSON) per line from its standard input and writes one answer per line:
 *
 *     { "id": 1, "op": "tcp", "address": "20.0.0.1", "port": 4000, "count": 400, "source": "192.0.2.2" }
 *     { "id": 1, "replies": { "target-1": 101, ... }, "lost": 0, "errors": [] }
 *
 * `tcp` and `udp` use a new source port each time. `hold` opens connections and keeps them under their ids; `probe` asks
 * every held connection again and counts those whose target is still the same; `drop` closes them.
 */
import * as dgram from "node:dgram"
import * as net from "node:net"
import * as readline from "node:readline"
import type { Answer, Request } from "./Traffic.ts"

const timeoutMs = 2_000
const concurrency = 40

interface Held {
  readonly socket: net.Socket
  readonly target: string
}

const held = new Map<number, ReadonlyArray<Held>>()

const line = (socket: net.Socket): Promise<string> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => done(() => reject(new Error("timed out"))), timeoutMs)
    const done = (finish: () => void): void => {
      clearTimeout(timer)
      socket.off("data", onData).off("error", onError).off("close", onClose)
      finish()
    }
    const onData = (data: Buffer): void => done(() => resolve(data.toString().trim()))
    const onError = (error: Error): void => done(() => reject(error))
    const onClose = (): void => done(() => reject(new Error("closed")))
    socket.on("data", onData).on("error", onError).on("close", onClose)
  })

const connect = ({ address, port, source }: Request): net.Socket => {
  const socket = net.connect({ host: address, port, ...(source === undefined ? {} : { localAddress: source }) })
  socket.on("error", () => undefined)
  return socket
}

const tcpOnce = async (request: Request): Promise<string> => {
  const socket = connect(request)
  try {
    return await line(socket)
  } finally {
    // A reset leaves no TIME_WAIT behind: samples of many connections would soon use up the source ports.
    socket.resetAndDestroy()
  }
}

const udpOnce = (request: Request): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = dgram.createSocket(request.address.includes(":") ? "udp6" : "udp4")
    const done = (finish: () => void): void => {
      clearTimeout(timer)
      socket.close()
      finish()
    }
    const timer = setTimeout(() => done(() => reject(new Error("timed out"))), timeoutMs)
    socket.on("error", (error) => done(() => reject(error)))
    socket.on("message", (data, from) =>
      done(() =>
        from.address === request.address && from.port === request.port
          ? resolve(data.toString().trim())
          : reject(new Error(`answered from ${from.address}`))
      ))
    socket.bind(0, request.source, () => socket.send("?", request.port, request.address))
  })

const many = async (request: Request, once: (request: Request) => Promise<string>): Promise<Omit<Answer, "id">> => {
  const replies: Record<string, number> = {}
  const errors = new Set<string>()
  let lost = 0
  let left = request.count
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      try {
        const target = await once(request)
        replies[target] = (replies[target] ?? 0) + 1
      } catch (error) {
        lost++
        errors.add(error instanceof Error ? error.message : String(error))
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, request.count) }, worker))
  return { replies, lost, errors: [...errors] }
}

const hold = async (request: Request): Promise<Omit<Answer, "id">> => {
  const opened: Array<Held> = []
  const answer = await many(request, async () => {
    const socket = connect(request)
    const target = await line(socket)
    opened.push({ socket, target })
    return target
  })
  held.set(request.id, opened)
  return answer
}

const probe = async ({ of: id = 0 }: Request): Promise<Omit<Answer, "id">> => {
  const replies: Record<string, number> = {}
  const errors = new Set<string>()
  let lost = 0
  await Promise.all((held.get(id) ?? []).map(async ({ socket, target }) => {
    try {
      socket.write("?\n")
      const now = await line(socket)
      if (now === target) replies[target] = (replies[target] ?? 0) + 1
      else throw new Error(`${target} became ${now}`)
    } catch (error) {
      lost++
      errors.add(`${target}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }))
  return { replies, lost, errors: [...errors] }
}

const drop = async ({ of: id = 0 }: Request): Promise<Omit<Answer, "id">> => {
  for (const { socket } of held.get(id) ?? []) socket.resetAndDestroy()
  held.delete(id)
  return { replies: {}, lost: 0, errors: [] }
}

const operations: Record<Request["op"], (request: Request) => Promise<Omit<Answer, "id">>> = {
  tcp: (request) => many(request, tcpOnce),
  udp: (request) => many(request, udpOnce),
  hold,
  probe,
  drop
}

readline.createInterface({ input: process.stdin }).on("line", (text) => {
  const request: Request = JSON.parse(text)
  void operations[request.op](request).then((answer) => {
    process.stdout.write(JSON.stringify({ id: request.id, ...answer }) + "\n")
  })
}).on("close", () => process.exit(0))
