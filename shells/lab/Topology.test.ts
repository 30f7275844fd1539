import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { parseAllDocuments } from "yaml"
import * as Manifest from "../../core/config/Manifest.ts"
import * as Router from "./Router.ts"
import * as RouterBird from "./RouterBird.ts"
import * as RouterFrr from "./RouterFrr.ts"
import * as Topology from "./Topology.ts"

const defaultTrench = fs.readFileSync(new URL("default-trench.yaml", import.meta.url), "utf8")

const layouts = (text: string, size = { targets: 4, nodes: 2 }) => {
  const parsed = parseAllDocuments(text)
  const documents = (Array.isArray(parsed) ? parsed : []).map((document): unknown => document.toJS())
  const manifest = Result.getOrThrow(Manifest.read(documents))
  return manifest.deployments.map((deployment) => Topology.layout(deployment, size))
}

const layout = (text: string) => {
  const [first] = layouts(text)
  assert.isDefined(first)
  return Result.getOrThrow(first)
}

describe("The layout of a trench", () => {
  it("has a frontend for each replica, a proxy for each node and conduit, and targets on alternating nodes", () => {
    const { frontends, proxies, targets } = layout(defaultTrench)
    assert.deepStrictEqual(frontends.map(({ addresses, link, name }) => `${name} ${link} ${addresses.join(" ")}`), [
      "trench-a-attractor-a-0 ext-vlan0 169.254.100.1/24 100:100::1/64",
      "trench-a-attractor-a-1 ext-vlan0 169.254.100.2/24 100:100::2/64"
    ])
    assert.deepStrictEqual(proxies.map(({ node }) => node), ["node-1", "node-2"])
    assert.deepStrictEqual(targets.map(({ node }) => node), ["node-1", "node-2", "node-1", "node-2"])
  })

  it("opens the ports that the flows classify, behind a port translation too", () => {
    const text = defaultTrench.replace(
      "spec:\n  type: stateless-lb",
      `spec:
  type: stateless-lb
  destination-port-nats:
    - port: 4000
      target-port: 8080
      vips: [vip-v4]
      protocol: tcp`
    )
    assert.deepStrictEqual(
      layout(text).services.map(({ port, protocol, targetPort, vip }) =>
        `${vip.name} ${protocol} ${port}>${targetPort}`
      ),
      ["vip-v4 tcp 4000>8080", "vip-v4 udp 4000>4000", "vip-v6 tcp 4000>4000", "vip-v6 udp 4000>4000"]
    )
  })

  it("takes a port inside any range, never 0", () => {
    for (const [range, port] of [["any", 5000], ["0-10", 1], ["6000-7000", 6000], ["4990-5010", 5000]] as const) {
      const { services } = layout(defaultTrench.replace("\"4000\"", `"${range}"`))
      assert.strictEqual(services[0]?.port, port)
    }
  })

  it("leaves out the family that the trench does not have", () => {
    const { families, services } = layout(defaultTrench.replace("ip-family: dualstack", "ip-family: ipv6"))
    assert.deepStrictEqual(families, ["v6"])
    assert.deepStrictEqual([...new Set(services.map(({ vip }) => vip.name))], ["vip-v6"])
  })

  it("gives the client an address in the subnet that a flow asks for", () => {
    const { extraSources, services } = layout(defaultTrench.replace("\"0.0.0.0/0\"", "\"10.1.0.0/16\""))
    assert.strictEqual(extraSources.join(), "10.1.0.10/32")
    assert.deepStrictEqual(services.map(({ source }) => source), ["10.1.0.10", "10.1.0.10", undefined, undefined])
  })

  it("refuses a gateway outside of the external network, and says which", () => {
    const [first] = layouts(defaultTrench.replace("address: 169.254.100.150", "address: 10.0.0.1"))
    assert.isTrue(first !== undefined && Result.isFailure(first) && first.failure.message.includes("10.0.0.1"))
  })
})

describe("The gateway of the lab", () => {
  const withStatic = defaultTrench.replace(
    /protocol: bgp\n {2}bgp:\n {4}local-asn[^-]*?remote-asn[\s\S]*?hold-time: 24s\n {4}bfd:/,
    "protocol: static\n  static:\n    bfd:"
  )

  it("peers with every frontend as the gateway objects say", () => {
    assert.deepStrictEqual(
      Router.peers(layout(defaultTrench)).map(({ local, localAsn, localPort, remote, remoteAsn }) =>
        `${local}:${localPort} as ${localAsn} with ${remote} as ${remoteAsn}`
      ),
      [
        "169.254.100.150:10179 as 4248829953 with 169.254.100.1 as 8103",
        "100:100::150:10179 as 4248829953 with 100:100::1 as 8103",
        "169.254.100.150:10179 as 4248829953 with 169.254.100.2 as 8103",
        "100:100::150:10179 as 4248829953 with 100:100::2 as 8103"
      ]
    )
  })

  it.skipIf(!fs.existsSync("/usr/sbin/bird"))(
    "writes a configuration that BIRD takes, for BGP and static gateways",
    () => {
      assert.isTrue(withStatic.includes("static:"))
      for (const text of [defaultTrench, withStatic]) {
        const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-gateway-"))
        try {
          fs.writeFileSync(path.join(folder, "bird.conf"), RouterBird.config(layout(text)))
          execFileSync("/usr/sbin/bird", ["-p", "-c", path.join(folder, "bird.conf")])
        } finally {
          fs.rmSync(folder, { recursive: true })
        }
      }
    }
  )

  it("gives FRR a neighbour for each frontend and BFD to a static one", () => {
    const bgp = RouterFrr.config(Router.peers(layout(defaultTrench)))
    assert.include(bgp, "neighbor 169.254.100.2 bfd 5 300 300")
    const mixed = RouterFrr.config(Router.peers(layout(withStatic)))
    assert.include(mixed, "ip route 20.0.0.1/32 169.254.100.1 ext0")
    assert.include(mixed, " peer 169.254.100.1 local-address 169.254.100.150 interface ext0")
  })
})
