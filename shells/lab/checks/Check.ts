/** A scenario of `sluice lab --check`: something that has to be true of a trench that carries real traffic. */
import { Effect, Schema } from "effect"
import * as Cidr from "../../../core/net/Cidr.ts"
import type * as Ip from "../../../core/net/Ip.ts"
import { eventually, type NotInTime } from "../Eventually.ts"
import * as Host from "../Host.ts"
import type { Lab } from "../Lab.ts"
import * as Router from "../Router.ts"
import type { Service } from "../Topology.ts"
import type { Answer, Destination } from "../Traffic.ts"
import type { Trench } from "../Trench.ts"

/** What was seen instead of what should be. */
export class CheckFailed extends Schema.TaggedError<CheckFailed>()("CheckFailed", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

export type Failure = CheckFailed | Host.HostError | NotInTime

export interface Check {
  readonly name: string
  /** Why the trench has nothing to check; undefined if it has. */
  readonly leftOut: (trench: Trench) => string | undefined
  /** Gives what was seen, in a few words. */
  readonly run: (lab: Lab, trench: Trench) => Effect.Effect<string, Failure>
}

/** The first service of each stream with the protocol and family. */
export const servicesOf = (
  trench: Trench,
  protocol: "tcp" | "udp" | undefined,
  family: Ip.Family | undefined
): ReadonlyArray<Service> => {
  const streams = new Map<string, Service>()
  for (const service of trench.layout.services) {
    const fits = (protocol === undefined || service.protocol === protocol) &&
      (family === undefined || Cidr.family(service.vip.address) === family)
    const key = `${service.conduit}/${service.stream}`
    if (fits && !streams.has(key)) streams.set(key, service)
  }
  return [...streams.values()]
}

/** A service on which connections can be counted, if there is any. */
export const anyService = (trench: Trench): Service | undefined =>
  servicesOf(trench, "tcp", undefined)[0] ?? servicesOf(trench, "udp", undefined)[0]

export const destination = ({ port, source, vip }: Service): Destination => ({
  address: Cidr.ip(vip.address),
  port,
  ...(source === undefined ? {} : { source })
})

/** Sends connections or datagrams to a service. */
export const send = (trench: Trench, service: Service, count: number): Effect.Effect<Answer> =>
  service.protocol === "tcp"
    ? trench.traffic.tcp(destination(service), count)
    : trench.traffic.udp(destination(service), count)

/** How many connections make a share of 40 % off even next to impossible by chance. */
export const sampleSize = (targets: number): number => Math.max(400, 160 * targets)

/** Complains unless nothing was lost and exactly these targets answered, each within 40 % of an even share. */
export const unevenness = (answer: Answer, targets: ReadonlyArray<string>): string | undefined => {
  const total = Object.values(answer.replies).reduce((sum, count) => sum + count, 0)
  if (answer.lost > 0) return `${answer.lost} of ${total + answer.lost} were lost (${answer.errors.join(", ")})`
  const stranger = Object.keys(answer.replies).find((name) => !targets.includes(name))
  if (stranger !== undefined) return `${stranger} answered and should not`
  const even = total / Math.max(1, targets.length)
  const uneven = targets.find((name) => Math.abs((answer.replies[name] ?? 0) - even) > 0.4 * even)
  return uneven === undefined
    ? undefined
    : `${uneven} got ${answer.replies[uneven] ?? 0} of ${total}, even is ${Math.round(even)}`
}

/** `target-1 101, target-2 99, ...` */
export const shares = ({ replies }: Answer): string =>
  Object.entries(replies).toSorted(([a], [b]) => a < b ? -1 : 1).map(([name, count]) => `${name} ${count}`).join(", ")

export const fail = (detail: string): Effect.Effect<never, CheckFailed> => Effect.fail(new CheckFailed({ detail }))

/** The names of the targets. */
export const names = (trench: Trench): ReadonlyArray<string> => trench.targets.map(({ name }) => name)

/** Waits until a service spreads new connections over exactly these targets. */
export const served = (
  trench: Trench,
  service: Service,
  targets: ReadonlyArray<string>,
  withinMs: number
): Effect.Effect<Answer, NotInTime> =>
  Effect.gen(function*() {
    let last: Answer | undefined
    yield* eventually(
      Effect.map(send(trench, service, sampleSize(targets.length)), (answer) => {
        last = answer
        return unevenness(answer, targets)
      }),
      withinMs
    )
    return last ?? { id: 0, replies: {}, lost: 0, errors: [] }
  })

/** The VIPs that some frontend should announce by BGP. */
export const announcedVips = (trench: Trench): ReadonlyArray<Cidr.Cidr> => {
  const bgp = Router.peers(trench.layout).filter(({ protocol }) => protocol === "bgp")
  return [...new Set(bgp.flatMap(({ vips }) => vips))]
}

/** Complains unless the gateway's table has all of the VIPs, or none of them. */
export const announcement = (
  trench: Trench,
  vips: ReadonlyArray<Cidr.Cidr>,
  wanted: "all" | "none"
): Effect.Effect<string | undefined> =>
  Effect.match(Router.learned(trench.gateway), {
    onFailure: (error) => error.message,
    onSuccess: (routes) => {
      const wrong = vips.filter((vip) => routes.includes(vip) !== (wanted === "all"))
      return wrong.length === 0
        ? undefined
        : `the gateway's table ${wanted === "all" ? "lacks" : "still has"} ${wrong.join(", ")}`
    }
  })

/** Complains about sessions that are not up. */
export const sessionsDown = (trench: Trench): Effect.Effect<string | undefined> =>
  Effect.match(trench.router.sessions, {
    onFailure: (error) => error.message,
    onSuccess: (sessions) => {
      const down = sessions.filter(({ bfdUp, up }) => !up || bfdUp === false)
      return down.length === 0
        ? undefined
        : down.map(({ bfdUp, frontend, gateway, up }) =>
          `${gateway} with ${frontend}: session ${up ? "up" : "down"}${bfdUp === false ? ", BFD down" : ""}`
        ).join("; ")
    }
  })

/** Complains unless every load balancer has a link to every proxy of its conduits. */
export const linksMissing = ({ frontends, layout }: Trench): Effect.Effect<string | undefined> =>
  Effect.map(
    Effect.forEach(frontends, ({ layout: { conduits, name }, pod }) =>
      Effect.map(
        Effect.orElseSucceed(Host.run(["ip", "-n", pod.namespace, "-d", "link", "show"]), () => ""),
        (links) =>
          layout.proxies
            .filter(({ conduit }) => conduits.includes(conduit))
            .filter((proxy) =>
              !links.includes(`/${proxy.name}-${proxy.conduit}.${layout.trench}.${layout.namespace}-${name}\n`)
            )
            .map((proxy) => `${name} has no link to ${proxy.name}`)
      )),
    (missing) => missing.flat()[0]
  )

/** Complains unless the gateway spreads each announced VIP over every frontend. */
const hopsMissing = (trench: Trench): Effect.Effect<string | undefined> =>
  Effect.match(Router.routes(trench.gateway), {
    onFailure: (error) => error.message,
    onSuccess: (routes) => {
      const bgp = Router.peers(trench.layout).filter(({ protocol }) => protocol === "bgp")
      const short = announcedVips(trench).find((vip) => {
        const wanted = new Set(bgp.filter(({ vips }) => vips.includes(vip)).map(({ frontend }) => frontend)).size
        return routes.every(({ hops, prefix }) => prefix !== vip || hops < wanted)
      })
      return short === undefined ? undefined : `some frontend does not announce ${short}`
    }
  })

/** Waits until the sessions are up, the VIPs announced by all, all links there, and every service is right. */
export const allRight = (trench: Trench, withinMs: number): Effect.Effect<Answer | undefined, NotInTime> =>
  Effect.gen(function*() {
    yield* eventually(sessionsDown(trench), withinMs)
    yield* eventually(linksMissing(trench), withinMs)
    yield* eventually(hopsMissing(trench), withinMs)
    const service = anyService(trench)
    return service === undefined ? undefined : yield* served(trench, service, names(trench), withinMs)
  })

/**
 * Opens connections that stay, once they are seen to stand: load balancers take a target back some 100 ms apart, and
 * until all have, a connection may not outlive a change of its path.
 */
export const holdSteady = (
  trench: Trench,
  service: Service,
  count: number
): Effect.Effect<Answer, CheckFailed> =>
  Effect.gen(function*() {
    let errors: ReadonlyArray<string> = []
    for (let attempt = 0; attempt < 10; attempt++) {
      const held = yield* trench.traffic.hold(destination(service), count)
      yield* Effect.sleep(500)
      const probed = yield* trench.traffic.probe(held)
      if (held.lost === 0 && probed.lost === 0) return held
      yield* trench.traffic.drop(held)
      errors = [...held.errors, ...probed.errors]
    }
    const seen = errors.join(", ")
    return yield* fail(`${count} connections to ${service.stream} do not stand, though nothing changes: ${seen}`)
  })
