/**
 * Carries out what `core/nsm/Forward` plans, in the namespaces of both ends.
 *
 * One plan at a time, so that no two see the same kernel. A namespace with connections in it is watched (`Watched`), so
 * that a refresh which changes nothing asks the kernel nothing; a namespace whose owner is gone is left.
 */
import { Context, Effect, Equal, Layer, RcMap, type Scope, Semaphore } from "effect"
import type * as Cross from "../../core/nsm/Cross.ts"
import * as Forward from "../../core/nsm/Forward.ts"
import type * as Model from "../../core/nsm/Model.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import type { NetlinkError } from "../netlink/NetlinkError.ts"
import * as Sysctl from "../netlink/Sysctl.ts"
import * as Watched from "./Watched.ts"

export class Forwarder extends Context.Service<Forwarder, {
  /** Makes the kernel hold the cross connect instead of the previous one. */
  readonly plumb: (cross: Cross.Cross, previous: Cross.Cross | undefined) => Effect.Effect<void, Model.Failure>
  /** Makes a cross connect whole of which the pair stands; fails with `NotFound` when it does not. */
  readonly adopt: (cross: Cross.Cross) => Effect.Effect<void, Model.Failure>
  /** Removes a cross connect as far as its namespaces still exist. */
  readonly unplumb: (cross: Cross.Cross) => Effect.Effect<void>
  /** Completes when the pair is gone, and says whether the client's namespace is. */
  readonly loss: (cross: Cross.Cross) => Effect.Effect<{ readonly clientGone: boolean }>
  /** Removes from every namespace what this manager made, except what the given cross connects need. */
  readonly sweep: (keep: ReadonlyArray<Cross.Cross>) => Effect.Effect<void>
}>()("sluice/shells/nsm/Forwarder") {
  /** The forwarder of the manager with that name; needs CAP_NET_ADMIN and CAP_SYS_ADMIN in the host's pid namespace. */
  static layer(manager: string): Layer.Layer<Forwarder> {
    return Layer.effect(Forwarder, make(manager))
  }
}

interface Place {
  readonly path: string
  readonly netlink: Netlink.Netlink["Service"]
}
type Places = ReadonlyMap<string, Place>

