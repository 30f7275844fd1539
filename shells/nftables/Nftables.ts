/**
 * The nftables of one network namespace: a script is applied as one transaction.
 */
import { Context, Effect, Layer, Option, Schema, type Scope } from "effect"
import * as Socket from "../netlink/Socket.ts"
import * as Elements from "./Elements.ts"
import * as Library from "./Library.ts"

/** What nftables refused. */
export class NftablesError extends Schema.TaggedError<NftablesError>()("NftablesError", {
  /** What was asked: `apply`, `list table inet x`. */
  command: Schema.String,
  /** The words of nftables, with line and column of the script. */
  detail: Schema.String
}) {
  override get message(): string {
    return `nftables, ${this.command}: ${this.detail}`
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
   * Applies a script in nft's language in one transaction: all of it, or nothing and an error. Interruption waits for the
   * answer.
   */
  readonly apply: (script: string) => Effect.Effect<void, NftablesError>
  /** Removes and adds elements of sets and maps in one transaction: all of them, or none and an error. */
  readonly update: (changes: ReadonlyArray<Elements.Change>) => Effect.Effect<void, NftablesError>
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
  static readonly layer: Layer.Layer<Nftables, NftablesError> = Layer.effect(Nftables, Effect.suspend(() => make()))

  /** The tables of the namespace at the path. */
  static layerIn(namespace: string): Layer.Layer<Nftables, NftablesError> {
    return Layer.effect(Nftables, make(namespace))
  }
}

/** The service for the namespace at the path, or for that of this process, until the Scope ends. */
export const make = (namespace?: string): Effect.Effect<Nftables["Service"], NftablesError, Scope.Scope> =>
  Effect.gen(function*() {
    const run = yield* named("open", Library.open("text", namespace))
    const socket = yield* named(
      "open",
      Effect.mapError(Socket.open(Socket.netfilter, namespace), ({ message }) => message)
    )
    return serviceOf(run, socket, namespace)
  })

const named = <A, R>(command: string, effect: Effect.Effect<A, string, R>): Effect.Effect<A, NftablesError, R> =>
  Effect.mapError(effect, (detail) => new NftablesError({ command, detail }))

const serviceOf = (
  run: Library.Run,
  socket: Socket.Socket,
  namespace: string | undefined
): Nftables["Service"] => {
  const apply = (script: string) => Effect.asVoid(named("apply", run(script)))
  const list = (...words: ReadonlyArray<string>) => {
    const command = `list ${words.join(" ")}`
    // What is listed stays in the memory of the library that listed it.
    return named(command, Effect.scoped(Effect.flatMap(Library.open("json", namespace), (run) => run(command)))).pipe(
      Effect.flatMap((json) => Schema.decodeEffect(Listing)(json)),
      Effect.map((listing) => Option.some(listing.nftables)),
      Effect.catchTag(
        "SchemaError",
        (error) => new NftablesError({ command, detail: `unexpected output: ${error.message}` })
      ),
      Effect.catchTag(
        "NftablesError",
        (error) =>
          /^(script:\S+ )?Error: No such file or directory/.test(error.detail)
            ? Effect.succeed(Option.none<Objects>())
            : Effect.fail(error)
      )
    )
  }
  return {
    apply,
    update: (changes) => named("update", Effect.mapError(Elements.apply(socket, changes), ({ message }) => message)),
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
    deleteTable: (family, table) => apply(`table ${family} ${table} {}\ndelete table ${family} ${table}\n`)
  }
}

const found = <A>(objects: Option.Option<Objects>, read: (object: unknown) => Option.Option<A>): ReadonlyArray<A> =>
  Option.getOrElse(objects, () => []).flatMap((object) => Option.toArray(read(object)))
