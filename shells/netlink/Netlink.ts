/**
 * One network namespace of the Linux kernel as a service: read it, change it, hear that it changed (rtnetlink, RFC 3549).
 *
 * It decides nothing: what to change comes as `Kernel.Operation`s from a plan.
 */
import { Context, Effect, Layer, Predicate, type Scope, type Stream } from "effect"
import { Ip, type Kernel } from "../../core/net/index.ts"
import * as Apply from "./Apply.ts"
import * as Ask from "./Ask.ts"
import * as Changes from "./Changes.ts"
import * as Decode from "./Decode.ts"
import * as Encode from "./Encode.ts"
import type { NetlinkError } from "./NetlinkError.ts"
import * as Statistics from "./Statistics.ts"
import * as Veth from "./Veth.ts"

export class Netlink extends Context.Service<Netlink, {
  /**
   * The state of the namespace; each kind of object is read at once, the kinds one after the other. Rules that are as they
   * were in the snapshot before are the same array, so that nobody looks at thousands of them again.
   */
  readonly snapshot: Effect.Effect<Kernel.Snapshot, NetlinkError>
  /** What each link has carried so far. */
  readonly statistics: Effect.Effect<ReadonlyArray<Statistics.Statistics>, NetlinkError>
  /**
   * Applies the operations in order and stops at the first one that fails. Adding what is there and deleting what is
   * absent succeed. Interruption waits for the answer to what was sent.
   */
  readonly apply: (operations: ReadonlyArray<Kernel.Operation>) => Effect.Effect<void, NetlinkError>
  /**
   * Emits once when it has begun to listen, then whenever links, addresses, rules or routes may have changed, by
   * whomever; many changes may be one element. So reading after each element misses nothing, lost messages included.
   */
  readonly changes: Stream.Stream<void, NetlinkError>
  /**
   * Makes a veth pair with each end at once in its namespace under its final name, down and without addresses. Fails
   * with EEXIST when a name is taken, and leaves nothing behind when it fails.
   */
  readonly createVeth: (one: Veth.End, other: Veth.End) => Effect.Effect<void, NetlinkError>
}>()("sluice/shells/netlink/Netlink") {
  /** The namespace of this process. */
  static readonly layer: Layer.Layer<Netlink, NetlinkError> = Layer.effect(Netlink, Effect.suspend(() => make()))

  /** The namespace at the path: `/run/netns/x`, `/proc/PID/ns/net`, `Namespace.Open.path`. */
  static layerIn(namespace: string): Layer.Layer<Netlink, NetlinkError> {
    return Layer.effect(Netlink, make(namespace))
  }
}

/**
 * The service for the namespace at the path, or for that of this process, with its sockets in the Scope. An open service
 * keeps the namespace alive even when all its processes have ended.
 */
export const make = (namespace?: string): Effect.Effect<Netlink["Service"], NetlinkError, Scope.Scope> =>
  Effect.map(Ask.open(namespace), (ask) => ({
    snapshot: snapshot(ask),
    statistics: Effect.map(
      ask("read statistics of links", Encode.dumpLinks()),
      (bodies) => bodies.map(Statistics.decode).filter(Predicate.isNotUndefined)
    ),
    apply: (operations) => Apply.applyAll(ask, operations),
    changes: Changes.changes(namespace),
    createVeth: (one, other) => Veth.create(ask, one, other)
  }))

const snapshot = (ask: Ask.Ask): Effect.Effect<Kernel.Snapshot, NetlinkError> => {
  const rules = unlessChanged((body) => Decode.rule(body))
  return Effect.gen(function*() {
    const links = yield* ask("read links", Encode.dumpLinks())
    const names = Decode.names(links)
    const dump = (kind: "address" | "rule" | "route" | "neighbour") =>
      Effect.forEach(Ip.families, (family) => ask(`read ${family} ${kind} objects`, Encode.dump(kind, family))).pipe(
        Effect.map((bodies) => bodies.flat())
      )
    const read = <A>(
      kind: "address" | "route" | "neighbour",
      decode: (body: Buffer, names: Decode.Names) => A | undefined
    ) =>
      Effect.map(
        dump(kind),
        (bodies) => bodies.map((body) => decode(body, names)).filter(Predicate.isNotUndefined)
      )
    return {
      links: links.map((body) => Decode.link(body, names)).filter(Predicate.isNotUndefined),
      addresses: yield* read("address", Decode.address),
      rules: rules(yield* dump("rule")),
      routes: yield* read("route", Decode.route),
      neighbours: yield* read("neighbour", Decode.neighbour)
    }
  })
}

/** Decodes bodies; the same bytes again are the same array again. */
const unlessChanged = <A>(decode: (body: Buffer) => A | undefined) => {
  let last: { readonly bytes: Buffer; readonly decoded: ReadonlyArray<A> } | undefined
  return (bodies: ReadonlyArray<Buffer>): ReadonlyArray<A> => {
    const bytes = Buffer.concat(bodies)
    if (last?.bytes.equals(bytes) === true) return last.decoded
    const decoded = bodies.map(decode).filter(Predicate.isNotUndefined)
    last = { bytes, decoded }
    return decoded
  }
}
