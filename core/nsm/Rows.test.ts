import { assert, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"

/**
 * What upstream's chains of clients, endpoints and registry clients do, row by row, with our deviations marked "ours".
 * Each row has a test whose name begins with its letter and number.
 */
const rows: { readonly [row: string]: string } = {
  P1: "no segments: append the own one with the given id or a new one, index 0",
  P2: "the own name at the index: nothing moves",
  P3: "another name and an id that is not the connection's: error",
  P4: "an index outside the path: error",
  P5: "the next segment has another name: take it over under a new id",
  P6: "no next segment: append one",
  P7: "the next segment has the own name: keep its id",
  P8: "each hop gives its caller the caller's id and index back",

  B1: "no id: error",
  B2: "what concerns one connection goes one after another, in order of arrival",
  B3: "client: an endpoint's name counts only if it differs from the last answer",
  B4: "client: a context counts only if it differs from the last answer; extra values merge three ways",
  B5: "client: labels, mechanism, payload, state and path of a later request do not count",
  B6: "a failed first request leaves nothing",
  B7: "a failed later request leaves the connection established",
  B8: "closing the unknown is a success",
  B9: "a close takes the connection as stored last",
  B10: "a second close does nothing",
  B11: "server: a request is taken as it comes",
  B12: "server: a reselection closes first",
  B13: "server: the answer is Up",
  B14: "refreshes, heals and closes have the limit of the request",

  R1: "refresh after a fifth of the shortest lifetime in the path",
  R2: "at once when that is over (ours: after the smallest back-off)",
  R3: "a success moves the refresh",
  R4: "a failure keeps it",
  R5: "a failed refresh is repeated (ours: with back-off)",
  R6: "a close cancels it",

  H1: "after a success the own segment is monitored",
  H2: "only the own record at the own hop or the next counts",
  H3: "the end of the monitor is a loss (ours: the same is asked for first)",
  H4: "a deletion is a loss",
  H5: "a reselection drops mechanism and endpoint and keeps the context",
  H6: "a heal repeats until it works (ours: with back-off and jitter)",
  H7: "a close ends it",
  H8: "one heal at a time",
  H9: "a monitor that broke begins again",
  H10: "a pinned endpoint stays",
  H11: "after failures the endpoint is given up (ours)",
  H12: "a wish of the other side is a refresh",

  C1: "a close reaches the next hop",
  C2: "a close that fails is repeated, then left to the expiry (ours)",

  E1: "a connection ends a request's limit before the caller's token",
  E2: "no expiry in the path: error (ours: the own lifetime)",
  E3: "a refresh moves the end, a close cancels it",
  E4: "a monitor hears all at once, even nothing",
  E5: "then updates, ends, and Down when a later request fails",
  E6: "mechanisms: the chosen one is in the answer, others are refused",
  E7: "kernel: the own namespace, and a name of ten characters and a rest",
  E8: "the same id gets the same answer",
  E9: "a reselection ends the old connection first",
  E10: "the path ends at the endpoint",
  E11: "nothing empty is told",
  E12: "slow monitors queue up without bound (ours: skip what lies between)",

  G1: "registrations of one name go one after another",
  G2: "again under the original name, without the granted expiry",
  G3: "refresh at two thirds of the time; the end cancels it",
  G4: "no expiry is a minute",
  G5: "the end of the watch registers again",
  G6: "a find that ends is opened again",
  G7: "the end takes the registration out",
  G8: "failures are repeated for ever (ours: with back-off)",
  G9: "the path of the registration goes back and forth with the tokens of both sides",
  G10: "services are defined first, and again after a loss",
  G11: "a watcher that does not read is cut off (ours: nothing queues up for it)",

  T1: "every request carries one token, addressed to the peer, no longer than certificate and lifetime",
  T2: "an expired token in the path is refused",
  T3: "the caller signed the token before ours",
  T4: "a strict client checks the whole path of the answer, and that the next token is signed by its server"
}

it("every row of the chains has a test of its name", () => {
  const folders = ["core/nsm", "shells/nsm", "shells/sdk", "shells/spiffe"]
  const texts = folders.flatMap((folder) => {
    const url = new URL(`../../${folder}/`, import.meta.url)
    return readdirSync(url).filter((file) => file.endsWith(".test.ts")).map((file) =>
      readFileSync(new URL(file, url), "utf8")
    )
  })
  const names = texts.flatMap((text) =>
    [...text.matchAll(/\bit(?:\.\w+)?\(\s*["`]((?:[A-Z]\d+ )*[A-Z]\d+):/g)].map(([, name = ""]) => name)
  )
  const tested = new Set(names.flatMap((name) => name.split(" ")))
  assert.deepStrictEqual(Object.keys(rows).filter((row) => !tested.has(row)), [])
  assert.deepStrictEqual([...tested].filter((row) => !Object.hasOwn(rows, row)), [])
})
