/**
 * The nftables of one network namespace, through the `nft` program: a script is applied as one transaction.
 */
import { Context, Effect, Layer, Option, Schema } from "effect"
import { spawn } from "node:child_process"

/** What `nft` refused. */
export class NftablesError extends Schema.TaggedError<NftablesError>()("NftablesError", {
  /** The arguments of `nft`. */
  command: Schema.String,
  /** The words of `nft`, with the line and column of the script. */
  detail: Schema.String
}) {
  override get message(): string {
    return `nft ${this.command}: ${this.detail}`
  }
}

/** The family of a table; `inet` sees both IPv4 and IPv6, `netdev` the packets of one link. */
export type Family = "ip" | "ip6" | "inet" | "netdev" | "bridge" | "arp"

/** The output of `nft -j`: one element per object, `{ "chain": { ... } }`. */
const Listing = Schema.fromJsonString(
  Schema.Struct({ nftables: Schema.Array(Schema.Record(Schema.String, Schema.Json)) })
)
export type Objects = typeof Listing.Type["nftables"]

/** What a counter has seen. */
export const Count = Schema.Struct({ packets: Schema.Finite, bytes: Schema.Finite })
export type Count = typeof Count.Type
export type Counts = ReadonlyMap<string, Count>

const readCounter = Schema.decodeUnknownOption(
  Schema.Struct({ counter: Schema.Struct({ name: Schema.String, ...Count.fields }) })
)
const Counted = Schema.Struct({
  elem: Schema.Struct({ val: Schema.Union([Schema.String, Schema.Finite]), counter: Count })
})
const Members = Schema.Struct({
  elem: Schema.Array(Schema.Union([Counted, Schema.TupleWithRest(Schema.Tuple([Counted]), [Schema.Json])]))
})
const readCollection = Schema.decodeUnknownOption(
  Schema.Union([Schema.Struct({ set: Members }), Schema.Struct({ map: Members })])
)

export class Nftables extends Context.Service<Nftables, {
  /**
   * Applies a script in nft's language in one transaction: all of it, or nothing and an error. A long one may be given as
   * a function, which is called while `nft` starts.
   */
  readonly apply: (script: string | (() => string)) => Effect.Effect<void, NftablesError>
  /** The objects of a table in the JSON of `nft -j`; none when there is no such table. */
  readonly list: (family: Family, table: string) => Effect.Effect<Option.Option<Objects>, NftablesError>
  /** The named counters of a table; none when there is no such table. */
  readonly counters: (family: Family, table: string) => Effect.Effect<Counts, NftablesError>
  /** The counters of the elements of a set or map by their keys; none when there is no such thing. */
  readonly elementCounters: (
    family: Family,
    table: string,
    kind: "set" | "map",
    name: string
  ) => Effect.Effect<Counts, NftablesError>
  /** Deletes a table with everything in it; success when there is none. */
  readonly deleteTable: (family: Family, table: string) => Effect.Effect<void, NftablesError>
}>()("sluice/shells/nftables/Nftables") {
  /** The tables of the namespace of this process. */
  static readonly layer: Layer.Layer<Nftables> = Layer.sync(Nftables, () => make())

  /** The tables of the namespace at the path. */
  static layerIn(namespace: string): Layer.Layer<Nftables> {
    return Layer.sync(Nftables, () => make(namespace))
  }
}

/** The service for the namespace at the path, or for that of this process. */
export const make = (namespace?: string): Nftables["Service"] => {
  const nft = (args: ReadonlyArray<string>, script: string | (() => string) = "") => run(namespace, args, script)
  const list = (...what: ReadonlyArray<string>) =>
    nft(["-j", "list", ...what]).pipe(
      Effect.flatMap((json) => Schema.decodeEffect(Listing)(json)),
      Effect.map((listing) => Option.some(listing.nftables)),
      Effect.catchTag("SchemaError", (error) =>
        new NftablesError({ command: `-j list ${what.join(" ")}`, detail: `unexpected output: ${error.message}` })),
      Effect.catchTag(
        "NftablesError",
        (error) =>
          error.detail.startsWith("Error: No such file or directory")
            ? Effect.succeed(Option.none<Objects>())
            : Effect.fail(error)
      )
    )
  return {
    apply: (script) => Effect.asVoid(nft(["-f", "-"], script)),
    list: (family, table) => list("table", family, table),
    counters: (family, table) =>
      Effect.map(list("counters", "table", family, table), (objects) =>
        new Map(
          found(objects, readCounter).map(({ counter: { bytes, name, packets } }) => [name, { packets, bytes }])
        )),
    elementCounters: (family, table, kind, name) =>
      Effect.map(list(kind, family, table, name), (objects) =>
        new Map(
          found(objects, readCollection).flatMap((each) => ("set" in each ? each.set : each.map).elem ?? []).map(
            (each) => {
              const { elem } = "elem" in each ? each : each[0]
              return [String(elem.val), elem.counter]
            }
          )
        )),
    // Declaring the table first makes the deletion succeed in either case; both are one transaction.
    deleteTable: (family, table) =>
      Effect.asVoid(nft(["-f", "-"], `table ${family} ${table} {}\ndelete table ${family} ${table}\n`))
  }
}

const found = <A>(objects: Option.Option<Objects>, read: (object: unknown) => Option.Option<A>): ReadonlyArray<A> =>
  Option.getOrElse(objects, () => []).flatMap((object) => Option.toArray(read(object)))

const run = (
  namespace: string | undefined,
  args: ReadonlyArray<string>,
  script: string | (() => string)
): Effect.Effect<string, NftablesError> =>
  Effect.callback<string, NftablesError>((resume) => {
    const fail = (detail: string) => resume(new NftablesError({ command: args.join(" "), detail }))
    const [program, programArgs] = namespace === undefined
      ? ["nft", args]
      : ["nsenter", [`--net=${namespace}`, "nft", ...args]]
    const child = spawn(program, programArgs, { env: { ...process.env, LC_ALL: "C" } })
    let output = ""
    let errors = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => output += text)
    child.stderr.setEncoding("utf8").on("data", (text: string) => errors += text)
    child.on("error", (error) => fail(`cannot be started: ${error.message}; install nftables`))
    child.on(
      "close",
      (code) => code === 0 ? resume(Effect.succeed(output)) : fail(errors.trim() || `exit code ${code}`)
    )
    // A child that ends early closes the pipe; its exit code tells why.
    child.stdin.on("error", () => undefined)
    child.stdin.end(typeof script === "string" ? script : script())
    return Effect.sync(() => {
      child.kill()
    })
  })
