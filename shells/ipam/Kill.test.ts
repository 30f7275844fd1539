/**
 * The program is killed in the middle of a stream of commands, again and again. After each kill the file itself is read
 * and compared with what the clients know: nothing that was answered may be lost, nothing may be held twice.
 *
 * `SLUICE_KILLS=50 SLUICE_COMMANDS=10000` makes it long.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema, SubscriptionRef } from "effect"
import { copyFileSync, existsSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { Cidr, Ip } from "../../core/net/index.ts"
import { IPFamily } from "../../proto/gen/api/ipam/v1/ipam.ts"
import type * as Client from "../grpc/Client.ts"
import { allocate, child, ended, program, release, world } from "./Specimen.ts"

const kills = Number(process.env["SLUICE_KILLS"] ?? 5)
const commands = Number(process.env["SLUICE_COMMANDS"] ?? 400)
const workers = 16
const keysOfWorker = 100

const Row = Schema.Array(Schema.Struct({
  family: Ip.Family,
  conduit: Schema.String,
  node: Schema.String,
  child: Schema.String,
  level: Schema.Int,
  network: Cidr.Cidr
}))
type Row = (typeof Row.Type)[number]

/** What a client knows of a key: held (with its address), given back, or on its way when the process died. */
type Known =
  | { readonly _tag: "Held"; readonly address: string }
  | { readonly _tag: "Absent" }
  | { readonly _tag: "Unsure"; readonly before: string | undefined }

const absent: Known = { _tag: "Absent" }

/** Reads a copy, so that the program itself has to recover the file. */
const readStore = (path: string): ReadonlyArray<Row> => {
  for (const suffix of ["", "-wal"]) {
    const file = `${path}/data/registry.db${suffix}`
    if (existsSync(file)) copyFileSync(file, `${path}/copy.db${suffix}`)
  }
  const database = new DatabaseSync(`${path}/copy.db`)
  const rows = Schema.decodeUnknownSync(Row)(database.prepare("SELECT * FROM lease").all())
  database.close()
  return rows
}

const keyOf = ({ child, conduit, family, node }: Row): string => [family, conduit, node, child].join(" ")

const request = (key: string) => {
  const [family, conduit = "", node = "", name = ""] = key.split(" ")
  return child(name, { conduit, node, family: family === "v4" ? IPFamily.IPV4 : IPFamily.IPV6 })
}

/** Blocks of one level are distinct and lie in their parents. */
const checkTree = (rows: ReadonlyArray<Row>): void => {
  const byPath = new Map(rows.map((row) => [`${row.level} ${keyOf(row)}`, row]))
  const taken = new Set<string>()
  for (const row of rows) {
    assert.isFalse(taken.has(`${row.level} ${row.network}`), `${row.network} is held once`)
    taken.add(`${row.level} ${row.network}`)
    if (row.level === 0) continue
    const names = [row.conduit, row.node, row.child].map((name, n) => n < row.level - 1 ? name : "")
    const parent = byPath.get(`${row.level - 1} ${[row.family, ...names].join(" ")}`)
    assert.isTrue(parent !== undefined && Cidr.contains(parent.network, row.network), `${keyOf(row)} has its parent`)
  }
}

/** Compares the file with what the clients know, and settles what they are unsure of. */
const check = (rows: ReadonlyArray<Row>, known: Map<string, Known>): void => {
  const stored = new Map<string, string>(
    rows.filter(({ level }) => level === 3).map((row) => [keyOf(row), Cidr.ip(row.network)])
  )
  for (const key of stored.keys()) assert.isTrue(known.has(key), `${key} was asked for`)
  for (const [key, state] of known) {
    const address = stored.get(key)
    if (state._tag === "Held") assert.strictEqual(address, state.address, `${key} is kept`)
    if (state._tag === "Absent") assert.isUndefined(address, `${key} was given back`)
    if (state._tag === "Unsure") {
      assert.isTrue(
        state.before === undefined || address === undefined || address === state.before,
        `${key} never moves`
      )
      known.set(key, address === undefined ? absent : { _tag: "Held", address })
    }
  }
}

/** One client with keys of its own: allocates what it does not hold, and renews or gives back what it holds. */
const worker = (
  client: Client.Client,
  known: Map<string, Known>,
  id: number,
  random: () => number,
  count: () => void
) =>
  Effect.forever(Effect.gen(function*() {
    const n = Math.floor(random() * keysOfWorker)
    const key = [n % 2 === 0 ? "v4" : "v6", `conduit-${n % 3}`, `node-${id}`, `child-${n}`].join(" ")
    const before = known.get(key) ?? absent
    const address = before._tag === "Held" ? before.address : undefined
    known.set(key, { _tag: "Unsure", before: address })
    if (address !== undefined && random() < 0.7) {
      yield* release(client, request(key))
      known.set(key, absent)
    } else {
      const given = yield* allocate(client, request(key))
      if (address !== undefined) assert.strictEqual(given.split("/")[0], address, `${key} keeps its address`)
      known.set(key, { _tag: "Held", address: given.split("/")[0] ?? "" })
    }
    count()
  }))

const generator = (seed: number) => {
  let state = seed
  return () => (state = (state * 1_103_515_245 + 12_345) % 2_147_483_648) / 2_147_483_648
}

describe("sluice ipam, killed in the middle of its work", () => {
  it.live(
    `loses nothing and gives nothing twice (${kills} kills, each within ${commands} commands)`,
    () =>
      Effect.gen(function*() {
        const { conduits, path } = yield* world
        yield* SubscriptionRef.set(conduits, ["conduit-0", "conduit-1", "conduit-2"])
        const known = new Map<string, Known>()
        const random = generator(20_261_121)
        let answered = 0
        for (let round = 0; round < kills; round++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const { child: process, client } = yield* program(path)
            const last = answered + Math.floor(random() * commands)
            const dead = Promise.withResolvers<void>()
            const count = () => {
              answered += 1
              if (answered === last + 1) void ended(process, "SIGKILL").then(() => dead.resolve())
            }
            const clients = yield* Effect.forEach(
              Array.from({ length: workers }, (_, id) => worker(client, known, id, random, count)),
              (each) => Effect.forkChild(Effect.exit(each))
            )
            yield* Effect.promise(() => dead.promise)
            const exits = yield* Fiber.joinAll(clients)
            for (const exit of exits) assert.notInclude(String(exit), "AssertionError")
          }))
          const rows = readStore(path)
          checkTree(rows)
          check(rows, known)
        }
        assert.isAbove(answered, kills)
        const { client } = yield* program(path)
        for (const [key, state] of known) {
          if (state._tag !== "Held") continue
          assert.strictEqual((yield* allocate(client, request(key))).split("/")[0], state.address)
        }
      }),
    30_000 + kills * 5_000 + kills * commands * 3
  )
})
