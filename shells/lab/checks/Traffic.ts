/** Sessions come up, VIPs are announced, and traffic of each protocol and family is spread evenly without loss. */
import { Effect } from "effect"
import type * as Ip from "../../../core/net/Ip.ts"
import { eventually } from "../Eventually.ts"
import * as Check from "./Check.ts"

const bgpEstablished: Check.Check = {
  name: "bgp-established",
  leftOut: () => undefined,
  run: (_lab, trench) =>
    Effect.gen(function*() {
      yield* eventually(
        Effect.match(trench.router.sessions, {
          onFailure: (error) => error.message,
          onSuccess: (sessions) => {
            const down = sessions.filter(({ up }) => !up)
            return down.length === 0 ? undefined : `${down[0]?.gateway} has no session with ${down[0]?.frontend}`
          }
        }),
        60_000
      )
      return `${(yield* trench.router.sessions).length} sessions`
    })
}

const bfdUp: Check.Check = {
  name: "bfd-up",
  leftOut: (trench) =>
    trench.layout.frontends.some(({ attractor }) => attractor.gateways.some(({ bfd }) => bfd !== undefined))
      ? undefined
      : "no gateway uses BFD",
  run: (_lab, trench) => Effect.as(eventually(Check.sessionsDown(trench), 30_000), "every session that asks for it")
}

const vipAnnounced: Check.Check = {
  name: "vip-announced",
  leftOut: (trench) => Check.announcedVips(trench).length === 0 ? "no VIP is announced by BGP" : undefined,
  run: (_lab, trench) =>
    Effect.as(
      eventually(Check.announcement(trench, Check.announcedVips(trench), "all"), 60_000),
      `${Check.announcedVips(trench).join(", ")} in the gateway's table`
    )
}

const spread = (protocol: "tcp" | "udp", family: Ip.Family): Check.Check => ({
  name: `${protocol}-${family}`,
  leftOut: (trench) =>
    Check.servicesOf(trench, protocol, family).length === 0
      ? `no flow takes ${protocol} to a VIP of ${family}`
      : undefined,
  run: (_lab, trench) =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      // A VIP is announced once some frontend has a way to some target; a static gateway sends even before.
      yield* Check.allRight(trench, 30_000)
      for (const service of Check.servicesOf(trench, protocol, family)) {
        const answer = yield* Check.send(trench, service, Check.sampleSize(trench.targets.length))
        const complaint = Check.unevenness(answer, Check.names(trench))
        if (complaint !== undefined) return yield* Check.fail(`${service.stream}: ${complaint}`)
        seen.push(`${service.stream}: ${Check.shares(answer)}`)
      }
      return seen.join("; ")
    })
})

const pings = 40

const icmp = (family: Ip.Family): Check.Check => ({
  name: `icmp-${family}`,
  leftOut: (trench) =>
    Check.servicesOf(trench, undefined, family).length === 0 ? `no flow has a VIP of ${family}` : undefined,
  run: (_lab, trench) =>
    Effect.gen(function*() {
      const [service] = Check.servicesOf(trench, undefined, family)
      if (service === undefined) return "nothing to ping"
      const { address } = Check.destination(service)
      const answers = yield* trench.traffic.ping(Check.destination(service), pings)
      return answers === pings
        ? `${answers} senders answered by ${address}`
        : yield* Check.fail(`${pings - answers} of ${pings} pings to ${address} were not answered`)
    })
})

export const checks: ReadonlyArray<Check.Check> = [
  bgpEstablished,
  bfdUp,
  vipAnnounced,
  spread("tcp", "v4"),
  spread("tcp", "v6"),
  spread("udp", "v4"),
  spread("udp", "v6"),
  icmp("v4"),
  icmp("v6")
]
