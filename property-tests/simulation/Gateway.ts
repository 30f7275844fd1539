/**
 * The routers outside of the cluster and the BIRD beside each frontend, modelled by their sessions: who is established
 * with whom, what was announced, and which default routes lie in the frontend's table.
 *
 *     absent ──connect delay──▶ established ──BFD silent for `bfdMs`, or the process gone──▶ retry
 *
 * 1. A gateway knows a VIP for as long as a session stands over which it is announced.
 * 2. A silent peer is noticed by both sides after `bfdMs`; a session with a router that restarted ends at once.
 * 3. Sessions that come and go, and what is announced over them, are told to the journal.
 * 4. A BIRD that is killed leaves its routes in the kernel, the next one replaces them; one that ends in order takes them.
 */
import { BirdConfig, type BirdOutput } from "../../core/frontend/index.ts"
import { Cidr, Ip, type Kernel } from "../../core/net/index.ts"
import * as Same from "../../core/Same.ts"
import type { Ground } from "./Ground.ts"
import * as Manifests from "./Manifests.ts"
import type { Life, Program } from "./World.ts"

/** Five intervals of 300 ms, as in the manifests of the lab. */
export const bfdMs = 1_500
/** After a loss TCP sends again. */
const resendMs = 200
const connectMs = { delay: 1_000, retry: 5_000 }
/** RTPROT_BIRD. */
const birdProtocol = 12

export interface Gateway extends Program {
  readonly addresses: ReadonlyArray<Ip.Ip>
  /** What each frontend announces here. */
  readonly announced: () => ReadonlyMap<string, ReadonlyArray<Cidr.Cidr>>
  /** Whether a frontend announces anything here. */
  readonly hears: (frontend: string) => boolean
  /** What came over a session; an old session cannot take back what a newer one said. */
  readonly learn: (frontend: string, session: Session, vips: ReadonlyArray<Cidr.Cidr>) => void
  readonly forget: (frontend: string, session: Session) => void
}

export const make = (
  { world }: Ground,
  { addresses, name }: { readonly name: string; readonly addresses: ReadonlyArray<Ip.Ip> }
): Gateway => {
  const known = new Map<string, Map<Ip.Ip, { readonly session: Session; readonly vips: ReadonlyArray<Cidr.Cidr> }>>()
  const of = (frontend: string) => known.get(frontend) ?? new Map()
  return {
    name,
    addresses,
    boot: () => known.clear(),
    announced: () =>
      new Map(
        world.isAlive(name)
          ? [...known].map(([frontend, routes]) => [frontend, [...routes.values()].flatMap(({ vips }) => vips)])
          : []
      ),
    hears: (frontend) => {
      const routes = world.isAlive(name) ? known.get(frontend) : undefined
      for (const { vips } of routes?.values() ?? []) if (vips.length > 0) return true
      return false
    },
    learn: (frontend, session, vips) => void known.set(frontend, of(frontend).set(session.address, { session, vips })),
    forget: (frontend, session) => {
      if (known.get(frontend)?.get(session.address)?.session === session) known.get(frontend)?.delete(session.address)
    }
  }
}

export interface Session {
  readonly protocol: string
  /** A static gateway is told nothing: it knows the VIPs by itself. */
  readonly kind: "BGP" | "Static"
  readonly address: Ip.Ip
  readonly gateway: Gateway | undefined
  /** The life of the gateway with which it is established. */
  peer: Life | undefined
}

/** What BIRD shows; the same value until something changes. */
export interface Rows {
  readonly protocols: ReadonlyArray<BirdOutput.Protocol>
  readonly sessions: ReadonlyArray<BirdOutput.Session>
}

/** A process of BIRD in the pod of a frontend; it ends with the life of the frontend. */
export interface Bird {
  readonly configure: (config: BirdConfig.Config) => void
  readonly rows: () => Rows
  /** Ends it in order. */
  readonly stop: () => void
  /** It dies: the gateways notice. */
  readonly kill: () => void
}

export interface Pod {
  readonly frontend: string
  readonly netns: string
  readonly link: string
  readonly table: number
}

