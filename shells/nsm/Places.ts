/**
 * The namespaces between which a pair of links goes: opened for the length of one plan, read, and changed.
 */
import { Effect, type Scope } from "effect"
import * as Cross from "../../core/nsm/Cross.ts"
import * as Forward from "../../core/nsm/Forward.ts"
import type * as Model from "../../core/nsm/Model.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import type { NetlinkError } from "../netlink/NetlinkError.ts"
import * as Sysctl from "../netlink/Sysctl.ts"

interface Place {
  readonly path: string
  readonly netlink: Netlink.Netlink["Service"]
}

/** Open namespaces by their URL. */
export type Places = ReadonlyMap<string, Place>

/** Those namespaces of the cross connects that exist. */
export const open = (crosses: ReadonlyArray<Cross.Cross>): Effect.Effect<Places, Model.Failure, Scope.Scope> =>
  Effect.gen(function*() {
    const urls = new Set(crosses.flatMap(Cross.namespaces))
    const places = new Map<string, Place>()
    for (const url of urls) {
      const found = yield* Effect.option(Namespace.resolve(url))
      if (found._tag === "None") continue
      const netlink = yield* Effect.mapError(Netlink.make(found.value.path), broken)
      places.set(url, { path: found.value.path, netlink })
    }
    return places
  })

/** What stands in all of them. */
export const observe = (places: Places): Effect.Effect<Forward.Observed, Model.Failure> =>
  Effect.map(
    Effect.forEach(
      places,
      ([url, { netlink }]) => Effect.map(netlink.snapshot, (snapshot) => [url, snapshot] as const)
    ),
    Object.fromEntries
  ).pipe(Effect.mapError(broken))

/** Carries the operations out, in order; the first failure ends it. */
export const perform = (
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
