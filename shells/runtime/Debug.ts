/**
 * What `--debug` prints: one line of JSON about the machine as the process sees it, with the keys of Meridio pkg/debug.
 * Of the environment it shows the variables of the program only, with secrets hidden.
 */
import { Effect } from "effect"
import { readdir, readFile, readlink } from "node:fs/promises"
import * as os from "node:os"
import { basename } from "node:path"
import { Kernel } from "../../core/net/index.ts"
import { version } from "./Version.ts"

/** The report, ready to be printed. */
export const report = async (environment: { readonly [name: string]: string }): Promise<string> => {
  const links = await interfaces()
  const indexOf = (name: string | undefined) => links.find((link) => link.name === name)?.index ?? 0
  const { neighbours, routes, rules } = await snapshot()
  return JSON.stringify({
    version: "v0.0.1",
    "meridio-version": version,
    "unix-time": Math.floor(Date.now() / 1000),
    "network-interfaces": links,
    rules: rules.map(({ from, mark, priority, table }) => ({
      table,
      priority,
      mark: mark ?? 0,
      source: from ?? "",
      destination: ""
    })),
    route: routes.map(({ destination, hops, table }) => ({
      table,
      "interface-index": indexOf(hops[0]?.link),
      destination,
      nexthops: hops.map(({ via }) => via ?? ""),
      gateway: hops.length === 1 ? hops[0]?.via ?? "" : ""
    })),
    neighbors: neighbours.map(({ ip, link, mac, permanent }) => ({
      ip,
      mac: mac ?? "",
      state: permanent ? "permanent" : "dynamic",
      "interface-index": indexOf(link)
    })),
    system: {
      "cpu-info": os.cpus().map(({ model, speed }) => ({ model, "speed-mhz": speed })),
      "host-info": { hostname: os.hostname(), os: os.type(), kernel: os.release(), architecture: os.machine() }
    },
    "environment-variables": environment
  })
}

/** What the kernel tells; nothing if it cannot be asked, as a report is better than none. */
const snapshot = async (): Promise<Kernel.Snapshot> => {
  const { Netlink } = await import("../netlink/Netlink.ts")
  const read = Effect.flatMap(Netlink, (netlink) => netlink.snapshot).pipe(Effect.provide(Netlink.layer))
  return Effect.runPromise(Effect.orElseSucceed(read, () => Kernel.empty))
}

const root = "/sys/class/net"

const interfaces = async () => {
  const names = await readdir(root).catch(() => [])
  const addresses = os.networkInterfaces()
  const all = await Promise.all(
    names.map(async (name) => ({
      index: Number(await read(name, "ifindex")),
      name,
      mac: await read(name, "address"),
      ips: (addresses[name] ?? []).map(({ cidr }) => cidr),
      mtu: Number(await read(name, "mtu")),
      up: (Number(await read(name, "flags")) & 1) === 1,
      "master-index": await masterIndex(name),
      statistics: await statistics(name)
    }))
  )
  return all.toSorted((one, other) => one.index - other.index)
}

const read = (name: string, file: string): Promise<string> =>
  readFile(`${root}/${name}/${file}`, "utf8").then((text) => text.trim(), () => "")

const masterIndex = async (name: string): Promise<number> => {
  const master = await readlink(`${root}/${name}/master`).catch(() => undefined)
  return master === undefined ? 0 : Number(await read(basename(master), "ifindex"))
}

const statistics = async (name: string) => {
  const counters = ["rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped"]
  const values = await Promise.all(
    [...counters, "tx_dropped"].map(async (counter) => [
      counter.replace("_", "-"),
      Number(await read(name, `statistics/${counter}`))
    ])
  )
  return Object.fromEntries(values)
}
