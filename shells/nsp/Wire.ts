/**
 * The configured objects on the wire (`nsp.v1`) and back, for the NSP and everybody who watches it.
 *
 * Decoding never fails as a whole: an object that does not fit the model is left out, with a sentence that names object,
 * field and expectation. A bad VIP or gateway inside an object is left out alone; without it the object does less, never
 * something else. Source: Meridio `api/nsp/v1/model.proto`, `pkg/configuration/reader/converter.go`.
 */
import { Result, Schema } from "effect"
import { ByteMatches, Model, Ports } from "../../core/config/index.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import type { Configuration } from "../../core/nsp/index.ts"
import type * as Message from "../../proto/gen/api/nsp/v1/model.ts"

/** What a message held, and a sentence for each object that was left out. */
export interface Decoded<A> {
  readonly values: ReadonlyArray<A>
  readonly rejected: ReadonlyArray<string>
}

/** A decoder of a list of messages. */
type Decode<M, A> = (messages: ReadonlyArray<M>) => Decoded<A>

/** Checks candidates against the model; texts in them have been canonicalised as far as they make sense. */
const decoder = <M extends { readonly name: string }, A>(
  kind: string,
  model: Schema.Codec<A>,
  candidate: (message: M) => { readonly value: unknown; readonly rejected?: ReadonlyArray<string> }
): Decode<M, A> => {
  const decode = Schema.decodeUnknownResult(model, { errors: "all", reportInput: true })
  return (messages) => {
    const values: Array<A> = []
    const rejected: Array<string> = []
    for (const message of messages) {
      const { rejected: inside = [], value } = candidate(message)
      const decoded = decode(value)
      rejected.push(...inside.map((sentence) => `in ${kind} ${message.name}: ${sentence}`))
      if (Result.isSuccess(decoded)) values.push(decoded.success)
      else rejected.push(`${kind} ${message.name}: ${decoded.failure.message.replaceAll(/\s*\n\s*/g, ", ")}`)
    }
    return { values, rejected }
  }
}

const canonical = <A>(parse: (text: string) => Result.Result<A, string>) => (text: string): unknown => {
  const parsed = parse(text)
  return Result.isSuccess(parsed) ? parsed.success : text
}

const network = canonical((text) => Result.map(Cidr.parse(text), Cidr.network))

/** Zero on the wire is absent in the model. */
const nonZero = (fields: { readonly [name: string]: number }) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== 0))

const conduitKey = (message: Message.Conduit | undefined) => ({
  trench: message?.trench?.name ?? "",
  conduit: message?.name ?? ""
})

const streamKey = (message: Message.Stream | undefined) => ({
  ...conduitKey(message?.conduit),
  stream: message?.name ?? ""
})

export const vips: Decode<Message.Vip, Model.Vip> = decoder("vip", Model.Vip, ({ address, name }) => ({
  value: { name, address: network(address) }
}))

export const conduits: Decode<Message.Conduit, Model.Conduit> = decoder("conduit", Model.Conduit, (message) => {
  const nats = message.destinationPortNats.map((nat) => ({ nat, vips: vips(nat.vips) }))
  const portNats = nats.map(({ nat: { port, protocol, targetPort }, vips }) => ({
    port,
    targetPort,
    protocol,
    vips: vips.values
  }))
  return { value: { ...conduitKey(message), portNats }, rejected: nats.flatMap(({ vips }) => vips.rejected) }
})

/** No limit on the wire means the default: an NSP before v0.9.0 does not send it. */
export const streams: Decode<Message.Stream, Model.Stream> = decoder("stream", Model.Stream, (message) => ({
  value: { ...streamKey(message), maxTargets: message.maxTargets === 0 ? Model.defaultMaxTargets : message.maxTargets }
}))

export const flows: Decode<Message.Flow, Model.Flow> = decoder("flow", Model.Flow, (message) => {
  const { rejected, values } = vips(message.vips)
  return {
    value: {
      name: message.name,
      stream: streamKey(message.stream),
      vips: values,
      sourceSubnets: message.sourceSubnets.map(network),
      sourcePorts: message.sourcePortRanges.map(canonical(Ports.parse)),
      destinationPorts: message.destinationPortRanges.map(canonical(Ports.parse)),
      protocols: message.protocols,
      byteMatches: message.byteMatches.map(canonical(ByteMatches.parse)),
      priority: message.priority
    },
    rejected
  }
})

export const gateways: Decode<Message.Gateway, Model.Gateway> = decoder("gateway", Model.Gateway, (message) => {
  const { address, bfdSpec, bgpAuth, name } = message
  const { MinRx = 0, MinTx = 0, Multiplier = 0 } = bfdSpec ?? {}
  const common = {
    _tag: message.protocol === "static" ? "Static" : message.protocol === "bgp" ? "Bgp" : message.protocol,
    name,
    // The original's frontends take what stands before a prefix length.
    address: canonical(Ip.parse)(address.split("/", 1)[0] ?? ""),
    ...(message.bfd ? { bfd: nonZero({ minTxMs: MinTx, minRxMs: MinRx, multiplier: Multiplier }) } : {})
  }
  if (common._tag === "Static") return { value: common }
  const { holdTime, localASN, localPort, remoteASN, remotePort } = message
  return {
    value: {
      ...common,
      ...nonZero({ remoteAsn: remoteASN, localAsn: localASN, remotePort, localPort, holdTimeS: holdTime }),
      ...(bgpAuth === undefined ? {} : { auth: { keyName: bgpAuth.keyName, keySource: bgpAuth.keySource } })
    }
  }
})

