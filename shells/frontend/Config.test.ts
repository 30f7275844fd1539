import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import { Ip } from "../../core/net/index.ts"
import * as Settings from "../runtime/Settings.ts"
import * as Config from "./Config.ts"
import * as Main from "./Main.ts"

const read = (env: Settings.Environment): Config.Settings => Result.getOrThrow(Settings.decode(Config.settings, env))

/** Meridio cmd/frontend/internal/env/config.go: documented, then other accepted names. */
const original = [
  "NFE_VRRPS VRRPS = ",
  "NFE_EXTERNAL_INTERFACE = ext-vlan",
  "NFE_BIRD_CONFIG_PATH = /etc/bird",
  "NFE_BIRD_COMMUNICATION_SOCK = /var/run/bird/bird.ctl",
  "NFE_BIRD_LOG_FILE_SIZE = 20000",
  "NFE_BIRD_KERNEL_SCAN_TIME NFE_BIRD_SCAN_TIME = 10",
  "NFE_LOCAL_AS LOCAL_AS = 8103",
  "NFE_REMOTE_AS REMOTE_AS = 4248829953",
  "NFE_BGP_LOCAL_PORT BGP_LOCAL_PORT = 10179",
  "NFE_BGP_REMOTE_PORT BGP_REMOTE_PORT = 10179",
  "NFE_BGP_HOLD_TIME BGP_HOLD_TIME = 3",
  "NFE_TABLE_ID TABLE_ID = 4096",
  "NFE_DROP_IF_NO_PEER = true",
  "NFE_ECMP ECMP = false",
  "NFE_LOG_BIRD = false",
  "NFE_NSP_SERVICE = nsp-service-trench-a:7778",
  "NFE_NAMESPACE = default",
  "NFE_TRENCH_NAME = default",
  "NFE_ATTRACTOR_NAME = default",
  "NFE_LOG_LEVEL = DEBUG",
  "NFE_NSP_ENTRY_TIMEOUT NSP_ENTRY_TIMEOUT = 30s",
  "NFE_GRPC_KEEPALIVE_TIME GRPC_KEEPALIVE_TIME = 30s",
  "NFE_GRPC_MAX_BACKOFF GRPC_MAX_BACKOFF = 5s",
  "NFE_DELAY_CONNECTIVITY NFE_DELAYCONNECTIVITY = 1s",
  "NFE_DELAY_NO_CONNECTIVITY NFE_DELAYNOCONNECTIVITY = 3s",
  "NFE_MAX_SESSION_ERRORS NFE_MAXSESSIONERRORS = 5",
  "NFE_METRICS_ENABLED = false",
  "NFE_METRICS_PORT = 2224",
  "NFE_LB_SOCKET LB_SOCKET = unix:///var/lib/meridio/lb.sock"
]

const print = async (flag: string) => {
  const out: Array<string> = []
  const env = { NFE_TABLE_ID: "7", SECRET: "x" }
  const code = await Main.command.run([flag], { env, out: (text) => out.push(text), err: () => undefined })
  assert.strictEqual(code, 0)
  return out.join("\n")
}

const routerId = Ip.unsafe("10.0.0.1")

describe("The settings of the frontend", () => {
  it("have the defaults of the original", () => {
    const settings = read({})
    assert.deepStrictEqual(Config.validate(settings), [])
    const bird = Result.getOrThrow(Config.ofBird(settings, routerId))
    assert.deepInclude(bird, { localAs: 8103, remoteAs: 4_248_829_953, localPort: 10_179, holdTimeS: 3, table: 4096 })
    assert.deepInclude(Config.ofMachine(settings, bird), {
      dropIfNoPeer: true,
      delayConnectivityMs: 1000,
      delayNoConnectivityMs: 3000,
      maxSessionErrors: 5,
      nspEntryTimeoutMs: 30_000
    })
    assert.strictEqual(Config.birdConfigFile(settings), "/etc/bird/bird-fe-meridio.conf")
  })

  it("are all those of the original, with its defaults", () => {
    const entries = Object.values(Config.settings)
    const ours = /^(SLUICE_|NFE_SECRETS_PATH$)/
    const shown = entries.filter(({ names: [name] }) => !ours.test(name))
      .map(({ names, shown }) => `${names.join(" ")} = ${shown}`)
    assert.deepStrictEqual(shown.toSorted(), original.toSorted())
  })

  it("show on --debug with the machine, and on --help", async () => {
    const report = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown)))(
      await print("--debug")
    )
    assert.deepStrictEqual(report["environment-variables"], { NFE_TABLE_ID: "7" })
    assert.match(await print("--help"), /NFE_BGP_HOLD_TIME +3 +BGP hold time in seconds\./)
  })

  it("take documented names before historical and unprefixed ones", () => {
    assert.strictEqual(read({ NFE_DELAYCONNECTIVITY: "2s" }).delayConnectivityMs, 2000)
    assert.strictEqual(read({ NFE_DELAYCONNECTIVITY: "2s", NFE_DELAY_CONNECTIVITY: "300ms" }).delayConnectivityMs, 300)
    assert.strictEqual(read({ ECMP: "true" }).ecmp, true)
    assert.strictEqual(read({ TABLE_ID: "0x10" }).tableId, 16)
    assert.strictEqual(read({ NFE_BIRD_SCAN_TIME: "4" }).birdKernelScanTime, 4)
  })

  it("drop nothing in VRRP mode, whatever is asked for", () => {
    const settings = read({ NFE_VRRPS: "10.0.0.9/24, 2000::9", NFE_DROP_IF_NO_PEER: "true" })
    const bird = Result.getOrThrow(Config.ofBird(settings, routerId))
    assert.deepStrictEqual(bird.vrrps, [Ip.unsafe("10.0.0.9"), Ip.unsafe("2000::9")])
    assert.isFalse(Config.ofMachine(settings, bird).dropIfNoPeer)
  })

  it.each([
    ["NFE_LOCAL_AS", "0", "NFE_LOCAL_AS is 0; write 1 to 4294967295"],
    ["NFE_BGP_HOLD_TIME", "2", "NFE_BGP_HOLD_TIME is 2; write 3 to 65535, or 0 for none"],
    ["NFE_VRRPS", "10.0.0", "NFE_VRRPS has \"10.0.0\""],
    ["NFE_EXTERNAL_INTERFACE", "a b\";", "NFE_EXTERNAL_INTERFACE is \"a b\";\"; write 1 to 15"],
    ["NFE_TABLE_ID", "-1", "NFE_TABLE_ID is -1"]
  ])("refuse %s=%s and say what to write", (name, value, message) => {
    assert.include(Config.validate(read({ [name]: value })).join(), message)
  })
})
