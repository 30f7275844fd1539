/** The namespaces of a machine on which the forwarder of NSM works, modelled or real. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Cidr, Kernel } from "../../core/net/index.ts"
import * as Cross from "../../core/nsm/Cross.ts"
import * as Forward from "../../core/nsm/Forward.ts"
import type * as Model from "../../core/nsm/Model.ts"
import * as Kernels from "../simulation/Kernels.ts"

/** Two namespaces of clients, two of endpoints. */
export const places = ["a", "b", "e", "f"] as const
export type Place = typeof places[number]

/** Where the manager's commands are carried out. A URL names a namespace as long as it exists. */
export interface Ground {
  /** The namespace that plays the part now. */
  readonly url: (place: Place) => string
  readonly look: (url: string) => Effect.Effect<Kernel.Snapshot>
  readonly plumb: (cross: Cross.Cross, previous: Cross.Cross | undefined) => Effect.Effect<void, Model.Failure>
  readonly adopt: (cross: Cross.Cross, previous: Cross.Cross) => Effect.Effect<void, Model.Failure>
  readonly unplumb: (cross: Cross.Cross) => Effect.Effect<void>
  readonly sweep: (keep: ReadonlyArray<Cross.Cross>) => Effect.Effect<void>
  /** Only the first operations of the plan: the forwarder was killed on the way. */
  readonly begin: (desired: Forward.Desired, operations: number) => Effect.Effect<void>
  /** What somebody else does in the namespace. */
  readonly change: (url: string, operation: Kernel.Operation) => Effect.Effect<void>
  /** Ends the namespace with all that it has a part in, and gives the part to a new one. */
  readonly renew: (place: Place) => Effect.Effect<void>
}

/** Modelled kernels, in which somebody else has a rule and a pair of links. */
export const modelled = (manager: string): Ground => {
  const kernels = Kernels.make()
  const urls = new Map<Place, string>()
  let serial = 0
  const create = (place: Place): void => {
    const url = `${place}${serial++}`
    urls.set(place, url)
    kernels.create(url)
    kernels.apply(url, { _tag: "AddRule", rule: foreignRule })
  }
  for (const place of places) create(place)
  const url = (place: Place): string => urls.get(place) ?? ""
  return {
    url,
    look: (url) => Effect.sync(() => kernels.get(url)),
    plumb: (cross, previous) =>
      attempt(() => {
        const seen = observed(kernels, ...(previous === undefined ? [cross] : [cross, previous]))
        const conflict = Forward.conflict(cross, seen)
        if (Cross.namespaces(cross).some((netns) => seen[netns] === undefined)) return goneNamespace
        if (conflict !== undefined) return { reason: "Conflict", message: conflict }
        carryOut(kernels, Forward.plan.plan({ cross, ...(previous === undefined ? {} : { previous }) }, seen))
        return undefined
      }),
    adopt: (cross, previous) =>
      attempt(() => {
        const seen = observed(kernels, cross, previous)
        if (!Forward.stands(cross, seen)) return goneNamespace
        carryOut(kernels, Forward.plan.plan({ cross, previous }, seen))
        return undefined
      }),
    unplumb: (cross) =>
      Effect.sync(() => carryOut(kernels, Forward.plan.plan({ previous: cross }, observed(kernels, cross)))),
    sweep: (keep) =>
      Effect.sync(() => {
        for (const netns of kernels.names()) {
          kernels.applyAll(netns, Forward.sweep(manager, keep, netns, kernels.get(netns)))
        }
      }),
    begin: ({ cross, previous }, operations) =>
      Effect.sync(() => {
        const seen = observed(kernels, ...[cross, previous].filter((cross) => cross !== undefined))
        if (cross !== undefined && Forward.conflict(cross, seen) !== undefined) return
        const plan = Forward.plan.plan({ ...(cross && { cross }), ...(previous && { previous }) }, seen)
        carryOut(kernels, plan.slice(0, operations))
      }),
    change: (url, operation) => Effect.sync(() => kernels.apply(url, operation)),
    renew: (place) =>
      Effect.sync(() => {
        kernels.remove(url(place))
        create(place)
      })
  }
}

