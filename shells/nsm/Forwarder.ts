/**
 * Carries out what `core/nsm/Forward` plans, in the namespaces of both ends.
 *
 * One plan at a time, so that no two see the same kernel. A namespace with connections in it is watched (`Watched`), so
 * that a refresh which changes nothing asks the kernel nothing; a namespace whose owner is gone is left.
 */
import { Context, Effect, Equal, Layer, RcMap, type Scope, Semaphore } from "effect"
import * as Cross from "../../core/nsm/Cross.ts"
import * as Forward from "../../core/nsm/Forward.ts"
import type * as Model from "../../core/nsm/Model.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import * as Places from "./Places.ts"
import * as Watched from "./Watched.ts"

export class Forwarder extends Context.Service<Forwarder, {
  /** Makes the kernel hold the cross connect instead of the previous one. */
  readonly plumb: (cross: Cross.Cross, previous: Cross.Cross | undefined) => Effect.Effect<void, Model.Failure>
  /** Makes a cross connect whole of which the pair stands; fails with `NotFound` when it does not. */
  readonly adopt: (cross: Cross.Cross, previous: Cross.Cross) => Effect.Effect<void, Model.Failure>
  /** Removes a cross connect as far as its namespaces still exist. */
  readonly unplumb: (cross: Cross.Cross) => Effect.Effect<void>
  /** Completes when the pair is gone, and says whether the client's namespace is. */
  readonly loss: (cross: Cross.Cross) => Effect.Effect<{ readonly clientGone: boolean }>
  /** Removes from every namespace what this manager made, except what the given cross connects need. */
  readonly sweep: (keep: ReadonlyArray<Cross.Cross>) => Effect.Effect<void>
}>()("sluice/shells/nsm/Forwarder") {
  /**
   * The forwarder of the manager with that name; needs CAP_NET_ADMIN and CAP_SYS_ADMIN in the host's pid namespace.
   * `all` lists the namespaces in which leftovers may be, by URL.
   */
  static layer(manager: string, all = Namespace.visible): Layer.Layer<Forwarder> {
    return Layer.effect(Forwarder, make(manager, all))
  }
}

const make = (manager: string, all: typeof Namespace.visible) =>
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
      adopt: (cross, previous) => alone(cross.alias, adopt(cross, previous)),
      unplumb: (cross) =>
        alone(cross.alias, unplumb(cross)).pipe(
          Effect.catch((failure) => Effect.logWarning(`Could not remove ${cross.alias}: ${failure.message}`))
        ),
      loss: (cross) =>
        Effect.scoped(Effect.gen(function*() {
          yield* Effect.ignore(RcMap.get(watched, cross.endpoint.netns))
          const client = yield* RcMap.get(watched, cross.client.netns)
          yield* client.lost(cross.alias)
          if (client.isOver()) yield* RcMap.invalidate(watched, cross.client.netns)
        })).pipe(
          Effect.ignore,
          Effect.andThen(Namespace.visible),
          Effect.map((namespaces) => ({ clientGone: !namespaces.has(cross.client.netns) }))
        ),
      sweep: (keep) =>
        Effect.flatMap(all, (namespaces) =>
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
    const places = yield* Places.open([cross, ...(previous === undefined ? [] : [previous])])
    for (const netns of Cross.namespaces(cross)) {
      if (!places.has(netns)) {
        const message = `network namespace ${netns} is not on this machine`
        return yield* Effect.fail({ reason: "NotFound" as const, message })
      }
    }
    const observed = yield* Places.observe(places)
    const conflict = Forward.conflict(cross, observed)
    if (conflict !== undefined) return yield* Effect.fail({ reason: "Conflict" as const, message: conflict })
    const desired = { cross, ...(previous === undefined ? {} : { previous }) }
    yield* Places.perform(Forward.plan.plan(desired, observed), places)
  })

const adopt = (
  cross: Cross.Cross,
  previous: Cross.Cross
): Effect.Effect<void, Model.Failure, Scope.Scope> =>
  Effect.gen(function*() {
    const places = yield* Places.open([cross, previous])
    const observed = yield* Places.observe(places)
    if (!Forward.stands(cross, observed)) {
      return yield* Effect.fail({ reason: "NotFound" as const, message: `the links of ${cross.alias} are gone` })
    }
    yield* Places.perform(Forward.plan.plan({ cross, previous }, observed), places)
  })

const unplumb = (cross: Cross.Cross): Effect.Effect<void, Model.Failure, Scope.Scope> =>
  Effect.gen(function*() {
    const places = yield* Places.open([cross])
    yield* Places.perform(Forward.plan.plan({ previous: cross }, yield* Places.observe(places)), places)
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
