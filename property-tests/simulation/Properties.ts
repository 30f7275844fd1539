/**
 * What must hold in a simulated trench, by name and with its reason. Safety is looked at after steps and every second;
 * liveness when the faults are over and the bounded time to recover has passed.
 */
import * as Config from "../../core/config/Model.ts"
import * as Target from "../../core/config/Target.ts"
import { LoadBalancer, type Model as Balancing } from "../../core/loadbalancer/index.ts"
import { Cidr, Ip } from "../../core/net/index.ts"
import * as Same from "../../core/Same.ts"
import * as Addresses from "./Addresses.ts"
import * as Manifests from "./Manifests.ts"
import * as Oracle from "./Oracle.ts"
import type * as Tapa from "./Tapa.ts"
import type * as Trench from "./Trench.ts"

/** Every property and why it matters. */
export const reasons = {
  "unique-identifiers":
    "Two ENABLED targets of a stream with one identifier would share one mark: one of them gets no packet.",
  "unique-addresses": "An address in two pods makes the switch deliver to whichever answered last.",
  "announced-means-forwarding":
    "A frontend that announces while its load balancer has no target draws traffic away from those that do.",
  "no-leak": "A packet of a VIP in the cluster's own network is lost, and shows the VIP where it must not be seen.",
  "flow-stays": "Connections live at their target: the others that come and go must not move them.",
  "no-busy-wake": "A machine that wakes without end burns the processor and starves everyone else.",
  "bounded-agenda": "Timers and messages that pile up become memory that is never freed.",
  "open-again": "An application that asked for a configured stream gets it, once nothing stands in the way.",
  "announced-again": "VIPs are announced by every frontend once its load balancer can forward and a gateway listens.",
  "reachable": "Open means that packets of the stream's flows reach the target and that its answers reach a gateway.",
  "isolated": "Trenches are networks of different owners: nothing of one may get into another.",
  "left-alone": "A trench that is closed is nothing that those in another one may notice.",
  "watchers-know": "Whoever watches ends with the truth: what it missed while it was away must be made up for.",
  "registry-true": "The registry holds the open streams of living targets and nothing else.",
  "nothing-left": "After everything is closed no target, address, link, rule or announcement of it remains."
} as const
export type Name = keyof typeof reasons

/** A property of your own. */
export interface Property {
  readonly name: string
  /** Why it matters; told with a violation. */
  readonly reason: string
  /** Every second of the life, when the faults are over and everything had time to recover, or after all is closed. */
  readonly when: "Always" | "Settled" | "Closed"
  /** What is wrong; undefined: it holds. */
  readonly check: (trench: Trench.Trench) => string | undefined
}

/** Why a property matters; empty for one that is not known. */
export const reasonOf = (property: string, own: ReadonlyArray<Property> = []): string =>
  Object.entries(reasons).find(([name]) => name === property)?.[1]
    ?? own.find(({ name }) => name === property)?.reason ?? ""

/** The longest that an announcement may outlive the forwarding: grace, withdrawal, and BFD. */
const withdrawMs = 15_000
/** Entries of the agenda for each process. */
const agendaLimit = 300
const client = { v4: Ip.unsafe("198.18.0.9"), v6: Ip.unsafe("2001:db8::9") }

type Violate = (name: Name, detail: string) => void
const violate = ({ world }: Trench.Trench): Violate => (name, detail) => world.violate(name, detail)

/** The watch over safety of one run. */
export const guard = (trench: Trench.Trench) => {
  const silentSince = new Map<string, number>()
  let turn = 0
  let seen = -1
  return {
    /** After each target that is saved. */
    registered: ({ stream }: Target.Target): void => uniqueIdentifiers(trench, stream),
    /** After each change of rules: slots of targets that stay, stay. */
    ruled: (name: string, before: Balancing.Ruleset | undefined, after: Balancing.Ruleset): void => {
      const report = violate(trench)
      for (const stream of after.streams) {
        const old = before?.streams.find((one) => one.name === stream.name && one.offset === stream.offset)
        if (old !== undefined && old.slots === stream.slots) flowsStay(name, old, stream, report)
      }
    },
    /** Every second. */
    sample: (): void => {
      const { ground, targets, world } = trench
      announced(trench, silentSince)
      const version = ground.kernels.version()
      if (version !== seen) {
        uniqueAddresses(trench)
        noLeak(trench, turn++)
        // Of many targets only some are looked at each time.
        if (targets.length <= everyTarget || turn % shares === 0) seen = version
      }
      const limit = agendaLimit * world.names().length
      if (world.pending() > limit) violate(trench)("bounded-agenda", `${world.pending()} entries wait`)
    }
  }
}