export const attractors: Decode<Message.Attractor, Model.Attractor> = decoder(
  "attractor",
  Model.Attractor,
  (message) => {
    const [ofVips, ofGateways] = [vips(message.vips), gateways(message.gateways)]
    return {
      value: { name: message.name, vips: ofVips.values, gateways: ofGateways.values },
      rejected: [...ofVips.rejected, ...ofGateways.rejected]
    }
  }
)

type Selector = Configuration.Selector

/** The selectors of the watch requests; what a request does not name is not restricted. */
export const selectors = {
  trench: ({ name }: Message.Trench): Selector => ({ name }),
  conduit: ({ name, trench }: Message.Conduit): Selector => ({ name, trench: trench?.name ?? "" }),
  stream: ({ conduit, name }: Message.Stream): Selector => ({ name, ...conduitKey(conduit) }),
  flow: ({ name, stream }: Message.Flow): Selector => ({ name, ...streamKey(stream) }),
  ofTrench: ({ name, trench }: Message.Vip | Message.Attractor | Message.Gateway): Selector => ({
    name,
    trench: trench?.name ?? ""
  })
}

/** A trench by name. */
export const toTrench = (name: string): Message.Trench => ({ name })

/** A conduit by its names only, with the full chain of parents, as requests need it. */
export const toConduitKey = ({ conduit, trench }: Model.ConduitKey): Message.Conduit => ({
  name: conduit,
  trench: toTrench(trench),
  destinationPortNats: []
})

/** A stream by its names only, with the full chain of parents, as requests and targets need it. */
export const toStreamKey = (key: Model.StreamKey): Message.Stream => ({
  name: key.stream,
  conduit: toConduitKey(key),
  maxTargets: 0
})

/** A flow that selects all flows of a conduit. */
export const toFlowsOf = (conduit: Model.ConduitKey): Message.Flow => ({
  name: "",
  stream: toStreamKey({ ...conduit, stream: "" }),
  priority: 0,
  vips: [],
  sourceSubnets: [],
  sourcePortRanges: [],
  destinationPortRanges: [],
  protocols: [],
  byteMatches: []
})

export const toVip = (trench: string) => ({ address, name }: Model.Vip): Message.Vip => ({
  name,
  address,
  trench: toTrench(trench)
})

export const toConduit = ({ conduit, portNats, trench }: Model.Conduit): Message.Conduit => ({
  name: conduit,
  trench: toTrench(trench),
  destinationPortNats: portNats.map(({ vips, ...nat }) => ({ ...nat, vips: vips.map(toVip(trench)) }))
})

/** A stream with its conduit in full. */
export const toStream = ({ conduits }: Model.Configuration) => (stream: Model.Stream): Message.Stream => {
  const conduit = conduits.find((conduit) => Model.sameConduit(conduit, stream))
  return {
    name: stream.stream,
    conduit: conduit === undefined ? toConduitKey(stream) : toConduit(conduit),
    maxTargets: stream.maxTargets
  }
}

/** A flow with its stream and conduit in full. */
export const toFlow = (configuration: Model.Configuration) => (flow: Model.Flow): Message.Flow => {
  const stream = configuration.streams.find((stream) => Model.sameStream(stream, flow.stream))
  return {
    name: flow.name,
    stream: stream === undefined ? toStreamKey(flow.stream) : toStream(configuration)(stream),
    vips: flow.vips.map(toVip(flow.stream.trench)),
    sourceSubnets: flow.sourceSubnets,
    sourcePortRanges: flow.sourcePorts.map(Ports.format),
    destinationPortRanges: flow.destinationPorts.map(Ports.format),
    protocols: flow.protocols,
    byteMatches: flow.byteMatches.map(ByteMatches.format),
    priority: flow.priority
  }
}

export const toGateway = (trench: string) => (gateway: Model.Gateway): Message.Gateway => {
  const { address, bfd, name } = gateway
  const bgp = gateway._tag === "Bgp" ? gateway : undefined
  return {
    name,
    address,
    ipFamily: Ip.family(address) === "v4" ? "ipv4" : "ipv6",
    protocol: bgp === undefined ? "static" : "bgp",
    remoteASN: bgp?.remoteAsn ?? 0,
    localASN: bgp?.localAsn ?? 0,
    remotePort: bgp?.remotePort ?? 0,
    localPort: bgp?.localPort ?? 0,
    holdTime: bgp?.holdTimeS ?? 0,
    bfd: bfd !== undefined,
    bfdSpec: bfd === undefined
      ? undefined
      : { MinTx: bfd.minTxMs ?? 0, MinRx: bfd.minRxMs ?? 0, Multiplier: bfd.multiplier ?? 0 },
    trench: toTrench(trench),
    bgpAuth: bgp?.auth
  }
}

export const toAttractor = (trench: string) => ({ gateways, name, vips }: Model.Attractor): Message.Attractor => ({
  name,
  trench: toTrench(trench),
  vips: vips.map(toVip(trench)),
  gateways: gateways.map(toGateway(trench))
})
