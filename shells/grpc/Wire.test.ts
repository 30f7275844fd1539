import { assert, describe, it } from "@effect/vitest"
import * as ambassador from "../../proto/gen/api/ambassador/v1/tap.ts"
import * as ipam from "../../proto/gen/api/ipam/v1/ipam.ts"
import * as loadbalancer from "../../proto/gen/api/loadbalancer/v1/stream.ts"
import * as configuration from "../../proto/gen/api/nsp/v1/configurationmanager.ts"
import * as model from "../../proto/gen/api/nsp/v1/model.ts"
import * as registry from "../../proto/gen/api/nsp/v1/targetregistry.ts"
import * as connection from "../../proto/gen/connection.ts"
import * as context from "../../proto/gen/connectioncontext.ts"
import * as health from "../../proto/gen/grpc/health/v1/health.ts"
import * as networkservice from "../../proto/gen/networkservice.ts"
import * as nsm from "../../proto/gen/registry.ts"
import * as Definition from "./Definition.ts"

// The wire format of protocol buffers written out by hand, so that the numbers below are the contract.
type Bytes = ReadonlyArray<number>
const varint = (n: number): Bytes => n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)]
const bytes = (no: number, content: Bytes): Bytes => [...varint(no * 8 + 2), ...varint(content.length), ...content]
/** A number, boolean or enum in a field. */
const n = (no: number, value: number): Bytes => [...varint(no * 8), ...varint(value)]
/** A text in a field. */
const s = (no: number, text: string): Bytes => bytes(no, [...new TextEncoder().encode(text)])
/** A message in a field. */
const m = (no: number, ...fields: ReadonlyArray<Bytes>): Bytes => bytes(no, fields.flat())
/** One entry of a map from text to text. */
const e = (no: number, key: string, value: string): Bytes => m(no, s(1, key), s(2, value))

const agree = <A>(codec: Definition.Codec<A>, message: A, ...fields: ReadonlyArray<Bytes>): void => {
  const golden = fields.flat()
  assert.deepStrictEqual([...codec.encode(message).finish()], golden)
  assert.deepStrictEqual(codec.decode(Uint8Array.from(golden)), message)
}

const paths = (definition: Definition.Definition): ReadonlyArray<string> =>
  Object.values(definition.methods).map((method) =>
    `${Definition.path(definition, method)}${method.responseStream ? " stream" : ""}`
  )

