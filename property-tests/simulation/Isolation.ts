/**
 * What must hold between the trenches of one world: nothing of one gets into another, and closing one is nothing that
 * another one notices. A world with one trench has nothing to look at.
 */
import * as Target from "../../core/config/Target.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import type * as Cluster from "./Cluster.ts"
import * as Oracle from "./Oracle.ts"
import type { Name } from "./Properties.ts"
import type { Trench } from "./Trench.ts"

const client = { v4: Ip.unsafe("198.18.0.9"), v6: Ip.unsafe("2001:db8::9") }

/** The watch over the trenches of one run. */
export const guard = (cluster: Cluster.Cluster) => {
  const { ground: { kernels }, trenches, world } = cluster
  const report = (name: Name, detail: string): void => world.violate(name, detail)
  let seen = -1
  let left: ReadonlyArray<{ readonly trench: Trench; readonly was: Facts }> = []

  /** Every second. */
  const sample = (): void => {
    if (trenches.length === 1) return
    for (const { trench, was } of left) {
      for (const [fact, now] of Object.entries(facts(trench))) {
        if (now !== was[fact]) report("left-alone", `${fact} in ${trench.name} was ${was[fact]} and is ${now}`)
      }
    }
    if (kernels.version() === seen) return
    seen = kernels.version()
    for (const trench of trenches) {
      const foreign = strangers(cluster, trench)
      const detail = wires(trench, foreign) ?? requests(trench, foreign)
      if (detail !== undefined) report("isolated", detail)
    }
    const detail = cluster.likeness.vips ? undefined : replies(cluster)
    if (detail !== undefined) report("isolated", detail)
  }

  return {
    sample,
    /** From now on these trenches stay as they are: others are closed. */
    leave: (others: ReadonlyArray<Trench>): void => {
      left = others.map((trench) => ({ trench, was: facts(trench) }))
    }
  }
}

/** When the faults are over: who does not want a stream of a trench is not connected with it. */
export const settled = ({ ground: { kernels }, isAlone, name, reaches, targets, world }: Trench): void => {
  if (isAlone) return
  for (const target of targets) {
    if (target.wished().some(({ trench }) => trench === name)) continue
    const { netns } = target
    const left = kernels.get(netns).links.find((link) => reaches({ netns, link: link.name }))
    if (left !== undefined) world.violate("isolated", `${left.name} of ${target.name} leads into ${name}, unwanted`)
  }
}

/** Whether a namespace is of another trench than this one. */
type IsForeign = (netns: string) => boolean

const strangers = ({ trenches }: Cluster.Cluster, trench: Trench): IsForeign => {
  const others = trenches.filter((other) => other !== trench)
  return (netns) => others.some(({ owns }) => owns(netns))
}

/** No pair of links leads from one trench to another. */
const wires = ({ frontends, ground: { kernels }, proxies }: Trench, isForeign: IsForeign): string | undefined => {
  for (const { name, netns } of [...proxies, ...frontends]) {
    for (const { name: link } of kernels.get(netns).links) {
      const peer = kernels.peer({ netns, link })
      if (peer !== undefined && isForeign(peer.netns)) return `${link} of ${name} leads into another trench`
    }
  }
  return undefined
}

/** Wherever a load balancer sends a packet, it does not end in another trench, nor at a target that is not in this one. */
const requests = (trench: Trench, isForeign: IsForeign): string | undefined => {
  const { ground: { kernels }, loadBalancers, nsp, reaches } = trench
  const vips = nsp.configuration().vips.slice(0, 2).map(({ address }) => Cidr.ip(address))
  for (const { name, netns, rules } of loadBalancers) {
    for (const { identifiers, offset } of rules()?.streams ?? []) {
      for (const identifier of identifiers) {
        for (const destination of vips) {
          const packet = { source: client[Ip.family(destination)], destination }
          const end = Oracle.walk(kernels, netns, packet, offset + identifier)
          const isAway = isForeign(end.netns)
            || (end._tag === "Delivered"
              && !kernels.get(end.netns).links.some((link) => reaches({ netns: end.netns, link: link.name })))
          if (isAway) {
            return `a packet for ${destination} goes from ${name} to ${end.netns}, which is not in ${trench.name}`
          }
        }
      }
    }
  }
  return undefined
}

/** The answer of a VIP that only one trench has does not leave by another. */
const replies = ({ ground: { kernels }, targets, trenches }: Cluster.Cluster): string | undefined => {
  for (const { nsp, owns } of trenches) {
    for (const { address } of nsp.configuration().vips) {
      const source = Cidr.ip(address)
      for (const { name, netns } of targets) {
        if (!kernels.get(netns).addresses.some(({ cidr }) => Cidr.ip(cidr) === source)) continue
        const end = Oracle.walk(kernels, netns, { source, destination: client[Ip.family(source)] })
        const isForeign = !owns(end.netns) && trenches.some((one) => one.owns(end.netns))
        if (isForeign) {
          return `a reply of ${name} from ${source} ends in ${end.netns}, which is not in ${nsp.name}'s trench`
        }
      }
    }
  }
  return undefined
}

type Facts = { readonly [fact: string]: string }

/** What those in a trench notice of it: who is registered and open, who gets packets, and who announces what. */
const facts = (trench: Trench): Facts => {
  const { gateways, loadBalancers, name, nsp, targets } = trench
  const registered = nsp.targets({ kind: "default", status: "enabled" })
  const open = targets.flatMap((target) =>
    target.statuses().filter(({ at, status }) => at.trench === name && status === "Open")
      .map(({ at }) => `${target.name} ${at.stream}`)
  )
  return {
    "who is registered": registered.map((one) => `${one.stream?.stream} ${Target.identifier(one)} ${one.ips.join()}`)
      .toSorted().join("; "),
    "who is open": open.join("; "),
    "who gets packets": loadBalancers.flatMap(({ name, rules }) =>
      rules()?.streams.map((stream) => `${name} ${stream.name} ${stream.identifiers.join()}`) ?? []
    ).join("; "),
    "what is announced": gateways.flatMap((gateway) =>
      [...gateway.announced()].map(([frontend, vips]) => `${frontend} ${gateway.name} ${vips.toSorted().join()}`)
    ).toSorted().join("; ")
  }
}
