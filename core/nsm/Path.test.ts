import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as Model from "./Model.ts"
import * as Path from "./Path.ts"

const client = (id: string, ...segments: ReadonlyArray<readonly [name: string, id: string]>): Model.Connection => ({
  ...Model.connection(id, "service"),
  path: { index: 0, segments: segments.map(([name, id]) => ({ name, id, token: "", metrics: {} })) }
})

const enter = (name: string, connection: Model.Connection) =>
  Result.getOrThrow(Path.enter({ name, freshId: "fresh" }, connection))

const ids = ({ path }: Model.Connection) => path.segments.map(({ name, id }) => `${name}:${id}`)

describe("Path", () => {
  it("believes nobody's proof in plain text, and keeps what needs none", () => {
    const plain = client("x", ["c", "x"], ["m", "y"])
    assert.strictEqual(Path.unsigned(plain), plain)
    const proof = { token: "t", expiresAt: 5, identity: "spiffe://d/m" }
    assert.deepStrictEqual(Path.unsigned(Path.sign(plain, 1, proof)), plain)
  })

  it("keeps the time of a proof, and sets one where there is no proof", () => {
    const plain = client("x", ["c", "x"])
    const proved = Path.sign(plain, 0, { token: "t", expiresAt: 5, identity: "spiffe://d/c" })
    assert.strictEqual(Path.last(proved, 0, 9), proved)
    assert.strictEqual(Path.last(plain, 0, 9).path.segments[0]?.expiresAt, 9)
  })

  it("P1: starts a path with the given id, or a fresh one", () => {
    assert.deepStrictEqual(ids(enter("c", client("x"))), ["c:x"])
    assert.deepStrictEqual(enter("c", client("")).id, "fresh")
  })

  it("P2: keeps id and index when the same hop enters again", () => {
    const entered = enter("c", client("other", ["c", "x"], ["m", "y"]))
    assert.strictEqual(entered.id, "x")
    assert.strictEqual(entered.path.index, 0)
  })

  it("P6: appends a segment with a fresh id", () => {
    const entered = enter("m", client("x", ["c", "x"]))
    assert.deepStrictEqual(ids(entered), ["c:x", "m:fresh"])
    assert.strictEqual(entered.id, "fresh")
    assert.strictEqual(entered.path.index, 1)
  })

  it("P7: takes its own id out of the path", () => {
    assert.strictEqual(enter("m", client("x", ["c", "x"], ["m", "y"], ["e", "z"])).id, "y")
  })

  it("P5: takes over the segment of another hop under a fresh id", () => {
    assert.deepStrictEqual(ids(enter("m", client("x", ["c", "x"], ["n", "y"], ["e", "z"]))), ["c:x", "m:fresh", "e:z"])
  })

  it("goes on to a hop of its own choice, whose segment keeps its token under the same name only", () => {
    const there = Path.sign(client("x", ["c", "x"], ["m", "y"], ["e", "z"]), 1, { token: "t", expiresAt: 5 })
    const same = Path.onward({ name: "m", id: "y2" }, there)
    assert.deepStrictEqual([same.id, same.path.index, ids(same)], ["y2", 1, ["c:x", "m:y2", "e:z"]])
    assert.strictEqual(same.path.segments[1]?.token, "t")
    assert.strictEqual(Path.onward({ name: "n", id: "y" }, there).path.segments[1]?.token, "")
    assert.deepStrictEqual(Path.toCaller(same).id, "x")
  })

  it("P3 P4: refuses an id that is not the caller's, and an index outside the path", () => {
    const foreign = Path.enter({ name: "m", freshId: "f" }, client("other", ["c", "x"]))
    assert.isTrue(Result.isFailure(foreign) && foreign.failure.includes("\"other\""))
    const outside = { ...client("x", ["c", "x"]), path: { ...client("x", ["c", "x"]).path, index: 1 } }
    assert.isTrue(Result.isFailure(Path.enter({ name: "m", freshId: "f" }, outside)))
  })

  const Name = Schema.Literals(["a", "b", "c"])
  const Way = Schema.Array(Name).check(Schema.isMinLength(1), Schema.isMaxLength(5))

  it.prop("walks the same way twice with the same ids, and gives the caller its view back", { way: Way }, ({ way }) => {
    const hops = way.map((name, i) => `${name}${i}`)
    const walk = (start: Model.Connection, round: string) =>
      hops.reduce((connection, name) => {
        const entered = Result.getOrThrow(Path.enter({ name, freshId: `${round}-${name}` }, connection))
        const back = Path.giveBack(connection, entered)
        assert.strictEqual(back.id, connection.id)
        assert.strictEqual(back.path.index, connection.path.index)
        return entered
      }, start)
    const first = walk(Model.connection("id", "service"), "1")
    assert.strictEqual(first.path.segments.length, hops.length)
    assert.strictEqual(first.path.segments[0]?.id, "id")
    assert.deepStrictEqual(Path.trim(first), first)
    const again = walk({ ...first, id: "id", path: { ...first.path, index: 0 } }, "2")
    assert.deepStrictEqual(again, first)
  })
})