describe("the wire", () => {
  it("of ambassador.v1 is Meridio's", () => {
    const stream = { name: "s", conduit: { name: "c", trench: { name: "t" } } }
    const golden = [s(1, "s"), m(2, s(1, "c"), m(2, s(1, "t")))]
    agree(ambassador.Stream, stream, ...golden)
    agree(
      ambassador.StreamResponse,
      { streamStatus: [{ status: 3, stream }, { status: 0, stream }] },
      m(1, n(1, 3), m(2, ...golden)),
      m(1, m(2, ...golden))
    )
    assert.deepStrictEqual(ambassador.StreamStatus_Status, { OPEN: 0, PENDING: 1, UNAVAILABLE: 2, UNDEFINED: 3 })
    assert.deepStrictEqual(paths(ambassador.TapDefinition), [
      "/ambassador.v1.Tap/Open",
      "/ambassador.v1.Tap/Close",
      "/ambassador.v1.Tap/Watch stream"
    ])
  })

  it("of the model of nsp.v1 is Meridio's", () => {
    const trench = { name: "t" }
    const vip = { name: "v", address: "20.0.0.1/32", trench }
    const vipGolden = [s(1, "v"), s(2, "20.0.0.1/32"), m(3, s(1, "t"))]
    const destinationPortNats = [{ port: 80, targetPort: 8080, vips: [vip], protocol: "tcp" }]
    agree(
      model.Conduit,
      { name: "c", trench, destinationPortNats },
      s(1, "c"),
      m(2, s(1, "t")),
      m(3, n(1, 80), n(2, 8080), m(3, ...vipGolden), s(4, "tcp"))
    )
    const stream = { name: "s", conduit: { name: "c", trench, destinationPortNats: [] }, maxTargets: 100 }
    const streamGolden = [s(1, "s"), m(2, s(1, "c"), m(2, s(1, "t"))), n(3, 100)]
    agree(
      model.Flow,
      {
        name: "f",
        sourceSubnets: ["10.0.0.0/8"],
        destinationPortRanges: ["80-90"],
        sourcePortRanges: ["any"],
        protocols: ["tcp", "udp"],
        priority: 1000,
        stream,
        vips: [vip],
        byteMatches: ["tcp[4 : 2] = 8080"]
      },
      s(1, "f"),
      s(2, "10.0.0.0/8"),
      s(3, "80-90"),
      s(4, "any"),
      s(5, "tcp"),
      s(5, "udp"),
      n(6, 1000),
      m(7, ...streamGolden),
      m(8, ...vipGolden),
      s(10, "tcp[4 : 2] = 8080")
    )
    const gateway = {
      name: "g",
      address: "169.254.100.254",
      ipFamily: "ipv4",
      protocol: "bgp",
      remoteASN: 4248829953,
      localASN: 8103,
      remotePort: 10179,
      localPort: 10180,
      holdTime: 24,
      bfd: true,
      bfdSpec: { MinTx: 300, MinRx: 301, Multiplier: 3 },
      trench,
      bgpAuth: { keyName: "k", keySource: "secret" }
    }
    const gatewayGolden = [
      s(1, "g"),
      s(2, "169.254.100.254"),
      s(3, "ipv4"),
      s(4, "bgp"),
      // Above 2^31, as private autonomous systems are.
      n(5, 4248829953),
      n(6, 8103),
      n(7, 10179),
      n(8, 10180),
      n(9, 24),
      n(10, 1),
      m(11, n(1, 300), n(2, 301), n(3, 3)),
      m(12, s(1, "t")),
      m(13, s(1, "k"), s(2, "secret"))
    ]
    agree(
      model.Attractor,
      { name: "a", trench, vips: [vip], gateways: [gateway] },
      s(1, "a"),
      m(2, s(1, "t")),
      m(3, ...vipGolden),
      m(4, ...gatewayGolden)
    )
    agree(model.TrenchResponse, { trench }, m(1, s(1, "t")))
    agree(model.StreamResponse, { streams: [stream] }, m(1, ...streamGolden))
    agree(model.VipResponse, { vips: [vip] }, m(1, ...vipGolden))
    agree(model.GatewayResponse, { gateways: [gateway] }, m(1, ...gatewayGolden))
    const one = [m(1, s(1, "x"))]
    agree(model.ConduitResponse, { conduits: [model.Conduit.fromPartial({ name: "x" })] }, ...one)
    agree(model.FlowResponse, { flows: [model.Flow.fromPartial({ name: "x" })] }, ...one)
    agree(model.AttractorResponse, { attractors: [model.Attractor.fromPartial({ name: "x" })] }, ...one)
  })

  it("of the services of nsp.v1 is Meridio's", () => {
    agree(
      registry.TargetResponse,
      {
        targets: [{
          ips: ["172.16.0.2/24", "fd00::2/64"],
          context: { identifier: "7" },
          status: 2,
          type: 1,
          stream: { name: "s", conduit: undefined, maxTargets: 0 }
        }]
      },
      m(1, s(1, "172.16.0.2/24"), s(1, "fd00::2/64"), e(2, "identifier", "7"), n(3, 2), n(4, 1), m(5, s(1, "s")))
    )
    assert.deepStrictEqual(registry.Target_Status, { ENABLED: 0, DISABLED: 1, ANY: 2 })
    assert.deepStrictEqual(registry.Target_Type, { DEFAULT: 0, FRONTEND: 1 })
    assert.deepStrictEqual(paths(registry.TargetRegistryDefinition), [
      "/nsp.v1.TargetRegistry/Register",
      "/nsp.v1.TargetRegistry/Unregister",
      "/nsp.v1.TargetRegistry/Watch stream"
    ])
    assert.deepStrictEqual(
      paths(configuration.ConfigurationManagerDefinition),
      ["Trench", "Conduit", "Stream", "Flow", "Vip", "Attractor", "Gateway"].map((kind) =>
        `/nsp.v1.ConfigurationManager/Watch${kind} stream`
      )
    )
  })

  it("of ipam.v1 and loadbalancer.v1 is Meridio's", () => {
    const conduit = { name: "c", trench: { name: "t" }, destinationPortNats: [] }
    agree(
      ipam.Child,
      { name: "child", subnet: { conduit, node: "worker", ipFamily: 1 } },
      s(1, "child"),
      m(2, m(1, s(1, "c"), m(2, s(1, "t"))), s(2, "worker"), n(3, 1))
    )
    agree(ipam.Prefix, { address: "172.16.0.1", prefixLength: 24 }, s(1, "172.16.0.1"), n(2, 24))
    assert.deepStrictEqual(paths(ipam.IpamDefinition), ["/ipam.v1.Ipam/Allocate", "/ipam.v1.Ipam/Release"])
    agree(
      loadbalancer.Response,
      { targets: [{ context: { identifier: "lb-0" }, stream: undefined }] },
      m(1, e(1, "identifier", "lb-0"))
    )
    assert.deepStrictEqual(paths(loadbalancer.StreamAvailabilityServiceDefinition), [
      "/loadbalancer.v1.StreamAvailabilityService/Watch stream"
    ])
  })

  it("of connections is Network Service Mesh's", () => {
    const ipContext: context.IPContext = {
      srcIpAddrs: ["a"],
      dstIpAddrs: ["b"],
      srcIpRequired: true,
      dstIpRequired: true,
      srcRoutes: [{ prefix: "p", nextHop: "h" }],
      dstRoutes: [{ prefix: "q", nextHop: "" }],
      excludedPrefixes: ["e"],
      ipNeighbors: [{ ip: "i", hardwareAddress: "m" }],
      extraPrefixRequest: [{ addrFamily: { family: 1 }, prefixLen: 64, requiredNumber: 1, requestedNumber: 2 }],
      extraPrefixes: ["x"],
      policies: [{ from: "f", proto: "6", dstPort: "80", srcPort: "1-2", routes: [{ prefix: "r", nextHop: "n" }] }]
    }
    const ipGolden = [
      s(1, "a"),
      s(2, "b"),
      n(3, 1),
      n(4, 1),
      m(5, s(1, "p"), s(2, "h")),
      m(6, s(1, "q")),
      s(7, "e"),
      m(8, s(1, "i"), s(2, "m")),
      m(9, m(1, n(1, 1)), n(2, 64), n(3, 1), n(4, 2)),
      s(10, "x"),
      m(11, s(1, "f"), s(2, "6"), s(3, "80"), s(4, "1-2"), m(5, s(1, "r"), s(2, "n")))
    ]
    const full: connection.Connection = {
      id: "id",
      networkService: "ns",
      mechanism: { cls: "LOCAL", type: "KERNEL", parameters: { name: "nsm-0" } },
      context: {
        ipContext,
        dnsContext: { configs: [{ dnsServerIps: ["d"], searchDomains: ["s"] }] },
        ethernetContext: { srcMac: "sm", dstMac: "dm", vlanTag: 7 },
        extraContext: { k: "v" },
        MTU: 1500
      },
      labels: { nodeName: "worker" },
      path: {
        index: 1,
        pathSegments: [{
          name: "n",
          id: "i",
          token: "t",
          expires: { seconds: 300n, nanos: 5 },
          metrics: { client_interface: "KERNEL/nsm-0" }
        }]
      },
      networkServiceEndpointName: "nse",
      payload: "ETHERNET",
      state: 3
    }
    const golden = [
      s(1, "id"),
      s(2, "ns"),
      m(3, s(1, "LOCAL"), s(2, "KERNEL"), e(3, "name", "nsm-0")),
      m(
        4,
        m(1, ...ipGolden),
        m(2, m(1, s(1, "d"), s(2, "s"))),
        m(3, s(1, "sm"), s(2, "dm"), n(3, 7)),
        e(4, "k", "v"),
        n(5, 1500)
      ),
      e(5, "nodeName", "worker"),
      m(
        6,
        n(1, 1),
        m(2, s(1, "n"), s(2, "i"), s(3, "t"), m(4, n(1, 300), n(2, 5)), e(5, "client_interface", "KERNEL/nsm-0"))
      ),
      s(7, "nse"),
      s(8, "ETHERNET"),
      n(9, 3)
    ]
    agree(connection.Connection, full, ...golden)
    agree(
      networkservice.NetworkServiceRequest,
      { connection: full, mechanismPreferences: [{ cls: "LOCAL", type: "KERNEL", parameters: {} }] },
      m(1, ...golden),
      m(2, s(1, "LOCAL"), s(2, "KERNEL"))
    )
    agree(
      connection.ConnectionEvent,
      { type: 2, connections: { id: full } },
      n(1, 2),
      m(2, s(1, "id"), m(2, ...golden))
    )
    agree(
      connection.MonitorScopeSelector,
      {
        pathSegments: [{ name: "", id: "i", token: "", expires: undefined, metrics: {} }],
        networkServices: ["ns"]
      },
      m(1, s(2, "i")),
      s(2, "ns")
    )
    assert.deepStrictEqual(connection.State, { UP: 0, DOWN: 1, REFRESH_REQUESTED: 2, RESELECT_REQUESTED: 3 })
    assert.deepStrictEqual(connection.ConnectionEventType, { INITIAL_STATE_TRANSFER: 0, UPDATE: 1, DELETE: 2 })
    assert.deepStrictEqual(
      [...paths(networkservice.NetworkServiceDefinition), ...paths(connection.MonitorConnectionDefinition)],
      [
        "/networkservice.NetworkService/Request",
        "/networkservice.NetworkService/Close",
        "/connection.MonitorConnection/MonitorConnections stream"
      ]
    )
  })

  it("of the registry is Network Service Mesh's", () => {
    agree(
      nsm.NetworkServiceResponse,
      {
        networkService: {
          name: "ns",
          payload: "ETHERNET",
          matches: [{
            sourceSelector: { a: "b" },
            routes: [{ destinationSelector: { c: "d" }, weight: 2 }],
            fallthrough: true,
            metadata: { labels: { e: "f" } }
          }],
          pathIds: ["spiffe://x"]
        },
        deleted: true
      },
      m(
        1,
        s(1, "ns"),
        s(2, "ETHERNET"),
        m(3, e(1, "a", "b"), m(2, e(1, "c", "d"), n(2, 2)), n(3, 1), m(4, e(1, "e", "f"))),
        s(4, "spiffe://x")
      ),
      n(2, 1)
    )
    agree(
      nsm.NetworkServiceEndpointQuery,
      {
        networkServiceEndpoint: {
          name: "nse",
          networkServiceNames: ["ns"],
          networkServiceLabels: { ns: { labels: { g: "h" } } },
          url: "tcp://1.2.3.4:5",
          expirationTime: { seconds: 1n, nanos: 2 },
          initialRegistrationTime: { seconds: 3n, nanos: 4 },
          pathIds: ["p"]
        },
        watch: true
      },
      m(
        1,
        s(1, "nse"),
        s(2, "ns"),
        m(3, s(1, "ns"), m(2, e(1, "g", "h"))),
        s(4, "tcp://1.2.3.4:5"),
        m(5, n(1, 1), n(2, 2)),
        m(6, n(1, 3), n(2, 4)),
        s(7, "p")
      ),
      n(2, 1)
    )
    const kinds = ["Service", "ServiceEndpoint"].flatMap((kind) =>
      ["Register", "Find stream", "Unregister"].map((method) => `/registry.Network${kind}Registry/${method}`)
    )
    assert.deepStrictEqual(
      [...paths(nsm.NetworkServiceRegistryDefinition), ...paths(nsm.NetworkServiceEndpointRegistryDefinition)],
      kinds
    )
  })

  it("of health is gRPC's", () => {
    agree(health.HealthCheckRequest, { service: "Readiness" }, s(1, "Readiness"))
    agree(health.HealthCheckResponse, { status: 2 }, n(1, 2))
    assert.deepStrictEqual(paths(health.HealthDefinition), [
      "/grpc.health.v1.Health/Check",
      "/grpc.health.v1.Health/Watch stream"
    ])
  })
})
