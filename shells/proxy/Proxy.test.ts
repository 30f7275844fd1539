import { assert, describe, it } from "@effect/vitest"
import { Effect, Ref, SubscriptionRef } from "effect"
import * as Nsm from "../../core/nsm/Model.ts"
import { NsmClient } from "../sdk/Client.ts"
import {
  ended,
  hops,
  inside,
  loadBalancer,
  look,
  outside,
  ports,
  rules,
  same,
  sees,
  target,
  until,
  wanted,
  withVips,
  world
} from "./Specimen.ts"

describe("sluice proxy", () => {
  it.live(
    "joins load balancers and targets, follows what changes, survives kill -9, and takes leave on SIGTERM",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const here = yield* world
        yield* here.nsp
        yield* here.nsmgr
        yield* here.ipam
        const first = yield* here.proxy
        yield* until("the endpoint is alive", here.probe("Liveness"))
        assert.isFalse(yield* here.probe("Readiness"), "without a load balancer it is not ready")
        const idle = yield* look(here.namespaces.proxy)
        const bridge = idle.addresses.filter(({ link }) => link === "bridge0").map(({ cidr }) => String(cidr))
        assert.sameMembers(bridge, ["169.255.0.1/24", "fd00::1/64"])
        yield* until(
          "the VIPs have rules",
          sees(here, (seen) => same(rules(seen), "32000 20.0.0.1/32", "32000 2000::1/128"))
        )
        assert.lengthOf(idle.routes.filter(({ table, type }) => table === 1 && type === "unreachable"), 2)

        const lb1 = yield* loadBalancer(here, here.namespaces.lb1, "lb-1")
        const hops1 = ["169.255.0.2 bridge0", "fd00::2 bridge0"]
        yield* until("the first load balancer is the default", sees(here, (seen) => same(hops(seen), ...hops1)))
        yield* until("it is ready", here.probe("Readiness"))
        const lb2 = yield* loadBalancer(here, here.namespaces.lb2, "lb-2")
        const hops2 = ["169.255.0.4 bridge0", "fd00::4 bridge0"]
        yield* until("both are", sees(here, (seen) => same(hops(seen), ...hops1, ...hops2)))

        yield* Effect.gen(function*() {
          const nsm = yield* NsmClient
          const connection = yield* nsm.request(wanted)
          const { dstAddrs, extraPrefixes, srcAddrs } = connection.context.ip
          assert.deepStrictEqual(srcAddrs.map(String), ["169.255.0.6/24", "fd00::6/64"])
          assert.deepStrictEqual(dstAddrs.map(String), ["169.255.0.7/24", "fd00::7/64"])
          assert.deepStrictEqual(extraPrefixes.map(String), ["169.255.0.1/24", "fd00::1/64"])
          assert.strictEqual(connection.context.mtu, 1400)
          const asked = withVips(connection)
          const updated = yield* nsm.request(asked)
          assert.deepStrictEqual(updated.context.ip, asked.context.ip, "VIPs stay as the target set them")
          yield* until("the target is a port", sees(here, (seen) => ports(seen) === 3))
          const joined = (yield* look(here.namespaces.proxy)).links.filter(({ master }) => master === "bridge0")
          for (const { mtu, name } of joined) {
            assert.strictEqual(mtu, 1400)
            assert.match(name, /^(conduit-a\.|proxy\.cond)-[0-9A-Za-z]{4}$/)
          }

          const { lb1: ns1, lb2: ns2, target } = here.namespaces
          yield* outside(ns1, srcAddrs)
          yield* outside(ns2, srcAddrs)
          const ping4 = inside(target, "ping", "-c1", "-W1", "-I", "20.0.0.1", "100.100.0.1")
          const ping6 = inside(target, "ping", "-6", "-c1", "-W1", "-I", "2000::1", "3000::1")
          yield* until("a load balancer reaches the target", inside(ns1, "ping", "-c1", "-W1", "169.255.0.6"))
          yield* until("IPv4 from the VIP reaches the outside", ping4)
          yield* until("IPv6 from the VIP reaches the outside", ping6)

          yield* lb1.leave
          yield* until("the route shrinks", sees(here, (seen) => same(hops(seen), ...hops2)))
          yield* until("traffic goes on through the other", ping4)
          yield* SubscriptionRef.set(here.vips, ["20.0.0.1/32", "20.0.0.9/32"])
          yield* until(
            "the rules follow",
            sees(here, (seen) => same(rules(seen), "32000 20.0.0.1/32", "32000 20.0.0.9/32"))
          )

          yield* ended(first, "SIGKILL")
          assert.isTrue(yield* ping4, "traffic does not need the process")
          yield* inside(here.namespaces.proxy, "ip", "rule", "add", "from", "20.0.0.1", "lookup", "1")
          const before = yield* Ref.get(lb2.connections)
          const second = yield* here.proxy
          yield* until("it is ready again", here.probe("Readiness"))
          yield* until(
            "all is as before",
            sees(
              here,
              (seen) =>
                same(hops(seen), ...hops2) && same(rules(seen), "32000 20.0.0.1/32", "32000 20.0.0.9/32") &&
                ports(seen) === 2
            )
          )
          const after = yield* Ref.get(lb2.connections)
          assert.lengthOf(after, 1)
          assert.strictEqual(Nsm.interfaceName(after[0] ?? wanted), Nsm.interfaceName(before[0] ?? wanted))
          yield* outside(ns2, srcAddrs)
          yield* until("traffic flows over the interface that stood", ping4)

          assert.strictEqual(yield* ended(second, "SIGTERM"), 0)
          assert.lengthOf(yield* Ref.get(lb2.connections), 0, "the load balancer was told")
          const left = yield* look(here.namespaces.proxy)
          assert.deepStrictEqual(hops(left), [])
          const fallbacks = left.routes.filter(({ table, type }) => table === 1 && type === "unreachable")
          assert.lengthOf(fallbacks, 2, "VIP traffic does not leave by another way")
        }).pipe(Effect.provide(target(here)))
      })),
    180_000
  )
})