export const bird = (
  { kernels, network, world }: Ground,
  life: Life,
  pod: Pod,
  gateways: ReadonlyArray<Gateway>
): Bird => {
  const { journal } = world
  let sessions: ReadonlyArray<Session> = []
  let announces: ReadonlyArray<Cidr.Cidr> = []
  let isStopped = false
  let shown: Rows = { protocols: [], sessions: [] }
  let isStale = true
  const isRunning = (): boolean => life.isAlive() && !isStopped
  const isNear = (gateway: Gateway): boolean => network.isReachable(pod.frontend, gateway.name)

  /** The default routes that the gateways offer, as the kernel protocols export them. */
  const exportRoutes = (): void => {
    isStale = true
    for (const family of Ip.families) {
      const hops = sessions
        .filter(({ address, peer }) => peer !== undefined && Ip.family(address) === family)
        .map(({ address }): Kernel.NextHop => ({ via: address, link: pod.link }))
      const route: Kernel.Route = {
        family,
        table: pod.table,
        destination: Cidr.defaultRoute(family),
        type: "unicast",
        metric: family === "v4" ? 32 : 32,
        hops,
        protocol: birdProtocol,
        onlink: false
      }
      kernels.apply(pod.netns, { _tag: hops.length === 0 ? "DeleteRoute" : "ReplaceRoute", route })
    }
  }

  /** What arrives is what is announced then: later news does not come before earlier. */
  const tell = (session: Session): void => {
    const { address, gateway, kind, peer } = session
    if (gateway === undefined || peer === undefined || kind === "Static") return
    const family = Ip.family(address)
    const learn = (): void =>
      gateway.learn(pod.frontend, session, announces.filter((vip) => Cidr.family(vip) === family))
    const plan = (arrive: () => void): void => {
      const attempt = (): void => {
        if (session.peer !== peer || !isRunning()) return
        if (!isNear(gateway)) return world.later(resendMs, attempt)
        arrive()
      }
      world.later(world.drawMessage(1, 20), attempt)
    }
    if (journal === undefined) return plan(learn)
    const message = { from: pod.frontend, to: gateway.name, kind: "news", subject: { name: "bgp.update" } } as const
    journal.send(message, learn, plan, () => true)
  }

  /** Tells a change of a session on the lanes of both sides, as far as they live. */
  const note = (tag: "Up" | "Down", { address, gateway, kind }: Session, why = ""): void => {
    if (journal === undefined || gateway === undefined) return
    const what = `${kind === "BGP" ? "BGP" : "static route"} over ${address} ${tag.toLowerCase()}${why}`
    if (world.isAlive(gateway.name)) journal.note(gateway.name, tag, `${pod.frontend}: ${what}`)
    if (life.isAlive()) journal.note(pod.frontend, tag, `${gateway.name}: ${what}`)
  }

  const drop = (session: Session, why: string): void => {
    const { gateway } = session
    note("Down", session, why)
    session.peer = undefined
    gateway?.forget(pod.frontend, session)
    if (!isRunning()) return
    exportRoutes()
    life.later(connectMs.retry, () => connect(session))
  }

  const leave = (session: Session): void => {
    if (session.peer !== undefined) note("Down", session, `: ${pod.frontend} ends it`)
    session.peer = undefined
    session.gateway?.forget(pod.frontend, session)
  }

  const connect = (session: Session): void => {
    const { gateway } = session
    if (!isRunning() || session.peer !== undefined || !sessions.includes(session)) return
    if (gateway === undefined || !isNear(gateway)) return life.later(connectMs.retry, () => connect(session))
    session.peer = world.life(gateway.name)
    note("Up", session)
    tell(session)
    exportRoutes()
  }

  /** What BFD sees after each change of the world. */
  const look = (): void => {
    for (const session of sessions) {
      const { gateway, peer } = session
      if (gateway === undefined || peer === undefined) continue
      if (world.isAlive(gateway.name) && world.life(gateway.name) !== peer) {
        drop(session, `: ${gateway.name} is another process`)
        continue
      }
      if (isRunning() && isNear(gateway)) continue
      world.later(bfdMs, () => {
        if (session.peer === peer && !(isRunning() && peer.isAlive() && isNear(gateway))) {
          drop(session, `: BFD heard nothing for ${bfdMs} ms`)
        }
      })
    }
  }
  world.onLife(look)
  network.onChange(look)
  exportRoutes()

  return {
    configure: (config) => {
      announces = config.announces
      const wanted = neighbours(config.text)
      const kept = sessions.filter(({ address, kind, protocol }) =>
        wanted.some((one) => one.address === address && one.protocol === protocol && one.kind === kind)
      )
      const fresh = wanted
        .filter(({ protocol }) => !kept.some((one) => one.protocol === protocol))
        .map(({ address, kind, protocol }): Session => ({
          protocol,
          kind,
          address,
          gateway: gateways.find(({ addresses }) => addresses.includes(address)),
          peer: undefined
        }))
      for (const session of sessions.filter((one) => !kept.includes(one))) leave(session)
      sessions = [...kept, ...fresh]
      kept.forEach(tell)
      exportRoutes()
      for (const session of fresh) life.later(connectMs.delay, () => connect(session))
    },
    rows: () => {
      if (!isStale) return shown
      isStale = false
      const next: Rows = {
        protocols: sessions.map(({ kind, peer, protocol }) => ({
          name: protocol,
          kind,
          state: peer === undefined && kind === "BGP" ? "start" : "up",
          info: kind === "Static" ? "" : peer === undefined ? "Active" : "Established"
        })),
        sessions: sessions.flatMap(({ address, kind, peer }) =>
          peer === undefined && kind === "BGP"
            ? []
            : [{ address, link: pod.link, state: peer === undefined ? "Down" : "Up" }]
        )
      }
      return shown = Same.equals(shown, next) ? shown : next
    },
    kill: () => {
      isStopped = true
      look()
    },
    stop: () => {
      isStopped = true
      sessions.forEach(leave)
      sessions = []
      exportRoutes()
    }
  }
}

/** Why BIRD refuses a configuration, if it does: for the gateway that is bad, at the line of its address. */
export const refusal = ({ text }: BirdConfig.Config): string | undefined => {
  const line = text.split("\n").findIndex((one) => one.includes(`neighbor ${Manifests.badGateway.address} `))
  return line < 0 ? undefined : `/run/bird.conf:${line + 1}:5 syntax error`
}

/** The gateways of a configuration. */
const neighbours = (text: string): ReadonlyArray<Pick<Session, "protocol" | "kind" | "address">> => [
  ...[...text.matchAll(/^protocol bgp '([^']+)' from [^{]*\{[^}]*?^ {2}neighbor (\S+) port/gm)].map((
    [, protocol = "", address = ""]
  ) => ({ protocol, kind: "BGP" as const, address: Ip.unsafe(address) })),
  ...[...text.matchAll(/^protocol static '(NBR-[^']+)' \{\n.*\n {2}route \S+ via ([^%]+)%/gm)].map((
    [, protocol = "", address = ""]
  ) => ({ protocol, kind: "Static" as const, address: Ip.unsafe(address) }))
]
