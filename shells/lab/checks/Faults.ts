/** What goes wrong: the external link is cut, programs are killed. Traffic is right again by itself. */
import { Effect, Fiber, Option, Schema, type Scope } from "effect"
import * as Cidr from "../../../core/net/Cidr.ts"
import * as Nftables from "../../nftables/Nftables.ts"
import { eventually } from "../Eventually.ts"
import * as Host from "../Host.ts"
import * as Lab from "../Lab.ts"
import * as Pods from "../Pods.ts"
import type { Program } from "../Program.ts"
import type { Target } from "../Target.ts"
import { clientLink } from "../Topology.ts"
import type { Trench } from "../Trench.ts"
import { lifetimes } from "../Trench.ts"
import * as Check from "./Check.ts"

const always = (): undefined => undefined

const gatewayDown: Check.Check = {
  name: "gateway-down",
  leftOut: (trench) => Check.anyService(trench) === undefined ? "no flow takes TCP or UDP" : undefined,
  run: (lab, trench) =>
    Effect.scoped(
      Effect.gen(function*() {
        const [target] = trench.targets
        if (target === undefined) return "no target"
        const leak = yield* countLeaks(lab, trench, target)
        yield* setLinks(trench, "down")
        yield* Effect.addFinalizer(() => Effect.ignore(setLinks(trench, "up")))
        yield* eventually(
          Effect.match(trench.router.sessions, {
            onFailure: (error) => error.message,
            onSuccess: (sessions) =>
              sessions.some(({ bfdUp, up }) => up && bfdUp !== false) ? "a session is still up" : undefined
          }),
          60_000
        )
        yield* Effect.forEach(trench.layout.configuration.vips, (vip) => sendFrom(target, Cidr.ip(vip.address)), {
          concurrency: "unbounded"
        })
        const leaked = yield* leak
        if (leaked.control === 0) return yield* Check.fail("the counter of the cluster network does not count")
        if (leaked.vips > 0) {
          return yield* Check.fail(`${leaked.vips} packets with a VIP as source left by the primary network`)
        }
        yield* setLinks(trench, "up")
        yield* Check.allRight(trench, 60_000)
        return "VIP egress is dropped, none in the primary network; restored"
      })
    )
}

const setLinks = (trench: Trench, state: "up" | "down"): Effect.Effect<void, Host.HostError> =>
  Host.ip(trench.frontends.map(({ port }) => ["link", "set", port, state]), trench.gateway.namespace)

/** Pings the client with a VIP as source; nobody answers while the gateway is away. */
const sendFrom = (target: Target, vip: string): Effect.Effect<void> =>
  Effect.ignore(Host.run([
    "nsenter",
    `--net=${Pods.path(target.pod)}`,
    "ping",
    "-nq",
    "-c20",
    "-i0.05",
    "-W1",
    `-I${vip}`,
    bare(clientLink.client[vip.includes(":") ? 1 : 0])
  ]))

const bare = (cidr: string): string => cidr.slice(0, cidr.indexOf("/"))

const Counters = Schema.Array(
  Schema.Struct({ counter: Schema.Struct({ name: Schema.String, packets: Schema.Natural }) })
)

/** Counts packets with a VIP as source that reach the cluster network; `control` proves that counting works. */
const countLeaks = Effect.fnUntraced(function*(lab: Lab.Lab, trench: Trench, target: Target) {
  const nftables = yield* asHostError(Nftables.make(Pods.path(lab.pods.hub)))
  const rules = trench.layout.configuration.vips.map(({ address }) =>
    `${Cidr.family(address) === "v4" ? "ip" : "ip6"} saddr ${address} counter name vips`
  )
  const script = `table inet leak {
  counter vips {}
  counter control {}
  chain watch {
    type filter hook prerouting priority -400;
    ip saddr ${target.pod.v4} icmp type echo-request counter name control
    ${rules.join("\n    ")}
  }
}`
  yield* asHostError(nftables.apply(script))
  yield* Effect.addFinalizer(() => Effect.ignore(nftables.deleteTable("inet", "leak")))
  yield* Effect.ignore(
    Host.run(["nsenter", `--net=${Pods.path(target.pod)}`, "ping", "-nq", "-c1", "-W1", lab.pods.hub.v4])
  )
  return Effect.map(asHostError(nftables.list("inet", "leak")), (listing) => {
    const objects = Option.getOrElse(listing, () => []).filter((object) => "counter" in object)
    const counters = Schema.decodeUnknownSync(Counters)(objects)
    const packets = (name: string): number =>
      counters.find(({ counter }) => counter.name === name)?.counter.packets ?? 0
    return { vips: packets("vips"), control: packets("control") }
  })
})

const asHostError = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.mapError(effect, ({ message }) => new Host.HostError({ command: "nft", detail: message }))