const make = (manager: string) =>
  Effect.gen(function*() {
    const lock = yield* Semaphore.make(1)
    // The namespaces of this machine are looked at once a second at most, however many connections there are.
    const visible = yield* Effect.cachedWithTTL(Namespace.visible, "1 second")
    const open = new Map<string, Watched.Watched>()
    const watched = yield* RcMap.make({
      lookup: (url: string) =>
        Effect.acquireRelease(
          Effect.tap(Watched.make(url, visible), (one) => Effect.sync(() => open.set(url, one))),
          (one) => Effect.sync(() => open.get(url) === one && open.delete(url))
        )
    })
    // By alias, the looks at both namespaces that found the connection whole.
    const whole = new Map<string, string>()

    /** Whether the kernel holds the cross connect and nothing had to be asked to know it. */
    const isWhole = (cross: Cross.Cross): boolean => {
      const [client, endpoint] = [open.get(cross.client.netns)?.sight(), open.get(cross.endpoint.netns)?.sight()]
      if (client === undefined || endpoint === undefined) return false
      const looks = `${client.version}/${endpoint.version}`
      if (whole.get(cross.alias) === looks) return true
      const seen = { [cross.client.netns]: client.snapshot, [cross.endpoint.netns]: endpoint.snapshot }
      if (Forward.plan.plan({ cross, previous: cross }, seen).length > 0) return false
      whole.set(cross.alias, looks)
      return true
    }
    const alone = <A, E>(alias: string, work: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E> =>
      lock.withPermits(1)(Effect.andThen(Effect.sync(() => whole.delete(alias)), Effect.scoped(work)))

    return Forwarder.of({
      plumb: (cross, previous) =>
        Effect.suspend(() =>
          previous !== undefined && Equal.equals(cross, previous) && isWhole(cross)
            ? Effect.void
            : alone(cross.alias, plumb(cross, previous))
        ),
      adopt: (cross) => alone(cross.alias, adopt(cross)),
      unplumb: (cross) =>
        alone(cross.alias, unplumb(cross)).pipe(
          Effect.catch((failure) => Effect.logWarning(`Could not remove ${cross.alias}: ${failure.message}`))
        ),
      loss: (cross) =>
        Effect.scoped(Effect.gen(function*() {
          yield* Effect.ignore(RcMap.get(watched, cross.endpoint.netns))
          const client = yield* RcMap.get(watched, cross.client.netns)
          yield* client.lost(cross.alias)
        })).pipe(
          Effect.ignore,
          Effect.andThen(Namespace.visible),
          Effect.map((namespaces) => ({ clientGone: !namespaces.has(cross.client.netns) }))
        ),
      sweep: (keep) =>
        Effect.flatMap(Namespace.visible, (namespaces) =>
          lock.withPermits(1)(
            Effect.forEach(namespaces, ([url, path]) => sweep(manager, keep, url, path), { discard: true })
          ))
    })
  })

const plumb = (
  cross: Cross.Cross,
  previous: Cross.Cross | undefined
): Effect.Effect<void, Model.Failure, Scope.Scope> =>
  Effect.gen(function*() {
    const places = yield* openAll(cross, previous)
    for (const netns of Forward.netnsOf(cross)) {
      if (!places.has(netns)) {
        const message = `network namespace ${netns} is not on this machine`
        return yield* Effect.fail({ reason: "NotFound" as const, message })
      }
    }
    const observed = yield* observe(places)
    const conflict = Forward.conflict(cross, observed)
    if (conflict !== undefined) return yield* Effect.fail({ reason: "Conflict" as const, message: conflict })
    const desired = { cross, ...(previous === undefined ? {} : { previous }) }
    yield* perform(Forward.plan.plan(desired, observed), places)
  })

const adopt = (cross: Cross.Cross): Effect.Effect<void, Model.Failure, Scope.Scope> =>
  Effect.gen(function*() {
    const places = yield* openAll(cross, undefined)
    const observed = yield* observe(places)
    if (!Forward.stands(cross, observed)) {
      return yield* Effect.fail({ reason: "NotFound" as const, message: `the links of ${cross.alias} are gone` })
    }
    yield* perform(Forward.plan.plan({ cross, previous: cross }, observed), places)
  })

const unplumb = (cross: Cross.Cross): Effect.Effect<void, Model.Failure, Scope.Scope> =>
  Effect.gen(function*() {
    const places = yield* openAll(cross, undefined)
    yield* perform(Forward.plan.plan({ previous: cross }, yield* observe(places)), places)
  })

const sweep = (
  manager: string,
  keep: ReadonlyArray<Cross.Cross>,
  url: string,
  path: string
): Effect.Effect<void> =>
  Effect.scoped(Effect.gen(function*() {
    const netlink = yield* Netlink.make(path)
    const operations = Forward.sweep(manager, keep, url, yield* netlink.snapshot)
    if (operations.length > 0) yield* Effect.logInfo("Removing leftovers", { namespace: path, operations })
    yield* netlink.apply(operations)
  })).pipe(Effect.catch((error) => Effect.logDebug(`Could not look for leftovers in ${path}: ${error.message}`)))

/** Those of the namespaces that exist. */
const openAll = (
  cross: Cross.Cross,
  previous: Cross.Cross | undefined
): Effect.Effect<Places, Model.Failure, Scope.Scope> =>
  Effect.gen(function*() {
    const urls = new Set([...Forward.netnsOf(cross), ...(previous === undefined ? [] : Forward.netnsOf(previous))])
    const places = new Map<string, Place>()
    for (const url of urls) {
      const found = yield* Effect.option(Namespace.resolve(url))
      if (found._tag === "None") continue
      const netlink = yield* Effect.mapError(Netlink.make(found.value.path), broken)
      places.set(url, { path: found.value.path, netlink })
    }
    return places
  })

const observe = (places: Places): Effect.Effect<Forward.Observed, Model.Failure> =>
  Effect.map(
    Effect.forEach(
      places,
      ([url, { netlink }]) => Effect.map(netlink.snapshot, (snapshot) => [url, snapshot] as const)
    ),
    Object.fromEntries
  ).pipe(Effect.mapError(broken))

const perform = (
  operations: ReadonlyArray<Forward.Operation>,
  places: Places
): Effect.Effect<void, Model.Failure> =>
  Effect.forEach(operations, (operation) => performOne(operation, places), { discard: true }).pipe(
    Effect.mapError(broken)
  )

const performOne = (operation: Forward.Operation, places: Places): Effect.Effect<void, NetlinkError> => {
  switch (operation._tag) {
    case "Change":
      return places.get(operation.netns)?.netlink.apply([operation.operation]) ?? Effect.void
    case "CreatePair": {
      const [client, endpoint] = [places.get(operation.client.netns), places.get(operation.endpoint.netns)]
      if (client === undefined || endpoint === undefined) return Effect.void
      const end = ({ link, mac }: Cross.End, { path }: Place) => ({
        namespace: path,
        name: link,
        mac,
        alias: operation.alias
      })
      return client.netlink.createVeth(end(operation.client, client), end(operation.endpoint, endpoint)).pipe(
        Effect.andThen(allowIpv6(operation.client, client)),
        Effect.andThen(allowIpv6(operation.endpoint, endpoint)),
        Effect.andThen(allowPing(client)),
        Effect.andThen(allowPing(endpoint))
      )
    }
  }
}

/** A namespace may have IPv6 switched off for new links; where IPv6 does not exist at all that is no failure. */
const allowIpv6 = ({ link }: Cross.End, { path }: Place): Effect.Effect<void> =>
  Effect.ignore(Sysctl.write(`net/ipv6/conf/${link}/disable_ipv6`, "0", path))

/** Upstream's clients ping the endpoint over sockets without privileges, and reconnect for as long as these are refused. */
const allowPing = ({ path }: Place): Effect.Effect<void> =>
  Effect.ignore(Sysctl.write("net/ipv4/ping_group_range", "0 2147483647", path))

const broken = (error: NetlinkError): Model.Failure => ({ reason: "Failed", message: error.message })
