/** The forwarder on the kernel of this machine: what upstream's do wrong, each by name, and random lives of connections. */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Layer, Order, Result, Schedule } from "effect"
import { Cidr, Ip, type Kernel } from "../../core/net/index.ts"
import * as Cross from "../../core/nsm/Cross.ts"
import * as Forward from "../../core/nsm/Forward.ts"
import * as Model from "../../core/nsm/Model.ts"
import * as Ground from "../../property-tests/nsm/Ground.ts"
import * as Scenario from "../../property-tests/nsm/Scenario.ts"
import * as Sequence from "../../property-tests/nsm/Sequence.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import { Forwarder } from "./Forwarder.ts"
import * as Places from "./Places.ts"

const manager = Scenario.settings.name
const tag = `sl-fwd-${process.pid}`

/** Nothing stays open: an open namespace would outlive its deletion. */
const inside = <A, E>(path: string, use: (netlink: Netlink.Netlink["Service"]) => Effect.Effect<A, E>) =>
  Effect.scoped(Effect.flatMap(Netlink.make(path), use)).pipe(Effect.orDie)

interface Named {
  readonly name: string
  readonly path: string
  readonly url: string
}

/** Four namespaces, each with a rule of somebody else, and the forwarder of this shell. */
const real = Effect.gen(function*() {
  const here = new Map<Ground.Place, Named>()
  let serial = 0
  const create = (place: Ground.Place) =>
    Effect.gen(function*() {
      const name = `${tag}-${place}${serial++}`
      yield* Namespace.create(name)
      const path = Namespace.named(name)
      here.set(place, { name, path, url: yield* Namespace.url(path) })
      yield* inside(path, ({ apply }) => apply([{ _tag: "AddRule", rule: Ground.foreignRule }]))
    }).pipe(Effect.orDie)
  const remove = (place: Ground.Place) =>
    Effect.suspend(() => Namespace.remove(here.get(place)?.name ?? "")).pipe(Effect.orDie)
  yield* Effect.addFinalizer(() => Effect.forEach(Ground.places, remove, { discard: true }))
  yield* Effect.forEach(Ground.places, create, { discard: true })

  const all = Effect.sync(() => new Map([...here.values()].map(({ path, url }) => [url, path])))
  const forwarder = yield* Forwarder.pipe(Effect.provide(yield* Layer.build(Forwarder.layer(manager, all))))
  const pathOf = (url: string) => Effect.map(all, (paths) => paths.get(url) ?? assert.fail(`no namespace ${url}`))
  const look = (url: string) => Effect.flatMap(pathOf(url), (path) => inside(path, ({ snapshot }) => snapshot))
  const aliases = (...places: ReadonlyArray<Ground.Place>) =>
    Effect.forEach(places, (place) => look(here.get(place)?.url ?? "")).pipe(
      Effect.map((seen) => seen.flatMap(({ links }) => links.flatMap(({ alias }) => alias ?? [])))
    )
  const ground: Ground.Ground = {
    url: (place) => here.get(place)?.url ?? "",
    look,
    plumb: forwarder.plumb,
    adopt: forwarder.adopt,
    unplumb: forwarder.unplumb,
    sweep: forwarder.sweep,
    begin: (desired, operations) =>
      Effect.scoped(Effect.gen(function*() {
        const places = yield* Places.open([desired.cross, desired.previous].filter((cross) => cross !== undefined))
        const seen = yield* Places.observe(places)
        const { cross } = desired
        if (cross !== undefined && Forward.conflict(cross, seen) !== undefined) return
        yield* Places.perform(Forward.plan.plan(desired, seen).slice(0, operations), places)
      })).pipe(Effect.orDie),
    change: (url, operation) => Effect.flatMap(pathOf(url), (path) => inside(path, ({ apply }) => apply([operation]))),
    // The far ends of its pairs go some time after the namespace.
    renew: (place) =>
      Effect.gen(function*() {
        const gone = yield* aliases(place)
        const others = Ground.places.filter((other) => other !== place)
        yield* remove(place)
        yield* Effect.repeat(aliases(...others), {
          until: (seen) => !seen.some((alias) => gone.includes(alias)),
          schedule: Schedule.spaced("2 millis")
        })
        yield* create(place)
      })
  }
  return ground
})

const cidrs = (...texts: ReadonlyArray<string>) => texts.map(Cidr.unsafe)
const vip4 = Cidr.unsafe("20.0.0.1/32")
const vip6 = Cidr.unsafe("2000::1/128")

