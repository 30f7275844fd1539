/** A frontend in a simulated world, as `shells/frontend`, with the BIRD of `Gateway.ts`. */
import type * as Config from "../../core/config/Model.ts"
import type * as Target from "../../core/config/Target.ts"
import { Frontend, Model, Rules } from "../../core/frontend/index.ts"
import { Ip } from "../../core/net/index.ts"
import { Configuration } from "../../core/nsp/index.ts"
import * as Actor from "./Actor.ts"
import * as Gateway from "./Gateway.ts"
import { applyAll, follow, type Ground, lifetimes } from "./Ground.ts"
import type { Life, Program } from "./World.ts"

export interface Options {
  readonly name: string
  readonly hostname: string
  readonly trench: string
  readonly attractor: string
  readonly netns: string
  readonly nsp: string
  /** The interface to the gateways. */
  readonly link: string
  /** The load balancer of the same pod. */
  readonly loadBalancer: string
  readonly gateways: ReadonlyArray<Gateway.Gateway>
}

export interface FrontendProgram extends Program {
  readonly hostname: string
  readonly netns: string
  readonly loadBalancer: string
  readonly state: () => Frontend.State | undefined
}

type Event = Frontend.Event
type Command = Frontend.Command

/** Table N of the egress of VIPs. */
export const table = 4_096

const keyOf = (command: Command): string | number | undefined =>
  command._tag === "WatchSecrets" ? "secrets" : "call" in command ? command.call : undefined

export const make = (ground: Ground, options: Options): FrontendProgram => {
  const { kernels, machines, observe, world } = ground
  const { attractor, gateways, hostname, link, loadBalancer, name, netns, nsp, trench } = options
  let actor: Actor.Actor<Frontend.State, Event> | undefined

  const boot: Program["boot"] = (life) => {
    let bird: Gateway.Bird | undefined
    let started = 0
    const running = Actor.start(world, life, observe, machines.frontend, {
      ...Model.defaults,
      bird: birdSettings(link),
      dropIfNoPeer: true,
      perFamily: false,
      nspEntryTimeoutMs: lifetimes.refreshMs
    }, (command: Command, send: (event: Event) => void): Actor.Stop => {
      switch (command._tag) {
        case "StartBird": {
          const { call, config } = command
          let isCancelled = false
          life.later(life.draw(50, 200), () => {
            if (isCancelled) return
            if (life.isBroken()) return send({ _tag: "StartBirdFailed", call, reason: "no memory" })
            started = call
            bird = Gateway.bird(ground, life, { frontend: name, netns, link, table }, gateways)
            bird.configure(config)
            send({ _tag: "StartBirdSucceeded", call, version: "2.0.12" })
          })
          return () => {
            isCancelled = true
          }
        }
        case "ConfigureBird":
          return life.later(life.draw(10, 50), () => {
            const { call, config } = command
            if (life.isBroken()) return send({ _tag: "ConfigureFailed", call, reason: "no space for the file" })
            if (bird === undefined) return send({ _tag: "ConfigureFailed", call, reason: "BIRD is gone" })
            const message = Gateway.refusal(config)
            if (message !== undefined) return send({ _tag: "ConfigureRefused", call, message })
            bird.configure(config)
            send({ _tag: "ConfigureSucceeded", call })
          })
        case "StopBird":
          return life.later(life.draw(10, 100), () => {
            bird?.stop()
            bird = undefined
            send({ _tag: "StopBirdSucceeded", call: command.call })
          })
        case "QueryBird":
          return life.later(life.draw(1, 10), () => {
            const { call } = command
            send(
              bird === undefined
                ? { _tag: "QueryBirdFailed", call, reason: "BIRD is gone" }
                : { _tag: "QueryBirdSucceeded", call, ...bird.rows() }
            )
          })
        case "ConvergeRules":
          return life.later(life.draw(1, 10), () => {
            const { call, desired } = command
            const isDone = applyAll(ground, life, netns, Rules.plan(desired, kernels.get(netns)))
            send(
              isDone
                ? { _tag: "ConvergeRulesSucceeded", call }
                : { _tag: "ConvergeRulesFailed", call, reason: "busy" }
            )
          })
        case "RegisterTarget":
        case "UnregisterTarget":
          return register(ground, life, options, command, send)
        case "SetEgress":
        case "WatchSecrets":
        case "Report":
        case "Cancel":
          return
      }
    }, keyOf)
    actor = running
    life.broken = () => {
      if (bird === undefined || life.draw(0, 1) === 0) return
      bird.kill()
      bird = undefined
      running.send({ _tag: "BirdExited", call: started, reason: "killed" })
    }
    life.shutdown = (done) => {
      running.follow(({ phase }) => phase._tag === "Stopped" && life.later(0, done))
      running.send({ _tag: "StopRequested" })
    }
    follow<ReadonlyArray<Config.Attractor>>(
      ground,
      life,
      nsp,
      ({ nsp }, emit) => nsp?.watch((all) => Configuration.attractors(all, { trench, name: attractor }), emit),
      (attractors) => running.send({ _tag: "AttractorObserved", attractors: attractors.map(offer) })
    )
    follow<boolean>(
      ground,
      life,
      loadBalancer,
      ({ availability }, emit) => availability?.watch(emit),
      (forwarding) => running.send({ _tag: "LoadBalancerObserved", forwarding }),
      () => running.send({ _tag: "LoadBalancerLost" })
    )
  }

  return {
    name,
    hostname,
    netns,
    loadBalancer,
    boot,
    state: () => world.isAlive(name) ? actor?.current() : undefined
  }
}