/** Of a stream: what was saved leaves the others as they were. */
const uniqueIdentifiers = (trench: Trench.Trench, stream: Target.Target["stream"]): void => {
  if (stream === undefined) return
  const seen = new Map<string, string>()
  for (const target of trench.nsp.targets({ kind: "default", status: "enabled", stream })) {
    const key = `${stream.stream} ${Target.identifier(target)}`
    const ips = target.ips.join()
    const other = seen.get(key)
    if (other !== undefined && other !== ips) violate(trench)("unique-identifiers", `${key}: ${other} and ${ips}`)
    seen.set(key, ips)
  }
}

const flowsStay = (name: string, before: Balancing.Stream, after: Balancing.Stream, report: Violate): void => {
  if (Same.equals(before.identifiers, after.identifiers)) return
  const [left, joined] = [new Set(before.identifiers), new Set(after.identifiers)]
  // Between fewer than two that stay nothing can move; tables are large.
  if (after.identifiers.filter((identifier) => left.has(identifier)).length < 2) return
  const [old, marks] = [Oracle.marksOf(before), Oracle.marksOf(after)]
  const moved = old.findIndex((mark, slot) => {
    const next = marks[slot]
    return next !== undefined && mark !== next
      && joined.has(mark - before.offset) && left.has(next - after.offset)
  })
  if (moved >= 0) report("flow-stays", `${name}: slot ${moved} of ${after.name} moves between targets that stay`)
}

/** Beyond so many targets each sample looks at a share of them. */
const everyTarget = 10
const shares = 10

const uniqueAddresses = (trench: Trench.Trench): void => {
  const owners = new Map<string, string>()
  const { kernels } = trench.ground
  for (const netns of kernels.names()) {
    for (const { cidr, link } of kernels.get(netns).addresses) {
      if (link === Oracle.primary || !Addresses.isLeased(cidr) || !trench.reaches({ netns, link })) continue
      const owner = `${netns} ${link}`
      const other = owners.get(Cidr.ip(cidr))
      if (other !== undefined && other !== owner) {
        violate(trench)("unique-addresses", `${cidr} on ${other} and ${owner}`)
      }
      owners.set(Cidr.ip(cidr), owner)
    }
  }
}

const announced = (trench: Trench.Trench, silentSince: Map<string, number>): void => {
  for (const { loadBalancer, name } of trench.frontends) {
    const isAnnounced = trench.gateways.some((gateway) => gateway.hears(name))
    const state = trench.loadBalancers.find((one) => one.name === loadBalancer)?.state()
    if (!isAnnounced || (state !== undefined && LoadBalancer.isAvailable(state))) {
      silentSince.delete(name)
      continue
    }
    const since = silentSince.get(name) ?? trench.world.elapsed()
    silentSince.set(name, since)
    if (trench.world.elapsed() - since > withdrawMs) {
      violate(trench)("announced-means-forwarding", `${name} announces, ${loadBalancer} forwards nothing`)
    }
  }
}

/** Replies of targets that hold a VIP; of many targets some each time. */
const noLeak = (trench: Trench.Trench, turn: number): void => {
  const { kernels } = trench.ground
  const vips = trench.nsp.configuration().vips.map(({ address }) => address)
  const share = trench.targets.length <= everyTarget ? 1 : shares
  for (const [n, { name, netns }] of trench.targets.entries()) {
    if (n % share !== turn % share) continue
    for (const vip of vips) {
      const source = Cidr.ip(vip)
      if (!kernels.get(netns).addresses.some(({ cidr }) => Cidr.ip(cidr) === source)) continue
      const end = Oracle.walk(kernels, netns, { source, destination: client[Ip.family(source)] })
      if (end._tag === "Left" && end.link === Oracle.primary) {
        violate(trench)("no-leak", `a reply of ${name} from ${source} leaves ${end.netns} over ${end.link}`)
      }
    }
  }
}

/** What must be so when the faults are over. */
export const settled = (trench: Trench.Trench): void => {
  const report = violate(trench)
  const { streams } = trench.nsp.configuration()
  const isFull = streams.some((stream) => wishers(trench, stream).length > stream.maxTargets)
  openAgain(trench, report)
  const open = trench.targets.flatMap((target) =>
    target.statuses().filter(({ at, status }) => status === "Open" && at.trench === trench.name)
  )
  const registered = trench.nsp.targets({ kind: "default", status: "enabled" })
  // Those that wait for a place in a full stream come and go disabled.
  const others = isFull ? 0 : trench.nsp.targets({ kind: "default", status: "disabled" }).length
  if (registered.length !== open.length || others > 0) {
    report(
      "registry-true",
      `${registered.length} targets are registered and ${others} disabled, ${open.length} streams are open`
    )
  }
  if (open.length > 0) announcedAgain(trench, report)
  reachable(trench, registered, report)
  watchersKnow(trench, registered, report)
}

