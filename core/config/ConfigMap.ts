/**
 * The ConfigMap of a trench, which Meridio's operator makes out of a user's objects: from its parsed texts back to those
 * objects, so that the same rules judge them as if they came from manifests.
 *
 *     data ──decode──▶ items ──▶ objects ──admit──▶ one deployment
 *              └────── problems, all of them ──────────┘
 *
 * 1. One problem refuses the whole update. Unknown fields and numbers that do not fit are problems.
 * 2. What belongs to another trench is passed over and listed.
 * 3. An absent field and one with the zero of its type mean the same.
 * 4. Changes of immutable fields are not judged: an object may have been removed and made again between two updates.
 *
 * Source: Meridio `pkg/configuration/reader`, `pkg/controllers/trench/configmap.go`.
 */
import { Result, Schema } from "effect"
import * as GoSyntax from "./GoSyntax.ts"
import * as Manifest from "./Manifest.ts"
import { Name } from "./Model.ts"
import * as Problem from "./Problem.ts"
import * as Reading from "./Reading.ts"
import { text } from "./Resource.ts"

/** Where the ConfigMap lives; the objects are said to live in the same namespace. */
export interface Place {
  readonly namespace: string
  readonly name: string
}

/** The keys of the data that are read, each a YAML document. */
export const keys = ["trench", "conduits", "streams", "flows", "vips", "attractors", "gateways"] as const
export type Key = typeof keys[number]

const absentable = Schema.optionalKey

const Texts = absentable(Schema.Array(Schema.String))

const number = (minimum: number, maximum: number) =>
  absentable(
    text(Schema.Int, (source) => {
      const value = Result.getOrUndefined(GoSyntax.integer(source))
      return value !== undefined && value >= minimum && value <= maximum
        ? Result.succeed(value)
        : Result.fail(`expected an integer from ${minimum} to ${maximum}`)
    })
  )

const Uint16 = number(0, 65_535)
const Uint32 = number(0, 4_294_967_295)
const Int32 = number(-2_147_483_648, 2_147_483_647)

