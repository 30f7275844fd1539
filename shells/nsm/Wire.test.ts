import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { Cidr, Ip } from "../../core/net/index.ts"
import * as Model from "../../core/nsm/Model.ts"
import * as C from "../../proto/gen/connection.ts"
import * as R from "../../proto/gen/registry.ts"
import * as Wire from "./Wire.ts"

const throughConnection = (connection: Model.Connection): Model.Connection =>
  Wire.connectionFrom(C.Connection.decode(C.Connection.encode(Wire.connectionTo(connection)).finish()))

describe("Wire", () => {
  it.prop(
    "brings every connection through bytes as it was",
    { connection: Model.Connection },
    ({ connection: generated }) => {
      const connection = wellFormed(generated)
      const exact: Model.Connection = {
        ...connection,
        context: {
          ...connection.context,
          mtu: connection.context.mtu % 2 ** 32,
          ...(connection.context.ethernet === undefined ? {} : {
            ethernet: { ...connection.context.ethernet, vlan: 7 }
          }),
          ip: {
            ...connection.context.ip,
            extraPrefixRequests: [],
            policies: connection.context.ip.policies.map(({ from, routes }) => ({
              ...(from === undefined ? {} : { from }),
              routes
            }))
          }
        },
        path: {
          index: connection.path.index % 2 ** 32,
          // The identity is what the token says, and these say nothing.
          segments: connection.path.segments.map(({ id, metrics, name, token }, i) => ({
            id,
            metrics,
            name,
            token,
            expiresAt: 1_001 * i
          }))
        }
      }
      assert.deepStrictEqual(throughConnection(exact), exact)
    }
  )

  it("reads an empty message as the empty connection", () => {
    assert.deepStrictEqual(Wire.connectionFrom(C.Connection.decode(new Uint8Array())), Model.connection("", ""))
  })

  it("skips what it cannot read, and never widens a policy", () => {
    const message = Wire.connectionTo(Model.connection("a", "b"))
    const policy = { from: "nonsense", proto: "", dstPort: "", srcPort: "", routes: [] }
    const ipContext = message.context?.ipContext
    if (ipContext === undefined) return assert.fail("an ip context")
    const { ip } = Wire.connectionFrom({
      ...message,
      context: {
        ...message.context,
        extraContext: {},
        MTU: 0,
        ipContext: {
          ...ipContext,
          srcIpAddrs: ["", "20.0.0.1", "20.0.0.1/32"],
          policies: [policy, { ...policy, from: "20.0.0.1/32", routes: [{ prefix: "0.0.0.0/0", nextHop: "x" }] }]
        }
      }
    }).context
    assert.deepStrictEqual(ip.srcAddrs, [Cidr.unsafe("20.0.0.1/32")])
    assert.deepStrictEqual(ip.policies, [{ from: Cidr.unsafe("20.0.0.1/32"), routes: [] }])
  })

  it("brings registrations through bytes as they were", () => {
    const endpoint: Model.Endpoint = {
      name: "nse",
      networkServices: ["s"],
      labels: { s: { nodeName: "a" } },
      url: "unix:///nse.sock",
      expiresAt: 1_700_000_000_123,
      registeredAt: 1_600_000_000_000
    }
    const bytes = R.NetworkServiceEndpoint.encode(Wire.endpointTo(endpoint)).finish()
    assert.deepStrictEqual(Wire.endpointFrom(R.NetworkServiceEndpoint.decode(bytes)), endpoint)
    const service: Model.NetworkService = {
      name: "s",
      payload: "ETHERNET",
      matches: [{ source: { a: "b" }, destinations: [{ c: "d" }], fallthrough: true, metadata: { p2p: "true" } }]
    }
    const other = R.NetworkService.encode(Wire.serviceTo(service)).finish()
    assert.deepStrictEqual(Wire.serviceFrom(R.NetworkService.decode(other)), service)
  })

  it("writes the fields of a connection where the api has them", () => {
    const connection: Model.Connection = {
      ...Model.connection("i", "s"),
      state: "ReselectRequested",
      context: {
        ...Model.emptyContext,
        mtu: 1400,
        ip: { ...Model.emptyIp, srcAddrs: [Cidr.host(Ip.unsafe("1.2.3.4"))] }
      }
    }
    const hex = Buffer.from(C.Connection.encode(Wire.connectionTo(connection)).finish()).toString("hex")
    // id = 1, network_service = 2, context = 4 { ip_context = 1 { src_ip_addrs = 1 }, MTU = 5 }, path = 6, state = 9.
    assert.strictEqual(hex, "0a016912017322110a0c0a0a312e322e332e342f333228f80a32004803")
  })
})

/** Without lone surrogates, which UTF-8 has not, and without the one key that generated code drops. */
const wellFormed = (connection: Model.Connection): Model.Connection =>
  decode(JSON.parse(JSON.stringify(connection).replaceAll(/\\u[dD][89a-fA-F]..|__proto__/g, "?")))
const decode = Schema.decodeUnknownSync(Model.Connection)
