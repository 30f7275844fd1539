import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import * as path from "node:path"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import * as Interfaces from "./Interfaces.ts"
import * as Metrics from "./Metrics.ts"

const sample: Metrics.Sample = {
  name: "meridio.attractor.gateway.imported.routes",
  kind: "Gauge",
  description: "Routes.",
  labels: { gateway: "a\"b" },
  value: 3
}

const get = (port: number, where = "/metrics") =>
  Effect.promise(async () => {
    const answer = await fetch(`http://127.0.0.1:${port}${where}`)
    return { status: answer.status, type: answer.headers.get("content-type"), body: await answer.text() }
  })

describe("Metrics", () => {
  it.effect("have the names of the original", () =>
    Effect.gen(function*() {
      const counter = { ...sample, name: "meridio.interface.rx_bytes", kind: "Counter", value: 17 } as const
      assert.strictEqual(
        yield* Metrics.text([sample, { ...sample, labels: { gateway: "c" } }, counter]),
        `# HELP target_info Target metadata
# TYPE target_info gauge
target_info{service_name="meridio",service_version="v1.0.0"} 1
# HELP meridio_attractor_gateway_imported_routes Routes.
# TYPE meridio_attractor_gateway_imported_routes gauge
meridio_attractor_gateway_imported_routes{gateway="a\\"b"} 3
meridio_attractor_gateway_imported_routes{gateway="c"} 3
# HELP meridio_interface_rx_bytes_total Routes.
# TYPE meridio_interface_rx_bytes_total counter
meridio_interface_rx_bytes_total{gateway="a\\"b"} 17
`
      )
    }))

  it.live("are collected when they are asked for", () =>
    Effect.gen(function*() {
      let value = 1
      const collect = Effect.suspend(() => value < 0 ? Effect.fail("broken") : Effect.succeed([{ ...sample, value }]))
      const port = yield* Metrics.serve({ port: 0, collect })
      const first = yield* get(port)
      assert.strictEqual(first.type, "text/plain; version=0.0.4; charset=utf-8")
      assert.match(first.body, /imported_routes\{gateway="a\\"b"\} 1\n/)
      value = 2
      assert.match((yield* get(port)).body, /imported_routes\{gateway="a\\"b"\} 2\n/)
      value = -1
      assert.strictEqual((yield* get(port)).status, 500)
      assert.strictEqual((yield* get(port, "/")).status, 404)
      const taken = yield* Effect.flip(Metrics.serve({ port, collect }))
      assert.match(taken.message, /^metrics on port \d+: .*EADDRINUSE/)
    }))

  it.live("count what the wanted interfaces carry while they are up", () =>
    Effect.gen(function*() {
      const namespace = yield* Namespace.scoped(`sl-met-${process.pid}`)
      const netlink = yield* Netlink.make(namespace)
      const ip = (...words: ReadonlyArray<string>) => execFileSync("ip", ["-n", path.basename(namespace), ...words])
      ip("link", "add", "name", "eth-a", "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "eth-b")
      ip("address", "add", "10.0.0.1/24", "dev", "eth-a")
      ip("address", "add", "fd00::1/64", "dev", "eth-a", "nodad")
      const collect = Effect.provideService(
        Interfaces.collect((link) => link === "eth-a", { trench: "t" }),
        Netlink.Netlink,
        netlink
      )
      assert.deepStrictEqual(yield* collect, [], "a link that is down has no counters")
      ip("link", "set", "eth-b", "up")
      ip("link", "set", "eth-a", "up")
      const ping = ["--net=" + namespace, "ping", "-c", "2", "-i", "0.01", "-W", "0.05", "-q", "10.0.0.9"]
      assert.throws(() => execFileSync("nsenter", ping, { stdio: "ignore" }), /Command failed/)
      const samples = yield* collect
      assert.strictEqual(samples.length, 8)
      const sent = samples.find(({ name }) => name === "meridio.interface.tx_packets")
      assert.deepStrictEqual(sent?.labels, {
        interface_name: "eth-a",
        mac_address: "02:00:00:00:00:01",
        ips: "[\"10.0.0.1/24\",\"fd00::1/64\"]",
        trench: "t"
      })
      const shown = execFileSync("ip", ["-n", path.basename(namespace), "-j", "-s", "link", "show", "eth-a"], {
        encoding: "utf8"
      })
      assert.isAbove(sent?.value ?? 0, 0)
      assert.isAtMost(sent?.value ?? 0, Number(/"tx":\{"bytes":\d+,"packets":(\d+)/.exec(shown)?.[1]))
    }))
})
