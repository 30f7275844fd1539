import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as Settings from "../runtime/Settings.ts"
import * as Config from "./Config.ts"

const decode = (env: Settings.Environment) => Settings.decode(Config.settings, env)
const values = (env: Settings.Environment) => Result.getOrThrow(decode(env))

/** Name, default and another value as they are written, and how the value is called here. */
const table = [
  ["IPAM_PORT", 7777, "7000", 7000, "port"],
  ["IPAM_DATASOURCE", "/run/ipam/data/registry.db", "/tmp/x.db", "/tmp/x.db", "dataSource"],
  ["IPAM_TRENCH_NAME", "default", "trench-a", "trench-a", "trench"],
  ["IPAM_NSP_SERVICE", "nsp-service:7778", "nsp:1", "nsp:1", "nspService"],
  ["IPAM_PREFIX_IPV4", "169.255.0.0/16", "172.16.0.0/16", "172.16.0.0/16", "prefixV4"],
  ["IPAM_PREFIX_IPV6", "fd00::/48", "fd01::/48", "fd01::/48", "prefixV6"],
  ["IPAM_CONDUIT_PREFIX_LENGTH_IPV4", 20, "18", 18, "conduitLengthV4"],
  ["IPAM_CONDUIT_PREFIX_LENGTH_IPV6", 56, "54", 54, "conduitLengthV6"],
  ["IPAM_NODE_PREFIX_LENGTH_IPV4", 24, "25", 25, "nodeLengthV4"],
  ["IPAM_NODE_PREFIX_LENGTH_IPV6", 64, "65", 65, "nodeLengthV6"],
  ["IPAM_IP_FAMILY", "dualstack", "ipv4", "ipv4", "ipFamily"],
  ["IPAM_LOG_LEVEL", "DEBUG", "TRACE", "TRACE", "logLevel"],
  ["IPAM_GRPC_KEEPALIVE_TIME", 30_000, "1m", 60_000, "keepaliveMs"],
  ["IPAM_GRPC_PROBE_RPC_TIMEOUT", 1_000, "3s", 3_000, "probeTimeoutMs"],
  ["IPAM_GRPC_MAX_BACKOFF", 5_000, "10s", 10_000, "maxBackoffMs"],
  ["IPAM_GARBAGE_COLLECTION_ENABLED", true, "false", false, "sweep"],
  ["IPAM_GARBAGE_COLLECTION_INTERVAL", 7_200_000, "1h", 3_600_000, "sweepIntervalMs"],
  ["IPAM_GARBAGE_COLLECTION_THRESHOLD", 2_400_000, "1h30m", 5_400_000, "leaseMs"]
] as const