/** Kills programs of the control plane; packets do not need them, so connections that stand have to outlive them. */
const restart = (
  name: string,
  programs: (lab: Lab.Lab, trench: Trench) => ReadonlyArray<Program>,
  meanwhile: (trench: Trench) => Effect.Effect<Watch, never, Scope.Scope> = () => Effect.succeed(unwatched)
): Check.Check => ({
  name,
  leftOut: always,
  run: (lab, trench) =>
    Effect.scoped(Effect.gen(function*() {
      const victims = programs(lab, trench)
      if (victims.length === 0) return "no such program"
      const [service] = Check.servicesOf(trench, "tcp", undefined)
      const held = service === undefined ? undefined : yield* Check.holdSteady(trench, service, 40)
      const watch = yield* meanwhile(trench)
      const before = victims.map((victim) => victim.pid())
      yield* Effect.forEach(victims, ({ kill }) => kill, { concurrency: "unbounded" })
      yield* Effect.forEach(victims, (victim, index) =>
        eventually(
          Effect.sync(() =>
            victim.pid() === undefined || victim.pid() === before[index] ? `${victim.name} is not back` : undefined
          ),
          10_000
        ))
      yield* Check.allRight(trench, 60_000)
      const seen = yield* watch
      if (held !== undefined) {
        const probed = yield* trench.traffic.probe(held)
        yield* trench.traffic.drop(held)
        if (probed.lost > 0) {
          return yield* Check.fail(`${probed.lost} of 40 connections did not outlive it: ${probed.errors.join(", ")}`)
        }
      }
      yield* reopen(trench)
      const killed = victims.map((victim) => victim.name).join(", ")
      return `${killed} killed; ${seen}connections stand, traffic is right, and a target can close and open`
    }))
})

/** Ends watching; gives what was seen, or fails with it. */
type Watch = Effect.Effect<string, Check.CheckFailed>

const unwatched: Watch = Effect.succeed("")

/** Sends datagrams to a service of each stream and family without a pause; none of them may stay unanswered. */
const everyDatagram = (trench: Trench): Effect.Effect<Watch, never, Scope.Scope> =>
  Effect.gen(function*() {
    const services = (["v4", "v6"] as const).flatMap((family) => Check.servicesOf(trench, "udp", family))
    let isWatching = true
    let sent = 0
    const errors: Array<string> = []
    const wave = Effect.forEach(services, (service) =>
      Effect.map(Check.send(trench, service, 40), (answer) => {
        sent += 40
        if (answer.lost > 0) errors.push(`${answer.lost} to ${service.vip.address}: ${answer.errors.join(", ")}`)
      }))
    const watching = yield* Effect.forkScoped(
      Effect.whileLoop({
        while: () => isWatching,
        body: () => Effect.andThen(wave, Effect.sleep(20)),
        step: () => undefined
      })
    )
    return Effect.gen(function*() {
      isWatching = false
      yield* Fiber.join(watching)
      return errors.length > 0
        ? yield* Check.fail(`of ${sent} datagrams were lost: ${errors.join("; ")}`)
        : `all of ${sent} datagrams answered meanwhile; `
    })
  })

/** The control plane works too: a target closes and opens. */
const reopen = (trench: Trench): Effect.Effect<void, Check.Failure> =>
  Effect.gen(function*() {
    const [target] = trench.targets
    const service = Check.anyService(trench)
    if (target === undefined || service === undefined) return
    const stream = { trench: trench.layout.trench, conduit: service.conduit, stream: service.stream }
    yield* target.close(stream)
    const others = Check.names(trench).filter((name) => name !== target.name)
    if (others.length > 0) yield* Check.served(trench, service, others, 30_000)
    yield* target.open(stream)
    yield* Check.served(trench, service, Check.names(trench), 60_000)
  })

const tapaKilled: Check.Check = {
  name: "tapa-killed",
  leftOut: (trench) => trench.targets.length < 2 ? "there is only one target" : undefined,
  run: (_lab, trench) =>
    Effect.gen(function*() {
      const victim = trench.targets.at(-1)
      const service = Check.anyService(trench)
      if (victim === undefined || service === undefined) return "nothing to kill"
      const others = Check.names(trench).filter((name) => name !== victim.name)
      yield* victim.tapa.suspend
      yield* Check.served(trench, service, others, (lifetimes.targetS + 15) * 1000)
      yield* eventually(interfacesLeft(victim), (lifetimes.tokenS + 15) * 1000)
      yield* victim.tapa.resume
      yield* Lab.openAll(trench)
      const answer = yield* Check.served(trench, service, Check.names(trench), 30_000)
      return `entry expired, interface removed; after the restart ${Check.shares(answer)}`
    })
}

const Links = Schema.fromJsonString(Schema.Array(Schema.Struct({ ifname: Schema.String })))

const interfacesLeft = (target: Target): Effect.Effect<string | undefined> =>
  Host.run(["ip", "-n", target.pod.namespace, "-j", "link", "show"]).pipe(
    Effect.flatMap((json) => Schema.decodeEffect(Links)(json)),
    Effect.match({
      onFailure: (error) => error.message,
      onSuccess: (links) => {
        const left = links.map(({ ifname }) => ifname).filter((name) => name.startsWith("nsm-"))
        return left.length === 0 ? undefined : `${target.name} still has ${left.join(", ")}`
      }
    })
  )

export const checks: ReadonlyArray<Check.Check> = [
  gatewayDown,
  restart("frontend-restart", (_lab, trench) => trench.frontends.slice(0, 1).map(({ frontend }) => frontend)),
  tapaKilled,
  restart("nsp-restart", (_lab, trench) => [trench.nsp]),
  restart("nsm-restart", (lab) => [lab.nsm]),
  restart("proxy-killed", (_lab, trench) => trench.proxies, everyDatagram)
]