const wishers = ({ targets }: Trench.Trench, stream: Config.StreamKey): ReadonlyArray<Tapa.Tapa> =>
  targets.filter((target) => target.wished().some((wish) => Config.sameStream(wish, stream)))

const statusOf = ({ statuses }: Tapa.Tapa, stream: Config.StreamKey): string =>
  statuses().find(({ at }) => Config.sameStream(at, stream))?.status ?? "absent"

/** Of a stream that more want than it can have, as many as it can have. */
const openAgain = (trench: Trench.Trench, report: Violate): void => {
  const { streams } = trench.nsp.configuration()
  for (const stream of streams) {
    const all = wishers(trench, stream)
    const open = all.filter((target) => statusOf(target, stream) === "Open").length
    if (open === Math.min(all.length, stream.maxTargets)) continue
    const states = all.map((target) => `${target.name} ${statusOf(target, stream)}`)
    report("open-again", `${open} of at most ${stream.maxTargets} have ${stream.stream} open: ${states.join()}`)
  }
  for (const target of trench.targets) {
    for (const wish of target.wished()) {
      if (wish.trench !== trench.name || streams.some((one) => Config.sameStream(one, wish))) continue
      const status = statusOf(target, wish)
      if (status !== "Undefined") report("open-again", `${wish.stream} of ${target.name} is ${status}, not Undefined`)
    }
  }
}

/** The gateways that frontends can have; all of them are there when the faults are over. */
const usable = ({ nsp }: Trench.Trench): ReadonlyArray<Config.Gateway> =>
  (nsp.configuration().attractors[0]?.gateways ?? []).filter(({ name }) => name !== Manifests.badGateway.name)

const attracted = ({ nsp }: Trench.Trench): ReadonlyArray<Cidr.Cidr> =>
  (nsp.configuration().attractors[0]?.vips ?? []).map(({ address }) => address)

const announcedAgain = (trench: Trench.Trench, report: Violate): void => {
  for (const gateway of trench.gateways) {
    const families = usable(trench)
      .filter(({ _tag, address }) => _tag === "Bgp" && gateway.addresses.includes(address))
      .map(({ address }) => Ip.family(address))
    const wanted = attracted(trench).filter((vip) => families.includes(Cidr.family(vip))).toSorted()
    for (const { name } of trench.frontends) {
      const heard = [...gateway.announced().get(name) ?? []].toSorted()
      if (!Same.equals(heard, wanted)) {
        report("announced-again", `${gateway.name} hears [${heard.join()}] from ${name}, not [${wanted.join()}]`)
      }
    }
  }
}

const reachable = (
  trench: Trench.Trench,
  registered: ReadonlyArray<Target.Target>,
  report: Violate
): void => {
  const { flows } = trench.nsp.configuration()
  const [vips, gateways] = [attracted(trench), usable(trench)]
  const isServed = (vip: Cidr.Cidr): boolean =>
    vips.includes(vip) && gateways.some(({ address }) => Ip.family(address) === Cidr.family(vip))
  for (const target of registered) {
    const identifier = Target.identifier(target)
    if (identifier === undefined) continue
    for (const flow of flows.filter(({ stream }) => stream.stream === target.stream?.stream)) {
      for (const address of flow.vips.map(({ address }) => address).filter(isServed)) {
        for (const balancer of trench.loadBalancers) {
          const dead = roundTrip(trench, balancer, target, flow, identifier, Cidr.ip(address))
          if (dead === undefined) continue
          report("reachable", `${address} of ${flow.name} over ${balancer.name} to ${target.ips.join()}: ${dead}`)
        }
      }
    }
  }
}

/** Why a packet to the target, or its answer, does not arrive. */
const roundTrip = (
  { gateways, ground: { kernels }, nsp, owns, reaches, world }: Trench.Trench,
  { netns, rules }: Trench.Trench["loadBalancers"][number],
  target: Target.Target,
  flow: Config.Flow,
  identifier: number,
  vip: Ip.Ip
): string | undefined => {
  const source = client[Ip.family(vip)]
  const inForce = rules()
  const stream = inForce?.streams.find(({ name }) => name === flow.stream.stream)
  if (stream === undefined) return "the load balancer does not know the stream"
  const mark = stream.offset + identifier
  const slot = Oracle.marksOf(stream).indexOf(mark)
  if (slot < 0) return "no slot leads to the target"
  const [sourcePort, destinationPort] = [portIn(flow.sourcePorts, 40_000), portIn(flow.destinationPorts, 0)]
  const protocol = flow.protocols.includes("udp") ? "udp" as const : "tcp" as const
  const packet = { source, destination: vip, protocol, sourcePort, destinationPort }
  // Of the objects of a user not every flow takes this packet.
  if (Oracle.flowOf(nsp.configuration().flows, packet)?.name !== flow.name) return undefined
  const chosen = Oracle.classify(inForce, packet, slot)
  if (chosen !== mark) return `the load balancer says: ${chosen}`
  const there = Oracle.walk(kernels, netns, packet, mark)
  if (there._tag !== "Delivered") return `there: ${explain(there)}`
  const isOwn = kernels.get(there.netns).addresses.some(({ cidr, link }) =>
    target.ips.includes(cidr) && reaches({ netns: there.netns, link })
  )
  if (!isOwn) return `there: ${there.netns} is not the target`
  const back = Oracle.walk(kernels, there.netns, { source: vip, destination: source })
  if (back._tag !== "Left") return `back: ${explain(back)}`
  if (!owns(back.netns)) return `back: ${explain(back)}, in another trench`
  const gateway = gateways.find(({ addresses }) => back.via !== undefined && addresses.includes(back.via))
  return gateway !== undefined && world.isAlive(gateway.name) ? undefined : `back: ${explain(back)}`
}