interface Wish {
  readonly id?: string
  readonly link?: string
  readonly src?: ReadonlyArray<Cidr.Cidr>
  readonly policies?: ReadonlyArray<Model.Policy>
  readonly previous?: Cross.Cross
  readonly taken?: Cross.Cross
}

/** A connection from namespace a to namespace e. */
const cross = (
  ground: Ground.Ground,
  { id = "one", link = "nsm-0", policies = [], previous, src = [], taken }: Wish
): Cross.Cross =>
  Result.getOrThrow(Cross.make({
    manager,
    connection: {
      ...Model.connection(id, "service"),
      payload: "ETHERNET",
      mechanism: Model.kernelMechanism(ground.url("a"), link),
      context: {
        ...Model.emptyContext,
        ip: { ...Model.emptyIp, srcAddrs: src, dstAddrs: cidrs("172.16.0.100/24", "fd00::100/64"), policies }
      }
    },
    endpoint: Model.kernelMechanism(ground.url("e"), `to-${id}`),
    ...(previous === undefined ? {} : { previous }),
    taken: () => new Set(taken === undefined ? [] : Cross.tablesIn(ground.url("a"), taken))
  }))

const via = (from: Cidr.Cidr, ...gateways: ReadonlyArray<string>): Model.Policy => ({
  from,
  routes: gateways.map((gateway) => ({ prefix: Cidr.defaultRoute(Cidr.family(from)), nextHop: Ip.unsafe(gateway) }))
})

const ours = ({ routes, rules }: Kernel.Snapshot) => ({
  rules: rules.filter(({ priority }) => Cross.isPriority(priority)),
  gateways: routes.filter(({ table }) => table > 1_000).flatMap(({ hops }) => hops.flatMap(({ via }) => via ?? []))
    .toSorted(Order.String)
})

/** Runs with the namespaces, and looks at those of the client and of the endpoint. */
const test = (
  body: (
    ground: Ground.Ground,
    look: (place: "a" | "e") => Effect.Effect<Kernel.Snapshot>
  ) => Effect.Effect<void, Model.Failure>
) => Effect.scoped(Effect.flatMap(real, (ground) => body(ground, (place) => ground.look(ground.url(place)))))