const register = (
  { network }: Ground,
  life: Life,
  { hostname, nsp }: Options,
  { _tag, call }: Extract<Command, { readonly _tag: "RegisterTarget" | "UnregisterTarget" }>,
  send: (event: Event) => void
): Actor.Stop => {
  const self: Target.Target = {
    kind: "frontend",
    ips: [hostname],
    context: { identifier: hostname },
    status: "enabled"
  }
  const isRegister = _tag === "RegisterTarget"
  return network.call<void>(
    life,
    nsp,
    ({ nsp }, answer) => nsp?.[isRegister ? "register" : "unregister"](self, answer),
    { timeoutMs: 30_000 },
    (reply) =>
      send(
        reply._tag === "Answered"
          ? { _tag: isRegister ? "RegisterSucceeded" : "UnregisterSucceeded", call }
          : { _tag: isRegister ? "RegisterFailed" : "UnregisterFailed", call, reason: reply.reason }
      )
  )
}

const birdSettings = (link: string): Model.BirdSettings => ({
  routerId: Ip.unsafe("240.0.0.1"),
  externalInterface: link,
  vrrps: [],
  localAs: 8_103,
  remoteAs: 4_248_829_953,
  localPort: 10_179,
  remotePort: 10_179,
  holdTimeS: 3,
  errorWaitS: { minimum: 1, maximum: 30 },
  connectDelayS: 1,
  connectRetryS: 5,
  table,
  ecmp: true,
  kernelScanS: 10,
  logAll: false
})

/** The attractor as it comes over the wire. */
const offer = ({ gateways, vips }: Config.Attractor): Model.OfferedAttractor => ({
  vips: vips.map(({ address }) => address),
  gateways: gateways.map((gateway) => ({
    name: gateway.name,
    address: gateway.address,
    protocol: gateway._tag === "Bgp" ? "bgp" : "static",
    remoteAs: gateway._tag === "Bgp" ? gateway.remoteAsn ?? 0 : 0,
    localAs: gateway._tag === "Bgp" ? gateway.localAsn ?? 0 : 0,
    remotePort: gateway._tag === "Bgp" ? gateway.remotePort ?? 0 : 0,
    localPort: gateway._tag === "Bgp" ? gateway.localPort ?? 0 : 0,
    holdTimeS: gateway._tag === "Bgp" ? gateway.holdTimeS ?? 0 : 0,
    bfd: gateway.bfd !== undefined,
    minTxMs: gateway.bfd?.minTxMs ?? 0,
    minRxMs: gateway.bfd?.minRxMs ?? 0,
    multiplier: gateway.bfd?.multiplier ?? 0,
    keySource: "",
    keyName: ""
  }))
})
