/** `sluice spiffe-dev`: identities for tests and laptops, where no SPIRE runs. Never for production. */
import { Effect, Result, Schema } from "effect"
import * as Settings from "../../runtime/Settings.ts"
import * as Tool from "../../runtime/Tool.ts"
import * as SpiffeId from "../SpiffeId.ts"
import * as WorkloadApi from "./WorkloadApi.ts"

const usage = `Usage: sluice spiffe-dev --socket PATH --id SPIFFE-ID [--ttl 1h]
       sluice spiffe-dev --identity SPIFFE-ID=PATH [--identity ...] [--ttl 1h]

A SPIFFE agent for TESTS AND LAPTOPS ONLY. Its authority lives in memory and ends with it, and whoever may open a socket
gets the identity. Point programs at it with SPIFFE_ENDPOINT_SOCKET=unix:///PATH.

  --socket PATH       the socket of the Workload API
  --id SPIFFE-ID      who connects there, for example spiffe://example.org/ns/default/pod/nsmgr
  --identity ID=PATH  the same for several, one socket each
  --ttl DURATION      life of a certificate, default 1h; the next one comes after a third of it`

export const command = Tool.tool({
  name: "spiffe-dev",
  summary: "Gives SPIFFE identities on this machine, for tests and laptops only.",
  usage,
  options: {
    socket: { type: "string" },
    id: { type: "string" },
    identity: { type: "string", multiple: true },
    ttl: { type: "string", default: "1h" }
  },
  main: ({ options }, { err, out }) =>
    Effect.gen(function*() {
      const read = identities(options)
      const ttl = Schema.decodeUnknownResult(Settings.DurationMs)(options["ttl"])
      if (Result.isFailure(read) || Result.isFailure(ttl) || ttl.success < 1000) {
        err(`sluice spiffe-dev: ${Result.isFailure(read) ? read.failure : "--ttl needs a duration of 1s or more"}`)
        err(usage)
        return 2
      }
      yield* WorkloadApi.serve({ identities: read.success, ttlMs: ttl.success })
      for (const { address, id } of read.success) out(`${id.text} at ${address} (development only)`)
      return yield* Effect.never
    })
})

const identities = (
  options: Tool.Arguments["options"]
): Result.Result<ReadonlyArray<WorkloadApi.Identity>, string> =>
  Result.gen(function*() {
    const { id, identity, socket } = options
    if ((id === undefined) !== (socket === undefined)) return yield* Result.fail("--id and --socket belong together")
    const pairs = (Array.isArray(identity) ? identity : []).map(String)
    if (id !== undefined) pairs.push(`${String(id)}=${String(socket)}`)
    if (pairs.length === 0) return yield* Result.fail("no identity is given")
    const found: Array<WorkloadApi.Identity> = []
    for (const pair of pairs) found.push(yield* identityOf(pair))
    return found
  })

const identityOf = (pair: string): Result.Result<WorkloadApi.Identity, string> =>
  Result.gen(function*() {
    const [text = "", ...rest] = pair.split("=")
    const path = rest.join("=").replace(/^unix:(\/\/)?/, "")
    const id = yield* SpiffeId.parse(text)
    if (id.path === "") return yield* Result.fail(`"${text}" has no path, so it names no workload`)
    if (!path.startsWith("/")) return yield* Result.fail(`"${path}" is not an absolute path of a socket`)
    return { id, address: `unix://${path}` }
  })