const portIn = (ranges: Config.Flow["sourcePorts"], preferred: number): number =>
  ranges.length === 0 || ranges.some(({ from, to }) => from <= preferred && preferred <= to)
    ? preferred
    : ranges[0]?.from ?? preferred

const explain = (end: Oracle.End): string => {
  switch (end._tag) {
    case "Delivered":
      return `it ends in ${end.netns}`
    case "Left":
      return `it leaves ${end.netns} over ${end.link} via ${end.via ?? "nobody"}`
    case "Dropped":
      return `it dies in ${end.netns}: ${end.why}`
  }
}

const watchersKnow = (
  trench: Trench.Trench,
  registered: ReadonlyArray<Target.Target>,
  report: Violate
): void => {
  const { conduits, flows, streams, vips } = trench.nsp.configuration()
  const portNats = conduits[0]?.portNats ?? []
  const addresses = vips.map(({ address }) => address)
  for (const { name, rules, state } of trench.loadBalancers) {
    const lists = state()?.lists
    const knows = Same.equals(lists?.vips, vips) && Same.equals(lists?.streams, streams)
      && Same.equals(lists?.flows, flows) && Same.equals(lists?.portNats, portNats)
      && Same.equals(rules()?.portNats, portNats) && count(lists?.targets) === registered.length
    if (!knows) {
      report("watchers-know", `${name}: ${count(lists?.targets)} targets of ${registered.length}, or older lists`)
    }
  }
  for (const { name, state } of trench.proxies) {
    if (!Same.equals(state()?.vips, addresses)) report("watchers-know", `${name} knows other VIPs`)
  }
  for (const { name, state } of trench.frontends) {
    const known = state()?.attractor?.vips ?? []
    if (!Same.equals([...known].toSorted(), attracted(trench).toSorted())) {
      report("watchers-know", `${name} knows other VIPs`)
    }
  }
  for (const { name, statuses, watched } of trench.targets) {
    if (!Same.equals(watched(), statuses())) {
      report("watchers-know", `the application of ${name} heard ${watched().map(({ status }) => status).join()}`)
    }
  }
}

/** What must be so after every application closed everything. */
export const closed = (trench: Trench.Trench): void => {
  const report = (detail: string): void => violate(trench)("nothing-left", detail)
  const { kernels } = trench.ground
  const registered = trench.nsp.targets({ kind: "default", status: "any" })
  if (registered.length > 0) report(`${registered.length} targets are registered`)
  const leases = trench.ipam.leases().filter(({ path }) => path[2]?.startsWith("target-"))
  if (leases.length > 0) report(`${leases.length} addresses are leased, one to ${leases[0]?.path[2]}`)
  for (const { name, netns, statuses } of trench.targets) {
    const { links, rules } = kernels.get(netns)
    const own = links.filter(({ name }) => name !== Oracle.primary && trench.reaches({ netns, link: name }))
    if (own.length > 0) report(`${name} has the links ${own.map((link) => link.name).join()}`)
    // Of a target that is in another trench nobody can tell whose rules they are.
    if (links.length === 1 && rules.length > 0) report(`${name} has ${rules.length} rules`)
    const left = statuses().filter(({ at }) => at.trench === trench.name)
    if (left.length > 0) report(`${name} has ${left.length} streams`)
  }
  for (const { name, rules } of trench.loadBalancers) {
    const used = rules()?.streams.filter(({ identifiers }) => identifiers.length > 0) ?? []
    if (used.length > 0) report(`${name} forwards ${used.map((stream) => stream.name).join()}`)
  }
  for (const gateway of trench.gateways) {
    for (const [frontend, vips] of gateway.announced()) {
      if (vips.length > 0) report(`${frontend} announces ${vips.join()} to ${gateway.name}`)
    }
  }
}

const count = (list: ReadonlyArray<unknown> | undefined): number => list?.length ?? -1
