/** Generated configurations of a load balancer, small enough that flows compete for packets. */
import { Arbitrary, Schema } from "effect"
import type { Flow, PortNat, PortRange, Vip } from "../../core/config/Model.ts"
import { Maglev, type Model } from "../../core/loadbalancer/index.ts"
import { Cidr, Ip } from "../../core/net/index.ts"

const vip = (name: string, address: string): Vip => ({ name, address: Cidr.unsafe(address) })

export const vips: ReadonlyArray<Vip> = [
  vip("v4-a", "20.0.0.1/32"),
  vip("v4-b", "20.0.0.0/30"),
  vip("v6-a", "2000::1/128"),
  vip("v6-b", "2000::/64")
]

export const sources: ReadonlyArray<Cidr.Cidr> = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32", "::/0"]
  .map(Cidr.unsafe)

export const ranges: ReadonlyArray<PortRange> = [
  { from: 0, to: 65_535 },
  { from: 0, to: 100 },
  { from: 80, to: 80 },
  { from: 90, to: 200 },
  { from: 201, to: 201 }
]

const some = <A>(all: ReadonlyArray<A>): Arbitrary.Arbitrary<ReadonlyArray<A>> =>
  Arbitrary.map(
    Arbitrary.schema(Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: all.length - 1 })))),
    (indexes) => [...new Set(indexes.slice(0, 3))].flatMap((index) => all[index] ?? [])
  )

const Details = Schema.Struct({
  stream: Schema.Literals(["s1", "s2", "s3"]),
  priority: Schema.Literals([1, 1, 2, 3]),
  isMatching: Schema.Literals([false, false, false, true])
})

const flow: Arbitrary.Arbitrary<Omit<Flow, "name">> = Arbitrary.map(
  Arbitrary.all({
    details: Arbitrary.schema(Details),
    vips: some(vips),
    sourceSubnets: some(sources),
    sourcePorts: some(ranges),
    destinationPorts: some(ranges),
    protocols: some(["tcp", "udp", "sctp"] as const)
  }),
  ({ details: { isMatching, priority, stream }, ...rest }) => ({
    ...rest,
    stream: { trench: "t", conduit: "c", stream },
    priority,
    byteMatches: isMatching ? [{ protocol: "tcp", offset: 4, length: 2, mask: 255, value: 5 }] : []
  })
)

/** Flows with names of their own. */
export const flows: Arbitrary.Arbitrary<ReadonlyArray<Flow>> = Arbitrary.map(
  Arbitrary.array(flow, { maxLength: 12 }),
  (all) => all.map((each, n) => ({ ...each, name: `flow-${n}` }))
)

const portNats: ReadonlyArray<PortNat> = [
  { port: 80, targetPort: 8080, protocol: "tcp", vips },
  { port: 81, targetPort: 8080, protocol: "tcp", vips: vips.slice(0, 1) },
  { port: 53, targetPort: 5353, protocol: "udp", vips },
  { port: 7, targetPort: 77, protocol: "sctp", vips: vips.slice(2) }
]

const identifiers = some([1, 2, 3, 4, 5])

export const table = "sluice-lb"

// Every namespace has this link.
const path = (mark: number): Model.FastPath => ({
  externals: ["lo"],
  hops: [
    { mark, ip: Ip.unsafe("172.16.0.1"), link: "lo" },
    { mark, ip: Ip.unsafe("fd00::1"), link: "lo" },
    { mark: 5002, ip: Ip.unsafe("fd00::2"), link: "lo" }
  ]
})

const guards: ReadonlyArray<Pick<Model.Ruleset, "guard">> = [
  {},
  { guard: { linkPrefix: "load-balan-", inside: ["eth0"] } },
  { guard: { linkPrefix: "load-balan-", inside: ["eth0", "eth1"] } }
]

const paths: Arbitrary.Arbitrary<Pick<Model.Ruleset, "fastPath">> = Arbitrary.map(
  Arbitrary.schema(Schema.Literals([0, 1, 2, 3])),
  (kind) =>
    [{}, { fastPath: path(5001) }, { fastPath: path(5003) }, { fastPath: { ...path(5001), longest: 1400 } }][kind] ?? {}
)

/** Rules that a load balancer might want. */
export const rulesets: Arbitrary.Arbitrary<Model.Ruleset> = Arbitrary.map(
  Arbitrary.all({
    flows,
    vips: some(vips),
    nats: some(portNats),
    one: identifiers,
    two: identifiers,
    path: paths,
    guard: Arbitrary.schema(Schema.Literals([0, 1, 2])),
    many: Arbitrary.schema(Schema.Boolean)
  }),
  ({ flows, guard, many, nats, one, path, two, vips }) => ({
    table,
    ...path,
    ...guards[guard],
    flows,
    vips: vips.map(({ address }) => address),
    portNats: nats,
    streams: [
      {
        name: "s1",
        maxTargets: many ? 5 : 3,
        slots: Maglev.size(many ? 5 : 3),
        offset: 5000,
        identifiers: one.filter((n) => many || n < 4)
      },
      ...many ? [{ name: "s2", maxTargets: 5, slots: Maglev.size(5), offset: 5100, identifiers: two }] : []
    ]
  })
)