describe("The settings of the IPAM", () => {
  it("are those of Meridio, and no others", () => {
    assert.sameMembers(Object.keys(Config.settings), table.map((row) => row[4]))
  })

  it.each(table)("%s", (name, fallback, text, value, key) => {
    assert.strictEqual<unknown>(values({})[key], fallback)
    assert.strictEqual<unknown>(values({ [name]: text })[key], value)
  })

  it.each(table.filter(([name]) => /PREFIX|LENGTH|IP_FAMILY|GRPC/.test(name)))(
    "%s is also read without IPAM_",
    (name, _, text, value, key) => {
      const short = name.replace("IPAM_", "")
      assert.strictEqual<unknown>(values({ [short]: text })[key], value)
      assert.strictEqual<unknown>(values({ [short]: "unread", [name]: text })[key], value)
    }
  )

  it("IPAM_DATA_SOURCE, as the documents call it, is read too", () => {
    assert.strictEqual(values({ IPAM_DATA_SOURCE: "/a" }).dataSource, "/a")
    assert.strictEqual(values({ IPAM_DATA_SOURCE: "/a", IPAM_DATASOURCE: "/b" }).dataSource, "/b")
  })

  it("name all bad variables with their value and a remedy", () => {
    const bad = decode({ IPAM_PREFIX_IPV4: "172.16.0.0", IPAM_PORT: "http", IPAM_GARBAGE_COLLECTION_INTERVAL: "2" })
    assert.deepStrictEqual(Result.isFailure(bad) ? bad.failure.map(({ message }) => message) : [], [
      `IPAM_PORT="http" is not usable: write an integer such as 7778 (a leading zero means octal), or unset it to use "7777"`,
      `IPAM_PREFIX_IPV4="172.16.0.0" is not usable: write a prefix such as 172.16.0.0/16 or fd00::/48, or unset it to use "169.255.0.0/16"`,
      `IPAM_GARBAGE_COLLECTION_INTERVAL="2" is not usable: write a duration with units such as 500ms, 15s or 1m30s, or unset it to use "2h0m0s"`
    ])
  })

  it.each([
    ["ipv4", ["v4"]],
    ["IPv4", ["v4"]],
    ["ipv6", ["v6"]],
    ["IPV6", ["v6"]],
    ["dualstack", ["v4", "v6"]],
    ["anything", ["v4", "v6"]],
    ["", ["v4", "v6"]]
  ])("IPAM_IP_FAMILY=%s serves %j", (text, families) => {
    assert.deepStrictEqual<ReadonlyArray<string>>(
      Config.pools(values({ IPAM_IP_FAMILY: text })).map(({ family }) => family),
      families
    )
  })

  it.each([
    [{}, []],
    [{ IPAM_PREFIX_IPV4: "172.16.0.0/20" }, ["IPAM_PREFIX_IPV4=172.16.0.0/20"]],
    [{ IPAM_PREFIX_IPV6: "172.16.0.0/16" }, ["IPAM_PREFIX_IPV6=172.16.0.0/16"]],
    [{ IPAM_CONDUIT_PREFIX_LENGTH_IPV4: "24" }, ["IPAM_CONDUIT_PREFIX_LENGTH_IPV4=24"]],
    [{ IPAM_NODE_PREFIX_LENGTH_IPV4: "31" }, ["IPAM_NODE_PREFIX_LENGTH_IPV4=31"]],
    [{ IPAM_NODE_PREFIX_LENGTH_IPV6: "127" }, ["IPAM_NODE_PREFIX_LENGTH_IPV6=127"]],
    [{ IPAM_NODE_PREFIX_LENGTH_IPV6: "127", IPAM_IP_FAMILY: "ipv4" }, []],
    [{ IPAM_GARBAGE_COLLECTION_INTERVAL: "0s" }, ["IPAM_GARBAGE_COLLECTION_INTERVAL"]],
    [{ IPAM_GARBAGE_COLLECTION_INTERVAL: "0s", IPAM_GARBAGE_COLLECTION_ENABLED: "false" }, []]
  ])("that do not fit together are refused: %j", (env: Settings.Environment, expected) => {
    const problems = Config.validate(values(env))
    assert.strictEqual(problems.length, expected.length)
    for (const [n, text] of expected.entries()) assert.include(problems[n], text)
  })

  it("take host bits off a prefix", () => {
    assert.strictEqual(Config.pools(values({ IPAM_PREFIX_IPV4: "172.16.3.4/16" }))[0]?.prefix, "172.16.0.0/16")
  })

  it("raise a threshold that would take addresses from living clients, and say so", () => {
    const short = values({ IPAM_GARBAGE_COLLECTION_THRESHOLD: "1m" })
    assert.strictEqual(Config.toMachine(short).leaseMs, 900_000)
    assert.match(Config.notices(short)[0] ?? "", /^IPAM_GARBAGE_COLLECTION_THRESHOLD=60000ms would take addresses/)
    assert.deepStrictEqual(Config.notices(values({})), [])
    assert.strictEqual(Config.toMachine(values({})).leaseMs, 2_400_000)
  })
})
