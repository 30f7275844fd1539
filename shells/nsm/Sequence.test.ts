/** The sequences of `property-tests/nsm` with the forwarder on the kernel of this machine. */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Layer, Schedule } from "effect"
import * as Forward from "../../core/nsm/Forward.ts"
import * as Ground from "../../property-tests/nsm/Ground.ts"
import * as Scenario from "../../property-tests/nsm/Scenario.ts"
import * as Sequence from "../../property-tests/nsm/Sequence.ts"
import * as Namespace from "../netlink/Namespace.ts"
import * as Netlink from "../netlink/Netlink.ts"
import { Forwarder } from "./Forwarder.ts"
import * as Places from "./Places.ts"

const manager = Scenario.settings.name
const tag = `sl-seq-${process.pid}`

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
    cut: (url, link) =>
      Effect.flatMap(pathOf(url), (path) => inside(path, ({ apply }) => apply([{ _tag: "DeleteLink", link }]))),
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
