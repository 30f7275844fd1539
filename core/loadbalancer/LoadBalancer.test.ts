import { assert, describe, it } from "@effect/vitest"
import * as KernelModel from "../../property-tests/kernel/KernelModel.ts"
import { links, serving, stream, target, targets, vip } from "../../property-tests/loadbalancer/Machine.ts"
import * as Cidr from "../net/Cidr.ts"
import * as Ip from "../net/Ip.ts"
import type * as Kernel from "../net/Kernel.ts"
import * as LoadBalancer from "./LoadBalancer.ts"

describe("LoadBalancer", () => {
  it("touches nothing before it knows every list, then routes before it balances", () => {
    const world = serving()
    assert.deepStrictEqual(world.taken(), [])
    assert.isFalse(LoadBalancer.isAvailable(world.state))
    world.send({ _tag: "VipsChanged", vips: [vip] })
    assert.deepStrictEqual(world.taken(), [
      "+route 5001",
      "+route 5002",
      "+rule 5001",
      "+rule 5002",
      "rules: stream-a@5000[] stream-b@5002[] flows flow-a, anew",
      "serve",
      "rules: stream-a@5000[1,2] stream-b@5002[] flows flow-a"
    ])
    assert.isTrue(LoadBalancer.isAvailable(world.state))
  })

  it("balances without a target before it forgets the way to it, which packets that are on it still take", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.taken()
    world.send(targets(target(2, "172.16.0.12")))
    world.sleep(90)
    assert.deepStrictEqual(world.taken(), ["rules: stream-a@5000[2] stream-b@5002[] flows flow-a"])
    world.sleep(10)
    assert.deepStrictEqual(world.taken(), ["-rule 5001", "-route 5001"])
    world.send(targets())
    assert.isFalse(LoadBalancer.isAvailable(world.state))
  })

  it("uses no target that is disabled, without identifier, beyond the limit, of another conduit or out of reach", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.taken()
    world.send(targets(
      target(1, "172.16.0.11", { status: "disabled" }),
      target(2, "172.16.9.12"),
      target(3, "172.16.0.13"),
      target(1, "172.16.0.14", { context: {} }),
      target(1, "172.16.0.15", { stream: { trench: "trench-a", conduit: "conduit-b", stream: "stream-a" } })
    ))
    assert.deepStrictEqual(world.state.rules?.streams.flatMap(({ identifiers }) => identifiers), [])
    world.sleep(1_200)
    assert.deepStrictEqual(world.kernel.rules, links.rules)
  })

  it("takes a target out when its link goes, and in again when it returns", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.taken()
    world.change({ _tag: "SetLinkUp", link: "load-balan-a", up: false })
    assert.strictEqual(world.taken()[0], "rules: stream-a@5000[] stream-b@5002[] flows flow-a")
    assert.isFalse(LoadBalancer.isAvailable(world.state))
    world.change({ _tag: "SetLinkUp", link: "load-balan-a", up: true })
    assert.isTrue(LoadBalancer.isAvailable(world.state))
  })

  it("takes a target in at once that returns while it looks at what its leaving changed in the kernel", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    const [one, two] = [target(1, "172.16.0.11"), target(2, "172.16.0.12")]
    world.meanwhile = () => world.send(targets(one, two))
    world.send(targets(two))
    world.sleep(120)
    assert.deepStrictEqual(world.state.rules?.streams[0]?.identifiers, [1, 2])
  })

  it("drops its streams, its links and its endpoint with the frontend of its pod", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.taken()
    world.send({ _tag: "FrontendsChanged", frontends: ["lb-0"] })
    world.sleep(200)
    const log = world.taken()
    assert.deepStrictEqual(log.slice(0, 2), ["stop", "rules:  flows "])
    assert.include(log, "load-balan-a down")
    assert.deepStrictEqual(world.kernel.routes.filter(({ table }) => table > 5_000), [])
    assert.isFalse(LoadBalancer.isAvailable(world.state))
  })

  it("serves again once rules are in force, and does not wake in vain before", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    const { endpoint } = world.state
    world.refuseRules = true
    world.send(targets(target(2, "172.16.0.12")))
    world.send({ _tag: "EndpointFailed", call: "call" in endpoint ? endpoint.call : -1, reason: "no" })
    world.sleep(5_500)
    assert.isAbove(LoadBalancer.machine.wake(world.state) ?? 0, world.now)
    world.taken()
    world.refuseRules = false
    world.sleep(2_000)
    assert.include(world.taken(), "serve")
  })

  it("replaces the rules altogether after a failure, a second later", () => {
    const world = serving()
    world.refuseRules = true
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.refuseRules = false
    world.taken()
    world.sleep(999)
    assert.deepStrictEqual(world.taken(), [])
    world.sleep(10)
    assert.deepStrictEqual(world.taken(), ["rules: stream-a@5000[1,2] stream-b@5002[] flows flow-a, anew", "serve"])
  })

  it("believes an empty configuration only when it stands", () => {
    const world = serving()
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.taken()
    world.send({ _tag: "StreamsChanged", streams: [] })
    world.sleep(1_900)
    world.send({ _tag: "StreamsChanged", streams: [stream("stream-a"), stream("stream-b")] })
    world.sleep(5_000)
    assert.deepStrictEqual(world.taken(), [])
    world.send({ _tag: "StreamsChanged", streams: [] })
    world.sleep(2_100)
    assert.strictEqual(world.taken()[0], "rules:  flows flow-a")
  })

  it("lets frontends announce when it reaches all targets, or some for 2 s", () => {
    const world = serving()
    world.send(targets(target(1, "172.16.0.11"), target(2, "172.16.9.12")))
    world.send({ _tag: "VipsChanged", vips: [vip] })
    world.sleep(1_900)
    assert.isFalse(LoadBalancer.isAvailable(world.state))
    world.sleep(200)
    assert.isTrue(LoadBalancer.isAvailable(world.state))
    const other = serving()
    other.send(targets(target(1, "172.16.0.11"), target(2, "172.16.9.12")))
    other.send({ _tag: "VipsChanged", vips: [vip] })
    other.send(targets(target(1, "172.16.0.11"), target(2, "172.16.0.12")))
    assert.isTrue(LoadBalancer.isAvailable(other.state))
    other.send(targets(target(1, "172.16.0.11"), target(2, "172.16.9.12")))
    assert.isTrue(LoadBalancer.isAvailable(other.state), "a target that goes takes nothing from the others")
    other.send(targets())
    assert.isFalse(LoadBalancer.isAvailable(other.state))
  })

  it("takes the fast path where the frontend has its gateways, and does without it when the kernel refuses", () => {
    const world = serving()
    const rule = { family: "v4", priority: 100, table: 4_096, from: Cidr.network(vip.address), foreign: false } as const
    const hops = [{ via: Ip.unsafe("192.0.2.9"), link: "ext" }]
    const destination = Cidr.defaultRoute("v4")
    const shape = { family: "v4", table: 4_096, type: "unicast", metric: 32, protocol: 12, onlink: false } as const
    const gateway: Kernel.Route = { ...shape, destination, hops }
    world.kernel = KernelModel.applyAll(world.kernel, [
      { _tag: "AddBridge", name: "ext" },
      { _tag: "SetLinkUp", link: "ext", up: true },
      { _tag: "AddAddress", link: "ext", cidr: Cidr.unsafe("192.0.2.1/24") },
      { _tag: "AddRule", rule },
      {
        _tag: "ReplaceRoute",
        route: gateway
      }
    ])
    world.send({ _tag: "VipsChanged", vips: [vip] })
    const rules = "rules: stream-a@5000[1,2] stream-b@5002[] flows flow-a"
    assert.strictEqual(world.taken().at(-1), `${rules}, from ext`)
    world.change({ _tag: "DeleteRoute", route: gateway })
    assert.deepStrictEqual(world.taken(), [rules])
    world.refuseFastPath = true
    world.change({ _tag: "ReplaceRoute", route: gateway })
    world.sleep(30_000)
    assert.deepStrictEqual(world.taken(), [`${rules}, anew`])
    assert.isTrue(LoadBalancer.isAvailable(world.state))
    world.refuseFastPath = false
    world.sleep(31_000)
    assert.deepStrictEqual(world.taken(), [`${rules}, from ext`])
    world.refuseFastPath = true
    world.change({ _tag: "SetLinkMtu", link: "ext", mtu: 9_000 })
    assert.deepStrictEqual(world.taken(), [`${rules}, anew`])
    world.refuseFastPath = false
    world.change({ _tag: "SetLinkMtu", link: "ext", mtu: 1_500 })
    assert.deepStrictEqual(world.taken(), [`${rules}, from ext`], "at once when it leads elsewhere")
  })
})
