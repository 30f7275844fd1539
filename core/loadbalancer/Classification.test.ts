import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Specimen from "../../property-tests/loadbalancer/Specimen.ts"
import type { Flow, PortRange } from "../config/Model.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Classification from "./Classification.ts"

interface Packet {
  readonly destination: Cidr.Cidr
  readonly source: Cidr.Cidr
  readonly protocol: "tcp" | "udp" | "sctp" | "other"
  readonly destinationPort: number
  readonly sourcePort: number
  readonly bytesMatch: boolean
}

const Packets = Schema.Struct({
  v6: Schema.Boolean,
  destination: Schema.Literals([0, 1, 2]),
  source: Schema.Literals([0, 1, 2]),
  protocol: Schema.Literals(["tcp", "udp", "sctp", "other"]),
  destinationPort: Schema.Literals([0, 79, 80, 90, 100, 150, 200, 201, 202, 65_535]),
  sourcePort: Schema.Literals([0, 80, 100, 150, 201, 5_000]),
  bytesMatch: Schema.Boolean
})

const addresses = {
  v4: {
    destination: ["20.0.0.1/32", "20.0.0.3/32", "20.0.0.4/32"],
    source: ["10.1.2.3/32", "10.2.0.1/32", "192.0.2.7/32"]
  },
  v6: {
    destination: ["2000::1/128", "2000::5/128", "2000:1::/128"],
    source: ["2001:db8::1/128", "fd00::1/128", "::1/128"]
  }
}

const numbers: { readonly [protocol: string]: number } = { ...Classification.protocolNumbers, other: 47 }

const packetOf = (one: typeof Packets.Type): Packet => {
  const { destination, source } = addresses[one.v6 ? "v6" : "v4"]
  return {
    ...one,
    destination: Cidr.unsafe(destination[one.destination] ?? ""),
    source: Cidr.unsafe(source[one.source] ?? "")
  }
}

const inRanges = (ranges: ReadonlyArray<PortRange>, port: number): boolean =>
  ranges.length === 0 || ranges.some(({ from, to }) => from <= port && port <= to)

/** The naive way: flows by priority, one test after the other. */
const naive = (flows: ReadonlyArray<Flow>, packet: Packet, isPing: boolean): string | undefined =>
  flows.toSorted((a, b) => b.priority - a.priority || (a.name < b.name ? -1 : 1)).find((flow) =>
    flow.vips.some(({ address }) => Cidr.contains(address, packet.destination))
    && (flow.sourceSubnets.length === 0 || flow.sourceSubnets.some((subnet) => Cidr.contains(subnet, packet.source)))
    && (isPing || (
      (flow.protocols.length === 0 || flow.protocols.some((protocol) => protocol === packet.protocol))
      && inRanges(flow.destinationPorts, packet.destinationPort)
      && inRanges(flow.sourcePorts, packet.sourcePort)
      && (flow.byteMatches.length === 0 || packet.bytesMatch)
    ))
  )?.stream.stream

const boxHas = (box: Classification.Box, packet: Packet, isPing: boolean): boolean =>
  Cidr.contains(box.destination, packet.destination) && Cidr.contains(box.source, packet.source)
  && (isPing || (
    inRanges([box.protocol], numbers[packet.protocol] ?? -1) && inRanges([box.destinationPort], packet.destinationPort)
    && inRanges([box.sourcePort], packet.sourcePort)
  ))

/** What nftables does with the layers; more than one hit in a layer is what it cannot do. */
const layered = (
  layers: ReadonlyArray<ReadonlyArray<Classification.Entry>>,
  packet: Packet,
  isPing: boolean
): string | undefined => {
  for (const layer of layers) {
    const hits = layer.filter((entry) => boxHas(entry, packet, isPing))
    assert.isAtMost(hits.length, 1)
    const [hit] = hits
    if (!isPing) {
      const found = Classification.lookups(layer).flatMap(({ boxes }) =>
        boxes.filter((box) => boxHas(box, packet, false))
      )
      assert.deepStrictEqual(found.map(({ flow }) => flow), hits.map(({ flow }) => flow))
    }
    if (hit !== undefined && (hit.bytes.length === 0 || packet.bytesMatch)) return hit.stream
  }
  return undefined
}

const flow = (name: string, priority: number, destinationPorts: ReadonlyArray<PortRange>): Flow => ({
  name,
  stream: { trench: "t", conduit: "c", stream: "s" },
  vips: Specimen.vips.slice(0, 1),
  sourceSubnets: [],
  sourcePorts: [],
  destinationPorts,
  protocols: ["tcp"],
  byteMatches: [],
  priority
})

const lookups = (...ports: ReadonlyArray<ReadonlyArray<PortRange>>) =>
  Classification.lookups(
    Classification.layers(ports.map((each, n) => flow(`flow-${n}`, 10, each)), "v4", "transport").flat()
  ).map(({ boxes, fields, isExact }) => [isExact, fields.join(), boxes.length])

describe("Classification", () => {
  it.prop(
    "23: chooses the flow that asking one after the other chooses, in any order of the flows",
    { flows: Specimen.flows, packets: Schema.Array(Packets) },
    ({ flows, packets }) => {
      for (const packet of packets.map(packetOf)) {
        for (const kind of ["transport", "ping"] as const) {
          const layers = Classification.layers(flows, Cidr.family(packet.destination), kind)
          assert.deepStrictEqual(
            Classification.layers(flows.toReversed(), Cidr.family(packet.destination), kind),
            layers
          )
          const isPing = kind === "ping"
          assert.strictEqual(layered(layers, packet, isPing), naive(flows, packet, isPing))
        }
      }
    },
    { arbitrary: { runs: 500 } }
  )

  it("looks most flows up in one hash, and those with wide ranges or prefixes as intervals", () => {
    const key = "destinationPort,protocol,destination"
    assert.deepStrictEqual(lookups([{ from: 80, to: 80 }], [{ from: 90, to: 99 }]), [[true, key, 11]])
    assert.deepStrictEqual(lookups([{ from: 80, to: 80 }], [{ from: 1_000, to: 2_000 }]), [[true, key, 1], [
      false,
      key,
      1
    ]])
    assert.deepStrictEqual(lookups([]), [[true, "protocol,destination", 1]])
  })

  it("needs one layer for any number of flows that do not compete, and one more for what catches the rest", () => {
    const flows = Array.from({ length: 100 }, (_, n) => flow(`flow-${n}`, 10, [{ from: n * 10, to: n * 10 + 9 }]))
    assert.deepStrictEqual(Classification.layers(flows, "v4", "transport").map((layer) => layer.length), [100])
    assert.deepStrictEqual(Classification.layers(flows, "v4", "ping").map((layer) => layer.length), [1])
    assert.deepStrictEqual(
      Classification.layers([...flows, flow("rest", 1, [])], "v4", "transport").map((layer) => layer.length),
      [100, 1]
    )
    assert.deepStrictEqual(
      Classification.layers([...flows, flow("all", 100, [])], "v4", "transport").map((layer) => layer.length),
      [1]
    )
    assert.deepStrictEqual(Classification.layers([{ ...flow("none", 1, []), vips: [] }], "v4", "transport"), [])
  })
})