/** The booleans of YAML 1.1, as the original's parser takes them. */
const yes = new Set(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"])
const no = new Set(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"])

const Bool = absentable(
  text(
    Schema.Boolean,
    (source) =>
      yes.has(source) || no.has(source) ? Result.succeed(yes.has(source)) : Result.fail("expected true or false")
  )
)

const Nat = Schema.Struct({ port: Uint16, "target-port": Uint16, vips: Texts, protocol: Schema.String })

const items = <Item extends Schema.Struct.Fields>(item: Item) =>
  Schema.Struct({ items: absentable(Schema.Array(Schema.Struct(item))) })

const Conduits = items({
  name: Name,
  trench: absentable(Schema.String),
  "destination-port-nats": absentable(Schema.Array(Nat))
})
const Streams = items({ name: Name, conduit: absentable(Schema.String), "max-targets": Uint32 })
const Flows = items({
  name: Name,
  stream: absentable(Schema.String),
  priority: Int32,
  "source-subnets": Texts,
  "destination-port-ranges": Texts,
  "source-port-ranges": Texts,
  protocols: Texts,
  vips: Texts,
  "byte-matches": Texts
})
const Vips = items({ name: Name, address: Schema.String, trench: absentable(Schema.String) })
const Attractors = items({ name: Name, trench: absentable(Schema.String), vips: Texts, gateways: Texts })
const gatewayFields = {
  name: Name,
  trench: absentable(Schema.String),
  address: Schema.String,
  /** Not used: the address tells. */
  "ip-family": absentable(Schema.String),
  protocol: Schema.String,
  "remote-asn": Uint32,
  "local-asn": Uint32,
  "remote-port": Uint16,
  "local-port": Uint16,
  /** Seconds. */
  "hold-time": Uint32,
  bfd: Bool,
  /** Milliseconds. */
  "min-tx": Uint32,
  "min-rx": Uint32,
  multiplier: Uint32,
  "bgp-auth": absentable(
    Schema.Struct({ key: absentable(Schema.String), source: absentable(Schema.String) })
  )
}
const Gateway = Schema.Struct(gatewayFields)
const Gateways = items(gatewayFields)

const Data = Schema.Struct({
  trench: Schema.Struct({ name: Name }),
  conduits: Conduits,
  streams: Streams,
  flows: Flows,
  vips: Vips,
  attractors: Attractors,
  gateways: Gateways
})

const decode = Schema.decodeUnknownResult(Data, { errors: "all", onExcessProperty: "error" })

/**
 * Judges the data of a ConfigMap: for each key the parsed document, in which each scalar is its source text, so that a
 * port may be written with or without quotes, and null is null. Absent keys are empty.
 */
export const read = (
  place: Place,
  data: { readonly [K in Key]?: unknown }
): Result.Result<Manifest.Manifest, ReadonlyArray<Problem.Problem>> => {
  const candidate = Object.fromEntries(keys.map((key) => [key, Reading.withoutNulls(data[key]) ?? {}]))
  const decoded = decode(candidate)
  if (Result.isFailure(decoded)) {
    const reference = { kind: "ConfigMap", ...place }
    return Result.fail(Reading.problemsOf(reference, { data: candidate }, decoded.failure.issue, ["data"]))
  }
  const { documents, ignored } = objects(place.namespace, decoded.success)
  const reading = Reading.read(documents, "served")
  return Manifest.judge({ ...reading, ignored: [...reading.ignored, ...ignored] })
}

/** The objects as a user wrote them, and those of other trenches. */
const objects = (namespace: string, data: typeof Data.Type) => {
  const trench = data.trench.name
  const ignored: Array<string> = []
  const object = (kind: string, name: string, spec: unknown) => ({
    apiVersion: "meridio.nordix.org/v1",
    kind,
    metadata: { name, namespace, ...(kind === "Trench" ? {} : { labels: { trench } }) },
    spec
  })
  const own = <Item extends { readonly name: string; readonly trench?: string }>(
    kind: string,
    { items = [] }: { readonly items?: ReadonlyArray<Item> },
    spec: (item: Item) => unknown
  ): ReadonlyArray<unknown> =>
    items.flatMap((item) => {
      if ((item.trench ?? "") === trench) return [object(kind, item.name, spec(item))]
      ignored.push(`${kind} ${namespace}/${item.name} of trench ${item.trench ?? "\"\""}`)
      return []
    })
  const documents = [
    object("Trench", trench, {}),
    ...own("Conduit", data.conduits, conduit),
    ...(data.streams.items ?? []).map(({ conduit, name, "max-targets": maxTargets }) =>
      object("Stream", name, { conduit, "max-targets": maxTargets === 0 ? undefined : maxTargets })
    ),
    ...(data.flows.items ?? []).map(({ name, ...spec }) => object("Flow", name, flow(spec))),
    ...own("Vip", data.vips, ({ address }) => ({ address })),
    ...own("Attractor", data.attractors, ({ gateways, vips }) => ({ composites: [], gateways, vips })),
    ...own("Gateway", data.gateways, gateway)
  ]
  return { documents, ignored }
}

const conduit = (
  { "destination-port-nats": nats = [] }: { "destination-port-nats"?: ReadonlyArray<typeof Nat.Type> }
) => ({
  type: "stateless-lb",
  "destination-port-nats": nats.map(({ port = 0, protocol, "target-port": targetPort = 0, vips = [] }) => ({
    port,
    "target-port": targetPort,
    vips,
    protocol
  }))
})

type Flow = Omit<NonNullable<typeof Flows.Type["items"]>[number], "name">

const flow = (
  {
    "destination-port-ranges": destinations,
    priority = 0,
    protocols = [],
    "source-port-ranges": sources,
    vips = [],
    ...rest
  }: Flow
) => ({ ...rest, "destination-ports": destinations, "source-ports": sources, priority, protocols, vips })

const gateway = (fields: typeof Gateway.Type) => {
  const { address, protocol } = fields
  const bfd = fields.bfd === true
    ? {
      switch: true,
      "min-tx": `${fields["min-tx"] ?? 0}ms`,
      "min-rx": `${fields["min-rx"] ?? 0}ms`,
      multiplier: positive(fields.multiplier)
    }
    : { switch: false }
  const auth = fields["bgp-auth"]
  const holdTime = positive(fields["hold-time"])
  const routing = {
    "remote-asn": positive(fields["remote-asn"]),
    "local-asn": positive(fields["local-asn"]),
    "remote-port": positive(fields["remote-port"]),
    "local-port": positive(fields["local-port"]),
    "hold-time": holdTime === undefined ? undefined : `${holdTime}s`,
    auth: auth === undefined ? undefined : { "key-name": auth.key ?? "", "key-source": auth.source ?? "" }
  }
  if (protocol !== "static") return { address, protocol, bgp: { ...routing, bfd } }
  // Nothing of BGP may be given here, which the rules say better than we could.
  const isBgp = Object.values(routing).some((value) => value !== undefined)
  return { address, protocol, static: { bfd }, bgp: isBgp ? routing : undefined }
}

const positive = (value: number | undefined): number | undefined => (value === 0 ? undefined : value)
