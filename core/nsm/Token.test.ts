import { assert, it } from "@effect/vitest"
import { Result } from "effect"
import * as RegistryPath from "./RegistryPath.ts"
import * as Token from "./Token.ts"

const signature = Uint8Array.of(1, 2, 3)
const token = (sub: string, aud: string, exp = 100) => Token.join(Token.toSign({ sub, aud: [aud], exp }), signature)

const ok = (verdict: Token.Verdict) => assert.deepStrictEqual(verdict, Result.succeed(undefined))
const says = (verdict: Token.Verdict, part: string) => assert.include(Result.getOrThrow(Result.flip(verdict)), part)

it("a token is read back as it was made", () => {
  const text = token("spiffe://d/a", "spiffe://d/b")
  assert.deepStrictEqual(Result.getOrThrow(Token.decode(text)), {
    algorithm: "ES256",
    claims: { sub: "spiffe://d/a", aud: ["spiffe://d/b"], exp: 100 },
    signed: text.slice(0, text.lastIndexOf(".")),
    signature
  })
})

it("what is no token is refused with a reason", () => {
  for (const bad of ["", "a.b", "a.b.c.d", "!.e30.AA", "bnVsbA.e30.AA", "e30.e30.AA"]) {
    assert.isTrue(Result.isFailure(Token.decode(bad)), bad)
  }
  says(Token.valid([token("a", "b"), "x"]), "segment 1")
})

it("a token ends with its lifetime or its certificate, and is told to end with that of the peer", () => {
  const limits = { now: 1_000_500, maxLifetimeMs: 600_000, ownNotAfter: 9_000_000 }
  assert.deepStrictEqual(Token.ends(limits), { exp: 1600, expiresAt: 1_600_500 })
  assert.deepStrictEqual(Token.ends({ ...limits, ownNotAfter: 1_200_000 }), { exp: 1200, expiresAt: 1_200_000 })
  assert.deepStrictEqual(Token.ends({ ...limits, peerNotAfter: 1_100_000 }), { exp: 1600, expiresAt: 1_100_000 })
})

it("a path is good when its tokens are read, fresh, addressed to each other and the last caller signed", () => {
  const path = [token("c", "m"), token("m", "f"), token("f", "e")]
  ok(Token.server(path, 2, 99_999, (text) => text === path[1]))
  ok(Token.client(path, 0, 99_999, (text) => text === path[1]))
  says(Token.server(path, 2, 100_000, () => true), "segment 0 has expired")
  says(Token.server(path, 2, 0, () => false), "segment 1 was not signed")
  says(Token.server([path[0] ?? "", path[2] ?? ""], 1, 0, () => true), "segment 0 is not addressed")
  says(Token.server([path[0] ?? ""], 0, 0, () => true), "there is no segment -1")
})

it("what comes after a server is none of its business", () => {
  ok(Token.server([token("c", "m"), token("m", "f"), "garbage"], 1, 0, () => true))
})

it("an audience as text does not chain", () => {
  const text = Token.join(`${btoa(`{"alg":"ES256"}`)}.${btoa(`{"sub":"c","aud":"m","exp":9}`)}`, signature)
  ok(Token.valid([text]))
  says(Token.chained([text, token("m", "f")]), "segment 0")
})

it("metadata is written for Go and read from Go", () => {
  const sent = Token.toMetadata("t", 1_700_000_000_123)
  assert.deepStrictEqual(sent, {
    "nsm-client-token": "t",
    "nsm-client-token-expires": "2023-11-14T22:13:20.123Z"
  })
  assert.deepStrictEqual(Token.fromMetadata(sent), { token: "t", expiresAt: 1_700_000_000_123 })
  const go = { ...sent, "nsm-client-token-expires": "2023-11-14T23:13:20.123456789+01:00" }
  assert.deepStrictEqual(Token.fromMetadata(go), { token: "t", expiresAt: 1_700_000_000_123 })
  for (const expires of ["", "soon", "2023"]) {
    assert.isUndefined(Token.fromMetadata({ ...sent, "nsm-client-token-expires": expires }))
  }
  assert.isUndefined(Token.fromMetadata({}))
})

it("the path of a registration grows by caller and server, and goes back as the caller knows it", () => {
  assert.strictEqual(RegistryPath.encode(RegistryPath.empty), `{"Index":0,"PathSegments":null}`)
  const received = Result.getOrThrow(RegistryPath.decode(`{"Index":0,"PathSegments":null}`))
  const entered = RegistryPath.enter(received, "client", "server")
  assert.deepStrictEqual(entered, { index: 1, tokens: ["client", "server"] })
  const answer = RegistryPath.giveBack(received, entered)
  assert.strictEqual(
    RegistryPath.encode(answer),
    `{"Index":0,"PathSegments":[{"token":"client"},{"token":"server"}]}`
  )
  assert.deepStrictEqual(RegistryPath.decode(RegistryPath.encode(answer)), Result.succeed(answer))
  assert.deepStrictEqual(RegistryPath.enter(answer, "newer", "server"), { index: 1, tokens: ["newer", "server"] })
  for (const bad of ["", "[]", `{"Index":-1}`, `{"PathSegments":"x"}`]) {
    assert.isTrue(Result.isFailure(RegistryPath.decode(bad)), bad)
  }
})
