import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Ref, Schedule, Scope, SubscriptionRef } from "effect"
import * as Nsm from "../../core/nsm/Model.ts"
import { NsmClient } from "../sdk/Client.ts"
import {
  ended,
  hops,
  inside,
  loadBalancer,
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

describe("sluice proxy while others are away", () => {
  it.live(
    "touches nothing that works, and catches up, when the IPAM, the NSP and the manager are killed and come back",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const here = yield* world
        const nspScope = yield* Scope.make()
        yield* Scope.provide(nspScope)(here.nsp)
        const nsmgr = yield* here.nsmgr
        const ipam = yield* here.ipam
        yield* here.proxy
        const lb1 = yield* loadBalancer(here, here.namespaces.lb1, "lb-1")
        const hops1 = ["169.255.0.2 bridge0", "fd00::2 bridge0"]
        const hops2 = [...hops1, "169.255.0.6 bridge0", "fd00::6 bridge0"]
        const readiness = here.probe("Readiness")
        yield* until("it is ready", readiness)

        yield* Effect.gen(function*() {
          const nsm = yield* NsmClient
          const first = yield* nsm.request(wanted)
          yield* nsm.request(withVips(first))
          yield* outside(here.namespaces.lb1, first.context.ip.srcAddrs)
          const ping4 = inside(here.namespaces.target, "ping", "-c1", "-W1", "-I", "20.0.0.1", "100.100.0.1")
          const ping6 = inside(here.namespaces.target, "ping", "-6", "-c1", "-W1", "-I", "2000::1", "3000::1")
          yield* until("the VIP reaches the outside", Effect.zipWith(ping4, ping6, (v4, v6) => v4 && v6))
          const links = Effect.map(Ref.get(lb1.connections), (all) => all.map(Nsm.interfaceName))
          const before = yield* links
          const works = (who: string) =>
            Effect.gen(function*() {
              assert.isTrue(yield* ping4, `IPv4 does not need the ${who}`)
              assert.isTrue(yield* ping6, `IPv6 does not need the ${who}`)
              assert.deepStrictEqual(yield* links, before, "the connection is the same")
            })

          yield* ended(ipam, "SIGKILL")
          yield* until("it says that the IPAM is away", Effect.map(readiness, (ready) => !ready))
          assert.isTrue(yield* here.probe("Liveness"), "to be restarted would not help")
          yield* loadBalancer(here, here.namespaces.lb2, "lb-2")
          yield* works("IPAM")
          assert.isTrue(yield* sees(here, (seen) => same(hops(seen), ...hops1) && ports(seen) === 2))
          yield* here.ipam
          yield* until("the second load balancer is served", sees(here, (seen) => same(hops(seen), ...hops2)))
          yield* until("it is ready again", readiness)
          yield* outside(here.namespaces.lb2, first.context.ip.srcAddrs)

          yield* Scope.close(nspScope, Exit.void)
          yield* until("it says that the NSP is away", Effect.map(readiness, (ready) => !ready))
          yield* works("NSP")
          assert.isTrue(yield* sees(here, (seen) => rules(seen).length === 2))
          yield* SubscriptionRef.set(here.vips, ["20.0.0.1/32", "2000::1/128", "20.0.0.9/32"])
          yield* here.nsp
          const all = ["32000 20.0.0.1/32", "32000 2000::1/128", "32000 20.0.0.9/32"]
          yield* until("the rules follow", sees(here, (seen) => same(rules(seen), ...all)))

          yield* ended(nsmgr, "SIGKILL")
          yield* works("manager")
          yield* here.nsmgr
          const second = yield* nsm.request({ ...wanted, id: "target-2-proxy.conduit-a.t.red-0" }).pipe(
            // Until the endpoint is registered again.
            Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 200 })
          )
          assert.deepStrictEqual(second.context.ip.srcAddrs.map(String), ["169.255.0.8/24", "fd00::8/64"])
          yield* until("the second target is a port", sees(here, (seen) => ports(seen) === 4))
          assert.isTrue(yield* sees(here, (seen) => same(hops(seen), ...hops2)))
          yield* works("manager any more")
        }).pipe(Effect.provide(target(here)))
      })),
    180_000
  )
})
