import { assert, it } from "@effect/vitest"
import { Result } from "effect"
import { X509Certificate } from "node:crypto"
import * as Authority from "./dev/Authority.ts"
import * as SpiffeId from "./SpiffeId.ts"
import * as Svid from "./Svid.ts"

const now = 1_800_000_000_000
const hour = 3_600_000
const authority = Authority.make("example.org", now - hour, now + 24 * hour)
const root = new X509Certificate(authority.certificate)
const good: Authority.Leaf = { uris: ["spiffe://example.org/ns/a"], notBefore: now - hour, notAfter: now + hour }

const leafOf = (change: Partial<Authority.Leaf>, by = authority) =>
  new X509Certificate(Authority.issue(by, { ...good, ...change }).chain)

const problemOf = (verdict: Result.Result<unknown, Svid.SvidError>) =>
  Result.isFailure(verdict) ? verdict.failure.problem : "none"

it("a leaf made as it should be is believed by the bundle of its trust domain", () => {
  const peer = Result.getOrThrow(Svid.verify([leafOf({})], { "example.org": [root] }, now))
  assert.deepStrictEqual([peer.id.text, peer.id.trustDomain, peer.notAfter], [
    "spiffe://example.org/ns/a",
    "example.org",
    now + hour
  ])
})

const bad: ReadonlyArray<readonly [Svid.Problem, Partial<Authority.Leaf>]> = [
  ["NoUri", { uris: [] }],
  ["SeveralUris", { uris: ["spiffe://example.org/a", "spiffe://example.org/b"] }],
  ["NotSpiffe", { uris: ["https://example.org/a"] }],
  ["NotSpiffe", { uris: ["spiffe://example.org/a/../b"] }],
  ["NoPath", { uris: ["spiffe://example.org"] }],
  ["SignsCertificates", { usage: 0x84 }],
  ["SignsCertificates", { usage: 0x82 }],
  ["SignsNothing", { usage: 0x20 }],
  ["NotYetValid", { notBefore: now + 1000 }],
  ["Expired", { notAfter: now }],
  ["UnknownTrustDomain", { uris: ["spiffe://other.org/a"] }]
]

for (const [problem, change] of bad) {
  it(`a leaf with ${JSON.stringify(change)} is refused as ${problem}`, () => {
    assert.strictEqual(problemOf(Svid.verify([leafOf(change)], { "example.org": [root] }, now)), problem)
  })
}

it("an authority does not pass as a leaf, and no certificate at all is Missing", () => {
  const ca = Authority.subordinate({ ...authority, name: "example.org/x" }, now - hour, now + hour)
  assert.strictEqual(problemOf(Svid.leafId(new X509Certificate(ca.certificate))), "IsCa")
  assert.strictEqual(problemOf(Svid.leafId(root)), "NoPath")
  assert.strictEqual(problemOf(Svid.verify([], {}, now)), "Missing")
})

it("only the bundle of its own trust domain vouches for a leaf", () => {
  const other = Authority.make("other.org", now - hour, now + hour)
  const bundles = { "example.org": [root], "other.org": [new X509Certificate(other.certificate)] }
  assert.strictEqual(problemOf(Svid.verify([leafOf({}, other)], bundles, now)), "Untrusted")
  const honest = leafOf({ uris: ["spiffe://other.org/a"] }, other)
  assert.strictEqual(problemOf(Svid.verify([honest], bundles, now)), "none")
  const namesake = Authority.make("example.org", now - hour, now + hour)
  assert.strictEqual(problemOf(Svid.verify([leafOf({}, namesake)], bundles, now)), "Untrusted")
})

it("intermediates lead to the bundle, in any order, and must be in time themselves", () => {
  const one = Authority.subordinate(authority, now - hour, now + hour)
  const two = Authority.subordinate(one, now - hour, now + hour)
  const stale = Authority.subordinate(authority, now - 2 * hour, now - hour)
  const chain = [two, one].map(({ certificate }) => new X509Certificate(certificate))
  const leaf = leafOf({}, two)
  const bundles = { "example.org": [root] }
  assert.strictEqual(problemOf(Svid.verify([leaf, ...chain], bundles, now)), "none")
  assert.strictEqual(problemOf(Svid.verify([leaf, ...chain.toReversed()], bundles, now)), "none")
  assert.strictEqual(problemOf(Svid.verify([leaf], bundles, now)), "Untrusted")
  const late = [leafOf({}, stale), new X509Certificate(stale.certificate)]
  assert.strictEqual(problemOf(Svid.verify(late, bundles, now)), "Untrusted")
})

/** The answer of an agent, made of an identity. */
const answer = (issued: Authority.Issued, change: { readonly spiffeId?: string; readonly bundle?: Buffer } = {}) => ({
  svids: [{
    spiffeId: "spiffe://example.org/ns/a",
    x509Svid: issued.chain,
    x509SvidKey: issued.key,
    bundle: authority.certificate,
    hint: "",
    ...change
  }],
  crl: [],
  federatedBundles: {}
})

it("an answer of the agent becomes an identity only when everything in it fits", () => {
  const issued = Authority.issue(authority, good)
  const svid = Result.getOrThrow(Svid.fromResponse(answer(issued), now))
  assert.deepStrictEqual(Object.keys(svid.bundles), ["example.org"])
  assert.strictEqual(svid.chain.length, 1)
  const problems = [
    Svid.fromResponse({ svids: [], crl: [], federatedBundles: {} }, now),
    Svid.fromResponse(answer({ ...issued, chain: Buffer.of(1, 2, 3) }), now),
    Svid.fromResponse(answer({ ...issued, chain: Buffer.of(0x30, 0) }), now),
    Svid.fromResponse(answer({ ...issued, key: Buffer.of(1) }), now),
    Svid.fromResponse(answer({ ...issued, key: Authority.issue(authority, good).key }), now),
    Svid.fromResponse(answer(Authority.issue(authority, { ...good, curve: "P-384" })), now),
    Svid.fromResponse(answer(issued, { spiffeId: "spiffe://example.org/other" }), now),
    Svid.fromResponse(answer(issued, { bundle: Buffer.alloc(0) }), now)
  ].map(problemOf)
  assert.deepStrictEqual(problems, [
    "Missing",
    "Unreadable",
    "Unreadable",
    "Unreadable",
    "WrongKey",
    "NotP256",
    "NotSpiffe",
    "Unreadable"
  ])
})

it("SPIFFE ids are read by the rules of the standard", () => {
  const parsed = Result.getOrThrow(SpiffeId.parse("spiffe://k8s.nsm/ns/default/pod/nsmgr-x1"))
  assert.deepStrictEqual([parsed.trustDomain, parsed.path], ["k8s.nsm", "/ns/default/pod/nsmgr-x1"])
  for (const bad of ["", "spiffe://", "spiffe://A/b", "spiffe://a/", "spiffe://a//b", "spiffe://a/b?c", "http://a/b"]) {
    assert.isTrue(Result.isFailure(SpiffeId.parse(bad)), bad)
  }
})
