import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as Settings from "../runtime/Settings.ts"
import * as Config from "./Config.ts"

const read = (env: Settings.Environment) => Result.getOrThrow(Settings.decode(Config.settings, env))

const mac = (env: Settings.Environment) => Config.ofMachine(read(env)).mac

describe("The settings of the proxy", () => {
  it("have Meridio's defaults", () => {
    assert.deepInclude(read({}), {
      name: "proxy",
      serviceName: "proxy",
      connectTo: "unix:///var/lib/networkservicemesh/nsm.io.sock",
      dialTimeoutMs: 5_000,
      requestTimeoutMs: 15_000,
      maxTokenLifetimeMs: 86_400_000,
      ipamService: "ipam-service:7777",
      host: "",
      networkService: "load-balancer",
      namespace: "default",
      trench: "default",
      conduit: "load-balancer",
      nspServiceName: "nsp-service",
      nspServicePort: 7778,
      ipFamily: "dualstack",
      mtu: 1500,
      keepaliveMs: 30_000,
      probeTimeoutMs: 1_000,
      maxBackoffMs: 5_000,
      releaseDelayMs: 20_000,
      renewMs: 300_000
    })
    assert.deepStrictEqual(Config.validate(read({})), [])
    assert.strictEqual(Config.nspTarget(read({})), "nsp-service-default.default:7778")
  })

  it("fall back to names without prefix, where the original does", () => {
    const settings = read({ IP_FAMILY: "IPv4", IP_RELEASE_DELAY: "1m", BRIDGE_IP_RENEW_INTERVAL: "2m", MTU: "1400" })
    assert.deepStrictEqual(Config.families(settings), ["v4"])
    assert.deepInclude(settings, { releaseDelayMs: 60_000, renewMs: 120_000, mtu: 1500 })
    assert.deepStrictEqual(Config.families(read({ NSM_IP_FAMILY: "anything" })), ["v4", "v6"])
  })

  it.each([
    [{ NSM_MTU: "1279" }, "NSM_MTU is 1279, but NSM_IP_FAMILY dualstack needs 1280 to 65535"],
    [{ NSM_MTU: "575", NSM_IP_FAMILY: "ipv4" }, "NSM_MTU is 575, but NSM_IP_FAMILY ipv4 needs 576 to 65535"],
    [{ NSM_CONNECT_TO: "" }, "NSM_CONNECT_TO is empty; set the address of the NSM manager"],
    [{ NSM_IP_RELEASE_DELAY: "-1s" }, "NSM_IP_RELEASE_DELAY is -1000 ms; set 0s or more"],
    [{ NSM_DIAL_TIMEOUT: "0s" }, "NSM_DIAL_TIMEOUT is 0 ms, which leaves no time; set 1ms or more"],
    [{ NSM_NSP_SERVICE_PORT: "0" }, "NSM_NSP_SERVICE_PORT is 0; set a port from 1 to 65535"]
  ])("refuse %j and say what to do", (env, problem) => {
    assert.deepStrictEqual(Config.validate(read(env)), [problem])
  })

  it("give each (trench, conduit, node) a hardware address of its own, the same in every process", () => {
    assert.strictEqual(mac({ NSM_HOST: "a" }), mac({ NSM_HOST: "a", NSM_NAME: "another-pod" }))
    const all = [
      mac({}),
      mac({ NSM_HOST: "a" }),
      mac({ NSM_HOST: "b" }),
      mac({ NSM_CONDUIT: "b" }),
      mac({ NSM_TRENCH: "b" })
    ]
    assert.strictEqual(new Set(all).size, all.length)
    for (const one of all) assert.match(one, /^02(:[0-9a-f]{2}){5}$/)
  })
})
