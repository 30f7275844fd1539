/**
 * The application of a lab target: answers every TCP connection and every UDP datagram with the name of the target.
 * A plain Node script, so that many start fast:
 *
 *     node TargetApp.ts NAME tcp:4000 udp:4000 ...
 *
 * TCP says the name once on connect and again for every line it is sent. UDP needs a socket for each VIP, because only
 * then the answer leaves with the VIP as its source; `ip monitor` tells when VIPs come and go.
 */
import { type ChildProcess, spawn } from "node:child_process"
import * as dgram from "node:dgram"
import * as net from "node:net"
import * as os from "node:os"

const [name = "target", ...services] = process.argv.slice(2)
const ports = (protocol: string): ReadonlyArray<number> =>
  services.filter((service) => service.startsWith(`${protocol}:`)).map((service) => Number(service.slice(4)))

for (const port of ports("tcp")) {
  net.createServer((socket) => {
    socket.on("error", () => socket.destroy())
    socket.on("data", () => socket.write(`${name}\n`))
    socket.write(`${name}\n`)
  }).listen(port, "::")
}

const sockets = new Map<string, dgram.Socket>()

/** Host addresses are VIPs; addresses inside a subnet belong to the pod. */
const vips = (): ReadonlyArray<string> =>
  Object.values(os.networkInterfaces()).flat()
    .filter((entry) => entry !== undefined && !entry.internal && /\/(32|128)$/.test(entry.cidr ?? ""))
    .map((entry) => entry?.address ?? "")

const follow = (): void => {
  const wanted = new Set(vips().flatMap((address) => ports("udp").map((port) => `${address} ${port}`)))
  for (const [key, socket] of sockets) {
    if (!wanted.has(key)) {
      sockets.delete(key)
      socket.close()
    }
  }
  for (const key of wanted) {
    if (sockets.has(key)) continue
    const [address = "", port = ""] = key.split(" ")
    const socket = dgram.createSocket(address.includes(":") ? "udp6" : "udp4")
    sockets.set(key, socket)
    socket.on("message", (_data, from) => socket.send(`${name}\n`, from.port, from.address))
    // The address may be gone again before it is bound; the next notification tries anew.
    socket.on("error", () => sockets.delete(key))
    socket.bind(Number(port), address)
  }
}

const monitor: ChildProcess = spawn("ip", ["monitor", "address"], { stdio: ["ignore", "pipe", "ignore"] })
monitor.stdout?.on("data", follow)
follow()

const end = (): void => {
  monitor.kill()
  process.exit(0)
}
process.on("SIGTERM", end)
process.on("SIGINT", end)