const attempt = (act: () => Model.Failure | undefined): Effect.Effect<void, Model.Failure> =>
  Effect.suspend(() => {
    const failure = act()
    return failure === undefined ? Effect.void : Effect.fail(failure)
  })

/** A rule of somebody else, about a source that clients use too. */
export const foreignRule: Kernel.Rule = {
  family: "v4",
  priority: 100,
  table: 1,
  from: Cidr.unsafe("20.0.0.1/32"),
  foreign: false
}

const goneNamespace: Model.Failure = { reason: "NotFound", message: "a namespace or the pair is gone" }

/** The namespaces of a cross connect, as far as they exist. */
export const observed = (kernels: Kernels.Kernels, ...crosses: ReadonlyArray<Cross.Cross>): Forward.Observed =>
  Object.fromEntries(
    crosses.flatMap(Cross.namespaces).filter(kernels.exists).map((url) => [url, kernels.get(url)])
  )

/** Carries the operations out on modelled kernels. */
export const carryOut = (kernels: Kernels.Kernels, operations: ReadonlyArray<Forward.Operation>): void => {
  for (const operation of operations) {
    if (operation._tag === "Change") kernels.apply(operation.netns, operation.operation)
    else kernels.createPair(operation.alias, operation.client, operation.endpoint)
  }
}

/** What the forwarder decides in a namespace, as lines of text. */
export const ours = (
  { addresses, links, neighbours, routes, rules }: Kernel.Snapshot,
  manager: string
): ReadonlyArray<string> => {
  const own = links.filter(({ alias }) => alias?.startsWith(Cross.aliasPrefix(manager)))
  const isOn = (link: string | undefined) => own.some(({ name }) => name === link)
  return [
    ...own.map(({ alias, mac, mtu, name, up }) => `link ${name} ${alias} ${mac} mtu ${mtu} ${up ? "up" : "down"}`),
    ...addresses.filter(({ link }) => isOn(link)).map(({ cidr, link }) => `address ${cidr} on ${link}`),
    ...routes.filter(({ destination, hops }) => destination !== linkLocal && hops.some(({ link }) => isOn(link)))
      .map(({ destination, hops, metric, protocol, table }) => {
        const ways = hops.map(({ link, via = "" }) => `${link} ${via}`).toSorted().join(", ")
        return `route ${destination} by ${ways} metric ${metric} protocol ${protocol} table ${table}`
      }),
    ...rules.filter(({ priority }) => Cross.isPriority(priority))
      .map(({ family, from = "all", priority, table, traffic = {} }) =>
        `rule ${priority} ${family} from ${from} for ${JSON.stringify(traffic)} table ${table}`
      ),
    ...neighbours.filter(({ link, permanent }) => permanent && isOn(link))
      .map(({ ip, link, mac }) => `neighbour ${ip} ${mac} on ${link}`)
  ]
}

/** Fails with how the lines differ, if they do. */
export const isSame = (actual: ReadonlyArray<string>, expected: ReadonlyArray<string>, where: string): void => {
  const differences = [
    ...actual.filter((line) => !expected.includes(line)).map((line) => `unwanted ${line}`),
    ...expected.filter((line) => !actual.includes(line)).map((line) => `missing ${line}`)
  ]
  if (differences.length > 0) assert.fail(`${where}: ${differences.join("; ")}`)
}

const linkLocal = Cidr.unsafe("fe80::/64")

/** Everything in every namespace, but for neighbours that come and go by themselves. */
export const wholly = (ground: Ground): Effect.Effect<ReadonlyArray<string>> =>
  Effect.forEach(places, (place) =>
    Effect.map(ground.look(ground.url(place)), (seen) => {
      const neighbours = seen.neighbours.filter(({ permanent }) => permanent)
      return Object.entries({ ...seen, neighbours }).flatMap(([kind, objects]) =>
        objects.map((object) => `${kind} in ${place}: ${JSON.stringify(object)}`)
      )
    })).pipe(Effect.map((lines) => lines.flat()))