describe("What upstream's forwarders do wrong", () => {
  it.live("rules leak when the interface vanished first: they go by their table", () =>
    test((ground, look) =>
      Effect.gen(function*() {
        const one = cross(ground, { src: [vip4], policies: [via(vip4, "172.16.0.1")] })
        yield* ground.plumb(one, undefined)
        assert.strictEqual(ours(yield* look("a")).rules.length, 1)
        yield* ground.change(ground.url("e"), { _tag: "DeleteLink", link: "to-one" })
        yield* ground.unplumb(one)
        assert.deepStrictEqual(ours(yield* look("a")).rules, [])
      })
    ))

  it.live("a new gateway of a policy is ignored: routes are compared and replaced", () =>
    test((ground, look) =>
      Effect.gen(function*() {
        const before = cross(ground, { src: [vip4, vip6], policies: [via(vip4, "172.16.0.1"), via(vip6, "fd00::1")] })
        yield* ground.plumb(before, undefined)
        const policies = [via(vip4, "172.16.0.8", "172.16.0.9"), via(vip6, "fd00::9")]
        yield* ground.plumb(cross(ground, { src: [vip4, vip6], policies, previous: before }), before)
        assert.deepStrictEqual(ours(yield* look("a")).gateways, ["172.16.0.8", "172.16.0.9", "fd00::9"].map(Ip.unsafe))
        assert.strictEqual(ours(yield* look("a")).rules.length, 2)
      })
    ))

  it.live("the close of a ghost flushes the tables of the live connection: each has its own", () =>
    test((ground, look) =>
      Effect.gen(function*() {
        const ghost = cross(ground, { id: "ghost", src: [vip4], policies: [via(vip4, "172.16.0.1")] })
        yield* ground.plumb(ghost, undefined)
        const wish = { id: "live", link: "nsm-1", src: [vip4], policies: [via(vip4, "172.16.0.9")] }
        yield* ground.plumb(cross(ground, { ...wish, taken: ghost }), undefined)
        yield* ground.unplumb(ghost)
        const { gateways, rules } = ours(yield* look("a"))
        assert.deepStrictEqual(rules.map(({ from }) => from), [vip4])
        assert.deepStrictEqual(gateways, [Ip.unsafe("172.16.0.9")])
      })
    ))

  it.live("a rule of somebody else about the same source is deleted: the table tells them apart", () =>
    test((ground, look) =>
      Effect.gen(function*() {
        const one = cross(ground, { src: [vip4], policies: [via(vip4, "172.16.0.1")] })
        const before = (yield* look("a")).rules
        assert.isTrue(before.some(({ from }) => from === vip4), "somebody else has one")
        yield* ground.plumb(one, undefined)
        yield* ground.unplumb(one)
        assert.deepStrictEqual((yield* look("a")).rules, before)
      })
    ))

  it.live("equal VIPs of two targets steal each other's route at the endpoint, where it stays: there is none", () =>
    test((ground, look) =>
      Effect.gen(function*() {
        const policies = [via(vip4, "172.16.0.1"), via(vip6, "fd00::1")]
        const one = cross(ground, { src: [...cidrs("172.16.0.2/24"), vip4, vip6], policies })
        yield* ground.plumb(one, undefined)
        const other = { id: "two", link: "nsm-1", src: [...cidrs("172.16.0.3/24"), vip4, vip6], policies, taken: one }
        yield* ground.plumb(cross(ground, other), undefined)
        const destinations = (yield* look("e")).routes.map(({ destination }) => destination)
        assert.notInclude(destinations, vip4)
        assert.notInclude(destinations, vip6)
      })
    ))

  it.live("the last addresses are never removed: an empty list is a list", () =>
    test((ground, look) =>
      Effect.gen(function*() {
        const before = cross(ground, { src: [...cidrs("172.16.0.2/24", "fd00::2/64"), vip4] })
        yield* ground.plumb(before, undefined)
        yield* ground.plumb(cross(ground, { previous: before }), before)
        assert.deepStrictEqual((yield* look("a")).addresses.filter(({ link }) => link === "nsm-0"), [])
      })
    ))

  it.live("addresses that somebody else gave the interface are deleted: they stay", () =>
    test((ground, look) =>
      Effect.gen(function*() {
        const before = cross(ground, { src: cidrs("172.16.0.2/24") })
        yield* ground.plumb(before, undefined)
        yield* ground.change(ground.url("a"), { _tag: "AddAddress", link: "nsm-0", cidr: Cidr.unsafe("10.9.9.9/32") })
        yield* ground.plumb(cross(ground, { src: cidrs("172.16.0.3/24"), previous: before }), before)
        const addresses = (yield* look("a")).addresses.filter(({ link }) => link === "nsm-0")
        assert.sameMembers(addresses.map(({ cidr }) => cidr), cidrs("10.9.9.9/32", "172.16.0.3/24"))
      })
    ))

  it.live("a policy without routes gets IPv4's default route for an IPv6 source: each family gets its own", () =>
    test((ground, look) =>
      Effect.gen(function*() {
        const policies = [vip4, vip6].map((from) => ({ from, routes: [] }))
        yield* ground.plumb(cross(ground, { src: [vip4, vip6], policies }), undefined)
        const routes = (yield* look("a")).routes.filter(({ table }) => table > 1_000)
        assert.sameMembers(routes.map(({ destination }) => destination), cidrs("0.0.0.0/0", "::/0"))
      })
    ))

  it.live("a second connection of a client makes a second interface: the alias finds the first", () =>
    test((ground, look) =>
      Effect.gen(function*() {
        const one = cross(ground, {})
        yield* ground.plumb(one, undefined)
        yield* ground.plumb(cross(ground, { link: "nsm-7" }), undefined)
        const links = (yield* look("a")).links.filter(({ kind }) => kind === "veth")
        assert.deepStrictEqual(links.map(({ name }) => name), ["nsm-7"])
      })
    ))
})

/** More for a long run: NSM_SEQUENCES=2000. */
const count = Number(process.env["NSM_SEQUENCES"] ?? 200)

describe("nsmgr on a real kernel", () => {
  it.live(
    "leaves nothing behind, whatever the order of requests, closes and crashes",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const ground = yield* real
        const sequences = yield* Arbitrary.sampleEffect(Sequence.sequences, { count, seed: 7, size: 20 })
        let moves = 0
        for (const [index, sequence] of sequences.entries()) {
          yield* Sequence.play(sequence, ground).pipe(
            Effect.tapDefect(() => Effect.logError(`Sequence ${index}`, JSON.stringify(sequence)))
          )
          moves += sequence.moves.length
        }
        assert.isAbove(moves, 5 * count)
      })),
    600_000
  )
})
