/**
 * Allocations per second of the IPAM: how the number of leases in a node matters (it should not), and what the machine,
 * the disk and the wire add to the bare decision.
 *
 * With each allocation a lease is given back, so that the number of leases stays as it is.
 */
import { Deferred, Effect, Result } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Ipam, Leases, type Model } from "../core/ipam/index.ts"
import { Cidr } from "../core/net/index.ts"
import { type Child, IpamDefinition, IPFamily } from "../proto/gen/api/ipam/v1/ipam.ts"
import * as Client from "../shells/grpc/Client.ts"
import * as Server from "../shells/grpc/Server.ts"
import * as Interpreter from "../shells/ipam/Interpreter.ts"
import * as Service from "../shells/ipam/Service.ts"
import * as Store from "../shells/ipam/Store.ts"
import * as Replies from "../shells/runtime/Replies.ts"
import * as Runner from "../shells/runtime/Runner.ts"
import * as Sqlite from "../shells/storage/Sqlite.ts"
import * as Bench from "./Bench.ts"

/** Wide enough for 100,000 leases in a node. */
const v4: Model.Pool = { family: "v4", prefix: Cidr.unsafe("10.0.0.0/8"), conduitLength: 10, nodeLength: 12 }
const v6: Model.Pool = { family: "v6", prefix: Cidr.unsafe("fd00::/48"), conduitLength: 56, nodeLength: 64 }

const allocate = (leases: Leases.Leases, name: string): Leases.Leases =>
  Result.getOrThrow(Leases.allocate(leases, ["conduit", "node", name], 0))[1]

/** That many leases, every second one given back and taken again, so that they are scattered. */
const filled = (pool: Model.Pool, count: number): Leases.Leases => {
  let [leases] = Leases.setConduits(Leases.load(pool, [], 0).leases, ["conduit"], 0)
  for (let n = 0; n < count * 1.5; n++) leases = allocate(leases, `child-${n}`)
  for (let n = 0; n < count * 0.5; n++) leases = Leases.release(leases, ["conduit", "node", `child-${n * 3}`])[0]
  return leases
}

const rounds = 2_000

/** Allocations among so many leases; the lowest free address, then that lease is given back. */
const bare = (pool: Model.Pool, count: number): Bench.Variant<never> => {
  let made: Leases.Leases | undefined
  const leases = () => made ??= filled(pool, count)
  return {
    name: `${pool.family}, ${count.toLocaleString("en")} leases in the node`,
    run: Effect.suspend(() => {
      const start = leases()
      return Bench.perSecond(
        rounds,
        Effect.sync(() => {
          let current = start
          for (let n = 0; n < rounds; n++) {
            current = allocate(current, `new-${n}`)
            current = Leases.release(current, ["conduit", "node", `new-${n}`])[0]
          }
        })
      )
    })
  }
}

const requests = 2_000
const inFlight = 64

const settings: Model.Settings = { trench: "t", pools: [v6], sweep: false, sweepIntervalMs: 0, leaseMs: 0 }

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-bench-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

const requestFor = (name: string): Child => ({
  name,
  subnet: {
    conduit: { name: "conduit", trench: { name: "t" }, destinationPortNats: [] },
    node: "node",
    ipFamily: IPFamily.IPV6
  }
})

/** The whole program but for its process: gRPC, machine, SQLite on disk. */
const overGrpc = (concurrency: number): Effect.Effect<number> =>
  Effect.scoped(Effect.gen(function*() {
    const store = yield* Store.open({ file: `${yield* folder}/leases.db`, trench: "t" })
    const replies = Replies.make<Model.Answer>()
    const ipam = yield* Runner.start(Ipam.machine, {
      input: { settings, entries: [] },
      perform: Interpreter.make(replies)
    }).pipe(Effect.provideService(Sqlite.Sqlite, store))
    ipam.send({ _tag: "ConduitsChanged", conduits: ["conduit"] })
    const { port } = yield* Server.serve({ address: "127.0.0.1:0", services: [Service.make(ipam.send, replies)] })
    const client = yield* Client.make({ target: `127.0.0.1:${port}` })
    const ask = (name: string) => client.call(IpamDefinition, "allocate", requestFor(name), { timeoutMs: 10_000 })
    yield* ask("first")
    const names = Array.from({ length: requests }, (_, n) => `child-${n}`)
    return yield* Bench.perSecond(requests, Effect.orDie(Effect.forEach(names, ask, { concurrency, discard: true })))
  })).pipe(Effect.orDie)

const inProcess = Bench.perSecond(
  requests,
  Effect.sync(() => {
    let [leases] = Leases.setConduits(Leases.load(v6, [], 0).leases, ["conduit"], 0)
    for (let n = 0; n < requests; n++) leases = allocate(leases, `child-${n}`)
  })
)

/** The machine and its runner, with a store that keeps nothing. */
const throughMachine = Effect.scoped(Effect.gen(function*() {
  const done = yield* Deferred.make<void>()
  let answers = 0
  const ipam = yield* Runner.start(Ipam.machine, {
    input: { settings, entries: [] },
    perform: (command: Ipam.Command, send: (event: Ipam.Event) => void) =>
      Effect.sync(() => {
        if (command._tag === "Persist") send({ _tag: "PersistSucceeded", call: command.call })
        else if (++answers === requests) Deferred.doneUnsafe(done, Effect.void)
      })
  })
  ipam.send({ _tag: "ConduitsChanged", conduits: ["conduit"] })
  return yield* Bench.perSecond(
    requests,
    Effect.suspend(() => {
      for (let reply = 0; reply < requests; reply++) {
        const child: Model.Child = {
          trench: "t",
          conduit: "conduit",
          family: "v6",
          node: "node",
          name: `child-${reply}`
        }
        ipam.send({ _tag: "AllocateRequested", reply, child })
      }
      return Deferred.await(done)
    })
  )
}))

export const bench: Bench.Bench = {
  name: "ipam",
  summary: "allocations per second by leases in the node, and over gRPC to disk against the bare decision",
  rows: Effect.gen(function*() {
    const rows: Array<Bench.Row> = []
    for (const pool of [v4, v6]) {
      const variants = [1_000, 10_000, 100_000].map((count) => bare(pool, count))
      rows.push(...yield* Bench.rows("ipam", "allocate and release", "1/s", variants, 7))
    }
    rows.push(
      ...yield* Bench.rows("ipam", "allocate", "1/s", [
        { name: "in process", run: inProcess },
        { name: "through the machine", run: throughMachine },
        { name: "over gRPC to disk, one after the other", run: overGrpc(1) },
        { name: `over gRPC to disk, ${inFlight} at a time`, run: overGrpc(inFlight) }
      ], 3)
    )
    return rows
  })
}
