import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { Ip } from "../../core/net/index.ts"
import * as Settings from "../runtime/Settings.ts"
import * as Config from "./Config.ts"

const read = (env: Settings.Environment): Config.Settings => Result.getOrThrow(Settings.decode(Config.settings, env))

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
